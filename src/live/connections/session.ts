// A session: one authenticated socket. Reads its frames, runs the commands, owns its seats.
// Commands of one socket take effect in the order sent; their look-ups run at once. Each frame with an ID gets one answer. A socket
// that sends faster than it may is not read, or closed.
import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { WebSocket } from 'ws'
import type { Actor } from '../../access/actor.ts'
import { readFrame, type ClientFrame, type FrameId, type FrameType } from '../../protocol/client-frames.ts'
import { encodeFrame } from '../../protocol/encode.ts'
import { closeCodes } from '../../protocol/websocket-wire.ts'
import { deny, type Refusal } from '../../protocol/errors.ts'
import type { Receiver, Seat } from '../hub/seat.ts'
import type { Inflow } from './byte-rate.ts'
import { Connection, type ConnectionOptions } from './connection.ts'
import type { Work } from './in-flight.ts'
import { makeBucket, type Bucket } from './token-bucket.ts'

/** A handler that throws or rejects is answered with an error. */
export type Handlers = { [T in FrameType]: (session: Session, frame: ClientFrame<T>) => void | Promise<void> }
type Handler = (session: Session, frame: unknown) => void | Promise<void>

export type SessionLimits = ConnectionOptions['limits'] & {
  /** topics a socket may follow */
  topics: number
  /** frames of a socket that wait for their answer; beyond, the socket is not read */
  pending: number
  /** invalid frames in a row after which the socket is closed */
  badFrames: number
  /** frames that a socket may send, sustained and in a burst */
  framesPerSecond: number
  framesBurst: number
  /** ms before its token expires that a socket is warned */
  tokenWarning: number
  /** ms between pings and heads, and ms without a pong after which a socket is closed */
  pingEvery: number
  silence: number
}

export type SessionOptions = ConnectionOptions & {
  handlers: Handlers
  limits: SessionLimits
  /** Returns the error that the client may see for what a handler threw. */
  explain: (error: unknown, whose: { socket: string }) => Refusal
  leave: (seat: Seat) => void
  /** Called once, when a socket is gone or about to be. */
  gone: (session: Session) => void
  /** Returns a followed topic's latest seq, if it is known. */
  head: (topic: string) => number | undefined
  work: Work
  /** Returns whether the process is overloaded. */
  overloaded: () => boolean
}

export class Session extends Connection<SessionOptions> implements Receiver {
  readonly form = 'frames'
  readonly id = randomUUID()
  readonly seats = new Map<string, Seat>()
  private readonly bucket: Bucket
  private turn: Promise<void> = Promise.resolve()
  private turns = 0
  private pending = 0
  // While it runs the socket is not read.
  private held: NodeJS.Timeout | undefined
  private bad = 0
  // Random, so that sockets that connected together are not pinged together.
  private lastPing: number

  constructor(
    socket: WebSocket,
    wire: Socket,
    public actor: Actor,
    /** what all sockets of its subject may send together */
    private readonly allowance: Bucket,
    private readonly inflow: Inflow,
    options: SessionOptions,
  ) {
    super(socket, wire, options)
    const { framesPerSecond, framesBurst, pingEvery } = options.limits
    this.bucket = makeBucket(framesPerSecond, framesBurst, performance.now())
    this.lastPing = performance.now() - Math.random() * pingEvery
  }

  /** Takes one message of the socket. */
  receive(data: Buffer, isBinary: boolean): void {
    if (this.closed) return
    const { tally } = this.options.ledger
    tally.framesIn++
    tally.bytesIn += data.length
    this.hold(this.inflow.take(data.length, performance.now()))
    if (isBinary) return this.close(closeCodes.protocol, 'text frames only')
    const now = performance.now()
    if (!this.bucket.take(now)) return this.close(closeCodes.rate, 'too many frames', 5)
    // The sockets that send most are closed first.
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

  /** Stops reading the socket for so many ms. */
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

  /** Whether no earlier frame waits for its look-up. */
  get first(): boolean {
    return this.turns === 0
  }

  /** Waits for a look-up, and for those of the frames that came before. */
  inTurn<T>(lookUp: Promise<T>): Promise<T> {
    this.turns++
    const mine = this.turn.then(() => lookUp)
    const over = (): void => void this.turns--
    this.turn = mine.then(over, over)
    lookUp.catch(() => {})
    return mine
  }

  /** Leaves a topic, if the socket follows it. */
  leave(topic: string): void {
    const seat = this.seats.get(topic)
    if (!seat) return
    this.seats.delete(topic)
    this.options.leave(seat)
  }

  ended(topic: string, refusal: Refusal): void {
    this.seats.delete(topic)
    this.refuse(refusal, { topic })
  }

  /** The number of topics that the socket may follow. */
  get topicLimit(): number {
    return this.options.limits.topics
  }

  checkRoom(topic: string): void {
    const topics = this.topicLimit
    if (!this.seats.has(topic) && this.seats.size >= topics)
      throw deny('bad_request', `a socket follows up to ${topics} topics`)
  }

  /** Takes a fresh token of the same subject. */
  renew(actor: Actor): void {
    this.actor = actor
    this.warned = false
  }

  /** Called about once a second: the token's end, pings, heads, silence. */
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
    if (this.seats.size === 0) return
    const topics: Record<string, number> = {}
    for (const topic of this.seats.keys()) topics[topic] = this.options.head(topic) ?? 0
    this.push(encodeFrame('heads', { topics }))
  }

  protected override release(): void {
    clearTimeout(this.held)
    // Frames that still arrive are read and discarded, up to the answer to the close.
    if (this.socket.isPaused) this.socket.resume()
    this.options.gone(this)
    for (const topic of [...this.seats.keys()]) this.leave(topic)
  }
}
