// Hits of a search in a mission: one hit for each row and kind, the order of hits, and their cursors.
// Hits are ordered by time, topic and seq: the order is the same for every client and does not change when rows are added.
import Type, { type Static } from './typebox.ts'
import { deny } from './errors.ts'
import { Snippet } from './snippet.ts'
import { citizenPattern } from './topics.ts'

export const kinds = ['message', 'code', 'test', 'dod'] as const
export type Kind = (typeof kinds)[number]

const nullable = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()])

export const Hit = Type.Object(
  {
    kind: Type.Enum([...kinds]),
    topic: Type.String({ description: "the row's topic" }),
    seq: Type.Integer({ description: "the row's seq in its topic" }),
    at: Type.String({ format: 'date-time', description: "a message's or run's created_at; an item's last change" }),
    id: Type.String({ format: 'uuid', description: "the row's ID" }),
    snippet: Snippet,
    sender: Type.Optional(
      Type.Union([Type.Literal('user'), Type.Literal('citizen')], { description: 'message, code' }),
    ),
    author: Type.Optional(nullable(Type.String({ description: 'message, code' }))),
    in_reply_to: Type.Optional(
      nullable(Type.String({ format: 'uuid', description: 'message, code: the message that it answers' })),
    ),
    block: Type.Optional(Type.Integer({ description: "code: which of the message's code_blocks, from 0" })),
    language: Type.Optional(nullable(Type.String({ description: 'code: language of that block' }))),
    status: Type.Optional(
      Type.Union([Type.Literal('running'), Type.Literal('passed'), Type.Literal('failed')], {
        description: 'test: status of the run',
      }),
    ),
    result: Type.Optional(
      nullable(Type.Integer({ description: 'test: which of the results, from 0; null: the status and summary' })),
    ),
    completed: Type.Optional(Type.Boolean({ description: 'dod' })),
  },
  { title: 'Hit' },
)
export type Hit = Static<typeof Hit>

/** The position of a hit. `at` is in UTC with six digits, so that texts compare like times; `part` is the topic without its mission. */
export type Place = { at: string; part: string; seq: number; kind: Kind }

/** Returns a row's time (RFC 3339 in UTC) in the format of `Place.at`. */
export const toAt = (time: string): string => {
  const [seconds = '', fraction = ''] = time.slice(0, -1).split('.')
  return `${seconds}.${fraction.padEnd(6, '0')}`
}

const order = (a: string | number, b: string | number): number => (a < b ? -1 : a > b ? 1 : 0)
/** Compares two positions for a sort: newest first. */
export const compare = (a: Place, b: Place): number =>
  order(b.at, a.at) ||
  order(b.part, a.part) ||
  order(b.seq, a.seq) ||
  order(kinds.indexOf(a.kind), kinds.indexOf(b.kind))

/** The last hit of a page. In the order by rank: also its rank, and the newest of the ranked hits. */
export type Cursor = Place & { ranked?: { rank: number; top: Place } }

const toParts = ({ at, part, seq, kind }: Place): unknown[] => [at, part, seq, kind]
export const toCursor = ({ ranked, ...place }: Cursor): string =>
  Buffer.from(JSON.stringify([...toParts(place), ...(ranked ? [ranked.rank, ...toParts(ranked.top)] : [])])).toString(
    'base64url',
  )

const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$/
const part = new RegExp(`^(tests|dod|chat/${citizenPattern.slice(1, -1)})$`)
const fromParts = ([at, name, seq, kind]: unknown[]): Place => {
  if (
    typeof at === 'string' &&
    time.test(at) &&
    Number.isFinite(Date.parse(`${at}Z`)) &&
    typeof name === 'string' &&
    part.test(name) &&
    Number.isSafeInteger(seq) &&
    Number(seq) >= 0 &&
    kinds.includes(kind as Kind)
  )
    return { at, part: name, seq: Number(seq), kind: kind as Kind }
  throw new Error('no place')
}

/** Parses a cursor. Throws `bad_request` if it is invalid, or belongs to the other order. */
export const fromCursor = (text: string, byRank: boolean): Cursor => {
  try {
    const parts = JSON.parse(Buffer.from(text, 'base64url').toString('utf8')) as unknown
    if (!Array.isArray(parts) || parts.length !== (byRank ? 9 : 4)) throw new Error('no cursor')
    const place = fromParts(parts.slice(0, 4))
    if (!byRank) return place
    const rank: unknown = parts[4]
    if (typeof rank !== 'number') throw new Error('no rank')
    return { ...place, ranked: { rank, top: fromParts(parts.slice(5)) } }
  } catch {
    throw deny('bad_request', 'cursor is invalid: use the `next` of an earlier page')
  }
}
