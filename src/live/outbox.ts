// What waits for one socket, bounded in bytes: whoever does not read is cut off and resumes; others never wait for it.
// An outbox always takes one frame, whatever its size.
import type { WebSocket } from 'ws'

export type Outbox = {
  /** Hands a text frame to the socket; false if that would be too much, and nothing was taken. */
  push(frame: string | Buffer): boolean
  /** Whether a frame of this size would leave half of the bound free, or nothing waits at all. */
  fits(bytes: number): boolean
  /** Resolves once what was pushed before the first who waits has left this process (or the socket is gone). */
  drained(): Promise<void>
}

export const makeOutbox = (socket: WebSocket, maxBytes: number): Outbox => {
  let draining: Promise<void> | undefined
  const drain = (): Promise<void> =>
    new Promise((resolve) => {
      if (socket.readyState !== socket.OPEN || socket.bufferedAmount === 0) return resolve()
      const done = (): void => {
        socket.off('close', done)
        resolve()
      }
      socket.once('close', done)
      // An empty unsolicited pong: its callback comes when all before it is written.
      socket.pong('', false, done)
    })

  return {
    push(frame) {
      const size = typeof frame === 'string' ? Buffer.byteLength(frame) : frame.length
      if (socket.bufferedAmount > 0 && socket.bufferedAmount + size > maxBytes) return false
      socket.send(frame, { binary: false }, () => {})
      return true
    },
    // Nothing is worth waiting for on a socket that closes.
    fits: (bytes) =>
      socket.bufferedAmount === 0 || socket.bufferedAmount + bytes <= maxBytes / 2 || socket.readyState !== socket.OPEN,
    drained: () => (draining ??= drain().finally(() => (draining = undefined))),
  }
}
