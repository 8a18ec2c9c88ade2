// The send buffer of one socket or event stream, bounded in bytes: a client that does not read is disconnected and resumes later; others
// never wait for it.
// An outbox always takes one frame, whatever its size. All outboxes of a process share a bound of their own: an outbox may
// hold as much as is still free of it, so the fuller it is the less a slow reader may leave unread, and who has left most is
// cut off first.
// What one turn of the event loop brings to a socket leaves as one write, since a write costs 6 to 8 us whatever its size.
import type { Socket } from 'node:net'
import { frameSize, writeFrame, type Text } from '../../protocol/websocket-wire.ts'
import type { Tally } from './counters.ts'

/** What all outboxes of a process share: what waits in them, in bytes, and those to be emptied at the turn's end. */
export type Ledger = { waiting: number; readonly max: number; readonly due: (() => void)[]; readonly tally: Tally }

export const makeLedger = (max: number, tally: Tally): Ledger => ({ waiting: 0, max, due: [], tally })

/** What stands on the wire: a WebSocket, or who speaks of its states like one. */
export type Peer = {
  readonly OPEN: number
  readonly readyState: number
  once(event: 'close', heard: () => void): unknown
  off(event: 'close', heard: () => void): unknown
}

export type Outbox = {
  /** Takes a text, or so many frames that are encoded; false if that would be too much, and nothing was taken. */
  push(frame: Text | Buffer, frames?: number): boolean
  /** Whether a frame of this size would leave half of the bounds free, or nothing waits at all. */
  fits(bytes: number): boolean
  /** Hands what was pushed to the socket, now. */
  flush(): void
  /** Resolves once what was pushed before the first who waits has left this process (or the socket is gone). */
  drained(): Promise<void>
}

// More than this is not kept back: the socket is to take what it can before it is judged.
const atOnce = 64 * 1024

const nothing = Buffer.alloc(0)
type Kept = { frame: Text | Buffer; size: number }

// What is small is put together in one buffer for all; the socket takes it at once, or keeps it and there is a new one.
let scratch = Buffer.allocUnsafeSlow(atOnce)

const join = (frames: readonly Kept[], buffer: Buffer): void => {
  let at = 0
  for (const { frame, size } of frames) {
    if (Buffer.isBuffer(frame)) frame.copy(buffer, at)
    else writeFrame(frame, size, buffer, at)
    at += size
  }
}

/** Nothing of what is written to the wire here is compressed or masked. */
export const makeOutbox = (socket: Peer, wire: Socket, maxBytes: number, ledger: Ledger): Outbox => {
  let kept: Kept[] = []
  let keptBytes = 0
  // What the ledger knows of this outbox.
  let known = 0
  const isOpen = (): boolean => socket.readyState === socket.OPEN
  const settle = (): void => {
    const waiting = wire.destroyed ? 0 : wire.writableLength + keptBytes
    ledger.waiting += waiting - known
    known = waiting
  }
  socket.once('close', () => {
    kept = []
    keptBytes = 0
    settle()
  })

  const flush = (): void => {
    if (kept.length === 0) return
    const frames = kept
    const bytes = keptBytes
    kept = []
    keptBytes = 0
    const [first] = frames
    if (!isOpen() || !first) return settle()
    if (frames.length === 1 && Buffer.isBuffer(first.frame)) wire.write(first.frame)
    else if (bytes <= atOnce) {
      join(frames, scratch)
      wire.write(scratch.subarray(0, bytes))
      if (wire.writableLength > 0) scratch = Buffer.allocUnsafeSlow(atOnce)
    } else {
      wire.cork()
      for (const each of frames) {
        let buffer = each.frame
        if (!Buffer.isBuffer(buffer)) join([each], (buffer = Buffer.allocUnsafe(each.size)))
        wire.write(buffer)
      }
      wire.uncork()
    }
    settle()
    // Most writes have finished here; otherwise an empty write reports the end.
    if (wire.writableLength > 0) wire.write(nothing, settle)
  }

  let draining: Promise<void> | undefined
  const drain = (): Promise<void> =>
    new Promise((resolve) => {
      flush()
      if (!isOpen() || wire.writableLength === 0) return resolve()
      const done = (): void => {
        socket.off('close', done)
        settle()
        resolve()
      }
      socket.once('close', done)
      // Told when all before it is written.
      wire.write(nothing, done)
    })

  return {
    push(frame, frames = 1) {
      if (!isOpen()) return true
      const size = Buffer.isBuffer(frame) ? frame.length : frameSize(frame)
      const waiting = wire.writableLength + keptBytes
      if (waiting > 0 && (waiting + size > maxBytes || waiting + size > ledger.max - ledger.waiting)) return false
      if (kept.length === 0) later(ledger, flush)
      kept.push({ frame, size })
      ledger.tally.framesOut += frames
      ledger.tally.bytesOut += size
      keptBytes += size
      known += size
      ledger.waiting += size
      if (keptBytes > atOnce) flush()
      return true
    },
    fits(bytes) {
      const waiting = wire.writableLength + keptBytes
      // Nothing is worth waiting for on a socket that closes.
      if (waiting === 0 || !isOpen()) return true
      return waiting + bytes <= maxBytes / 2 && ledger.waiting + bytes <= ledger.max / 2
    },
    flush,
    drained: () => (draining ??= drain().finally(() => (draining = undefined))),
  }
}

/** Calls `flush` when this turn of the event loop has read what there was to read. */
const later = ({ due }: Ledger, flush: () => void): void => {
  if (due.push(flush) > 1) return
  setImmediate(() => {
    for (const each of due.splice(0)) each()
  })
}
