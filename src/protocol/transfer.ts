// NDJSON lines of imports and exports: messages from any program, and the lines of an exported mission.
// A message is checked like a sent one, and its time is read to the microsecond. Of an export's line only the kind is read here: its row
// stays the text that Postgres wrote, so that its numbers do not lose digits in a double.
import Type, { type Static } from './typebox.ts'
import { detailsOf, mostSteps, StoredStep, Usage } from './activity.ts'
import { givenBlocks } from './blocks.ts'
import { makeCheck } from './check.ts'
import { deny } from './errors.ts'
import { messageFields } from './rows.ts'
import { isAbyss, parseJson, storable } from './text.ts'
import { citizenPattern, parseMission, uuidPattern, type MissionRef } from './topics.ts'

const nullable = <T extends Type.TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]))

export const ImportLine = Type.Object({
  mission: nullable(Type.Union([Type.String(), Type.Integer()])),
  mission_id: nullable(Type.String()),
  citizen: nullable(Type.String({ pattern: citizenPattern })),
  sender: nullable(Type.Union([Type.Literal('user'), Type.Literal('citizen')])),
  author: nullable(Type.String({ minLength: 1, maxLength: 256 })),
  message: messageFields.message,
  code_blocks: messageFields.code_blocks,
  created_at: nullable(Type.String()),
  key: messageFields.key,
  id: nullable(Type.String({ pattern: uuidPattern })),
  in_reply_to: nullable(Type.String({ pattern: uuidPattern, description: 'the id of the message that it answers' })),
  activity: nullable(Type.Array(StoredStep, { maxItems: mostSteps })),
  usage: nullable(Usage),
})
type ImportLine = Static<typeof ImportLine>
const line = makeCheck(ImportLine)

/** Defaults for lines without a chat or sender. */
export type Defaults = { mission?: MissionRef; citizen?: string; sender?: 'user' | 'citizen' }

export type Imported = {
  mission: MissionRef
  citizen: string
  /** the mission and the citizen that the line itself names */
  own: { mission: MissionRef | undefined; citizen: string | undefined }
  sender: 'user' | 'citizen'
  author: string | null
  message: string
  /** JSON text; null: use the code blocks of the message's Markdown */
  code_blocks: string | null
  key: string | null
  id: string | undefined
  /** the `id` that the line of the answered message has */
  in_reply_to: string | null
  /** JSON text of `Details`, or null */
  details: string | null
  /** µs since 2000-01-01T00:00Z, as Postgres counts; null: now */
  time: bigint | null
}

const time =
  /^(\d{4})-(\d\d)-(\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.(\d{1,9}))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))$/
const epoch = Date.UTC(2000, 0, 1)
const first = Date.parse('0001-01-01T00:00:00Z')
const last = Date.parse('9999-12-31T23:59:59Z')

/** Parses an RFC 3339 time into µs since 2000. Throws `bad_request` if it is invalid. */
export const microsOf = (text: string): bigint => {
  const [, y, mo, d, h, mi, s, fraction = '', sign, oh, om] = time.exec(text) ?? []
  const date = new Date(0)
  date.setUTCFullYear(Number(y), Number(mo) - 1, Number(d))
  if (y === undefined || date.getUTCMonth() !== Number(mo) - 1 || date.getUTCDate() !== Number(d))
    throw deny('bad_request', 'created_at is not an RFC 3339 time')
  const offset = sign === undefined ? 0 : Number(`${sign}1`) * (Number(oh) * 60 + Number(om))
  const ms = date.setUTCHours(Number(h), Number(mi) - offset, Number(s))
  if (ms < first || ms > last) throw deny('bad_request', 'created_at is out of range')
  return BigInt(ms - epoch) * 1000n + BigInt(Math.round(Number(`0.${fraction || 0}`) * 1e6))
}

const parse = (text: string): ImportLine => {
  if (isAbyss(text)) throw deny('bad_request', 'the JSON is nested too deep')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw deny('bad_request', 'not JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw deny('bad_request', 'not a JSON object')
  if (!line.fits(value)) throw deny('bad_request', line.why(value).replace(/^frame/, 'the line'))
  return value as ImportLine
}

/** Returns what a line's writer did and used, as JSON text, or null. Throws `bad_request` if it can't be stored. */
const readDetails = (line: ImportLine): string | null => {
  const details = detailsOf(line)
  if (!details) return null
  const text = JSON.stringify(details)
  parseJson(text)
  return text
}

/** Reads a line as a message to save. Throws `bad_request` if it is invalid. */
export const readImport = (text: string, given: Defaults): Imported => {
  const read = parse(text)
  const { mission, mission_id, citizen, sender, author, message, code_blocks, created_at, key, id, in_reply_to } = read
  const named = mission ?? mission_id
  const own = { mission: named == null ? undefined : parseMission(String(named)), citizen: citizen ?? undefined }
  const to = { mission: given.mission ?? own.mission, citizen: given.citizen ?? own.citizen }
  const from = sender ?? given.sender
  if (!to.mission) throw deny('bad_request', 'mission is missing')
  if (to.citizen === undefined) throw deny('bad_request', 'citizen is missing')
  if (!from) throw deny('bad_request', 'sender is missing')
  if (!storable(message) || !storable(author ?? ''))
    throw deny('bad_request', 'U+0000 and lone surrogates can not be stored')
  return {
    mission: to.mission,
    citizen: to.citizen,
    own,
    sender: from,
    author: author ?? null,
    message,
    code_blocks: code_blocks ? JSON.stringify(givenBlocks(code_blocks)) : null,
    key: key ?? null,
    id: id?.toLowerCase(),
    in_reply_to: in_reply_to?.toLowerCase() ?? null,
    details: readDetails(read),
    time: created_at == null ? null : microsOf(created_at),
  }
}

// Exports --------------------------------------------------------------------------------------------------------------

/** The first line of an export. The last line is { kind: "end", lines, sha256 } over all lines before it. */
export const header = '{"kind":"deck","format":1}'
const kindOf = /^\{"kind":"([a-z_0-9]+)"/

/** Returns whether a file with this first line is an export of Mission Deck. */
export const isExport = (firstLine: string): boolean => firstLine.startsWith('{"kind":"deck",')

/** Returns a line's kind, and the text of its row if it has one; undefined if the line has no kind. */
export const readCarried = (line: Buffer): { kind: string; row: Buffer | undefined } | undefined => {
  const kind = kindOf.exec(line.toString('latin1', 0, 80))?.[1]
  if (kind === undefined) return undefined
  const start = `{"kind":"${kind}","row":`.length
  const row = line.toString('latin1', 0, start).endsWith('"row":') && line.at(-1) === 0x7d
  return { kind, row: row ? line.subarray(start, -1) : undefined }
}
