// A mission's timeline: its events, ordered by (at, topic, seq). Each item is the frame that a live socket gets, plus `at`, the time when
// the event got its seq. Clients get a position as an opaque cursor, which includes the epoch.
import Type, { type TObject } from './typebox.ts'
import { deny } from './errors.ts'
import { eventMessages } from './catalog.ts'

/** A position: after all events at or below it. `topic` is without its mission; null: before all events of this time. */
export type Place = { at: string; topic: string | null; seq: number }

/** Encodes an item; `data` is the row's JSON text. */
export const encodeItem = (topic: string, seq: number, event: string, data: string, at: string): string =>
  `{"type":"event","topic":"${topic}","seq":${seq},"event":"${event}","data":${data},"at":"${at}"}`

const at = Type.String({ format: 'date-time', description: 'when the event got its seq; never decreases' })
export const TimelineItem = Type.Union(
  eventMessages.map(({ schema }) => Type.Object({ ...(schema as TObject).properties, at })),
  { title: 'TimelineItem', description: 'An event as sockets receive it, with its time' },
)

export const toCursor = (epoch: string, { at, topic, seq }: Place): string =>
  Buffer.from(JSON.stringify([epoch, at, topic, seq])).toString('base64url')

const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z?$/
const part = /^(\/dod|\/tests|\/requests|\/chat\/[a-z][a-z0-9_-]{0,31}|\/tests\/[0-9a-f-]{36}\/logs)?$/

/** Parses a cursor. Throws `bad_request` if it is invalid. */
export const fromCursor = (cursor: string): { epoch: string; place: Place } => {
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.from(cursor, 'base64url').toString())
  } catch {}
  const [epoch, at, topic, seq] = Array.isArray(parsed) ? (parsed as unknown[]) : []
  if (
    typeof epoch !== 'string' ||
    typeof at !== 'string' ||
    !time.test(at) ||
    (topic !== null && (typeof topic !== 'string' || !part.test(topic))) ||
    !Number.isSafeInteger(seq) ||
    (seq as number) < 0
  )
    throw deny('bad_request', 'cursor is invalid: use the `next` of an earlier page')
  return { epoch, place: { at, topic, seq: seq as number } }
}

const full = (time: string): string =>
  time.replace('Z', '').replace(/(\.\d*)?$/, (given) => (given || '.').padEnd(7, '0'))

/** Returns whether time `a` is before `b`; the number of fraction digits may differ. */
export const isBefore = (a: string, b: string): boolean => full(a) < full(b)
