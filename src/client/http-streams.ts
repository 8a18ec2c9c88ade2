// What is read over HTTP as it comes: lines, and events of an event stream (by fetch, since an EventSource can send no token).
// A stream of events goes on where it was cut, by Last-Event-ID, until its last event, its signal or an error that does not pass.
// What comes is taken no faster than it is read, so that a slow reader holds up the server and costs no memory here.
import { DeckError, isPassing } from './errors.ts'
import type { Http } from './http.ts'
import { backoff, onAbort, sleep } from './async.ts'

export type Reading = {
  query?: object | undefined
  headers: Record<string, string>
  /** asks for another token than the one that was refused */
  renew?: boolean
  /** called with the headers of each answer */
  opened?: ((headers: Headers) => void) | undefined
  signal?: AbortSignal | undefined
}

type Read = { done: boolean; value?: Uint8Array }

/** ms without a byte after which a connection leads nowhere: event streams have a comment every 20 s. */
const silence = 60_000

/** The lines of an answer, each once its end is there; throws `unavailable` where it is cut, and what stands behind the last end is lost. */
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
      // A CR and a LF are one end, also where they come apart.
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

/** An event of an event stream; `id` is what to go on after. */
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

/** The events of a stream, through any number of cuts, up to the one named `last`; an aborted signal ends it, without an error. */
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
