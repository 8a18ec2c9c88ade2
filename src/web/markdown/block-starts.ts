// What begins at a place of a line: quotes, lists, headings, rules, code, tables and HTML.
import { htmlBegins } from './html.ts'
import { indent, look, skipColumns, skipOne, skipSpace, type Line } from './line.ts'
import { add, finalize, takeReferences, type Open, type OpenBlocks } from './open-blocks.ts'
import { cellsOf, delimiterRow } from './tables.ts'

/** Containers in each other: a list in a list counts two. Deeper ones are text. */
const deepest = 16

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

const item = (line: Line, blocks: OpenBlocks, container: Open, close: () => void): 'container' | undefined => {
  const rest = line.text.slice(line.next)
  const found = /^(?:([*+-])|(\d{1,9})([.)]))(?=[ \t]|$)/.exec(rest)
  if (!found) return undefined
  const [marker, bullet, digits, after = ''] = found
  if (container.kind === 'paragraph' && (rest.slice(marker.length).trim() === '' || (digits && Number(digits) !== 1)))
    return undefined
  const size = indent(line)
  skipSpace(line)
  skipColumns(line, marker.length)
  look(line)
  const spaces = indent(line)
  let padding: number
  if (line.blank || spaces >= 5 || spaces < 1) {
    padding = marker.length + 1
    skipOne(line)
  } else {
    padding = marker.length + spaces
    skipColumns(line, spaces)
  }
  close()
  const mark = bullet ?? after
  if (blocks.tip.kind !== 'list' || blocks.tip.mark !== mark) {
    const list = add(blocks, 'list')
    list.mark = mark
    list.number = digits === undefined ? undefined : Number(digits)
  }
  add(blocks, 'item').size = size + padding
  return 'container'
}

/** What begins at this place of the line: a container, a leaf that has the rest of the line, one that is the whole line, or nothing. */
export const begins = (
  line: Line,
  blocks: OpenBlocks,
  container: Open,
  close: () => void,
): 'container' | 'leaf' | 'line' | undefined => {
  if (line.blank) return undefined
  const rest = line.text.slice(line.next)
  const first = rest[0] ?? ''
  const canNest = container.depth < deepest
  if (indent(line) >= 4) {
    if (blocks.tip.kind === 'paragraph' || blocks.tip.kind === 'table') return undefined
    skipColumns(line, 4)
    close()
    add(blocks, 'indented')
    return 'leaf'
  }
  if (first === '>' && canNest) {
    skipSpace(line)
    skipColumns(line, 1)
    skipOne(line)
    close()
    add(blocks, 'quote')
    return 'container'
  }
  const heading = first === '#' ? /^#{1,6}(?=[ \t]|$)/.exec(rest) : null
  if (heading) {
    close()
    const one = add(blocks, 'heading')
    one.size = heading[0].length
    one.lines.push(withoutMarks(rest.slice(one.size)))
    return 'line'
  }
  const ticks = first === '`' || first === '~' ? (/^(?:`+|~+)/.exec(rest)?.[0].length ?? 0) : 0
  if (ticks >= 3 && !(first === '`' && rest.includes('`', ticks))) {
    close()
    const one = add(blocks, 'fence')
    Object.assign(one, { size: ticks, mark: first, number: indent(line), info: rest.slice(ticks).trim() })
    return 'line'
  }
  if (first === '<') {
    const found = htmlBegins.findIndex(
      ([begin], n) =>
        begin.test(rest) &&
        (n < 6 || (container.kind !== 'paragraph' && !(blocks.tip.kind === 'paragraph' && container !== blocks.tip))),
    )
    if (found >= 0) {
      close()
      add(blocks, 'html').mark = found < 5 ? String(found) : ''
      return 'leaf'
    }
  }
  if (container.kind === 'paragraph') {
    const words = rest.trimEnd()
    if (/^(?:=+|-+)$/.test(words) && takeReferences(blocks, container)) {
      container.kind = 'heading'
      container.size = first === '=' ? 1 : 2
      container.lines = [container.lines.join('\n').trimEnd()]
      return 'line'
    }
    const head = container.lines.at(-1) ?? ''
    if (rest.includes('|') && delimiterRow.test(rest) && cellsOf(rest).length === cellsOf(head).length) {
      // The paragraph's last line is the table's head.
      container.lines.pop()
      finalize(blocks, container)
      const one = add(blocks, 'table')
      one.lines.push(head)
      one.from = blocks.before
      if (container.lines.length === 0)
        container.parent?.children.splice(container.parent.children.indexOf(container), 1)
      else one.size = 1
      return 'line'
    }
  }
  if (/^(?:(?:\*[ \t]*){3,}|(?:_[ \t]*){3,}|(?:-[ \t]*){3,})$/.test(rest)) {
    close()
    add(blocks, 'rule')
    return 'line'
  }
  if (container.kind !== 'list' && !canNest) return undefined
  return item(line, blocks, container, close)
}
