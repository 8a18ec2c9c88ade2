// Requests over HTTP: one way for all of them. What only reads, or can be said twice, is tried again when the server is away, at
// most five times; what makes something new without a key is not, but after `rate_limited`, which refuses ahead.
import { DeckError, fromServer, isPassing } from './errors.ts'
import type { Link } from './link.ts'
import { backoff, sleep } from './tools.ts'

export type Request = {
  query?: object | undefined
  /** JSON, or text as it is */
  body?: unknown
  signal?: AbortSignal | undefined
  /** whether it may be done twice, where the method does not say so */
  again?: boolean
}
export type Fetch = (url: string, init: RequestInit) => Promise<Response>

/** ms that a request may take in all */
const patience = 60_000
const tries = 5

export const makeHttp = (url: string, link: Link, fetch: Fetch) => {
  const once = async (method: string, path: string, { query = {}, body, signal }: Request, renew: boolean) => {
    const given = Object.entries(query).filter(([name, value]) => value !== undefined && name !== 'signal')
    const search = new URLSearchParams(given.map(([name, value]): [string, string] => [name, String(value)])).toString()
    const raw = typeof body === 'string'
    const bearer = await link.bearer(renew)
    const signals = [signal, link.ended, AbortSignal.timeout(patience)].filter((given) => given !== undefined)
    let response: Response
    let text: string
    try {
      response = await fetch(`${url}/api/${path}${search && '?'}${search}`, {
        method,
        headers: {
          authorization: `Bearer ${bearer}`,
          ...(body === undefined ? {} : { 'content-type': raw ? 'text/plain' : 'application/json' }),
        },
        ...(body === undefined ? {} : { body: raw ? body : JSON.stringify(body) }),
        signal: AbortSignal.any(signals),
      })
      text = await response.text()
    } catch {
      // Why is not told: by the runtime's word alone nobody could decide.
      signal?.throwIfAborted()
      link.ended.throwIfAborted()
      throw new DeckError('unavailable', 'the server can not be reached')
    }
    if (response.ok) return { text, type: response.headers.get('content-type') ?? '' }
    const retry = Number(response.headers.get('retry-after')) || undefined
    let said: Record<string, unknown> = {}
    try {
      said = JSON.parse(text) as Record<string, unknown>
    } catch {}
    // Not ours: a proxy between here and there.
    if (typeof said['code'] !== 'string')
      said = { code: response.status < 500 ? 'bad_request' : 'unavailable', detail: `status ${response.status}` }
    throw fromServer({ retry_after: retry, ...said })
  }

  return async <T>(method: string, path: string, request: Request = {}): Promise<T> => {
    const again = request.again ?? ['GET', 'PATCH'].includes(method)
    let renew = false
    for (let n = 0; ; n++) {
      try {
        const { text, type } = await once(method, path, request, renew)
        return (type.startsWith('application/json') ? JSON.parse(text) : text) as T
      } catch (error) {
        if (!(error instanceof DeckError)) throw error
        // Another token, once.
        if (error.code === 'unauthorized' && !renew) renew = true
        else if (n >= tries || !isPassing(error) || !(again || error.code === 'rate_limited')) throw error
        else await sleep((error.retry_after ?? 0) * 1000 + backoff(n), request.signal, link.ended)
      }
    }
  }
}
export type Http = ReturnType<typeof makeHttp>

/** A path of parts that somebody gave. */
export const pathOf = (...parts: (string | number)[]): string => parts.map(encodeURIComponent).join('/')
