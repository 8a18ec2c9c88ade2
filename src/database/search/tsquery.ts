// Parses a search query into the forms in which it is compared:
//
// - with a message's words (deck.plain): exact;
// - with a message's letters: cheaper, but some messages pass that do not match;
// - with the words of a block (db/functions/search.sql): the words may be in different messages and in any order, and excluded words may occur.
//
// Only Postgres splits texts into words.
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import { capitals, foldedToAscii, isUnspaced, type Marked } from './highlight.ts'

/** One alternative of a query: phrases that a text must have, and phrases that it must not have. */
type Alternative = { all: string[][]; none: string[][] }

export type Words = {
  /** Each alternative's LIKE patterns for deck.plain: a text matches all of `all`, and none of `none`. See `fitsWords`. */
  all: string[][]
  none: string[][]
  /** the same as a tsquery in text form, to rank by deck.words */
  rank: string
  /** Each alternative's words that a block must have; null if any block may have a match. */
  loose: string[][] | null
  /** What is highlighted; null if nothing is. */
  marked: Marked | null
  /** The letters that a matching text must have: see `mayFit`. */
  letters: Letters
}
export type Letters = {
  /** LIKE patterns for the lower-case text. A match fits all of `all`, and one of `any`. This takes 1 µs per message, comparing words 10. */
  all: string[] | null
  any: string[] | null
  /** the same as `all` for words in any order: a phrase's words are separate patterns */
  each: string[] | null
  /** A regular expression of characters with which a text without those letters may match; null if there is no such character. */
  odd: string | null
  /** A regular expression of letters outside ASCII, in either case, that a matching text has; null if there is no such letter. */
  cased: string | null
}

/**
 * SQL of whether a text matches. `plain` is the text as returned by deck.plain; `all` and `none` are parameters (text[]) from Words.
 */
export const fitsWords = (plain: string, all: string, none: string): string =>
  `exists (select from generate_subscripts(${all}::text[], 1) i
    where ${plain} like all ((${all}::text[])[i:i]) and not ${plain} like any ((${none}::text[])[i:i]))`

/** SQL of whether a text may match, by its letters. `all` (or `each`), `any`, `odd` and `cased` are parameters from Letters. */
export const mayFit = (text: string, all: string, any: string, odd: string, cased: string): string =>
  `((${all}::text[] is null or lower(${text} collate "C") like all (${all}))
    and (${any}::text[] is null or lower(${text} collate "C") like any (${any}))
    and (${cased}::text is null or ${text} collate "C" ~ ${cased})
    or coalesce(${text} collate "C" ~ ${odd}::text, false))`

/** Characters that join the parts of an address, a path or a name. A part of the query that contains one is a phrase. */
const joins = /[<>&./\\:@~?=%#]/

/** Parses a query like Postgres's websearch_to_tsquery: words, "a phrase", -not and or. Returns the alternatives' parts. */
const partsOf = (q: string): { text: string; not: boolean }[][] => {
  const alternatives: { text: string; not: boolean }[][] = [[]]
  let rest = q
  // `or` is a word at the beginning, after another `or`, and at the end.
  for (let isOperand = true; ;) {
    const [or] = isOperand ? [] : (/^[\s&|!()]*or(?![-_\p{L}\p{N}])(?=.\s*\S)/isu.exec(rest) ?? [])
    if (or !== undefined) {
      rest = rest.slice(or.length)
      alternatives.push([])
    }
    const [, before = '', signs = '', phrase, run = ''] =
      /^([\s&|!()]*)((?:-[\s&|!()]*)*)(?:("[^"]*"?)|([^\s"]+))/.exec(rest) ?? []
    const text = phrase ?? (joins.test(run) ? run : (/^[^|!()]*/.exec(run)?.[0] ?? ''))
    if (text === '') return alternatives
    rest = rest.slice(before.length + signs.length + text.length)
    alternatives.at(-1)?.push({ text, not: signs.replace(/[^-]/g, '').length % 2 === 1 })
    isOperand = false
  }
}

const quoted = (lexeme: string): string => `'${lexeme.replace(/['\\]/g, (c) => c + c)}'`
/** Whether a tsvector can hold the word. */
const isShort = (word: string): boolean => Buffer.byteLength(word) <= 2046

/** Letters that NFC produces from compatibility ideographs. A text may have such a letter in a different form. */
const compatible = new Set(
  [...range(0xf900, 0xfaff), ...range(0x2f800, 0x2fa1f)].map((code) => String.fromCodePoint(code).normalize()),
)
function* range(first: number, last: number): Generator<number> {
  for (let code = first; code <= last; code++) yield code
}
const isItself = (letter: string): boolean =>
  /[a-z0-9]/.test(letter) || (isUnspaced(letter) && letter.normalize('NFD') === letter && !compatible.has(letter))
/** Returns the parts of a word that each text with this word contains literally, except for ASCII case. */
const lettersOf = (word: string): string[] =>
  Array.from(word, (letter) => (isItself(letter) ? letter : ' '))
    .join('')
    .split(' ')
    .filter(Boolean)

/** Returns a regular expression of a word's letters that have capitals, without letters that NFC may compose of several; '' if none. */
const casedOf = (word: string): string => {
  const parts = Array.from(word, (letter) => {
    const others = letter.normalize('NFD') === letter ? capitals.get(letter) : undefined
    return others === undefined ? ' ' : `[${letter}${others}]`
  })
  return parts.join('').trim().replace(/ +/g, '.*')
}
const longestOf = (words: string[]): string => words.toSorted((a, b) => b.length - a.length)[0] ?? ''

const lettersOfAll = (alternatives: Alternative[]): Letters => {
  const pattern = (words: string[]): string => `%${words.flatMap(lettersOf).join('%')}%`
  const letters = new Set(alternatives.flatMap(({ all }) => all.flat(2).flatMap(lettersOf).join('').split('')))
  const odd = foldedToAscii.filter(([, fold]) => (fold.match(/[a-z]/g) ?? []).every((letter) => letters.has(letter)))
  const [first, ...others] = alternatives
  // Each alternative's longest word.
  const cased = alternatives.map(({ all }) => longestOf(all.flat().map(casedOf)))
  const some = {
    odd: odd.length === 0 ? null : `[${odd.map(([letter]) => letter).join('')}]`,
    cased: cased.includes('') ? null : cased.join('|'),
  }
  if (first && others.length === 0)
    return first.all.length === 0
      ? { ...some, all: null, any: null, each: null }
      : { ...some, all: first.all.map(pattern), any: null, each: first.all.flat().map((word) => pattern([word])) }
  const any = alternatives.flatMap(({ all }) => (all.length === 0 ? [] : [pattern([longestOf(all.flat())])]))
  return { ...some, all: null, any: any.length < alternatives.length ? null : any, each: null }
}

/** Returns the words to highlight, and the runs of letters of a script without spaces. */
const markedOf = (alternatives: Alternative[]): Marked | null => {
  const marked: Marked = { words: new Set(), runs: [] }
  for (const phrase of alternatives.flatMap(({ all }) => all))
    for (let from = 0, to = 1; from < phrase.length; from = to++) {
      const is = (at: number): boolean => isUnspaced(phrase[at] ?? '')
      while (is(from) && to < phrase.length && is(to)) to++
      if (to > from + 1) marked.runs.push(phrase.slice(from, to))
      else marked.words.add(phrase[from] ?? '')
    }
  return marked.words.size + marked.runs.length === 0 ? null : marked
}

/** Returns a phrase's words for a block: its words, and each pair of adjacent letters of a script without spaces. */
const lexemesOf = (phrase: string[]): string[] => [
  ...phrase,
  ...phrase.flatMap((word, i) => {
    const next = phrase[i + 1] ?? ''
    return isUnspaced(word) && isUnspaced(next) ? [word + next] : []
  }),
]

const tsqueryOf = (alternatives: Alternative[]): string =>
  alternatives
    .map(({ all, none }) => {
      const phrases = (some: string[][]): string[] =>
        some.flatMap((phrase) => {
          const words = phrase.filter(isShort).map(quoted)
          return words.length === 0 ? [] : [`(${words.join(' <-> ')})`]
        })
      return [...phrases(all), ...phrases(none).map((phrase) => `!${phrase}`)].join(' & ')
    })
    .filter(Boolean)
    .map((alternative) => `(${alternative})`)
    .join(' | ')

/** Parses a search query. Rejects with `bad_request` if it has no word. */
export const lookUp = async (main: pg.Pool, q: string): Promise<Words> => {
  const parts = partsOf(q)
  const { rows } = await main.query<{ plain: string }>({
    name: 'search-words',
    text: 'select deck.plain(t.text) as plain from unnest($1::text[]) with ordinality as t (text, n) order by t.n',
    values: [parts.flat().map(({ text }) => text)],
  })
  let at = 0
  const alternatives = parts.flatMap((alternative): Alternative[] => {
    const phrases = alternative.map(({ not }) => ({ not, words: rows[at++]?.plain.split(' ').filter(Boolean) ?? [] }))
    const having = (not: boolean): string[][] =>
      phrases.flatMap((phrase) => (phrase.not === not && phrase.words.length > 0 ? [phrase.words] : []))
    const [all, none] = [having(false), having(true)]
    return all.length + none.length === 0 ? [] : [{ all, none }]
  })
  if (alternatives.length === 0) throw deny('bad_request', 'q has no word to search for')
  // Postgres's arrays are rectangular. The fillers have no effect on the match.
  const patterns = (some: string[][][], filler: string): string[][] => {
    const most = Math.max(1, ...some.map(({ length }) => length))
    return some.map((phrases) => [
      ...phrases.map((words) => `% ${words.join(' ')} %`),
      ...Array.from({ length: most - phrases.length }, () => filler),
    ])
  }
  const loose = alternatives.map(({ all }) => all.flatMap(lexemesOf).filter(isShort))
  return {
    all: patterns(
      alternatives.map(({ all }) => all),
      '%',
    ),
    none: patterns(
      alternatives.map(({ none }) => none),
      '',
    ),
    rank: tsqueryOf(alternatives),
    loose: loose.some(({ length }) => length === 0) ? null : loose,
    marked: markedOf(alternatives),
    letters: lettersOfAll(alternatives),
  }
}

/** Returns the query for a block's words; `mark` precedes each word. */
const blockWords = (loose: string[][], mark = ''): string =>
  `(${loose.map((words) => `(${words.map((word) => quoted(mark + word)).join(' & ')})`).join(' | ')})`

/** Returns the query for a mission's blocks that may have these words in a message's text, in code, or in either. */
export const missionBlocks = (mission: string, { loose }: Words, wanted: { text: boolean; code: boolean }): string => {
  const marks = [
    ...(wanted.text && loose !== null ? [blockWords(loose)] : []),
    ...(wanted.code && loose !== null ? [blockWords(loose, '\x05')] : []),
  ]
  return `'\x01${mission}':*${marks.length === 0 ? '' : ` & ('\x04' | ${marks.join(' | ')})`}`
}

/** Returns the query for a chat's blocks, without the chat's mark. deck.search_block defines the marks. */
export const blockQuery = (wanted: { words: Words | null; language: string | null; sender: string | null }): string => {
  const { words, language, sender } = wanted
  const marks = [
    ...(words?.loose == null ? [] : [blockWords(words.loose)]),
    // Blocks have one common mark for all languages that are not plain ASCII.
    ...(language === null ? [] : [/^[ -~]+$/.test(language) ? `(${quoted(`\x02${language}`)} | '\x02')` : `'\x02'`]),
    ...(sender === null ? [] : [quoted(`\x03${sender}`)]),
  ]
  return marks.length === 0 ? '' : ` & ('\x04' | (${marks.join(' & ')}))`
}
