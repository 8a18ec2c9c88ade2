// A session: one authenticated socket. Reads its frames, runs the commands, owns its seats and its outbox.
// What one socket sends is taken up in the order sent: a command's look-ups run at once, its effects begin in turn.
// It promises one answer to each frame with an id, never to hold more than the outbox's bound, and to take no more frames
// than one socket may send.
import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { WebSocket } from 'ws'
import type { Actor } from '../../access/actor.ts'
import type { Answer } from '../../protocol/answers.ts'
import { deny, type Refusal } from '../../protocol/errors.ts'
import {
  closeCodes,
  encodeError,
  encodeFrame,
  encodeOk,
  readFrame,
  type ClientFrame,
  type FrameId,
  type FrameType,
  type Text,
} from '../../protocol/client-frames.ts'
import { makeBucket, type Bucket } from './token-bucket.ts'
import type { Inflow } from './byte-rate.ts'
import type { Receiver, Seat } from '../hub/seat.ts'
import { linger } from './linger.ts'
import { makeOutbox, type Ledger, type Outbox } from './send-buffer.ts'
import { count } from './counters.ts'
import type { Work } from './in-flight.ts'

/** What a handler throws, or its promise is rejected with, is answered as an error. */
export type Handlers = { [T in FrameType]: (session: Session, frame: ClientFrame<T>) => void | Promise<void> }
type Handler = (session: Session, frame: unknown) => void | Promise<void>

export type SessionLimits = {
  /** bytes that may wait for one socket */
  outboxBytes: number
  /** topics a socket may follow */
  topics: number
  /** frames of a socket that wait for their answer; beyond, it is not read from */
  pending: number
  /** frames in a row that are no valid frame, until the socket is closed */
  badFrames: number
  /** frames a socket may send, for long and at once */
  framesPerSecond: number
  framesBurst: number
  /** ms before its token's end that a socket is told */
  tokenWarning: number
  /** ms between pings and heads, and ms of silence until a socket is closed */
  pingEvery: number
  silence: number
}

export type SessionOptions = {
  handlers: Handlers
  limits: SessionLimits
  /** turns what a handler threw into what the client may hear */
  explain: (error: unknown, whose: { socket: string }) => Refusal
  leave: (seat: Seat) => void
  /** called once a socket is gone, or about to be */
  gone: (session: Session) => void
  /** where a followed topic stands, as far as is known */
  head: (topic: string) => number | undefined
  ledger: Ledger
  work: Work
  /** whether the process has more to do than it can */
  overloaded: () => boolean
}

export class Session implements Receiver {
  readonly form = 'frames'
  readonly id = randomUUID()
  readonly seats = new Map<string, Seat>()
  private readonly outbox: Outbox
  private readonly bucket: Bucket
  private turn: Promise<void> = Promise.resolve()
  private turns = 0
  private pending = 0
  // While it runs the socket is not read.
  private held: NodeJS.Timeout | undefined
  private bad = 0
  private farewell = false
  private warned = false
  private lastPong = performance.now()
  // At a moment of its own, so that sockets which came together do not stay in step.
  private lastPing: number
  // The code that we close with: a peer that does not answer the close ends as 1006 for ws, whatever the reason was.
  private closeCode: number | undefined
  closed = false

  constructor(
    private readonly socket: WebSocket,
    private readonly wire: Socket,
    public actor: Actor,
    /** what all sockets of its subject may send together */
    private readonly allowance: Bucket,
    private readonly inflow: Inflow,
    private readonly options: SessionOptions,
  ) {
    const { outboxBytes, framesPerSecond, framesBurst, pingEvery } = options.limits
    this.outbox = makeOutbox(socket, wire, outboxBytes, options.ledger)
    this.bucket = makeBucket(framesPerSecond, framesBurst, performance.now())
    this.lastPing = performance.now() - Math.random() * pingEvery
    socket.on('pong', () => (this.lastPong = performance.now()))
    // A frame that is not valid (1002, 1007, 1008, 1009): ws has sent the close.
    socket.on('error', () => {
      if (this.closed) return
      this.onClose()
      linger(wire, socket)
    })
    socket.on('close', (code) => {
      count(options.ledger.tally.closes, String(this.closeCode ?? code))
      this.onClose()
    })
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
    // Whoever sends most goes first.
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

  /** Does not read the socket for so many ms. */
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

  /** Whether nothing that came before waits for its look-up. */
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

  /** Answers a frame, if it carried an id. */
  ok(id: FrameId, answer: Answer = {}): void {
    if (id !== undefined) this.push(encodeOk(id, answer))
  }

  /** Sends one frame as its text, or any that are encoded. */
  push(frame: Text | Buffer, frames = 1): boolean {
    if (this.closed) return false
    if (this.outbox.push(frame, frames)) return true
    this.close(closeCodes.slow, 'too slow')
    return false
  }

  send(bytes: Buffer, frames: number): boolean {
    return this.push(bytes, frames)
  }

  /** Tells an error. */
  refuse(refusal: Refusal, members: { id?: FrameId; topic?: string } = {}): void {
    count(this.options.ledger.tally.errors, refusal.code)
    this.push(encodeError(refusal, members))
  }

  fits(bytes: number): boolean {
    return this.outbox.fits(bytes)
  }

  drained(): Promise<void> {
    return this.outbox.drained()
  }

  /** Gives up the seat of a topic, if there is one. */
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

  /** How many topics it may follow. */
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

  /** Called about once a second by the socket door: the token's end, pings, heads, silence. */
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

  /** Tells, once, that the server is about to close; retry_after in seconds. */
  goodbye(reason: string, retry_after: number): void {
    if (this.farewell) return
    this.farewell = true
    this.push(encodeFrame('goodbye', { reason, retry_after }))
  }

  close(code: number, reason: string, retryAfter = 0): void {
    if (this.closed) return
    // Who is too slow would not read it; whose token ends was told ahead.
    if (code !== closeCodes.slow && !(this.warned && code === closeCodes.token)) this.goodbye(reason, retryAfter)
    if (this.closed) return
    this.closeCode = code
    this.onClose()
    this.outbox.flush()
    this.socket.close(code, reason)
    // A peer that is too slow does not keep its buffers here for long.
    linger(this.wire, this.socket, code === closeCodes.slow ? 1000 : undefined)
  }

  private onClose(): void {
    if (this.closed) return
    this.closed = true
    clearTimeout(this.held)
    // What still comes is read and discarded, up to the answer to the close.
    if (this.socket.isPaused) this.socket.resume()
    this.options.gone(this)
    for (const topic of [...this.seats.keys()]) this.leave(topic)
  }
}
