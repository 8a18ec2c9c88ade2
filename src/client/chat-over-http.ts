// A chat over HTTP only: its whole history, and its events where WebSockets are blocked. Both resume after a lost connection, with
// each message once and in order. Both read only as fast as the caller, and hold one page in memory.
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

/** Yields every message that matches, up to the chat's latest seq at the first request. */
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
    // A resumed request does not include messages that are newer than the first one's latest seq.
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

/** Yields all events after `after`, or from the newest 50 messages on, until the signal is aborted or the deck is closed. */
export async function* eventsOf(
  http: Http,
  path: string,
  { after, epoch, signal }: EventsOptions,
): AsyncGenerator<ChatEvent, void, undefined> {
  // Read at each request: once the epoch is known, the server refuses a seq of another epoch.
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
      // As on the socket: a caller that asked for earlier events gets the topic from its start.
      Object.assign(query, { after: after === undefined ? seq : 0, epoch: now })
      yield { event: 'reset', seq, epoch: now }
    }
  }
}
