// WebSocket upgrades: GET /api/ws, and GET /api/missions/{mission}/chat/{citizen}/ws, which is subscribed from the start.
// The token is verified before the upgrade. A bad token is reported after it by close code 4401: browsers can't read an HTTP status.
// A foreign origin is refused before the upgrade. One timer serves all sessions: pings, silence, tokens that expire.
import { randomUUID } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import websocket from '@fastify/websocket'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'
import type { Actor } from '../access/actor.ts'
import type { Tokens } from '../access/tokens.ts'
import type { Config } from '../config/index.ts'
import { makeBucket } from '../live/connections/token-bucket.ts'
import { bySubject } from '../live/connections/by-subject.ts'
import type { Inflow } from '../live/connections/byte-rate.ts'
import { linger } from '../live/connections/linger.ts'
import { Session, type SessionOptions } from '../live/connections/session.ts'
import { deny, type Refusal } from '../protocol/errors.ts'
import { encodeFrame } from '../protocol/encode.ts'
import { closeCodes } from '../protocol/websocket-wire.ts'
import { makeAllowed } from './plugins/browser-security.ts'
import type { Explain } from './plugins/errors.ts'
import { bearer, type Identify } from './plugins/authenticate.ts'
import { limitsTold } from './routes/limits.ts'

export const subprotocol = 'deck.v1'

export type Sockets = {
  /** Refuses new sockets and frames. Sends each session a goodbye, with a retry_after spread over some seconds. */
  drain(): void
  /** Closes all sessions with 1012 and a retry_after spread over some seconds. */
  close(reason?: string): void
  /** Closes sessions whose token was revoked. */
  recheck(): void
  count(): number
}

const wholeNumber = /^\d{1,16}$/

export const installSockets = async (
  app: FastifyInstance,
  {
    identify,
    tokens,
    config,
    session: options,
    instance,
    inflowOf,
  }: {
    identify: Identify
    tokens: Pick<Tokens, 'holds'>
    config: Config
    session: SessionOptions & { explain: Explain }
    instance: string
    inflowOf: (sub: string) => Inflow
  },
): Promise<Sockets> => {
  const { limits } = config
  const allowed = makeAllowed(config.allowedOrigins)
  const sessions = new Set<Session>()
  const { subjectFramesPerSecond, subjectFramesBurst } = limits
  const socketsOf = new Map<string, number>()
  const allowanceOf = bySubject(() => makeBucket(subjectFramesPerSecond, subjectFramesBurst, performance.now()))
  const verdicts = new WeakMap<FastifyRequest, { verdict: Actor | Refusal; reply: FastifyReply }>()
  let draining = false

  await app.register(websocket, {
    options: {
      maxPayload: limits.frameBytes,
      handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : false),
    },
    // `close` has ended all sessions with 1012 before the server closes: the plugin must not close them.
    preClose: (done) => done(),
  })

  // An upgrade behind a request that is not answered yet is not handled: its connection ends with that response.
  app.server.prependListener('upgrade', (_request, wire) => {
    const { _httpMessage: before } = wire as Socket & { _httpMessage?: ServerResponse | null }
    before?.once('close', () => (wire as Socket).destroySoon())
  })

  app.addHook('onRequest', (request, _reply, done) => {
    const { config } = request.routeOptions as { config?: { socket?: true } }
    // (An upgrade of an unknown path is `not_found`.)
    done(
      request.ws && !config?.socket && !request.is404
        ? deny('bad_request', 'this path does not support WebSockets: use /api/ws')
        : undefined,
    )
  })

  const sameOrigin = (request: FastifyRequest): boolean => {
    const { origin, host } = request.headers
    if (origin === undefined || allowed(origin)) return true
    if (!URL.canParse(origin)) return false
    const from = new URL(origin)
    // The host is parsed with the origin's scheme, so a missing port has the same default on both sides.
    const own = `${from.protocol}//${host}`
    return from.host !== '' && URL.canParse(own) && new URL(own).host === from.host
  }
  const offered = (request: FastifyRequest): string | undefined =>
    (request.headers['sec-websocket-protocol'] ?? '')
      .split(',')
      .map((name) => name.trim())
      .find((name) => name.startsWith('bearer.'))
      ?.slice('bearer.'.length)

  const judge = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    if (!sameOrigin(request)) throw deny('forbidden', 'this origin may not open a socket')
    if (draining) throw deny('unavailable', 'the server is restarting')
    const { ticket } = request.query as { ticket?: unknown }
    const shown = {
      token: bearer(request) ?? offered(request),
      ticket: typeof ticket === 'string' ? ticket : undefined,
    }
    const verdict = await identify(request, shown).catch((error: unknown) =>
      options.explain(error, { reqId: request.id }),
    )
    // Refused without an upgrade.
    if ('code' in verdict && verdict.code === 'rate_limited') throw verdict
    verdicts.set(request, { verdict, reply })
  }

  const welcome = (session: Session): void => {
    const { sub, role, expires } = session.actor
    session.push(
      encodeFrame('welcome', {
        session: session.id,
        sub,
        role,
        expires_at: new Date(expires).toISOString(),
        instance,
        limits: limitsTold(limits),
      }),
    )
  }

  const mostSockets = ({ role }: Actor): number =>
    role === 'user' ? Math.min(limits.socketsPerUser, limits.socketsPerSubject) : limits.socketsPerSubject

  const open = (socket: WebSocket, request: FastifyRequest): void => {
    const { verdict, reply } = verdicts.get(request) ?? {}
    // A socket may live for days: it must not hold its upgrade request (3 KB), as the plugin's listener would.
    reply?.raw.detachSocket(request.socket)
    socket.removeAllListeners('error')
    socket.on('error', ignore)
    // Checked again, with no await before the session is registered: otherwise a revocation could miss it.
    if (!verdict || !('role' in verdict) || !tokens.holds(verdict)) {
      // If the token can't be verified now, the client must not discard it.
      if (verdict && 'code' in verdict && verdict.code !== 'unauthorized')
        socket.close(closeCodes.overloaded, 'tokens can not be verified right now')
      else socket.close(closeCodes.token, 'token missing, invalid, expired or revoked')
      return linger(request.socket, socket)
    }
    const { sub } = verdict
    const mine = socketsOf.get(sub) ?? 0
    const full = sessions.size >= limits.sockets ? 'overloaded' : mine >= mostSockets(verdict) && 'too many sockets'
    const session = new Session(socket, request.socket, verdict, allowanceOf(sub), inflowOf(sub), options)
    if (full) return session.close(closeCodes.overloaded, full, spread(5, 15))
    socketsOf.set(sub, mine + 1)
    // Before the first await: otherwise frames are lost.
    socket.on('message', (data: Buffer, isBinary: boolean) => {
      if (draining) session.refuse(deny('unavailable', 'the server is restarting'), idOf(data))
      else session.receive(data, isBinary)
    })
    sessions.add(session)
    app.log.debug({ socket: session.id, reqId: request.id }, 'a socket opened')
    socket.on('close', (code) => {
      app.log.debug({ socket: session.id, code }, 'a socket closed')
      sessions.delete(session)
      const left = (socketsOf.get(sub) ?? 0) - 1
      if (left > 0) socketsOf.set(sub, left)
      else socketsOf.delete(sub)
    })
    welcome(session)
    const { mission, citizen } = request.params as { mission?: string; citizen?: string }
    if (mission === undefined || citizen === undefined) return
    const { after, epoch } = request.query as { after?: unknown; epoch?: unknown }
    if (after !== undefined && !(typeof after === 'string' && wholeNumber.test(after)))
      return session.refuse(deny('bad_request', 'after must be a seq, an integer from 0'))
    const frame = {
      type: 'subscribe',
      topic: `missions/${mission}/chat/${citizen}`,
      ...(after ? { after: Number(after) } : {}),
      ...(epoch === undefined ? {} : { epoch }),
    }
    session.receive(Buffer.from(JSON.stringify(frame)), false)
  }

  app.register((door, _options, done) => {
    door.addHook('preValidation', judge)
    const schema = { hide: true }
    const handler = (): never => {
      throw deny('bad_request', 'this route needs a WebSocket upgrade')
    }
    for (const url of ['/api/ws', '/api/missions/:mission/chat/:citizen/ws'])
      door.route({ method: 'GET', url, schema, handler, wsHandler: open, config: { socket: true } as object })
    done()
  })

  const ticking = setInterval(() => {
    const now = performance.now()
    const wallClock = Date.now()
    for (const session of sessions) session.tick(now, wallClock)
  }, 1000)
  app.addHook('onClose', (_app, done) => {
    clearInterval(ticking)
    done()
  })

  return {
    drain() {
      draining = true
      for (const session of sessions) session.goodbye('restart', spread(1, 5))
    },
    close(reason = 'restart') {
      for (const session of [...sessions]) session.close(closeCodes.restart, reason, spread(0, 2))
    },
    recheck() {
      for (const session of [...sessions])
        if (!tokens.holds(session.actor)) session.close(closeCodes.token, 'token revoked')
    },
    count: () => sessions.size,
  }
}

// ws closes the socket on an invalid frame. It is the client's fault, so it is not logged.
const ignore = (): void => {}

/** The ID of a frame that is refused while the server drains. */
const idOf = (data: Buffer): { id?: string | number } => {
  try {
    const { id } = JSON.parse(data.toString('utf8')) as { id?: unknown }
    return typeof id === 'string' || typeof id === 'number' ? { id } : {}
  } catch {
    return {}
  }
}

/** Returns random seconds between two bounds, so that clients closed at the same time do not reconnect at the same time. */
const spread = (least: number, most: number): number => Number((least + Math.random() * (most - least)).toFixed(1))

export const newInstanceName = (): string => randomUUID().slice(0, 8)
