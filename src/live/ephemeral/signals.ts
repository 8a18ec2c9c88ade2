// Signals: typing and read positions. They reach a topic's followers on all instances and are not part of its history. Of several signals
// with the same kind, topic and subject only the newest is sent. Signals are dropped for slow readers and while the database is down.
import type { Role } from '../../access/actor.ts'
import { encodeFrame } from '../../protocol/encode.ts'
import { toChunk } from '../../protocol/websocket-wire.ts'
import type { Hub } from '../hub/hub.ts'
import type { Receiver } from '../hub/subscription.ts'
import { every, makeRelay } from './instance-relay.ts'
import type { Seal } from './seal.ts'

export type Signal =
  | { type: 'typing'; topic: string; sub: string; role: Role; on: boolean }
  | { type: 'read'; topic: string; sub: string; seq: number }

/** Signals that may wait to be sent to other instances. */
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
      // Typing goes to all followers except the sender; a read position only to other sockets of the same user.
      if (to === from || (type === 'read' && to.actor.sub !== sub)) continue
      if (to.fits(bytes.length)) to.send(bytes, 1)
    }
  }

  const relay = makeRelay<Signal>({ ...options, mark: '~', onReceived: (signal) => deliver(signal) })

  const flush = async (): Promise<void> => {
    const signals = [...due.values()]
    due = new Map()
    await relay.send(signals)
    timer = due.size > 0 ? setTimeout(() => void flush(), every) : undefined
  }

  return {
    /** Sends a signal to all followers of its topic except `from`. */
    send(signal: Signal, from?: Receiver): void {
      deliver(signal, from)
      const name = `${signal.type} ${signal.topic} ${signal.sub}`
      if (due.size >= most && !due.has(name)) return
      due.set(name, signal)
      timer ??= setTimeout(() => void flush(), every)
    },
    receive: relay.receive,
    close(): void {
      clearTimeout(timer)
      due.clear()
    },
  }
}
export type Signals = ReturnType<typeof makeSignals>
