// text/event-stream, as far as it is used here: an event is its id, its name and one line of data, and ends with an empty line.
// Every text holds whole events only, so that what is said in between (a comment, a time to wait) stands between two of them.
import type { Chunk } from './websocket-wire.ts'
import type { Event } from './rows.ts'

export const eventStream = 'text/event-stream'

/** Encodes events once, for any number of streams. JSON text has no line ends but in its strings, where they are escaped. */
export const toEvents = (events: readonly Event[]): Chunk => {
  const texts = events.map(({ seq, event, data }) => `id: ${seq}\nevent: ${event}\ndata: ${data}\n\n`)
  const bytes = Buffer.allocUnsafe(texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0))
  let at = 0
  return { bytes, ends: texts.map((text) => (at += bytes.write(text, at))) }
}

/** One event whose id is a string of the server's. */
export const toEvent = (id: string, event: string, data: string): string =>
  `id: ${id}\nevent: ${event}\ndata: ${data}\n\n`

/** What clients pass over; `retry`: ms that one is to wait before it comes again. */
export const toComment = (text: string, retry?: number): Buffer =>
  Buffer.from(`${retry === undefined ? '' : `retry: ${Math.round(retry)}\n`}: ${text}\n\n`)
