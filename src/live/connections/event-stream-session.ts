// A follower: an HTTP response that streams the events of one chat. To the hub it is a subscriber like a session, so the hub and the
// outbox handle catching up, gaps, rights and slow readers.
// Events are written to the connection itself, after the response's head: the body is not chunked and ends with the connection.
// When its token or its rights end, the stream ends with a comment that gives the reason. A slow or stalled reader is reset.
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Actor } from '../../access/actor.ts'
import { toComment } from '../../protocol/event-stream.ts'
import type { Refusal } from '../../protocol/errors.ts'
import type { Receiver, Subscription } from '../hub/subscription.ts'
import { makeOutbox, type Ledger, type Outbox } from './send-buffer.ts'

export type FollowerOptions = {
  limits: {
    /** unread bytes of one reader */
    outboxBytes: number
    /** ms between two comments, and ms after which a reader that reads none of its waiting bytes is reset */
    commentEvery: number
    silence: number
  }
  ledger: Ledger
  /** Returns whether a token is still valid. */
  holds: (actor: Actor) => boolean
  leave: (subscription: Subscription) => void
  /** Called when a reader's connection is reset. */
  cut: (why: string) => void
}

const alive = toComment('')

export class Follower implements Receiver {
  readonly form = 'events'
  subscription: Subscription | undefined
  closed = false
  private readonly outbox: Outbox
  private commentAt: number
  private left = { bytes: 0, at: performance.now() }

  /** `wire` is the response's connection; the response's head has been written. */
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
    // Random, so that streams that were opened together do not send comments together.
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

  /** Called periodically: checks the token, sends comments, resets stalled readers. */
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

  /** Sends the reason, and the ms to wait before a reconnect, and ends the stream. */
  end(why: string, retry?: number): void {
    if (this.closed) return
    this.outbox.push(toComment(why, retry))
    this.outbox.flush()
    this.leave()
    this.answer.end()
    // A reader that does not read would keep its buffers in memory.
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
    if (this.subscription) this.options.leave(this.subscription)
  }
}
