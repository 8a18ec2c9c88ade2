// A mission's timeline: its events in the one order of (at, topic, seq), each the very frame that a live socket gets, with `at`, the time
// when it was numbered. Clients see a place in it as an opaque cursor, which includes its epoch.
import Type, { type TObject } from './typebox.ts'
import { deny } from './errors.ts'
import { eventMessages } from './catalog.ts'

/** Between two events: after all that is at or below it. `topic` is named without its mission; null: none at this time is below. */
export type Place = { at: string; topic: string | null; seq: number }

/** An event as it is listed; `data` is its row's JSON text. */
export const encodeItem = (topic: string, seq: number, event: string, data: string, at: string): string =>
  `{"type":"event","topic":"${topic}","seq":${seq},"event":"${event}","data":${data},"at":"${at}"}`

const at = Type.String({ format: 'date-time', description: 'when it was numbered; never decreases' })
export const TimelineItem = Type.Union(
  eventMessages.map(({ schema }) => Type.Object({ ...(schema as TObject).properties, at })),
  { title: 'TimelineItem', description: 'An event as sockets receive it, with its time' },
)

export const toCursor = (epoch: string, { at, topic, seq }: Place): string =>
  Buffer.from(JSON.stringify([epoch, at, topic, seq])).toString('base64url')

const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z?$/
const part = /^(\/dod|\/tests|\/chat\/[a-z][a-z0-9_-]{0,31}|\/tests\/[0-9a-f-]{36}\/logs)?$/

/** Parses a cursor. Throws `bad_request` if it is invalid. */
export const fromCursor = (cursor: string): { epoch: string; place: Place } => {
  let said: unknown
  try {
    said = JSON.parse(Buffer.from(cursor, 'base64url').toString())
  } catch {}
  const [epoch, at, topic, seq] = Array.isArray(said) ? (said as unknown[]) : []
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

/** Whether a time of Postgres's is before another, with as many digits as each may have. */
export const isBefore = (a: string, b: string): boolean => full(a) < full(b)
