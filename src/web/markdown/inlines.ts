// The inline part of Markdown: CommonMark, with GitHub's strikethrough and bare links; line breaks stay line breaks, HTML stays text.
// The time is linear in the length of the text: an opener or an end that was not found is not searched for again.

export type Inline =
  | string
  | { type: 'code'; text: string }
  | { type: 'em' | 'strong' | 'del'; inner: Inline[] }
  | { type: 'link'; href: string; inner: Inline[] }
/** Link reference definitions: where a label leads. */
export type References = Map<string, string>

/** Levels of emphasis that become elements. */
const deepest = 16
/** Parentheses that a link's address may nest. */
const mostParentheses = 32

const names: Record<string, string> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  nbsp: '\u00a0',
  copy: '©',
  reg: '®',
  trade: '™',
  hellip: '…',
  mdash: '—',
  ndash: '–',
  laquo: '«',
  raquo: '»',
  ldquo: '“',
  rdquo: '”',
  lsquo: '‘',
  rsquo: '’',
  bull: '•',
  middot: '·',
  times: '×',
  deg: '°',
  euro: '€',
  larr: '←',
  rarr: '→',
  uarr: '↑',
  darr: '↓',
  check: '✓',
}

/** Character references as characters; a name that is rare stays as it was written. */
export const decode = (text: string): string =>
  text.replace(/&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|([a-zA-Z]{2,8}));/g, (whole, decimal, hex, name: string) => {
    if (name) return names[name] ?? whole
    const code = decimal ? Number(decimal) : parseInt(hex as string, 16)
    return code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000) ? String.fromCodePoint(code) : '\ufffd'
  })

/** Backslash escapes as the characters that they stand for. */
export const unescape = (text: string): string => text.replace(/\\([!-/:-@[-`{-~])/g, '$1')

const attribute = String.raw`\s+[a-zA-Z_:][\w:.-]*(?:\s*=\s*(?:[^"'=<>\x60\s]+|'[^']*'|"[^"]*"))?`
export const tag = String.raw`<[A-Za-z][A-Za-z0-9-]*(?:${attribute})*\s*/?>|</[A-Za-z][A-Za-z0-9-]*\s*>`
const blank = /[ \t]*/y
const space = /[ \t]*\n?[ \t]*/y
const title = /"(?:[^"\\]|\\[^])*"|'(?:[^'\\]|\\[^])*'|\((?:[^()\\]|\\[^])*\)/y
const label = /\[((?:[^\\[\]]|\\[^]){0,999})\]/y
const bracketed = /<((?:[^<>\n\\]|\\.)*)>/y
const plain = /[^\\`![\]<&*_~\n]+/y
const entity = /&(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|[a-zA-Z]{2,8});/y
const address =
  /<([A-Za-z][A-Za-z0-9.+-]{1,31}:[^\s<>]*|[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})>/y
const tags = new RegExp(tag, 'y')
/** HTML that ends with words of its own. */
const ends: [begin: string, end: string][] = [
  ['<!-->', ''],
  ['<!--->', ''],
  ['<!--', '-->'],
  ['<?', '?>'],
  ['<![CDATA[', ']]>'],
  ['<!', '>'],
]
const bare =
  /(?<![\p{L}\p{N}_])(?:https?:\/\/|www\.)[^\s<>[\]`。，、；：？！）」』】》]+|(?<![\w.+-])[\w.+-]{1,64}@[a-z\d-]{1,63}(?:\.[a-z\d-]{1,63}){1,8}/giu

/** Matches at a place; -> the match. */
const at = (pattern: RegExp, text: string, place: number): RegExpExecArray | null => {
  pattern.lastIndex = place
  return pattern.exec(text)
}

/** Where a link's address and title, in parentheses or after a label, end; undefined: they are none. */
const destination = (text: string, from: number): { href: string; end: number } | undefined => {
  const inside = at(bracketed, text, from)
  if (inside) return { href: unescape(inside[1] ?? ''), end: from + inside[0].length }
  if (text[from] === '<') return undefined
  let [end, open] = [from, 0]
  for (; end < text.length; end++) {
    const char = text[end] as string
    if (char === '\\' && end + 1 < text.length && /[!-/:-@[-`{-~]/.test(text[end + 1] as string)) end++
    else if (char === '(' && ++open > mostParentheses) return undefined
    else if (char === ')' && --open < 0) break
    else if (char <= ' ' || char === '\x7f') break
  }
  return open > 0 ? undefined : { href: unescape(text.slice(from, end)), end }
}

const nameOf = (written: string): string => written.trim().replace(/\s+/g, ' ').toLowerCase().toUpperCase()

/** Takes the definitions from a paragraph's beginning; returns where the rest begins. */
export const define = (text: string, references: References): number => {
  /** The end of the line, if nothing else is on it. */
  const lineEnd = (place: number): number | undefined => {
    const end = place + (at(blank, text, place)?.[0].length ?? 0)
    return end >= text.length ? text.length : text[end] === '\n' ? end + 1 : undefined
  }
  for (let from = 0; ;) {
    const begin = from + (at(blank, text, from)?.[0].length ?? 0)
    const named = at(label, text, begin)
    const colon = begin + (named?.[0].length ?? 0)
    const name = nameOf(named?.[1] ?? '')
    if (name === '' || text[colon] !== ':') return from
    const target = destination(text, colon + 1 + (at(space, text, colon + 1)?.[0].length ?? 0))
    if (!target || (target.href === '' && text[target.end - 1] !== '>')) return from
    // A title may follow, on the next line too. Anything else there is text.
    const gap = at(space, text, target.end)?.[0].length ?? 0
    const titled = gap > 0 ? (at(title, text, target.end + gap)?.[0].length ?? 0) : 0
    const end = (titled > 0 ? lineEnd(target.end + gap + titled) : undefined) ?? lineEnd(target.end)
    if (end === undefined) return from
    if (!references.has(name)) references.set(name, target.href)
    from = end
    if (from >= text.length) return from
  }
}

type Mark = 'em' | 'strong' | 'del'
type Delimiter = {
  char: string
  /** its place among the delimiters */
  place: number
  /** characters that are not used yet, and all of them */
  left: number
  length: number
  opens: boolean
  closes: boolean
  /** what ends and begins here, in the order in which it was found */
  ended: Mark[]
  begun: Mark[]
  before: Delimiter | undefined
  after: Delimiter | undefined
}
type Bracket = { written: string; href?: string }
type Item = Inline | { delimiter: Delimiter } | { bracket: Bracket } | { end: true }
type Opener = { bracket: Bracket; image: boolean; from: number; before: Delimiter | undefined; nested: boolean }

/** What a bare address ends with is of the sentence: punctuation, and parentheses that it did not open. */
const trimmed = (written: string): string => {
  let end = written.length
  let excess = 0
  for (const char of written) excess += char === ')' ? 1 : char === '(' ? -1 : 0
  for (; end > 0; end--) {
    const char = written[end - 1] as string
    if (char === ')' && excess > 0) excess--
    else if (!/[?!.,:;*_~'"]/.test(char)) break
  }
  return written.slice(0, end)
}

/** The link for a bare address; undefined if the text is not an address. */
const hrefOf = (written: string): string | undefined => {
  if (/^https?:\/\/./i.test(written)) return written
  if (/^www\.[^.]+\../i.test(written)) return `http://${written}`
  return written.includes('@') ? `mailto:${written}` : undefined
}

const isSpace = (char: string): boolean => char === '' || /\s/.test(char)
const isPunctuation = (char: string): boolean => /[\p{P}\p{S}]/u.test(char)

/** A text's inline content, the number of its elements (a line break costs as much), and the steps that reading it took. */
export const inlines = (text: string, references: References): { inner: Inline[]; elements: number; steps: number } => {
  const items: Item[] = []
  const openers: Opener[] = []
  /** openers below it stand before a link, which no other link may contain */
  let dead = 0
  let last: Delimiter | undefined
  let delimiters = 0
  let steps = 0
  let pos = 0
  const say = (words: string): void => void items.push(words)

  // The places of backticks by their number, read from the first to the last.
  let ticks: Map<number, number[]> | undefined
  const closingTicks = (length: number, from: number): number | undefined => {
    if (!ticks) {
      ticks = new Map()
      for (const { 0: run, index } of text.matchAll(/`+/g)) {
        const places = ticks.get(run.length)
        if (places) places.push(index)
        else ticks.set(run.length, [index])
      }
      for (const places of ticks.values()) places.reverse()
    }
    const places = ticks.get(length)
    while (places && (places.at(-1) ?? Infinity) < from) places.pop()
    return places?.at(-1)
  }

  // Bare addresses, where there may be any.
  const links = /:\/\/|www\.|@/i.test(text) ? [...text.matchAll(bare)].reverse() : []
  const ended = new Set<string>()

  const delimit = (char: string): void => {
    let end = pos
    while (text[end] === char) end++
    const before =
      pos === 0
        ? ''
        : String.fromCodePoint(text.codePointAt(pos - 2) ?? 0).length === 2
          ? text.slice(pos - 2, pos)
          : (text[pos - 1] as string)
    const after = end < text.length ? String.fromCodePoint(text.codePointAt(end) as number) : ''
    const left = !isSpace(after) && (!isPunctuation(after) || isSpace(before) || isPunctuation(before))
    const right = !isSpace(before) && (!isPunctuation(before) || isSpace(after) || isPunctuation(after))
    const length = end - pos
    const within = char === '_'
    const delimiter: Delimiter = {
      char,
      place: delimiters++,
      left: length,
      length,
      opens: left && (!within || !right || isPunctuation(before)),
      closes: right && (!within || !left || isPunctuation(after)),
      ended: [],
      begun: [],
      before: last,
      after: undefined,
    }
    pos = end
    if (char === '~' && length > 2) return say(char.repeat(length))
    items.push({ delimiter })
    if (last) last.after = delimiter
    last = delimiter
  }

  const drop = (one: Delimiter): void => {
    if (one.before) one.before.after = one.after
    if (one.after) one.after.before = one.before
    else last = one.before
  }

  /** Pairs the delimiters after one, and forgets them. */
  const pair = (bottom: Delimiter | undefined): void => {
    /** for each kind of closer, up to where no opener fits it */
    const searched = new Map<string, number>()
    let closer = bottom ? bottom.after : last
    if (!bottom) while (closer?.before) closer = closer.before
    while (closer) {
      const { char } = closer
      steps++
      if (!closer.closes) {
        closer = closer.after
        continue
      }
      const kind = `${char}${char === '~' ? closer.length : closer.length % 3}${closer.opens}`
      const floor = searched.get(kind) ?? bottom?.place ?? -1
      let opener = closer.before
      const fits = (one: Delimiter, other: Delimiter): boolean =>
        one.char === other.char &&
        one.opens &&
        (char === '~'
          ? one.length === other.length
          : !((other.opens || one.closes) && other.length % 3 !== 0 && (one.length + other.length) % 3 === 0))
      for (; opener && opener.place > floor && !fits(opener, closer); opener = opener.before) steps++
      if (!opener || opener.place <= floor) {
        searched.set(kind, closer.place - 1)
        const next: Delimiter | undefined = closer.after
        if (!closer.opens) drop(closer)
        closer = next
        continue
      }
      const used = char === '~' ? closer.left : opener.left >= 2 && closer.left >= 2 ? 2 : 1
      const mark: Mark = char === '~' ? 'del' : used === 2 ? 'strong' : 'em'
      opener.begun.push(mark)
      closer.ended.push(mark)
      opener.left -= used
      closer.left -= used
      // What stands between them found no pair.
      opener.after = closer
      closer.before = opener
      if (opener.left === 0) drop(opener)
      if (closer.left === 0) {
        const next: Delimiter | undefined = closer.after
        drop(closer)
        closer = next
      }
    }
    if (bottom) bottom.after = undefined
    last = bottom
  }

  const close = (): void => {
    pos++
    const opener = openers.at(-1)
    if (!opener) return say(']')
    const found = opener.image || openers.length > dead ? target(opener) : undefined
    openers.pop()
    dead = Math.min(dead, openers.length)
    if (!found) return say(']')
    pos = found.end
    pair(opener.before)
    opener.bracket.href = found.href
    items.push({ end: true })
    if (!opener.image) dead = openers.length
  }

  /** Where a link leads, read behind its closing bracket. */
  const target = ({ from, nested }: Opener): { href: string; end: number } | undefined => {
    if (text[pos] === '(') {
      let end = pos + 1
      const skip = (): number => (end += at(space, text, end)?.[0].length ?? 0)
      skip()
      const found = destination(text, end)
      if (found) {
        end = found.end
        const gap = skip() - found.end
        if (gap > 0) end += at(title, text, end)?.[0].length ?? 0
        skip()
        if (text[end] === ')') return { href: found.href, end: end + 1 }
      }
    }
    if (references.size === 0) return undefined
    const named = at(label, text, pos)
    const written = named?.[1] ? named[1] : nested || pos - 1 - from > 999 ? '' : text.slice(from, pos - 1)
    const href = references.get(nameOf(written))
    return href === undefined ? undefined : { href, end: pos + (named?.[0].length ?? 0) }
  }

  const angle = (): void => {
    const link = at(address, text, pos)
    if (link) {
      const [whole, written = ''] = link
      pos += whole.length
      const href = /^[A-Za-z][A-Za-z0-9.+-]*:/.test(written) ? written : `mailto:${written}`
      return void items.push({ type: 'link', href, inner: [written] })
    }
    let end = at(tags, text, pos)?.[0].length
    if (end === undefined) {
      const [begin, stop] = ends.find(([begin]) => text.startsWith(begin, pos)) ?? []
      if (begin && stop !== undefined && !ended.has(stop)) {
        const found = text.indexOf(stop, pos + begin.length)
        if (found < 0) ended.add(stop)
        else end = found + stop.length - pos
      }
    }
    say(text.slice(pos, pos + (end ?? 1)))
    pos += end ?? 1
  }

  for (; pos < text.length; steps++) {
    while (links.length > 0 && (links.at(-1)?.index as number) < pos) links.pop()
    const link = links.at(-1)
    if (link?.index === pos) {
      const written = trimmed(link[0])
      const href = hrefOf(written)
      links.pop()
      if (href !== undefined) {
        items.push({ type: 'link', href, inner: [written] })
        pos += written.length
        continue
      }
    }
    const char = text[pos] as string
    switch (char) {
      case '\\': {
        const next = text[pos + 1] ?? ''
        pos += 2
        if (next === '\n' || /[!-/:-@[-`{-~]/.test(next)) say(next)
        else {
          say('\\')
          pos--
        }
        continue
      }
      case '`': {
        let from = pos
        while (text[from] === '`') from++
        const end = closingTicks(from - pos, from)
        if (end === undefined) say(text.slice(pos, from))
        else {
          const code = text.slice(from, end).replace(/\n[ \t]*/g, ' ')
          const inner = code.startsWith(' ') && code.endsWith(' ') && code.trim() !== '' ? code.slice(1, -1) : code
          items.push({ type: 'code', text: inner })
        }
        pos = end === undefined ? from : end + (from - pos)
        continue
      }
      case '*':
      case '_':
      case '~':
        delimit(char)
        continue
      case '!':
      case '[': {
        const image = char === '!'
        if (image && text[pos + 1] !== '[') break
        pos += image ? 2 : 1
        const bracket = { written: image ? '![' : '[' }
        const outer = openers.at(-1)
        if (outer) outer.nested = true
        openers.push({ bracket, image, from: pos, before: last, nested: false })
        items.push({ bracket })
        continue
      }
      case ']':
        close()
        continue
      case '<':
        angle()
        continue
      case '&': {
        const found = at(entity, text, pos)?.[0]
        if (!found) break
        say(decode(found))
        pos += found.length
        continue
      }
      case '\n':
        say('\n')
        pos++
        continue
    }
    let end = pos + (at(plain, text, pos)?.[0].length ?? 1)
    const next = links.at(-1)?.index
    if (next !== undefined && next > pos && next < end) end = next
    // Spaces before a line's end do not show.
    let stop = end
    if (text[end] === '\n') while (stop > pos && (text[stop - 1] === ' ' || text[stop - 1] === '\t')) stop--
    say(text.slice(pos, stop))
    pos = end
  }
  pair(undefined)
  return { ...build(items), steps }
}

/** The items as a tree, without recursion. */
const build = (items: Item[]): { inner: Inline[]; elements: number } => {
  const root: Inline[] = []
  const stack: Inline[][] = []
  const inLink: boolean[] = []
  let into = root
  let elements = 0
  const say = (words: string): void => {
    if (words === '') return
    const before = into.at(-1)
    if (typeof before === 'string') into[into.length - 1] = before + words
    else into.push(words)
  }
  const begin = (node?: Extract<Inline, { inner: Inline[] }>): void => {
    const linked = inLink.at(-1) ?? false
    stack.push(into)
    inLink.push(linked || node?.type === 'link')
    // Too deep, or a link in a link: its content only.
    if (!node || stack.length > deepest || (linked && node.type === 'link')) return
    elements++
    into.push(node)
    into = node.inner
  }
  const end = (): void => {
    into = stack.pop() ?? root
    inLink.pop()
  }
  for (const item of items) {
    if (typeof item === 'string') {
      say(item)
      if (item === '\n') elements++
    } else if ('delimiter' in item) {
      const { char, left, ended, begun } = item.delimiter
      ended.forEach(end)
      say(char.repeat(left))
      for (const type of begun.toReversed()) begin({ type, inner: [] })
    } else if ('bracket' in item) {
      const { written, href } = item.bracket
      if (href === undefined) say(written)
      else begin({ type: 'link', href, inner: [] })
    } else if ('end' in item) end()
    else if (item.type === 'link' && inLink.at(-1)) item.inner.forEach((words) => say(words as string))
    else {
      elements++
      into.push(item)
    }
  }
  return { inner: root, elements }
}
