// A follower: an HTTP answer that goes on as a stream of events, from its place in one chat on. To the hub it is a seat as a
// session's is, so that catching up, gaps, rights and slowness are the hub's and the outbox's.
// What it sends goes to the wire itself, behind the answer's head: the body has no frame of HTTP's, it ends with its connection.
// It ends with its token and its rights, by a comment that says why; a reader that is too slow, or stalls, is reset.
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Actor } from '../../access/actor.ts'
import { toComment } from '../../protocol/event-stream.ts'
import type { Refusal } from '../../protocol/errors.ts'
import type { Receiver, Seat } from '../hub/seat.ts'
import { makeOutbox, type Ledger, type Outbox } from './send-buffer.ts'

export type FollowerOptions = {
  limits: {
    /** bytes that may wait for one reader */
    outboxBytes: number
    /** ms between two comments, and ms within which something of what waits has to leave */
    commentEvery: number
    silence: number
  }
  ledger: Ledger
  /** whether a token still counts */
  holds: (actor: Actor) => boolean
  leave: (seat: Seat) => void
  /** called when a reader is reset */
  cut: (why: string) => void
}

const alive = toComment('')

export class Follower implements Receiver {
  readonly form = 'events'
  seat: Seat | undefined
  closed = false
  private readonly outbox: Outbox
  private commentAt: number
  private left = { bytes: 0, at: performance.now() }

  /** `wire` is the answer's connection; its head has been written. */
  constructor(
    private readonly answer: ServerResponse,
    private readonly wire: Socket,
    readonly actor: Actor,
    private readonly options: FollowerOptions,
  ) {
    const { limits, ledger } = options
    const isOpen = (): boolean => !this.closed && !wire.destroyed
    const peer = {
      OPEN: 1,
      get readyState() {
        return isOpen() ? 1 : 3
      },
      once: answer.once.bind(answer),
      off: answer.off.bind(answer),
    }
    this.outbox = makeOutbox(peer, wire, limits.outboxBytes, ledger)
    // At a moment of its own, so that streams which came together do not stay in step.
    this.commentAt = performance.now() + Math.random() * limits.commentEvery
    answer.once('close', () => this.leave())
  }

  send(bytes: Buffer, frames: number): boolean {
    if (this.closed) return false
    if (!this.options.holds(this.actor)) this.end('the token is expired or revoked')
    else if (this.outbox.push(bytes, frames)) return true
    else this.cut('too slow')
    return false
  }

  fits(bytes: number): boolean {
    return this.outbox.fits(bytes)
  }

  drained(): Promise<void> {
    return this.outbox.drained()
  }

  ended(_topic: string, { detail }: Refusal): void {
    this.end(detail)
  }

  /** Called once in a while: the token's end, comments, readers that stall. */
  tick(now: number): void {
    if (this.closed) return
    const { limits, holds } = this.options
    if (!holds(this.actor)) return this.end('the token is expired or revoked')
    const bytes = this.wire.bytesWritten - this.wire.writableLength
    if (bytes !== this.left.bytes || this.wire.writableLength === 0) this.left = { bytes, at: now }
    if (now - this.left.at > limits.silence) return this.cut('stalled')
    if (now < this.commentAt) return
    while (this.commentAt <= now) this.commentAt += limits.commentEvery
    this.send(alive, 1)
  }

  /** Says why, and how many ms to wait before one comes again, and ends. */
  end(why: string, retry?: number): void {
    if (this.closed) return
    this.outbox.push(toComment(why, retry))
    this.outbox.flush()
    this.leave()
    this.answer.end()
    // A reader that reads nothing does not keep its buffers here.
    const timer = setTimeout(() => this.wire.resetAndDestroy(), 2000)
    timer.unref()
    this.wire.once('close', () => clearTimeout(timer))
  }

  private cut(why: string): void {
    this.options.cut(why)
    this.leave()
    this.wire.resetAndDestroy()
  }

  private leave(): void {
    this.closed = true
    if (this.seat) this.options.leave(this.seat)
  }
}
