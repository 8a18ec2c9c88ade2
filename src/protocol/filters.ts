// Filters of a chat's history in a query string: their schemas, and the meaning of the filters for times and languages. Postgres compares
// the words (database/search/chat-search.ts).
import Type, { type Static } from './typebox.ts'
import { deny } from './errors.ts'
import type { Message } from './rows.ts'

const time = (description: string) =>
  Type.Optional(
    Type.String({ maxLength: 40, description: `${description}: RFC 3339 with a zone (in a URL, write + as %2B)` }),
  )

export const filterFields = {
  language: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 256,
      description: 'only messages with a code block in this language, ignoring case',
    }),
  ),
  // 500 characters have at most 2,000 bytes; Postgres refuses a word of more than 2,046.
  q: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 500,
      description:
        'messages with all these words; "a phrase", or, -without; words are compared without stemming, ignoring case',
    }),
  ),
  sender: Type.Optional(
    Type.Union([Type.Literal('user'), Type.Literal('citizen')], { description: 'only messages of this sender' }),
  ),
  since: time('only messages created at this time or later'),
  until: time('only messages created before this time'),
}
export type Filters = Static<Type.TObject<typeof filterFields>>

export const isFiltered = (query: Filters): boolean =>
  Object.keys(filterFields).some((name) => query[name as keyof Filters] !== undefined)

const pattern =
  /^(\d{4})-(\d\d)-(\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.(\d{1,9}))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))$/

/**
 * Returns a bound in Postgres's format: UTC, in microseconds, rounded up. (Stored times are whole microseconds, so `>=` and `<` give the
 * same result as with the exact bound; for `<=` and `>` round down.) Throws `bad_request` if the text is not a time in the years 1 to
 * 9999.
 */
export const toBound = (name: string, text: string, round = Math.ceil): string => {
  const parts = pattern.exec(text)
  const [
    ,
    year = '',
    month = '',
    day = '',
    hour = '',
    minute = '',
    second = '',
    fraction = '',
    sign,
    zoneHour = '',
    zoneMinute = '',
  ] = parts ?? []
  const date = new Date(0)
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day))
  if (!parts || date.getUTCMonth() !== Number(month) - 1 || date.getUTCDate() !== Number(day))
    throw deny('bad_request', `${name} is not an RFC 3339 time with a zone (in a URL, write + as %2B)`)
  const zone = sign === undefined ? 0 : (sign === '-' ? 1 : -1) * (Number(zoneHour) * 60 + Number(zoneMinute))
  const micros = round(Number(fraction.padEnd(9, '0')) / 1000)
  date.setUTCHours(Number(hour), Number(minute) + zone, Number(second) + (micros === 1_000_000 ? 1 : 0))
  if (date.getUTCFullYear() < 1 || date.getUTCFullYear() > 9999) throw deny('bad_request', `${name} is out of range`)
  return `${date.toISOString().slice(0, 19)}.${String(micros % 1_000_000).padStart(6, '0')}`
}

/** Returns whether a message has a code block in this language; `language` is in lower case. */
export const speaks = ({ code_blocks }: Message, language: string): boolean =>
  code_blocks?.some((block) => block.language !== null && String(block.language).toLowerCase() === language) ?? false
