// What waits for one socket, bounded in bytes: whoever does not read is cut off and resumes; others never wait for it.
// An outbox always takes one frame, whatever its size. All outboxes of a process share a bound of their own: an outbox may
// hold as much as is still free of it, so the fuller it is the less a slow reader may leave unread, and who has left most is
// cut off first.
import type { WebSocket } from 'ws'

/** What waits in all outboxes of a process, in bytes. */
export type Ledger = { waiting: number; readonly max: number }

export type Outbox = {
  /** Hands a text frame to the socket; false if that would be too much, and nothing was taken. */
  push(frame: string | Buffer): boolean
  /** Whether a frame of this size would leave half of the bounds free, or nothing waits at all. */
  fits(bytes: number): boolean
  /** Resolves once what was pushed before the first who waits has left this process (or the socket is gone). */
  drained(): Promise<void>
}

export const makeOutbox = (socket: WebSocket, maxBytes: number, ledger: Ledger): Outbox => {
  // What the ledger knows of this outbox.
  let known = 0
  const settle = (waiting = socket.bufferedAmount): void => {
    if (socket.readyState === socket.CLOSED) waiting = 0
    ledger.waiting += waiting - known
    known = waiting
  }
  const sent = (): void => settle()
  socket.once('close', () => settle(0))

  let draining: Promise<void> | undefined
  const drain = (): Promise<void> =>
    new Promise((resolve) => {
      if (socket.readyState !== socket.OPEN || socket.bufferedAmount === 0) return resolve()
      const done = (): void => {
        socket.off('close', done)
        settle()
        resolve()
      }
      socket.once('close', done)
      // An empty unsolicited pong: its callback comes when all before it is written.
      socket.pong('', false, done)
    })

  return {
    push(frame) {
      const size = typeof frame === 'string' ? Buffer.byteLength(frame) : frame.length
      const waiting = socket.bufferedAmount
      if (waiting > 0 && (waiting + size > maxBytes || waiting + size > ledger.max - ledger.waiting)) return false
      socket.send(frame, { binary: false }, sent)
      settle()
      return true
    },
    fits(bytes) {
      const waiting = socket.bufferedAmount
      // Nothing is worth waiting for on a socket that closes.
      if (waiting === 0 || socket.readyState !== socket.OPEN) return true
      return waiting + bytes <= maxBytes / 2 && ledger.waiting + bytes <= ledger.max / 2
    },
    drained: () => (draining ??= drain().finally(() => (draining = undefined))),
  }
}
