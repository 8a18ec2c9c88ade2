// Emphasis by CommonMark's algorithm: runs of `*`, `_` and `~` are delimiters, and a closing one is paired with the nearest that fits it.

export type Mark = 'em' | 'strong' | 'del'
export type Delimiter = {
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
/** The delimiters that have no pair yet, from the last back, and the steps that pairing them took. */
export type Delimiters = { last: Delimiter | undefined; count: number; steps: number }

const isSpace = (char: string): boolean => char === '' || /\s/.test(char)
const isPunctuation = (char: string): boolean => /[\p{P}\p{S}]/u.test(char)

/** Adds the run of one character from `from` to `end`. */
export const addDelimiter = (list: Delimiters, text: string, from: number, end: number): Delimiter => {
  const char = text[from] as string
  const before =
    from === 0
      ? ''
      : String.fromCodePoint(text.codePointAt(from - 2) ?? 0).length === 2
        ? text.slice(from - 2, from)
        : (text[from - 1] as string)
  const after = end < text.length ? String.fromCodePoint(text.codePointAt(end) as number) : ''
  const left = !isSpace(after) && (!isPunctuation(after) || isSpace(before) || isPunctuation(before))
  const right = !isSpace(before) && (!isPunctuation(before) || isSpace(after) || isPunctuation(after))
  const within = char === '_'
  const delimiter: Delimiter = {
    char,
    place: list.count++,
    left: end - from,
    length: end - from,
    opens: left && (!within || !right || isPunctuation(before)),
    closes: right && (!within || !left || isPunctuation(after)),
    ended: [],
    begun: [],
    before: list.last,
    after: undefined,
  }
  if (list.last) list.last.after = delimiter
  return (list.last = delimiter)
}

const drop = (list: Delimiters, one: Delimiter): void => {
  if (one.before) one.before.after = one.after
  if (one.after) one.after.before = one.before
  else list.last = one.before
}

/** Pairs the delimiters after one, and forgets them. */
export const pair = (list: Delimiters, bottom: Delimiter | undefined): void => {
  /** for each kind of closer, up to where no opener fits it */
  const searched = new Map<string, number>()
  let closer = bottom ? bottom.after : list.last
  if (!bottom) while (closer?.before) closer = closer.before
  while (closer) {
    const { char } = closer
    list.steps++
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
    for (; opener && opener.place > floor && !fits(opener, closer); opener = opener.before) list.steps++
    if (!opener || opener.place <= floor) {
      searched.set(kind, closer.place - 1)
      const next: Delimiter | undefined = closer.after
      if (!closer.opens) drop(list, closer)
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
    if (opener.left === 0) drop(list, opener)
    if (closer.left === 0) {
      const next: Delimiter | undefined = closer.after
      drop(list, closer)
      closer = next
    }
  }
  if (bottom) bottom.after = undefined
  list.last = bottom
}
