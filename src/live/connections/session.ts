// A session: one authenticated socket. Reads its frames, runs the commands, owns its subscriptions.
// Commands of one socket take effect in the order sent; their lookups run concurrently. Each frame with an ID gets one answer. A
// socket that exceeds a rate is not read for a while, or closed.
import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { WebSocket } from 'ws'
import type { Actor } from '../../access/actor.ts'
import { readFrame, type ClientFrame, type FrameId, type FrameType } from '../../protocol/client-frames.ts'
import { encodeFrame } from '../../protocol/encode.ts'
import { closeCodes } from '../../protocol/websocket-wire.ts'
import { deny, type Refusal } from '../../protocol/errors.ts'
import type { Receiver, Subscription } from '../hub/subscription.ts'
import type { Inflow } from './byte-rate.ts'
import { Connection, type ConnectionOptions } from './connection.ts'
import type { Work } from './in-flight.ts'
import { makeBucket, type Bucket } from './token-bucket.ts'

/** If a handler throws or rejects, the frame is answered with an error. */
export type Handlers = { [T in FrameType]: (session: Session, frame: ClientFrame<T>) => void | Promise<void> }
type Handler = (session: Session, frame: unknown) => void | Promise<void>

export type SessionLimits = ConnectionOptions['limits'] & {
  /** topics a socket may follow */
  topics: number
  /** unanswered frames of a socket; beyond, the socket is not read */
  pending: number
  /** invalid frames in a row after which the socket is closed */
  badFrames: number
  /** frames that a socket may send, sustained and at once */
  framesPerSecond: number
  framesBurst: number
  /** ms before the token expires at which a socket is warned */
  tokenWarning: number
  /** ms between two pings (and `heads` frames), and ms without a pong after which a socket is closed */
  pingEvery: number
  silence: number
}

export type SessionOptions = ConnectionOptions & {
  handlers: Handlers
  limits: SessionLimits
  /** Returns the error to send to the client for an error that a handler threw. */
  explain: (error: unknown, whose: { socket: string }) => Refusal
  leave: (subscription: Subscription) => void
  /** Called once, when a socket has closed or is closing. */
  gone: (session: Session) => void
  /** Returns a followed topic's latest seq, or undefined if it is unknown. */
  head: (topic: string) => number | undefined
  work: Work
  /** Returns whether the process is overloaded. */
  overloaded: () => boolean
}

export class Session extends Connection<SessionOptions> implements Receiver {
  readonly form = 'frames'
  readonly id = randomUUID()
  readonly subscriptions = new Map<string, Subscription>()
  private readonly bucket: Bucket
  private turn: Promise<void> = Promise.resolve()
  private turns = 0
  private pending = 0
  // While this timer runs, the socket is not read.
  private held: NodeJS.Timeout | undefined
  private bad = 0
  // Random, so that sockets that connected together are not pinged together.
  private lastPing: number

  constructor(
    socket: WebSocket,
    wire: Socket,
    public actor: Actor,
    /** the rate of all sockets of its subject together */
    private readonly allowance: Bucket,
    private readonly inflow: Inflow,
    options: SessionOptions,
  ) {
    super(socket, wire, options)
    const { framesPerSecond, framesBurst, pingEvery } = options.limits
    this.bucket = makeBucket(framesPerSecond, framesBurst, performance.now())
    this.lastPing = performance.now() - Math.random() * pingEvery
  }

  /** Handles one WebSocket message. */
  receive(data: Buffer, isBinary: boolean): void {
    if (this.closed) return
    const { tally } = this.options.ledger
    tally.framesIn++
    tally.bytesIn += data.length
    this.hold(this.inflow.take(data.length, performance.now()))
    if (isBinary) return this.close(closeCodes.protocol, 'text frames only')
    const now = performance.now()
    if (!this.bucket.take(now)) return this.close(closeCodes.rate, 'too many frames', 5)
    // Under overload, only sockets that have used more than half of their burst are closed.
    if (this.options.overloaded() && this.bucket.low(now)) return this.close(closeCodes.overloaded, 'overloaded', 5)
    const read = readFrame(data.toString('utf8'))
    if (read.type === 'bad') {
      this.refuse(read.refusal, { id: read.id })
      if (++this.bad >= this.options.limits.badFrames) this.close(closeCodes.protocol, 'too many bad frames')
      return
    }
    this.bad = 0
    if (!this.allowance.take(now)) {
      const refusal = deny('rate_limited', 'too many frames of this subject', { retry_after: 1 })
      return this.refuse(refusal, { id: read.id })
    }
    if (++this.pending >= this.options.limits.pending) this.socket.pause()
    this.run(this.options.handlers[read.type] as Handler, read.frame, read.id)
  }

  /** Stops reading the socket for `ms`. */
  private hold(ms: number): void {
    if (ms < 1 || this.held) return
    this.socket.pause()
    this.held = setTimeout(() => {
      this.held = undefined
      this.readOn()
    }, ms)
  }

  private readOn(): void {
    if (this.closed || this.held || this.pending >= this.options.limits.pending) return
    if (this.socket.isPaused) this.socket.resume()
  }

  private run(handler: Handler, frame: unknown, id: FrameId): void {
    this.options.work.begin()
    const refused = (error: unknown): void => {
      this.refuse(this.options.explain(error, { socket: this.id }), { id })
      this.done()
    }
    try {
      const answered = handler(this, frame)
      if (answered) answered.then(() => this.done(), refused)
      else this.done()
    } catch (error) {
      refused(error)
    }
  }

  private done(): void {
    this.options.work.end()
    this.pending--
    this.readOn()
  }

  /** Returns whether no earlier frame waits for its lookup. */
  get first(): boolean {
    return this.turns === 0
  }

  /** Resolves with a lookup, once the lookups of all earlier frames have settled. */
  inTurn<T>(lookUp: Promise<T>): Promise<T> {
    this.turns++
    const mine = this.turn.then(() => lookUp)
    const over = (): void => void this.turns--
    this.turn = mine.then(over, over)
    lookUp.catch(() => {})
    return mine
  }

  /** Unsubscribes from a topic, if the socket follows it. */
  leave(topic: string): void {
    const subscription = this.subscriptions.get(topic)
    if (!subscription) return
    this.subscriptions.delete(topic)
    this.options.leave(subscription)
  }

  ended(topic: string, refusal: Refusal): void {
    this.subscriptions.delete(topic)
    this.refuse(refusal, { topic })
  }

  /** The number of topics that the socket may follow. */
  get topicLimit(): number {
    return this.options.limits.topics
  }

  /** Throws `bad_request` if the socket follows as many topics as it may. */
  checkRoom(topic: string): void {
    const topics = this.topicLimit
    if (!this.subscriptions.has(topic) && this.subscriptions.size >= topics)
      throw deny('bad_request', `a socket may follow up to ${topics} topics: unsubscribe first`)
  }

  /** Replaces the token by a new one of the same subject. */
  renew(actor: Actor): void {
    this.actor = actor
    this.warned = false
  }

  /** Called about once a second: checks the token and the last pong, sends pings and `heads`. */
  tick(now: number, wallClock: number): void {
    if (this.closed) return
    const { pingEvery, silence, tokenWarning } = this.options.limits
    if (wallClock >= this.actor.expires) return this.close(closeCodes.token, 'token expired')
    if (!this.warned && wallClock >= this.actor.expires - tokenWarning) {
      this.warned = true
      this.push(encodeFrame('goodbye', { reason: 'token expires', retry_after: 0 }))
    }
    if (now - this.lastPong > silence) return this.close(closeCodes.slow, 'no pong')
    if (now - this.lastPing < pingEvery) return
    this.lastPing = now
    this.socket.ping()
    if (this.subscriptions.size === 0) return
    const topics: Record<string, number> = {}
    for (const topic of this.subscriptions.keys()) topics[topic] = this.options.head(topic) ?? 0
    this.push(encodeFrame('heads', { topics }))
  }

  protected override release(): void {
    clearTimeout(this.held)
    // Frames that still arrive before the close is answered are read and discarded.
    if (this.socket.isPaused) this.socket.resume()
    this.options.gone(this)
    for (const topic of [...this.subscriptions.keys()]) this.leave(topic)
  }
}
