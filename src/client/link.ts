// The link: one socket at a time, opened again whenever it is lost, until the deck is closed. Asks for the token before each
// connect and before the token ends, gives each frame an id and its asker the answer, and notices a connection that leads
// nowhere. It sends nothing twice: what was asked when the socket was lost is rejected as passing; `insist` asks again.
import type { State, Happening } from './state.ts'
import { leastWait, table, tokenRefused } from './state.ts'
import { DeckError, fromServer, isPassing } from './errors.ts'
import { abortable, backoff, byteLength, defer, makeBell, mostWhenAnswered, sleep } from './async.ts'

/** A class of WebSockets: the browser's, Node's or that of the package ws. */
export type SocketMaker = new (...args: never[]) => { addEventListener(...args: never[]): unknown }
/** As much of one as is used here. */
type Socket = {
  send(text: string): void
  close(): void
  /** of ws only */
  terminate?(): void
  addEventListener(
    type: 'message' | 'close' | 'error',
    listener: (event: { data?: unknown; code?: number }) => void,
  ): void
}
export type Token = string | (() => string | Promise<string>)
export type Frame = { type: string; id?: number; topic?: string } & Record<string, unknown>

/** The server's first frame. */
export type Welcome = {
  session: string
  sub: string
  role: 'user' | 'citizen' | 'admin'
  expires_at: string
  instance: string
  limits: Record<string, number | null>
}

/** ms that a socket may take until the welcome, and to show a life when the page is looked at again. */
const patience = 10_000

const lost = (detail = 'the connection was lost'): DeckError => new DeckError('unavailable', detail)

const socketMaker = async (): Promise<SocketMaker> =>
  (globalThis as { WebSocket?: SocketMaker }).WebSocket ??
  // Node 20 has none of its own.
  (await import('ws')).WebSocket

export type Link = {
  start(): void
  /**
   * Asks once: the answer, or why not; passing, if there is no connection or it is lost before the answer. `take` has the answer
   * before any frame that came after it: several may come in one turn (of ws), ahead of whoever awaits.
   */
  ask<T>(frame: Frame, take?: (answer: T) => void): Promise<T>
  /** Does it until it is done or refused for good: after each reconnect, and after what the server asks to wait. */
  insist<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>
  onState(listener: (state: State, error: DeckError | undefined) => unknown): () => void
  end(error?: DeckError): void
  /** aborted when the deck is closed, with a DeckError */
  readonly ended: AbortSignal
  /** Where `patience` is given: asks the server for a sign of life; without one the connection is lost, and opened again. */
  check(): unknown
  /** The token for a request; `again`: another than the one that was refused, if there may be one. */
  bearer(again?: boolean): Promise<string>
  readonly state: State
  readonly welcome: Welcome | undefined
  /** which connection this is */
  readonly session: number
  /** why the deck was closed, if not by its owner */
  readonly reason: DeckError | undefined
}

export const makeLink = (options: {
  url: string
  token: Token
  WebSocket?: SocketMaker | undefined
  onFrame: (frame: Frame, size: number) => void
  onFault: (error: DeckError) => void
  /** ms without any frame after which a connection is dead; half of it, and the server is asked for one */
  silence?: number
  /** ms that the server may take for any frame after it was asked something; as long as `silence` if left out */
  patience?: number | undefined
}): Link => {
  const { silence = 60_000, patience: answering } = options
  const ending = new AbortController()
  const states = makeBell<[State, DeckError | undefined]>()
  const asked = new Map<number, { resolve: (frame: unknown) => void; reject: (error: unknown) => void }>()
  let state: State = 'connecting'
  let gate = defer<void>()
  let socket: Socket | undefined
  let welcome: Welcome | undefined
  let bearer: string | undefined
  let session = 0
  let ids = 0
  let tries = 0
  let denied = false
  let retryAfter = 0
  let notBefore = 0
  let openSince = 0
  let deadline = 0
  let pinged = false
  let heard = 0
  let reason: DeckError | undefined
  const timers: Partial<Record<'wait' | 'late' | 'pulse' | 'refresh' | 'doubt', ReturnType<typeof setTimeout>>> = {}
  const wind = (name: keyof typeof timers, ms: number, work: () => void): void => {
    clearTimeout(timers[name])
    // What is longer does not fit into a timer.
    timers[name] = setTimeout(work, Math.min(ms, 2 ** 31 - 1))
  }

  const step = (happening: Happening, error?: DeckError): void => {
    const next = table[state][happening]
    if (next === state) return
    if (state === 'open') gate = defer()
    state = next
    if (state === 'connecting') void dial()
    if (state === 'closed') finish(error)
    states.ring(state, error)
    if (state === 'open') gate.resolve()
  }

  const askToken = async (): Promise<string> => {
    const { token } = options
    const given = typeof token === 'function' ? await token() : token
    // Looked at here, since what a socket says of a name that it can't offer would show it.
    if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(given)) throw new DeckError('unauthorized', 'the token is no JSON Web Token')
    return (bearer = given)
  }

  const dial = async (): Promise<void> => {
    const mine = ++session
    const current = (): boolean => mine === session && state === 'connecting'
    try {
      const Maker = (options.WebSocket ?? (await socketMaker())) as new (url: string, names: string[]) => Socket
      const token = await askToken()
      if (!current()) return
      const made = new Maker(`${options.url.replace(/^http/, 'ws')}/api/ws`, ['deck.v1', `bearer.${token}`])
      socket = made
      made.addEventListener('message', ({ data }) => made === socket && receive(String(data)))
      made.addEventListener('close', ({ code = 0 }) => made === socket && lose(code))
      // Not every runtime tells the close of what was never open.
      made.addEventListener('error', () => made === socket && lose(1006))
      wind('late', patience, () => made === socket && lose(0))
    } catch (error) {
      if (!current()) return
      const known = error instanceof DeckError
      if (known && error.code === 'unauthorized') lose(tokenRefused, error)
      else lose(0, known ? error : lost('the token function failed, or no socket could be made'))
    }
  }

  /** Lets go of the socket; what waits for an answer gets none. */
  const drop = (): void => {
    const gone = socket
    socket = undefined
    for (const name of ['late', 'pulse', 'refresh', 'doubt'] as const) clearTimeout(timers[name])
    // Where it leads nowhere a farewell would wait for an answer for long.
    if (gone?.terminate && state !== 'closed') gone.terminate()
    else gone?.close()
    for (const { reject } of asked.values()) reject(lost())
    asked.clear()
  }

  const lose = (code: number, why?: DeckError): void => {
    if (state === 'open' && Date.now() - openSince > 5000) tries = 0
    // Who is let in and cut off again comes back soon, but not at once for ever.
    else if (state === 'open') tries = Math.min(tries, 2)
    const error = why ?? lost(code ? `the socket was closed with ${code}` : 'the server did not answer')
    drop()
    if (code === tokenRefused) {
      const refused = new DeckError('unauthorized', why?.detail ?? 'the server refused the token')
      if (denied || typeof options.token === 'string') return step('end', refused)
      denied = true
    }
    const least = Math.max(retryAfter, leastWait[code] ?? 0) * 1000
    retryAfter = 0
    notBefore = Date.now() + least
    wind('wait', least + backoff(tries++), () => step('due'))
    step('lost', error)
    if (code === 4400 || code === 1007 || code === 1009)
      options.onFault(new DeckError('bad_request', `the server closed with ${code}: a mistake of this client`))
  }

  const finish = (error?: DeckError): void => {
    reason = error
    drop()
    for (const timer of Object.values(timers)) clearTimeout(timer)
    for (const [target, name, work] of windows) target?.removeEventListener?.(name, work)
    const closed = new DeckError('closed', 'the deck was closed')
    gate.reject(error ?? closed)
    ending.abort(error ?? closed)
  }

  const receive = (text: string): void => {
    deadline = Date.now() + silence
    pinged = false
    heard++
    let frame: Frame
    try {
      frame = JSON.parse(text) as Frame
    } catch {
      return lose(0)
    }
    const { type, id } = frame
    const asker = id === undefined ? undefined : asked.get(id)
    if (id !== undefined) asked.delete(id)
    if (type === 'welcome') return enter(frame as unknown as Welcome)
    if (type === 'goodbye') return hearGoodbye(frame)
    if (type === 'ok') return asker?.resolve(frame)
    if (type !== 'error') return options.onFrame(frame, text.length)
    if (asker) return asker.reject(fromServer(frame))
    if (frame.topic === undefined) options.onFault(fromServer(frame))
    else options.onFrame(frame, text.length)
  }

  const enter = (frame: Welcome): void => {
    welcome = frame
    denied = false
    openSince = Date.now()
    clearTimeout(timers.late)
    planRefresh(frame.expires_at)
    beat()
    step('welcome')
  }

  /** Looks after the connection, every few seconds. */
  const beat = (): void => {
    wind('pulse', silence / 30, beat)
    const left = deadline - Date.now()
    if (left < 0) lose(0)
    else if (left < silence / 2 && !pinged) {
      pinged = true
      ask({ type: 'ping' }).catch(() => {})
    }
  }

  const check = (ms = answering ?? patience): void => {
    if (state !== 'open') return
    const [before, due] = [heard, Date.now() + ms]
    ask({ type: 'ping' }, undefined, false).catch(() => {})
    wind('doubt', ms, () => {
      if (heard > before) return
      // A page that stood still itself has not listened: it does so now.
      if (Date.now() - due > ms / 2) check(ms)
      else lose(0)
    })
  }
  /** Whatever is asked, a connection that leads nowhere is noticed in time: the server is asked for a sign of life halfway. */
  let doubting = false
  const doubt = (): void => {
    if (answering === undefined || doubting) return
    doubting = true
    const [before, mine] = [heard, session]
    setTimeout(() => {
      doubting = false
      if (mine !== session || asked.size === 0) return
      if (heard === before) check(answering / 2)
      else doubt()
    }, answering / 2)
  }

  /** The network is back, or the page is looked at again. */
  const probe = (): void => {
    if (state === 'waiting' && Date.now() >= notBefore) step('due')
    else check()
  }
  /** If the network is still there, the socket reconnects at once; if not, the state says so at once. */
  const offline = (): void => {
    if (state === 'open') lose(0)
  }
  type Window = { [name in 'addEventListener' | 'removeEventListener']?: (type: string, listener: () => void) => void }
  const page = globalThis as unknown as Window & { document?: Window }
  const windows = [
    [page, 'online', probe],
    [page, 'offline', offline],
    [page.document, 'visibilitychange', probe],
  ] as const
  for (const [target, name, work] of windows) target?.addEventListener?.(name, work)

  const planRefresh = (expiresAt: string): void => {
    const left = Date.parse(expiresAt) - Date.now()
    // A minute ahead, or halfway of what is shorter. Where the clock is wrong, the server's goodbye says when.
    if (left > 0) wind('refresh', Math.max(left / 2, left - 60_000), () => void refresh())
  }

  let refreshing = false
  const refresh = async (): Promise<void> => {
    if (refreshing || typeof options.token === 'string') return
    refreshing = true
    try {
      const { expires_at } = await ask<{ expires_at: string }>({ type: 'auth', token: await askToken() })
      planRefresh(expires_at)
    } catch {
      // Another chance comes with the goodbye, the last with the next connect.
    }
    refreshing = false
  }

  const hearGoodbye = ({ reason, retry_after }: Frame): void => {
    if (reason === 'token expires') void refresh()
    else retryAfter = Number(retry_after) || 0
  }

  const ask = <T>(frame: Frame, take?: (answer: T) => void, doubted = true): Promise<T> => {
    if (state !== 'open' || !socket) return Promise.reject(lost())
    const id = ++ids
    const text = JSON.stringify({ ...frame, id })
    const most = welcome?.limits['frame_bytes'] ?? Infinity
    if (text.length * 3 > most && byteLength(text) > most)
      return Promise.reject(new DeckError('too_large', `a frame has up to ${most} bytes`))
    const answer = defer<T>()
    const resolve = (frame: unknown): void => {
      take?.(frame as T)
      answer.resolve(frame as T)
    }
    asked.set(id, { resolve, reject: answer.reject })
    socket.send(text)
    if (doubted) doubt()
    return answer.promise
  }

  const insist = async <T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> => {
    for (let n = 0; ; n++) {
      await abortable(gate.promise, signal, ending.signal)
      const mine = session
      try {
        return await abortable(work(), signal, ending.signal)
      } catch (error) {
        if (!isPassing(error)) throw error
        if (mine === session && state === 'open')
          await sleep((error.retry_after ?? 0.2) * 1000 + backoff(n, mostWhenAnswered), signal, ending.signal)
      }
    }
  }

  return {
    start: () => void dial(),
    ask,
    insist,
    onState: states.on,
    end: (error) => step('end', error),
    check: () => answering !== undefined && check(answering / 2),
    ended: ending.signal,
    async bearer(again = false) {
      if (again && typeof options.token === 'string')
        throw new DeckError('unauthorized', 'the server refused the token')
      return again || !bearer ? askToken() : bearer
    },
    get state() {
      return state
    },
    get welcome() {
      return welcome
    },
    get session() {
      return session
    },
    get reason() {
      return reason
    },
  }
}
