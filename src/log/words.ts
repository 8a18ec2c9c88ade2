// A search's words as Postgres compares them: exactly, with a message's text, and loosely, with the words of a whole block of messages
// (db/functions/search.sql), which may have them in different messages, in any order, and those that are not wanted too.
import type pg from 'pg'
import { deny } from '../protocol/errors.ts'

export type Words = {
  /** tsquery as text */
  exact: string
  /** tsquery as text; null if any block may have such a message */
  loose: string | null
  /** tsquery as text, without what is not wanted: what is marked where it is found; null if that is nothing */
  marked: string | null
  /** LIKE patterns, of which any such message fits all or any in lower case: to compare words costs 30 µs a message, this 1 */
  all: string[] | null
  any: string[] | null
  /** the same as `all` for words in any order: of a phrase, each of its words */
  each: string[] | null
}

/** The parts of a tsquery's text: quoted words, and operators. */
const parts = /'(?:[^'\\]|''|\\.)*'|<(?:-|\d+)>|[|&!()]/g
const patternsOf = (loose: string): Pick<Words, 'all' | 'any' | 'each'> => {
  const found: string[] = loose.match(parts) ?? []
  const words = found.filter((part) => part.startsWith("'"))
  if (!words.every((word) => /^[ -~]+$/.test(word))) return { all: null, any: null, each: null }
  const letters = words.map((word) =>
    word
      .slice(1, -1)
      .replaceAll("''", "'")
      .replaceAll('\\\\', '\\')
      .replace(/[\\%_]/g, '\\$&'),
  )
  const each = letters.map((word) => `%${word}%`)
  if (found.includes('|')) return { all: null, any: each, each: null }
  // A phrase has its words one after the other; not so one with hyphens, of which whole and parts are words.
  const isPhrase = letters.length > 1 && !found.some((part) => /^[&!()]$/.test(part))
  if (isPhrase && !letters.some((word) => word.includes('-')))
    return { all: [`%${letters.join('%')}%`], any: null, each }
  return { all: each, any: null, each }
}

// What deck.words takes for spaces.
const between = /[<>&./\\:@~?=%#]/

/** A word of several (bot.sendMessage) as the phrase that they are. */
const split = (part: string): string => {
  if (part.startsWith('"') || part.startsWith('-"') || !between.test(part)) return part
  const [, sign = '', word = ''] = /^(-?)(.*)$/s.exec(part) ?? []
  return `${sign}"${word.replaceAll('"', ' ')}"`
}

/** What a websearch asks for; `bad_request` where there is no word in it. */
export const lookUp = async (main: pg.Pool, q: string): Promise<Words> => {
  const { rows } = await main.query<{ exact: string; loose: string }>({
    name: 'search-words',
    text: `select q::text as exact, querytree(q) as loose
           from (select websearch_to_tsquery('pg_catalog.simple', $1) as q offset 0) x`,
    values: [q.replace(/-?"[^"]*"?|\S+/g, split).replace(new RegExp(between, 'g'), ' ')],
  })
  const { exact = '', loose = 'T' } = rows[0] ?? {}
  if (exact === '') throw deny('bad_request', 'q has no word to look for')
  // Without what is not wanted (querytree leaves it away, and says T where nothing is left); a phrase as its words.
  if (loose === 'T' || loose === '') return { exact, loose: null, marked: null, all: null, any: null, each: null }
  return {
    exact,
    marked: loose,
    ...patternsOf(loose),
    loose: loose.replace(parts, (part) => (part.startsWith('<') ? '&' : part)),
  }
}

const quoted = (lexeme: string): string => `'${lexeme.replace(/['\\]/g, (c) => c + c)}'`

/** The query for a mission's blocks that may have these words in a message, in code, or in either. */
export const missionBlocks = (mission: string, { loose }: Words, wanted: { text: boolean; code: boolean }): string => {
  const marks = [
    ...(wanted.text && loose !== null ? [`(${loose})`] : []),
    ...(wanted.code && loose !== null
      ? [`(${loose.replace(parts, (part) => (part.startsWith("'") ? `'\x05${part.slice(1)}` : part))})`]
      : []),
  ]
  return `'\x01${mission}':*${marks.length === 0 ? '' : ` & ('\x04' | ${marks.join(' | ')})`}`
}

/** What follows the chat's own mark in the query for blocks; the marks are those of deck.search_block. */
export const blockQuery = (wanted: { words: Words | null; language: string | null; sender: string | null }): string => {
  const { words, language, sender } = wanted
  const marks = [
    ...(words?.loose == null ? [] : [`(${words.loose})`]),
    // A language that is not plain ASCII is one that can't be told there.
    ...(language === null ? [] : [/^[ -~]+$/.test(language) ? `(${quoted(`\x02${language}`)} | '\x02')` : `'\x02'`]),
    ...(sender === null ? [] : [quoted(`\x03${sender}`)]),
  ]
  return marks.length === 0 ? '' : ` & ('\x04' | (${marks.join(' & ')}))`
}
