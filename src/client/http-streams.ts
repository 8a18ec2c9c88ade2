// Streams over HTTP: lines, and the events of an event stream (by fetch, because an EventSource can't send a token).
// An event stream resumes with Last-Event-ID after a lost connection. It ends with its last event, its signal or a permanent error.
// Data is read from the socket only as fast as the caller reads: a slow reader slows the server and uses no memory here.
import { DeckError, isPassing } from './errors.ts'
import type { Http } from './http.ts'
import { backoff, onAbort, sleep } from './async.ts'

export type Reading = {
  query?: object | undefined
  headers: Record<string, string>
  /** requests a new token, because the previous one was refused */
  renew?: boolean
  /** called with the headers of each response */
  opened?: ((headers: Headers) => void) | undefined
  signal?: AbortSignal | undefined
}

type Read = { done: boolean; value?: Uint8Array }

/** ms without a byte after which a connection counts as dead: event streams have a comment every 20 s. */
const silence = 60_000

/** Yields a response's complete lines. Throws `unavailable` if the connection is lost; text after the last line end is dropped. */
export async function* readLines(
  http: Http,
  path: string,
  { signal, opened, ...request }: Reading,
): AsyncGenerator<string, void, undefined> {
  const cut = new AbortController()
  const forget = onAbort([signal, http.ended], (reason) => cut.abort(reason))
  const watched = async <T>(work: Promise<T>): Promise<T> => {
    const timer = setTimeout(() => cut.abort(), silence)
    try {
      return await work
    } finally {
      clearTimeout(timer)
    }
  }
  try {
    const response = await watched(http.open(path, { ...request, signal: cut.signal }))
    opened?.(response.headers)
    const reader = response.body?.getReader()
    const decoder = new TextDecoder()
    let rest = ''
    let half = false
    for (;;) {
      const { done, value } = reader ? ((await watched(reader.read())) as Read) : { done: true }
      let text = decoder.decode(value, { stream: !done })
      // A CR and a LF are one line end, also in two chunks.
      if (half && text.startsWith('\n')) text = text.slice(1)
      if (text) half = text.endsWith('\r')
      const [first = '', ...others] = text.split(/\r\n|[\r\n]/)
      rest += first
      for (const line of others) {
        yield rest
        rest = line
      }
      if (done) return
    }
  } catch (error) {
    signal?.throwIfAborted()
    http.ended.throwIfAborted()
    if (error instanceof DeckError) throw error
    throw new DeckError('unavailable', 'the connection was lost')
  } finally {
    forget()
    cut.abort()
  }
}

/** An event of an event stream; the stream can resume after `id`. */
export type ServerEvent = { id: string; event: string; data: string }

/** The events of one response; calls `wait` with the ms to wait before the next request. */
export async function* parseEvents(
  lines: AsyncIterable<string>,
  wait: (ms: number) => void = () => {},
): AsyncGenerator<ServerEvent, void, undefined> {
  let id = ''
  let event = ''
  let data: string[] = []
  for await (const line of lines) {
    const [, name, value = ''] = /^([^:]*)(?:: ?([^]*))?$/.exec(line) ?? []
    if (line === '') {
      if (data.length > 0) yield { id, event: event || 'message', data: data.join('\n') }
      event = ''
      data = []
    } else if (name === 'data') data.push(value)
    else if (name === 'event') event = value
    else if (name === 'id' && !value.includes('\0')) id = value
    else if (name === 'retry' && /^\d+$/.test(value)) wait(Number(value))
  }
}

/** Yields a stream's events, across reconnects, up to the one named `last`. An aborted signal ends it without an error. */
export async function* readEvents(
  http: Http,
  path: string,
  { last, ...request }: Omit<Reading, 'renew' | 'headers'> & { last?: string },
): AsyncGenerator<ServerEvent, void, undefined> {
  let id = ''
  let renew = false
  for (let tries = 0; ; tries++) {
    let least = 0
    try {
      const resume = id ? { 'last-event-id': id } : {}
      const lines = readLines(http, path, {
        ...request,
        renew,
        headers: { accept: 'text/event-stream', ...resume },
      })
      for await (const event of parseEvents(lines, (ms) => (least = ms))) {
        id = event.id
        if (event.event === last) return
        tries = 0
        renew = false
        yield event
      }
    } catch (error) {
      if (request.signal?.aborted || http.ended.aborted) return
      if (!(error instanceof DeckError)) throw error
      if (error.code === 'unauthorized' && !renew) {
        renew = true
        continue
      }
      if (!isPassing(error)) throw error
      least = (error.retry_after ?? 0) * 1000
    }
    try {
      await sleep(least + backoff(tries), request.signal, http.ended)
    } catch {
      return
    }
  }
}
