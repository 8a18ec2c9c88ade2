// Links with an address in parentheses, and link reference definitions.
import { unescape } from './characters.ts'

/** Link reference definitions: where a label leads. */
export type References = Map<string, string>

/** Parentheses that a link's address may nest. */
const mostParentheses = 32

const blank = /[ \t]*/y
export const space = /[ \t]*\n?[ \t]*/y
export const title = /"(?:[^"\\]|\\[^])*"|'(?:[^'\\]|\\[^])*'|\((?:[^()\\]|\\[^])*\)/y
export const label = /\[((?:[^\\[\]]|\\[^]){0,999})\]/y
const bracketed = /<((?:[^<>\n\\]|\\.)*)>/y

/** Returns the match of a sticky pattern at a place. */
export const at = (pattern: RegExp, text: string, place: number): RegExpExecArray | null => {
  pattern.lastIndex = place
  return pattern.exec(text)
}

/** Reads a link's address, which stands in parentheses or after a label; undefined if it has no address. */
export const destination = (text: string, from: number): { href: string; end: number } | undefined => {
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

/** Labels that differ in case or space only are the same. */
export const nameOf = (written: string): string => written.trim().replace(/\s+/g, ' ').toLowerCase().toUpperCase()

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
