// The link: one socket at a time, reopened whenever it is lost, until the deck is closed. It requests the token before each
// connect, matches answers to requests, and closes a dead connection. It sends no frame twice: when the socket is lost, requests
// without an answer are rejected with a transient error. `insist` repeats them.
import { abortable, backoff, defer, makeBell, makeTimer, mostWhenAnswered, sleep } from './async.ts'
import { DeckError, fromServer, isPassing } from './errors.ts'
import { makeHeartbeat } from './heartbeat.ts'
import { onNetwork } from './network-events.ts'
import { makeReconnect } from './reconnect.ts'
import { makeRequests, type Frame } from './requests.ts'
import { closeSocket, openSocket, socketClass, type Socket, type SocketMaker } from './socket.ts'
import { table, tokenRefused, type Happening, type State } from './state.ts'
import { makeTokens, type Token } from './tokens.ts'

/** The server's first frame. */
export type Welcome = {
  session: string
  sub: string
  role: 'user' | 'citizen' | 'admin'
  expires_at: string
  instance: string
  limits: Record<string, number | null>
}

/** ms from opening a socket to the server's welcome */
const welcomeWithin = 10_000

const lost = (detail = 'the connection was lost'): DeckError => new DeckError('unavailable', detail)

export type Link = {
  start(): void
  /**
   * Sends a frame once. Rejects with a transient error without a connection, or if the connection is lost before the answer.
   * `take` gets the answer before any later frame is received: ws may deliver several in one turn, before the promise's reactions run.
   */
  ask<T>(frame: Frame, take?: (answer: T) => void): Promise<T>
  /** Repeats work until it succeeds or fails permanently: after each reconnect, and after the server's `retry_after`. */
  insist<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>
  onState(listener: (state: State, error: DeckError | undefined) => unknown): () => void
  end(error?: DeckError): void
  /** aborted when the deck is closed, with a DeckError */
  readonly ended: AbortSignal
  /** If `patience` is set: sends a ping, and reconnects if no frame arrives in time. */
  check(): unknown
  /** The token for an HTTP request; `again`: the server refused the previous token. */
  bearer(again?: boolean): Promise<string>
  readonly state: State
  readonly welcome: Welcome | undefined
  /** the number of this connection; each connect increments it */
  readonly session: number
  /** why the deck was closed; undefined if the caller closed it */
  readonly reason: DeckError | undefined
}

export const makeLink = (options: {
  url: string
  token: Token
  WebSocket?: SocketMaker | undefined
  onFrame: (frame: Frame, size: number) => void
  onFault: (error: DeckError) => void
  /** ms without any frame after which a connection is dead; after half of it a ping is sent */
  silence?: number
  /** ms within which the server must send some frame after a request; if left out, only `silence` applies */
  patience?: number | undefined
}): Link => {
  const ending = new AbortController()
  const states = makeBell<[State, DeckError | undefined]>()
  const requests = makeRequests()
  const reconnect = makeReconnect()
  const [due, late] = [makeTimer(), makeTimer()]
  let state: State = 'connecting'
  let gate = defer<void>()
  let socket: Socket | undefined
  let welcome: Welcome | undefined
  let session = 0
  let denied = false
  let reason: DeckError | undefined

  const send = <T>(frame: Frame, take?: (answer: T) => void): Promise<T> =>
    state === 'open' && socket
      ? requests.send(socket, frame, welcome?.limits['frame_bytes'] ?? Infinity, take)
      : Promise.reject(lost())
  const heartbeat = makeHeartbeat({
    silence: options.silence ?? 60_000,
    patience: options.patience,
    ping: () => void send({ type: 'ping' }).catch(() => {}),
    waiting: () => requests.pending > 0,
    dead: () => lose(0),
  })
  const ask = <T>(frame: Frame, take?: (answer: T) => void): Promise<T> => {
    const answer = send(frame, take)
    if (state === 'open') heartbeat.requested()
    return answer
  }
  const tokens = makeTokens(options.token, (token) => ask({ type: 'auth', token }))

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

  const dial = async (): Promise<void> => {
    const mine = ++session
    const current = (): boolean => mine === session && state === 'connecting'
    try {
      const Class = await socketClass(options.WebSocket)
      const token = await tokens.request()
      if (!current()) return
      socket = openSocket(Class, options.url, token, {
        text: (from, text) => void (from === socket && receive(text)),
        lost: (from, code) => void (from === socket && lose(code)),
      })
      late.start(welcomeWithin, () => lose(0))
    } catch (error) {
      if (!current()) return
      const known = error instanceof DeckError
      if (known && error.code === 'unauthorized') lose(tokenRefused, error)
      else lose(0, known ? error : lost('the token function failed, or no socket could be made'))
    }
  }

  /** Closes the socket; requests without an answer are rejected. */
  const drop = (): void => {
    const gone = socket
    socket = undefined
    late.stop()
    heartbeat.stop()
    tokens.stop()
    closeSocket(gone, state !== 'closed')
    requests.rejectAll(lost())
  }

  const lose = (code: number, why?: DeckError): void => {
    const error = why ?? lost(code ? `the socket was closed with ${code}` : 'the server did not answer')
    drop()
    if (code === tokenRefused) {
      const refused = new DeckError('unauthorized', why?.detail ?? 'the server refused the token')
      if (denied || tokens.fixed) return step('end', refused)
      denied = true
    }
    due.start(reconnect.wait(code, state === 'open'), () => step('due'))
    step('lost', error)
    if (code === 4400 || code === 1007 || code === 1009)
      options.onFault(new DeckError('bad_request', `the server closed with ${code}: a mistake of this client`))
  }

  const finish = (error?: DeckError): void => {
    reason = error
    drop()
    due.stop()
    forgetNetwork()
    const closed = error ?? new DeckError('closed', 'the deck was closed')
    gate.reject(closed)
    ending.abort(closed)
  }

  const receive = (text: string): void => {
    heartbeat.received()
    let frame: Frame
    try {
      frame = JSON.parse(text) as Frame
    } catch {
      return lose(0)
    }
    const { type } = frame
    if (type === 'welcome') return enter(frame as unknown as Welcome)
    if (type === 'goodbye') return takeGoodbye(frame)
    if ((type === 'ok' || type === 'error') && requests.answer(frame)) return
    if (type === 'ok') return
    if (type === 'error' && frame.topic === undefined) options.onFault(fromServer(frame))
    else options.onFrame(frame, text.length)
  }

  const enter = (frame: Welcome): void => {
    welcome = frame
    denied = false
    late.stop()
    reconnect.opened()
    tokens.refreshBefore(frame.expires_at)
    heartbeat.start()
    step('welcome')
  }

  const takeGoodbye = ({ reason, retry_after }: Frame): void => {
    if (reason === 'token expires') void tokens.refresh()
    else reconnect.goodbye(retry_after)
  }

  const forgetNetwork = onNetwork(
    () => {
      if (state === 'open') heartbeat.check()
      else if (state === 'waiting' && reconnect.allowed()) step('due')
    },
    // If the network is still there, the socket reconnects at once; if not, the state shows that at once.
    () => state === 'open' && lose(0),
  )

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
    check: () => state === 'open' && heartbeat.checkSoon(),
    ended: ending.signal,
    bearer: (again = false) => tokens.bearer(again),
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
