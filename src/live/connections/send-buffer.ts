// The send buffer (outbox) of one socket or event stream, bounded in bytes. A client that does not read is disconnected and resumes
// later; other clients never wait for it.
// An empty outbox takes one frame of any size. All outboxes of a process also share a limit: an outbox may hold at most what is still
// free of it. The fuller the shared limit, the fewer bytes a slow reader may leave unread: the slowest reader is disconnected first.
// Frames of one turn of the event loop leave as one write, since a write costs 6 to 8 us whatever its size.
import type { Socket } from 'node:net'
import { frameSize, writeFrame, type Text } from '../../protocol/websocket-wire.ts'
import type { Tally } from './counters.ts'

/** Shared by all outboxes of a process: the bytes that wait in them, and the flushes due at the end of this turn. */
export type Ledger = { waiting: number; readonly max: number; readonly due: (() => void)[]; readonly tally: Tally }

export const makeLedger = (max: number, tally: Tally): Ledger => ({ waiting: 0, max, due: [], tally })

/** A WebSocket, or an object with the same states and events. */
export type Peer = {
  readonly OPEN: number
  readonly readyState: number
  once(event: 'close', listener: () => void): unknown
  off(event: 'close', listener: () => void): unknown
}

export type Outbox = {
  /** Takes one text, or encoded frames and their number. Returns false, and takes nothing, if a limit would be exceeded. */
  push(frame: Text | Buffer, frames?: number): boolean
  /** Returns whether a frame of this size would leave half of the limits free, or the outbox is empty. */
  fits(bytes: number): boolean
  /** Writes the pushed frames to the socket now. */
  flush(): void
  /** Resolves once the frames pushed before the first pending call have left this process, or the socket is closed. */
  drained(): Promise<void>
}

// Above this size frames are written at once, so that the socket can take them before the limits are checked.
const atOnce = 64 * 1024

const nothing = Buffer.alloc(0)
type Kept = { frame: Text | Buffer; size: number }

// Small frames are joined in one buffer that all outboxes share. If a socket keeps the buffer, a new one is allocated.
let scratch = Buffer.allocUnsafeSlow(atOnce)

const join = (frames: readonly Kept[], buffer: Buffer): void => {
  let at = 0
  for (const { frame, size } of frames) {
    if (Buffer.isBuffer(frame)) frame.copy(buffer, at)
    else writeFrame(frame, size, buffer, at)
    at += size
  }
}

/** Bytes written to `wire` are neither compressed nor masked. */
export const makeOutbox = (socket: Peer, wire: Socket, maxBytes: number, ledger: Ledger): Outbox => {
  let kept: Kept[] = []
  let keptBytes = 0
  // The bytes of this outbox that the ledger has counted.
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
    // Most writes have finished by now. Otherwise the callback of an empty write reports when they have.
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
      // Called once everything before it is written.
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
      // On a closing socket there is nothing to wait for.
      if (waiting === 0 || !isOpen()) return true
      return waiting + bytes <= maxBytes / 2 && ledger.waiting + bytes <= ledger.max / 2
    },
    flush,
    drained: () => (draining ??= drain().finally(() => (draining = undefined))),
  }
}

/** Calls `flush` after this turn of the event loop has handled its input. */
const later = ({ due }: Ledger, flush: () => void): void => {
  if (due.push(flush) > 1) return
  setImmediate(() => {
    for (const each of due.splice(0)) each()
  })
}
