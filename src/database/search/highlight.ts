// The word rule (docs/search.md) for highlighting: finds a text's words and their positions in UTF-16 code units. db/functions/words.sql
// implements the same rule; only Postgres decides which messages match.
import { setImmediate as rest } from 'node:timers/promises'
import type { Span } from '../../protocol/snippet.ts'
import { folds } from './unicode-folds.ts'
import { letters, marks, unspaced } from './unicode-letters.ts'

const word = new RegExp(`[a-zA-Z0-9${letters}][a-zA-Z0-9${letters}${marks}]*`, 'gu')
const piece = new RegExp(`[${unspaced}][${marks}]*|(?:(?![${unspaced}])[^])+`, 'gu')
const hasUnspaced = new RegExp(`[${unspaced}]`, 'u')
const ascii = /^[^\u0080-\uffff]*$/
const folded = new Map(Object.entries(JSON.parse(folds) as Record<string, string>))

/** Letters outside ASCII, each with the letters that case folding maps to it. Letters in folds of several characters are left out. */
export const capitals = new Map<string, string>()
for (const [letter, fold] of folded) if (fold > '\x7f') capitals.set(fold, (capitals.get(fold) ?? '') + letter)
for (const fold of folded.values()) if (Array.from(fold).length > 1) for (const one of fold) capitals.delete(one)

/** Characters whose fold contains ASCII letters, with the fold: a text may have such a word without containing its letters. */
export const foldedToAscii = [...folded].filter(([, fold]) => /[a-z]/.test(fold))

/** Whether a word is a letter of a script that is written without spaces. */
export const isUnspaced = (text: string): boolean => hasUnspaced.test(text)

const fold = (text: string): string =>
  ascii.test(text)
    ? text.toLowerCase()
    : Array.from(
        text.normalize(),
        (character) => folded.get(character) ?? character.replace(/[A-Z]/, (c) => c.toLowerCase()),
      )
        .join('')
        .normalize()

type Word = { text: string; span: Span }
/** Yields the words of a text in order. */
export function* wordsOf(text: string): Generator<Word> {
  for (const { 0: found, index } of text.matchAll(word)) {
    if (!hasUnspaced.test(found)) yield { text: fold(found), span: [index, found.length] }
    else
      for (const part of found.matchAll(piece))
        yield { text: fold(part[0]), span: [index + part.index, part[0].length] }
  }
}

/** What to highlight: words anywhere, and runs of letters of a script without spaces (権利) only in sequence. */
export type Marked = { words: Set<string>; runs: string[][] }

export const spansOf = (text: string, { words, runs }: Marked): Span[] => {
  const all = [...wordsOf(text)]
  const isMarked = all.map((word) => words.has(word.text))
  for (const run of runs)
    for (let i = 0; i + run.length <= all.length; i++)
      if (run.every((letter, j) => all[i + j]?.text === letter)) isMarked.fill(true, i, i + run.length)
  const spans: Span[] = []
  for (const [i, { text, span }] of all.entries()) {
    if (!isMarked[i]) continue
    const last = spans.at(-1)
    if (last && isUnspaced(text) && last[0] + last[1] === span[0]) last[1] += span[1]
    else spans.push([...span])
  }
  return spans
}

/** UTF-16 code units after which the event loop gets a turn: about 10 ms of work. */
const most = 256 * 1024

/** Returns each text's spans; no spans if `marked` is null. */
export const spansOfAll = async (marked: Marked | null, texts: string[]): Promise<Span[][]> => {
  const spans: Span[][] = []
  let size = 0
  for (const text of texts) {
    spans.push(marked === null ? [] : spansOf(text, marked))
    size += text.length
    if (size < most) continue
    size = 0
    await rest()
  }
  return spans
}
