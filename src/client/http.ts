// Requests over HTTP. If the server is unavailable, GET, PATCH and requests marked `again` are tried again, at most five times.
// Other requests are tried again only after `rate_limited`, which is returned before anything is done.
import { DeckError, fromServer, isPassing } from './errors.ts'
import type { Link } from './link.ts'
import { backoff, sleep } from './async.ts'

export type Request = {
  query?: object | undefined
  /** a string is sent as text/plain, anything else as JSON */
  body?: unknown
  signal?: AbortSignal | undefined
  /** whether the request may be repeated; if left out, GET and PATCH may */
  again?: boolean
}
export type Fetch = (url: string, init: RequestInit) => Promise<Response>

/** ms: the timeout of a request, and the time after which the connection is checked */
const [patience, doubtful] = [60_000, 2000]
const tries = 5

/** The error of a response. A proxy's response has no code: it becomes `bad_request` or `unavailable`. */
const refusalOf = async (response: Response): Promise<DeckError> => {
  const retry = Number(response.headers.get('retry-after')) || undefined
  const text = await response.text()
  let said: Record<string, unknown> = {}
  try {
    said = JSON.parse(text) as Record<string, unknown>
  } catch {}
  if (typeof said['code'] !== 'string')
    said = { code: response.status < 500 ? 'bad_request' : 'unavailable', detail: `status ${response.status}` }
  return fromServer({ retry_after: retry, ...said })
}

export const makeHttp = (url: string, link: Link, fetch: Fetch) => {
  /** Sends a request. Rejects with the server's error as a DeckError, or with fetch's own error. */
  const ask = async (
    method: string,
    path: string,
    { query = {}, body, headers, signal }: Request & { headers?: Record<string, string> },
    bearer: string,
  ): Promise<Response> => {
    const given = Object.entries(query).filter(([name, value]) => value !== undefined && name !== 'signal')
    const search = new URLSearchParams(given.map(([name, value]): [string, string] => [name, String(value)])).toString()
    const raw = typeof body === 'string'
    const response = await fetch(`${url}/api/${path}${search && '?'}${search}`, {
      method,
      headers: {
        ...headers,
        authorization: `Bearer ${bearer}`,
        ...(body === undefined ? {} : { 'content-type': raw ? 'text/plain' : 'application/json' }),
      },
      ...(body === undefined ? {} : { body: raw ? body : JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    })
    if (!response.ok) throw await refusalOf(response)
    return response
  }

  const once = async (method: string, path: string, { signal, ...request }: Request, renew: boolean) => {
    const bearer = await link.bearer(renew)
    const doubt = setTimeout(() => link.check(), doubtful)
    const signals = [signal, link.ended, AbortSignal.timeout(patience)].filter((given) => given !== undefined)
    try {
      const response = await ask(method, path, { ...request, signal: AbortSignal.any(signals) }, bearer)
      return { text: await response.text(), type: response.headers.get('content-type') ?? '' }
    } catch (error) {
      signal?.throwIfAborted()
      link.ended.throwIfAborted()
      if (error instanceof DeckError) throw error
      // The runtimes' messages differ, so they are not passed on.
      throw new DeckError('unavailable', 'the server cannot be reached')
    } finally {
      clearTimeout(doubt)
    }
  }

  const http = async <T>(method: string, path: string, request: Request = {}): Promise<T> => {
    const again = request.again ?? ['GET', 'PATCH'].includes(method)
    let renew = false
    for (let n = 0; ; n++) {
      try {
        const { text, type } = await once(method, path, request, renew)
        return (type.startsWith('application/json') ? JSON.parse(text) : text) as T
      } catch (error) {
        if (!(error instanceof DeckError)) throw error
        // One retry with a new token.
        if (error.code === 'unauthorized' && !renew) renew = true
        else if (n >= tries || !isPassing(error) || !(again || error.code === 'rate_limited')) throw error
        else await sleep((error.retry_after ?? 0) * 1000 + backoff(n), request.signal, link.ended)
      }
    }
  }

  return Object.assign(http, {
    /** A response whose body is streamed. Rejects with a DeckError, or with fetch's own error. */
    open: async (
      path: string,
      {
        renew,
        ...request
      }: { query?: object | undefined; headers: Record<string, string>; signal: AbortSignal; renew?: boolean },
    ): Promise<Response> => ask('GET', path, request, await link.bearer(renew)),
    ended: link.ended,
  })
}
export type Http = ReturnType<typeof makeHttp>

/** Joins path segments, each URL-encoded. */
export const pathOf = (...parts: (string | number)[]): string => parts.map(encodeURIComponent).join('/')
