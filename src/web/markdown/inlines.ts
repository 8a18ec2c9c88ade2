// The inline part of Markdown: CommonMark, with GitHub's strikethrough and bare links; line breaks stay line breaks, HTML stays text.
// The time is linear in the length of the text: an opener or an end that was not found is not searched for again.
import { bare, hrefOf, trimmed } from './bare-links.ts'
import { decode } from './characters.ts'
import { addDelimiter, pair, type Delimiter, type Delimiters } from './delimiters.ts'
import { htmlSpans, tags } from './html.ts'
import { build, type Bracket, type Item } from './inline-tree.ts'
import { at, destination, label, nameOf, space, title, type References } from './references.ts'
import type { Inline } from './tree.ts'

const plain = /[^\\`![\]<&*_~\n]+/y
const entity = /&(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|[a-zA-Z]{2,8});/y
const address =
  /<([A-Za-z][A-Za-z0-9.+-]{1,31}:[^\s<>]*|[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})>/y

type Opener = { bracket: Bracket; image: boolean; from: number; before: Delimiter | undefined; nested: boolean }

/** A text's inline content, the number of its elements (a line break costs as much), and the steps that reading it took. */
export const inlines = (text: string, references: References): { inner: Inline[]; elements: number; steps: number } => {
  const items: Item[] = []
  const openers: Opener[] = []
  /** openers below it stand before a link, which no other link may contain */
  let dead = 0
  const delimiters: Delimiters = { last: undefined, count: 0, steps: 0 }
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
    const from = pos
    while (text[pos] === char) pos++
    if (char === '~' && pos - from > 2) return say(text.slice(from, pos))
    items.push({ delimiter: addDelimiter(delimiters, text, from, pos) })
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
    pair(delimiters, opener.before)
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
      const [begin, stop] = htmlSpans.find(([begin]) => text.startsWith(begin, pos)) ?? []
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
        openers.push({ bracket, image, from: pos, before: delimiters.last, nested: false })
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
  pair(delimiters, undefined)
  return { ...build(items), steps: steps + delimiters.steps }
}
