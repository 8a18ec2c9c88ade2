// Signals: what is told to those who follow a topic, on all instances, and is no part of its history: who types, how far
// somebody has read. Of several of one kind, topic and sub only the newest matters: what comes within 40 ms goes to other
// instances in one statement. They may be lost: a slow reader, or a database that is away, gets none.
import type { Role } from '../access/actor.ts'
import { encodeFrame, toChunk } from '../protocol/frames.ts'
import type { Hub, Receiver } from './hub.ts'

export type Signal =
  | { type: 'typing'; topic: string; sub: string; role: Role; on: boolean }
  | { type: 'read'; topic: string; sub: string; seq: number }

const every = 40
// Signals that wait, and bytes of one: a notification of Postgres takes 8,000.
const most = 10_000
const longest = 7000

export const makeSignals = (options: {
  /** this instance's name: it does not hear itself */
  origin: string
  hub: Pick<Hub, 'tell'>
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  onError: (error: unknown) => void
}) => {
  let due = new Map<string, Signal>()
  let timer: NodeJS.Timeout | undefined

  const deliver = (signal: Signal, from?: Receiver): void => {
    const { type, topic, sub } = signal
    const told = type === 'read' ? { topic, seq: signal.seq } : { topic, sub, role: signal.role, on: signal.on }
    const { bytes } = toChunk([encodeFrame(type, told)])
    // Typing is for all but who types; how far one has read is for one's own other sockets.
    options.hub.tell(topic, bytes, (to) => to !== from && (type === 'typing' || to.actor.sub === sub))
  }

  const flush = async (): Promise<void> => {
    const signals = [...due.values()]
    due = new Map()
    const payloads = signals.map((signal) => `~${options.origin} ${JSON.stringify(signal)}`)
    const fit = payloads.map((payload) => Buffer.byteLength(payload) <= longest)
    try {
      await options.notify(
        signals.filter((_, i) => fit[i]).map(({ topic }) => topic),
        payloads.filter((_, i) => fit[i]),
      )
    } catch (error) {
      options.onError(error)
    }
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
    /** Takes a notification: true if it was a signal. */
    hear(payload: string): boolean {
      if (!payload.startsWith('~')) return false
      const space = payload.indexOf(' ')
      if (payload.slice(1, space) === options.origin) return true
      try {
        deliver(JSON.parse(payload.slice(space + 1)) as Signal)
      } catch (error) {
        options.onError(error)
      }
      return true
    },
    close(): void {
      clearTimeout(timer)
      due.clear()
    },
  }
}
export type Signals = ReturnType<typeof makeSignals>
