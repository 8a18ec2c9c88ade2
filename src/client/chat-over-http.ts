// A chat over HTTP alone: its history from end to end, and its events as they come where no WebSocket can be had. Both go on where
// they were cut, each message once and in order; both are read no faster than their reader asks, in the memory of a page.
import type { Message } from '../protocol/rows.ts'
import { DeckError, isPassing } from './errors.ts'
import type { ChatEvent } from './events.ts'
import type { Http } from './http.ts'
import { readEvents, readLines } from './http-streams.ts'
import { backoff, sleep } from './async.ts'

export type PastOptions = {
  after?: number
  before?: number
  language?: string
  q?: string
  sender?: Message['sender']
  since?: string
  until?: string
  signal?: AbortSignal
}
export type EventsOptions = { after?: number; epoch?: string; signal?: AbortSignal }

/** Consecutive attempts without data, after which the iteration fails. */
const tries = 5

/** Every message that fits, up to where the chat stood when it was asked. */
export async function* messagesOf(
  http: Http,
  path: string,
  { signal, ...bounds }: PastOptions,
): AsyncGenerator<Message, void, undefined> {
  const query = { ...bounds }
  let epoch: string | null = null
  let renew = false
  const opened = (headers: Headers): void => {
    const now = headers.get('deck-epoch')
    if (epoch !== null && now !== epoch)
      throw new DeckError('conflict', 'the database was restored or replaced while reading: start again')
    epoch = now
    // What came since then is not asked for when it is gone on.
    const head = Number(headers.get('deck-last-seq'))
    query.before = Math.min(query.before ?? head + 1, head + 1)
  }
  for (let n = 0; ; n++) {
    try {
      const lines = readLines(http, path, { query, headers: { accept: 'application/x-ndjson' }, renew, opened, signal })
      for await (const line of lines) {
        const message = JSON.parse(line) as Message
        query.after = message.seq
        n = 0
        renew = false
        yield message
      }
      return
    } catch (error) {
      if (!(error instanceof DeckError)) throw error
      if (error.code === 'unauthorized' && !renew) renew = true
      else if (n >= tries || !isPassing(error)) throw error
      else await sleep((error.retry_after ?? 0) * 1000 + backoff(n), signal, http.ended)
    }
  }
}

/** All events after `after`, or from the newest 50 messages on, until the signal is aborted or the deck is closed. */
export async function* eventsOf(
  http: Http,
  path: string,
  { after, epoch, signal }: EventsOptions,
): AsyncGenerator<ChatEvent, void, undefined> {
  // Read anew with each request: once it is known, a seq of another epoch is refused.
  const query = { after, epoch }
  const opened = (headers: Headers): void => {
    query.epoch ??= headers.get('deck-epoch') ?? undefined
  }
  for (;;) {
    try {
      for await (const { id, event, data } of readEvents(http, path, { query, opened, signal }))
        yield { event, seq: Number(id), data: JSON.parse(data) as unknown } as ChatEvent
      return
    } catch (error) {
      if (!(error instanceof DeckError) || error.code !== 'conflict' || error.epoch === undefined) throw error
      const { seq = 0, epoch: now } = error
      // As on the socket: from the start, for who wanted what was before.
      Object.assign(query, { after: after === undefined ? seq : 0, epoch: now })
      yield { event: 'reset', seq, epoch: now }
    }
  }
}
