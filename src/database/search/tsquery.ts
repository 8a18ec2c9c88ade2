// What a search asks for, in the forms in which it is compared: with a message's words (deck.plain), with its letters, which is cheaper
// and leaves some in that don't fit, and with the words of a whole block of messages (db/functions/search.sql), which may have them in
// different messages, in any order, and those that are not wanted too. Which words a text has is for Postgres to say.
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import { capitals, foldedToAscii, isUnspaced, type Marked } from './highlight.ts'

/** Any of alternatives: each has phrases that a text must have, and some that it must not. */
type Alternative = { all: string[][]; none: string[][] }

export type Words = {
  /** Of each alternative LIKE patterns of deck.plain, all of which a text fits, and none of which: see `fitsWords`. */
  all: string[][]
  none: string[][]
  /** the same as a tsquery in text, for ranks by deck.words */
  rank: string
  /** What a block has, for each alternative; null if any block may have such a message. */
  loose: string[][] | null
  /** What is marked where it is found; null if that is nothing. */
  marked: Marked | null
  /** What letters a text has that may fit: see `mayFit`. */
  letters: Letters
}
export type Letters = {
  /** LIKE patterns, of which any such message fits all or any in lower case: to compare words costs 10 µs a message, this 1 */
  all: string[] | null
  any: string[] | null
  /** the same as `all` for words in any order: of a phrase, each of its words */
  each: string[] | null
  /** Regular expression of characters with which a text without those letters may fit; null without such a character. */
  odd: string | null
  /** Regular expression of letters outside ASCII, in either case, of a text that fits; null without such a letter. */
  cased: string | null
}

/**
 * SQL: whether a text, as deck.plain returns it, has what is searched; `all` and `none` are parameters of type text[], those of Words.
 */
export const fitsWords = (plain: string, all: string, none: string): string =>
  `exists (select from generate_subscripts(${all}::text[], 1) i
    where ${plain} like all ((${all}::text[])[i:i]) and not ${plain} like any ((${none}::text[])[i:i]))`

/** SQL: whether a text has letters with which it may fit; `all` (or `each`), `any`, `odd` and `cased` are parameters, those of Letters. */
export const mayFit = (text: string, all: string, any: string, odd: string, cased: string): string =>
  `((${all}::text[] is null or lower(${text} collate "C") like all (${all}))
    and (${any}::text[] is null or lower(${text} collate "C") like any (${any}))
    and (${cased}::text is null or ${text} collate "C" ~ ${cased})
    or coalesce(${text} collate "C" ~ ${odd}::text, false))`

/** What joins the parts of an address, a path or a name: such a part is a phrase, whatever else is in it. */
const joins = /[<>&./\\:@~?=%#]/

/** What is asked, as Postgres's websearch_to_tsquery reads it: words that are all wanted, "a phrase", -not and or. */
const partsOf = (q: string): { text: string; not: boolean }[][] => {
  const alternatives: { text: string; not: boolean }[][] = [[]]
  let rest = q
  // At the beginning and after an `or` it is a word, as it is where nothing follows.
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
/** What a tsvector can hold. */
const isShort = (word: string): boolean => Buffer.byteLength(word) <= 2046

/** Letters that a text has as they are if it has them at all: neither case folding nor NFC makes them of others. */
const compatible = new Set(
  [...range(0xf900, 0xfaff), ...range(0x2f800, 0x2fa1f)].map((code) => String.fromCodePoint(code).normalize()),
)
function* range(first: number, last: number): Generator<number> {
  for (let code = first; code <= last; code++) yield code
}
const isItself = (letter: string): boolean =>
  /[a-z0-9]/.test(letter) || (isUnspaced(letter) && letter.normalize('NFD') === letter && !compatible.has(letter))
/** The parts of a word that a text has as they are, but for ASCII's case. */
const lettersOf = (word: string): string[] =>
  Array.from(word, (letter) => (isItself(letter) ? letter : ' '))
    .join('')
    .split(' ')
    .filter(Boolean)

/** A regular expression of a word's letters that have capitals, without those that NFC may make of several; '' without any. */
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
  // Of each alternative its longest word.
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

/** Words that are wanted, and letters that are one after the other. */
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

/** What a block has of a phrase: its words, and each two unspaced letters. */
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

/** What a search asks for; `bad_request` if there is no word in it. */
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
  // Postgres's arrays are rectangular: what fills them decides nothing.
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

/** The query for what a block has of words, each behind a mark. */
const blockWords = (loose: string[][], mark = ''): string =>
  `(${loose.map((words) => `(${words.map((word) => quoted(mark + word)).join(' & ')})`).join(' | ')})`

/** The query for a mission's blocks that may have these words in a message, in code, or in either. */
export const missionBlocks = (mission: string, { loose }: Words, wanted: { text: boolean; code: boolean }): string => {
  const marks = [
    ...(wanted.text && loose !== null ? [blockWords(loose)] : []),
    ...(wanted.code && loose !== null ? [blockWords(loose, '\x05')] : []),
  ]
  return `'\x01${mission}':*${marks.length === 0 ? '' : ` & ('\x04' | ${marks.join(' | ')})`}`
}

/** What follows the chat's own mark in the query for blocks; the marks are those of deck.search_block. */
export const blockQuery = (wanted: { words: Words | null; language: string | null; sender: string | null }): string => {
  const { words, language, sender } = wanted
  const marks = [
    ...(words?.loose == null ? [] : [blockWords(words.loose)]),
    // A language that is not plain ASCII is one that can't be told there.
    ...(language === null ? [] : [/^[ -~]+$/.test(language) ? `(${quoted(`\x02${language}`)} | '\x02')` : `'\x02'`]),
    ...(sender === null ? [] : [quoted(`\x03${sender}`)]),
  ]
  return marks.length === 0 ? '' : ` & ('\x04' | (${marks.join(' & ')}))`
}
