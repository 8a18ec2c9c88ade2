// A connection: the sending side of one WebSocket, and its end. It holds at most the outbox's limit: a peer that does not read is
// disconnected. Whichever side closes, the connection is released once.
import type { Socket } from 'node:net'
import type { WebSocket } from 'ws'
import type { Answer } from '../../protocol/answers.ts'
import type { FrameId } from '../../protocol/client-frames.ts'
import { encodeError, encodeFrame, encodeOk } from '../../protocol/encode.ts'
import { closeCodes, type Text } from '../../protocol/websocket-wire.ts'
import type { Refusal } from '../../protocol/errors.ts'
import { count } from './counters.ts'
import { linger } from './linger.ts'
import { makeOutbox, type Ledger, type Outbox } from './send-buffer.ts'

/** ms for which the buffers of a peer that was closed as too slow are kept */
const slowPatience = 1000

export type ConnectionOptions = {
  limits: {
    /** bytes that may wait for one socket */
    outboxBytes: number
  }
  ledger: Ledger
}

export abstract class Connection<Options extends ConnectionOptions> {
  closed = false
  /** The client was warned that its token is about to expire. */
  protected warned = false
  protected lastPong = performance.now()
  private readonly outbox: Outbox
  private farewell = false
  // The code that this side closes with. If the peer does not answer the close, ws reports 1006 instead.
  private closeCode: number | undefined

  constructor(
    protected readonly socket: WebSocket,
    private readonly wire: Socket,
    protected readonly options: Options,
  ) {
    const { limits, ledger } = options
    this.outbox = makeOutbox(socket, wire, limits.outboxBytes, ledger)
    socket.on('pong', () => (this.lastPong = performance.now()))
    // The frame was invalid (1002, 1007, 1008, 1009); ws has sent the close.
    socket.on('error', () => {
      if (this.closed) return
      this.end()
      linger(wire, socket)
    })
    socket.on('close', (code) => {
      count(ledger.tally.closes, String(this.closeCode ?? code))
      this.end()
    })
  }

  /** Called once, when the socket has closed or is closing. */
  protected abstract release(): void

  private end(): void {
    if (this.closed) return
    this.closed = true
    this.release()
  }

  /** Sends the text of one frame, or encoded frames. Returns false if the connection is closed, or closes because it is too slow. */
  push(frame: Text | Buffer, frames = 1): boolean {
    if (this.closed) return false
    if (this.outbox.push(frame, frames)) return true
    // The send buffer is full: a slow socket is closed here, and its client resumes later.
    this.close(closeCodes.slow, 'too slow')
    return false
  }

  send(bytes: Buffer, frames: number): boolean {
    return this.push(bytes, frames)
  }

  /** Sends the ok reply to a frame that has an ID. */
  ok(id: FrameId, answer: Answer = {}): void {
    if (id !== undefined) this.push(encodeOk(id, answer))
  }

  /** Sends an error. */
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

  /** Announces, once, that the server is about to close the socket; `retry_after` in seconds. */
  goodbye(reason: string, retry_after: number): void {
    if (this.farewell) return
    this.farewell = true
    this.push(encodeFrame('goodbye', { reason, retry_after }))
  }

  close(code: number, reason: string, retryAfter = 0): void {
    if (this.closed) return
    // A slow peer would not read a goodbye. The expiry of a token may have been announced already.
    if (code !== closeCodes.slow && !(this.warned && code === closeCodes.token)) this.goodbye(reason, retryAfter)
    if (this.closed) return
    this.closeCode = code
    this.end()
    this.outbox.flush()
    this.socket.close(code, reason)
    linger(this.wire, this.socket, code === closeCodes.slow ? slowPatience : undefined)
  }
}
