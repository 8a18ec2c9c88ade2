// The block part of Markdown: CommonMark's algorithm (each line continues the open containers, then may begin new ones), with GitHub's
// tables and task lists. HTML blocks are paragraphs of their source. Containers nest up to a bound, so a line costs a bounded number of steps.
import { decode, define, inlines, tag, unescape, type Inline, type References } from './inlines.ts'

export type Node =
  | { type: 'paragraph' | 'html'; inner: Inline[] }
  | { type: 'heading'; depth: number; inner: Inline[] }
  | { type: 'quote'; blocks: Node[] }
  | { type: 'list'; start: number | undefined; items: { task: boolean | undefined; blocks: Node[] }[] }
  | { type: 'table'; rows: Inline[][][] }
  | { type: 'code'; fenced: boolean; language: string | null; text: string }
  | { type: 'rule' }

/** A block that stands in no other one: its tree, where it begins in the text, and the number of elements that show it. */
export type Top = { node: Node; from: number; elements: number }

/** Containers in each other: a list in a list counts two. Deeper ones are text. */
const deepest = 16
/** Lines of code that are elements at a time. */
export const codeLines = 64
/** The elements that show a block of code: its lines, and what stands around them. */
export const codeElements = (code: string): number => {
  let lines = 0
  for (let at = 0; at >= 0 && lines < codeLines; lines++) at = code.indexOf('\n', at + 1)
  return lines + 10
}

type Kind =
  'document' | 'quote' | 'list' | 'item' | 'paragraph' | 'heading' | 'rule' | 'fence' | 'indented' | 'html' | 'table'
type Open = {
  kind: Kind
  parent: Open | undefined
  children: Open[]
  /** containers that it stands in */
  depth: number
  /** where its first line begins in the text */
  from: number
  open: boolean
  lines: string[]
  /**
   * of a heading: its level; of an item: where its content begins, in columns from its parent's; of a fence: its length;
   * of a table: 1 if it began as the last line of the paragraph before it
   */
  size: number
  /** of a fence: its character; of a list: its bullet, or what follows its number; of HTML: what ends it */
  mark: string
  /** of a fence: its indentation; of an ordered list: its first number */
  number: number | undefined
  info: string
}

const htmlBegins: [begin: RegExp, end: RegExp | undefined][] = [
  [/^<(?:script|pre|textarea|style)(?:\s|>|$)/i, /<\/(?:script|pre|textarea|style)>/i],
  [/^<!--/, /-->/],
  [/^<[?]/, /\?>/],
  [/^<![A-Za-z]/, />/],
  [/^<!\[CDATA\[/, /\]\]>/],
  [
    /^<\/?(?:address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|legend|li|link|main|menu|menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead|title|tr|track|ul)(?:\s|\/?>|$)/i,
    undefined,
  ],
  [new RegExp(`^(?:${tag})\\s*$`), undefined],
]
const delimiterRow = /^\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/

/** A row's cells, as they were written. */
const cellsOf = (line: string): string[] => {
  const row = line.trim()
  const cells: string[] = []
  let cell = ''
  for (let n = row.startsWith('|') ? 1 : 0; n < row.length; n++) {
    const char = row[n] as string
    if (char === '|') {
      cells.push(cell.trim())
      cell = ''
    } else if (char === '\\' && row[n + 1] === '|') cell += row[++n] as string
    else if (char === '\\' && n + 1 < row.length) cell += char + (row[++n] as string)
    else cell += char
  }
  if (cell.trim() !== '' || !row.endsWith('|')) cells.push(cell.trim())
  return cells
}

/** A heading's text without the marks that close it. */
const withoutMarks = (line: string): string => {
  const text = line.trim()
  let end = text.length
  while (text[end - 1] === '#') end--
  return end === 0
    ? ''
    : end < text.length && /[ \t]/.test(text[end - 1] as string)
      ? text.slice(0, end).trimEnd()
      : text
}

/** `done` of the tops can't change when the text grows; what comes after them begins at `rest`. `references` were defined before it. */
export type Read = { tops: Top[]; done: number; rest: number; references: References }

/** The blocks of a text from a place on. `given`: references that were defined before it. */
export const readBlocks = (text: string, from = 0, given: References = new Map()): Read => {
  const references: References = new Map(given)
  const defined: { name: string; href: string; from: number }[] = []
  const make = (kind: Kind, parent: Open | undefined, from: number): Open => ({
    kind,
    parent,
    children: [],
    depth: parent ? parent.depth + 1 : 0,
    from,
    open: true,
    lines: [],
    size: 0,
    mark: '',
    number: undefined,
    info: '',
  })
  const document = make('document', undefined, from)
  let tip = document

  // The line that is read: where it stands in it, in characters and in columns (a tab ends at each fourth one).
  let line = ''
  let lineFrom = 0
  let [offset, column, next, nextColumn] = [0, 0, 0, 0]
  let [blank, partTab] = [false, false]
  const look = (): void => {
    next = offset
    nextColumn = column
    for (; line[next] === ' ' || line[next] === '\t'; next++)
      nextColumn += line[next] === '\t' ? 4 - (nextColumn % 4) : 1
    blank = next >= line.length
  }
  const indent = (): number => nextColumn - column
  const skipSpace = (): void => {
    offset = next
    column = nextColumn
    partTab = false
  }
  const skipColumns = (count: number): void => {
    while (count > 0 && offset < line.length) {
      if (line[offset] === '\t') {
        const wide = 4 - (column % 4)
        partTab = wide > count
        const used = Math.min(count, wide)
        column += used
        offset += partTab ? 0 : 1
        count -= used
      } else {
        partTab = false
        offset++
        column++
        count--
      }
    }
  }

  const isLeaf = ({ kind }: Open): boolean => !['document', 'quote', 'list', 'item'].includes(kind)
  const holds = (parent: Open, kind: Kind): boolean =>
    parent.kind === 'list' ? kind === 'item' : !isLeaf(parent) && kind !== 'item'
  const finalize = (one: Open): void => {
    one.open = false
    if (one.kind === 'paragraph') takeReferences(one)
    tip = one.parent ?? document
  }
  /** -> whether something is left of the paragraph */
  const takeReferences = (one: Open): boolean => {
    if (!one.lines[0]?.startsWith('[')) return true
    const all = one.lines.join('\n')
    const found: References = new Map()
    const rest = all.slice(define(all, found)).trimStart()
    for (const [name, href] of found) {
      if (references.has(name)) continue
      references.set(name, href)
      defined.push({ name, href, from: one.from })
    }
    if (rest.length < all.length) one.lines = rest.trim() === '' ? [] : rest.split('\n')
    return one.lines.length > 0
  }
  const add = (kind: Kind): Open => {
    while (!holds(tip, kind)) finalize(tip)
    const one = make(kind, tip, lineFrom)
    tip.children.push(one)
    return (tip = one)
  }
  const addLine = (): void => {
    tip.lines.push(partTab ? ' '.repeat(4 - (column % 4)) + line.slice(offset + 1) : line.slice(offset))
  }

  /** Whether the line continues an open block; `ends`: it is the end of a fence, and done with. */
  const continues = (one: Open): boolean | 'ends' => {
    switch (one.kind) {
      case 'quote':
        if (indent() > 3 || line[next] !== '>') return false
        skipSpace()
        skipColumns(1)
        if (line[offset] === ' ' || line[offset] === '\t') skipColumns(1)
        return true
      case 'item':
        if (blank) {
          if (one.children.length === 0) return false
          skipSpace()
        } else if (indent() >= one.size) skipColumns(one.size)
        else return false
        return true
      case 'fence': {
        const rest = line.slice(next).trimEnd()
        if (indent() <= 3 && rest.length >= one.size && rest === one.mark.repeat(rest.length)) return 'ends'
        skipColumns(Math.min(indent(), one.number ?? 0))
        return true
      }
      case 'indented':
        if (indent() >= 4) skipColumns(4)
        else if (blank) skipSpace()
        else return false
        return true
      case 'html':
        return !blank || one.mark !== ''
      case 'paragraph':
      case 'table':
        return !blank
      case 'heading':
      case 'rule':
        return false
      default:
        return true
    }
  }

  /** What begins at this place of the line: a container, a leaf that has the rest of the line, one that is the whole line, or nothing. */
  const begins = (container: Open, close: () => void): 'container' | 'leaf' | 'line' | undefined => {
    if (blank) return undefined
    const rest = line.slice(next)
    const first = rest[0] ?? ''
    const canNest = container.depth < deepest
    if (indent() >= 4) {
      if (tip.kind === 'paragraph' || tip.kind === 'table') return undefined
      skipColumns(4)
      close()
      add('indented')
      return 'leaf'
    }
    if (first === '>' && canNest) {
      skipSpace()
      skipColumns(1)
      if (line[offset] === ' ' || line[offset] === '\t') skipColumns(1)
      close()
      add('quote')
      return 'container'
    }
    const heading = first === '#' ? /^#{1,6}(?=[ \t]|$)/.exec(rest) : null
    if (heading) {
      close()
      const one = add('heading')
      one.size = heading[0].length
      one.lines.push(withoutMarks(rest.slice(one.size)))
      return 'line'
    }
    const ticks = first === '`' || first === '~' ? (/^(?:`+|~+)/.exec(rest)?.[0].length ?? 0) : 0
    if (ticks >= 3 && !(first === '`' && rest.includes('`', ticks))) {
      close()
      const one = add('fence')
      Object.assign(one, { size: ticks, mark: first, number: indent(), info: rest.slice(ticks).trim() })
      return 'line'
    }
    if (first === '<') {
      const found = htmlBegins.findIndex(
        ([begin], n) =>
          begin.test(rest) &&
          (n < 6 || (container.kind !== 'paragraph' && !(tip.kind === 'paragraph' && container !== tip))),
      )
      if (found >= 0) {
        close()
        add('html').mark = found < 5 ? String(found) : ''
        return 'leaf'
      }
    }
    if (container.kind === 'paragraph') {
      const words = rest.trimEnd()
      if (/^(?:=+|-+)$/.test(words) && takeReferences(container)) {
        container.kind = 'heading'
        container.size = first === '=' ? 1 : 2
        container.lines = [container.lines.join('\n').trimEnd()]
        return 'line'
      }
      const head = container.lines.at(-1) ?? ''
      if (rest.includes('|') && delimiterRow.test(rest) && cellsOf(rest).length === cellsOf(head).length) {
        // The paragraph's last line is the table's head.
        container.lines.pop()
        finalize(container)
        const one = add('table')
        one.lines.push(head)
        one.from = before
        if (container.lines.length === 0)
          container.parent?.children.splice(container.parent.children.indexOf(container), 1)
        else one.size = 1
        return 'line'
      }
    }
    if (/^(?:(?:\*[ \t]*){3,}|(?:_[ \t]*){3,}|(?:-[ \t]*){3,})$/.test(rest)) {
      close()
      add('rule')
      return 'line'
    }
    if (container.kind !== 'list' && !canNest) return undefined
    return item(container, rest, close)
  }

  const item = (container: Open, rest: string, close: () => void): 'container' | undefined => {
    const found = /^(?:([*+-])|(\d{1,9})([.)]))(?=[ \t]|$)/.exec(rest)
    if (!found) return undefined
    const [marker, bullet, digits, after = ''] = found
    if (container.kind === 'paragraph' && (rest.slice(marker.length).trim() === '' || (digits && Number(digits) !== 1)))
      return undefined
    const size = indent()
    skipSpace()
    skipColumns(marker.length)
    const at = offset
    look()
    const spaces = indent()
    let padding: number
    if (blank || spaces >= 5 || spaces < 1) {
      padding = marker.length + 1
      if (line[at] === ' ' || line[at] === '\t') skipColumns(1)
    } else {
      padding = marker.length + spaces
      skipColumns(spaces)
    }
    close()
    const mark = bullet ?? after
    if (tip.kind !== 'list' || tip.mark !== mark) {
      const list = add('list')
      list.mark = mark
      list.number = digits === undefined ? undefined : Number(digits)
    }
    add('item').size = size + padding
    return 'container'
  }

  /** where the line before this one begins */
  let before = 0
  const incorporate = (): void => {
    offset = column = 0
    partTab = false
    let container = document
    for (let child = container.children.at(-1); child?.open; child = container.children.at(-1)) {
      look()
      const goes = continues(child)
      if (goes === 'ends') return finalize(child)
      if (!goes) break
      container = child
    }
    const matched = container
    const allMatched = matched === tip
    let closed = false
    const close = (): void => {
      if (closed) return
      closed = true
      while (tip !== matched) finalize(tip)
    }
    /** where the paragraph's part of the line begins: its indentation is kept */
    let kept = offset
    let leaf = isLeaf(container) && container.kind !== 'paragraph' && container.kind !== 'table'
    while (!leaf) {
      look()
      kept = offset
      const begun = begins(container, close)
      if (begun === 'line') return
      if (!begun) break
      container = tip
      leaf = begun === 'leaf'
    }
    if (!closed && !allMatched && !blank && tip.kind === 'paragraph') {
      // A lazy line: it continues the paragraph, though not its containers.
      tip.lines.push(line.slice(next))
      return
    }
    close()
    if (leaf) {
      addLine()
      if (container.kind === 'html' && htmlBegins[Number(container.mark || 6)]?.[1]?.test(line.slice(offset)))
        finalize(container)
    } else if (container.kind === 'table' || container.kind === 'paragraph') {
      if (!blank) container.lines.push(line.slice(container.lines.length > 0 ? kept : next))
    } else if (!blank) add('paragraph').lines.push(line.slice(next))
  }

  const { children } = document
  let done = 0
  for (let at = from; at < text.length;) {
    const end = text.indexOf('\n', at)
    line = text.slice(at, end < 0 ? text.length : end)
    lineFrom = at
    incorporate()
    before = at
    if (end < 0) break
    // The last line may still grow, and the last block with it.
    done = Math.max(0, children.length - 1)
    while (children[done]?.kind === 'table' && children[done]?.size === 1) done--
    at = end + 1
  }
  while (tip !== document) finalize(tip)

  const rest = children[done]?.from ?? from
  const shows = ({ kind, lines }: Open): boolean => kind !== 'paragraph' || lines.length > 0
  const tops = children.filter(shows).map((one): Top => {
    const count = { elements: 0 }
    const node = finish(one, references, count)
    return { node, from: one.from, elements: count.elements }
  })
  const kept: References = new Map(given)
  for (const { name, href, from } of defined) if (from < rest) kept.set(name, href)
  return { tops, done: children.slice(0, done).filter(shows).length, rest, references: kept }
}

/** A block's tree. The recursion is as deep as containers may nest. */
const finish = (one: Open, references: References, count: { elements: number }): Node => {
  const inner = (text: string): Inline[] => {
    const found = inlines(text, references)
    count.elements += found.elements
    return found.inner
  }
  const blocks = ({ children }: Open): Node[] =>
    children
      .filter(({ kind, lines }) => kind !== 'paragraph' || lines.length > 0)
      .map((child) => finish(child, references, count))
  count.elements++
  switch (one.kind) {
    case 'quote':
      return { type: 'quote', blocks: blocks(one) }
    case 'list':
      return {
        type: 'list',
        start: one.number,
        items: one.children.map((item) => {
          count.elements++
          const first = item.children[0]
          const box = first?.kind === 'paragraph' ? /^\[([ xX])\][ \t]+(?=\S)/.exec(first.lines[0] ?? '') : null
          if (first && box) {
            count.elements++
            first.lines[0] = (first.lines[0] ?? '').slice(box[0].length)
          }
          return { task: box ? box[1] !== ' ' : undefined, blocks: blocks(item) }
        }),
      }
    case 'table': {
      const [head = '', ...rest] = one.lines
      const columns = cellsOf(head).length
      count.elements += 3
      return {
        type: 'table',
        rows: [head, ...rest].map((row) => {
          count.elements++
          return cellsOf(row)
            .slice(0, columns)
            .map((cell) => {
              count.elements++
              return inner(cell)
            })
        }),
      }
    }
    case 'fence':
    case 'indented': {
      const { lines, info } = one
      if (one.kind === 'indented') while (lines.at(-1)?.trim() === '') lines.pop()
      const words = info.replace(/\\[!-/:-@[-`{-~]|&[^\s;]{1,8};/g, (found) =>
        unescape(found[0] === '&' ? decode(found) : found),
      )
      const language = /\S+/.exec(words)?.[0] ?? null
      const text = lines.map((line) => `${line}\n`).join('')
      count.elements += codeElements(text)
      return { type: 'code', fenced: one.kind === 'fence', language, text }
    }
    case 'html':
      count.elements += one.lines.length
      return { type: 'html', inner: [one.lines.join('\n').trimEnd()] }
    case 'heading':
      return { type: 'heading', depth: one.size, inner: inner(one.lines.join('\n').trimEnd()) }
    case 'rule':
      return { type: 'rule' }
    default:
      return { type: 'paragraph', inner: inner(one.lines.join('\n').trimEnd()) }
  }
}
