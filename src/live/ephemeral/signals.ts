// Signals reach a topic's followers on all instances and are no part of its history: who is typing, how far a user has read. Of several
// with the same kind, topic and subject only the newest matters. Signals are dropped for slow readers and while the database is down.
import type { Role } from '../../access/actor.ts'
import { encodeFrame } from '../../protocol/encode.ts'
import { toChunk } from '../../protocol/websocket-wire.ts'
import type { Hub } from '../hub/hub.ts'
import type { Receiver } from '../hub/seat.ts'
import { every, makeRelay } from './instance-relay.ts'
import type { Seal } from './seal.ts'

export type Signal =
  | { type: 'typing'; topic: string; sub: string; role: Role; on: boolean }
  | { type: 'read'; topic: string; sub: string; seq: number }

/** Signals that wait. */
const most = 10_000

export const makeSignals = (options: {
  seal: Seal
  hub: Pick<Hub, 'receivers'>
  heardSince: (topic: string) => number
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  onError: (error: unknown) => void
}) => {
  let due = new Map<string, Signal>()
  let timer: NodeJS.Timeout | undefined

  const deliver = (signal: Signal, from?: Receiver): void => {
    const { type, topic, sub } = signal
    const frame =
      type === 'read'
        ? encodeFrame('read', { topic, seq: signal.seq })
        : encodeFrame('typing', { topic, sub, role: signal.role, on: signal.on })
    const { bytes } = toChunk([frame])
    for (const to of options.hub.receivers(topic)) {
      // Typing is for all but who types; how far one has read is for one's own other sockets.
      if (to === from || (type === 'read' && to.actor.sub !== sub)) continue
      if (to.fits(bytes.length)) to.send(bytes, 1)
    }
  }

  const relay = makeRelay<Signal>({ ...options, mark: '~', onHeard: (signal) => deliver(signal) })

  const flush = async (): Promise<void> => {
    const signals = [...due.values()]
    due = new Map()
    await relay.tell(signals)
    timer = due.size > 0 ? setTimeout(() => void flush(), every) : undefined
  }

  return {
    /** Tells it to all who follow its topic, but `from`. */
    send(signal: Signal, from?: Receiver): void {
      deliver(signal, from)
      const name = `${signal.type} ${signal.topic} ${signal.sub}`
      if (due.size >= most && !due.has(name)) return
      due.set(name, signal)
      timer ??= setTimeout(() => void flush(), every)
    },
    hear: relay.hear,
    close(): void {
      clearTimeout(timer)
      due.clear()
    },
  }
}
export type Signals = ReturnType<typeof makeSignals>
