// The part of text/event-stream that is used here: an event has an id, a name and one line of data, and ends with an empty line.
// Each text has whole events only, so that a comment or a `retry` is always between two events.
import type { Chunk } from './websocket-wire.ts'
import type { Event } from './rows.ts'

export const eventStream = 'text/event-stream'

/** Encodes events once, for any number of streams. `data` has no line breaks: in JSON strings they are escaped. */
export const toEvents = (events: readonly Event[]): Chunk => {
  const texts = events.map(({ seq, event, data }) => `id: ${seq}\nevent: ${event}\ndata: ${data}\n\n`)
  const bytes = Buffer.allocUnsafe(texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0))
  let at = 0
  return { bytes, ends: texts.map((text) => (at += bytes.write(text, at))) }
}

/** Encodes one event with an opaque id, such as a cursor. */
export const toEvent = (id: string, event: string, data: string): string =>
  `id: ${id}\nevent: ${event}\ndata: ${data}\n\n`

/** Encodes a comment, which clients ignore; `retry`: ms that a client waits before it reconnects. */
export const toComment = (text: string, retry?: number): Buffer =>
  Buffer.from(`${retry === undefined ? '' : `retry: ${Math.round(retry)}\n`}: ${text}\n\n`)
