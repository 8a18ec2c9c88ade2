// Snippets of search results: the best passages of a text, cut between words, and the positions of the hits in them.
// Positions and lengths count UTF-16 code units, as in JavaScript. A snippet is plain text and numbers, never markup.
import Type from './typebox.ts'

/** [start, length] */
export type Span = [start: number, length: number]
const Spans = (description: string) =>
  Type.Array(Type.Array(Type.Integer({ minimum: 0 }), { minItems: 2, maxItems: 2 }), { description })

export const Snippet = Type.Object(
  {
    text: Type.String({ description: 'one or two passages of the text, joined by " … "' }),
    hits: Spans('[start, length] of each hit in `text`, in UTF-16 code units, in ascending order, not overlapping'),
  },
  { title: 'Snippet' },
)
export type Snippet = { text: string; hits: Span[] }

/** The snippet of a message that is returned whole. */
export const MessageSnippet = Type.Object(
  { ...Snippet.properties, matches: Spans('[start, length] of the first 1,000 hits in `message`') },
  { title: 'MessageSnippet' },
)
export type MessageSnippet = Snippet & { matches: Span[] }
export const mostMatches = 1000

/** UTF-16 code units of a passage, and how far its ends may move to a word boundary. */
const passage = 160
const slack = 24
const gap = ' … '

type Window = { from: number; to: number; words: Set<string> }

/** Returns the window of up to `passage` units with the most wanted words; of several, the one with the most hits, then the first. */
const best = (text: string, hits: Span[], wanted: (word: string) => boolean): Window | undefined => {
  let found: (Window & { count: number }) | undefined
  const words = hits.map(([start, length]) => text.slice(start, start + length).toLowerCase())
  for (const [i, [from]] of hits.entries()) {
    const inside = new Set<string>()
    let count = 0
    let to = from
    for (let j = i; j < hits.length; j++) {
      const [start, length] = hits[j] as Span
      if (j > i && start + length > from + passage) break
      to = Math.min(start + length, from + passage)
      if (wanted(words[j] ?? '')) inside.add(words[j] ?? '')
      count++
    }
    if (
      inside.size > 0 &&
      (!found || inside.size > found.words.size || (inside.size === found.words.size && count > found.count))
    )
      found = { from, to, words: inside, count }
  }
  return found
}

const isSpace = (text: string, i: number): boolean => /\s/.test(text[i] ?? ' ')
/** Returns `i`, moved to the start of a surrogate pair if it would split one. */
const whole = (text: string, i: number): number =>
  i > 0 && i < text.length && /[\uDC00-\uDFFF]/.test(text[i] ?? '') && /[\uD800-\uDBFF]/.test(text[i - 1] ?? '')
    ? i - 1
    : i

/** Widens a window to the length of a passage. */
const widen = (text: string, { from, to }: Window): { from: number; to: number } => {
  const room = Math.max(0, passage - (to - from))
  let start = Math.max(0, from - (room >> 1))
  let end = Math.min(text.length, start + (to - from) + room)
  start = Math.max(0, Math.min(start, end - passage))
  if (start > 0) {
    let i = start
    while (i < from && i < start + slack && !isSpace(text, i - 1)) i++
    if (i <= from && isSpace(text, i - 1)) start = i
  }
  if (end < text.length) {
    let i = end
    while (i > to && i > end - slack && !isSpace(text, i)) i--
    if (i >= to && isSpace(text, i)) end = i
  }
  return { from: whole(text, start), to: whole(text, end) }
}

/** Returns the best one or two passages of a text; its beginning if there are no hits. `hits` are ascending and do not overlap. */
export const snippetOf = (text: string, hits: Span[]): Snippet => {
  const some = hits.slice(0, mostMatches)
  const first = best(text, some, () => true) ?? { from: 0, to: 0, words: new Set<string>() }
  const one = widen(text, first)
  const rest = some.filter(([start, length]) => start + length <= one.from || start >= one.to)
  const second = best(text, rest, (word) => !first.words.has(word))
  const passages = [one]
  if (second) {
    const other = widen(text, second)
    const [a, b] = other.from < one.from ? [other, one] : [one, other]
    if (b.from <= a.to) passages.splice(0, 1, { from: a.from, to: Math.max(a.to, b.to) })
    else passages.splice(0, 1, a, b)
  }
  let shown = ''
  const marks: Span[] = []
  let reached = 0
  for (const { from, to } of passages) {
    if (from > reached) shown += shown === '' ? gap.trimStart() : gap
    for (const [start, length] of some) {
      const at = Math.max(start, from)
      const end = Math.min(start + length, to)
      if (at < end) marks.push([shown.length + at - from, end - at])
    }
    shown += text.slice(from, to)
    reached = to
  }
  if (reached < text.length) shown += gap.trimEnd()
  return { text: shown, hits: marks }
}
