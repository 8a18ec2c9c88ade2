// A relay: messages between instances that are not stored. Each kind has a mark and goes over the channel of its topic. Messages are
// sealed: only instances can read or forge them. Like any notification, a message may be lost. A message that was sent before this
// instance followed its topic is ignored: it can only be a replayed copy.
import type { Seal } from './seal.ts'

/** Bytes of a message: a notification of Postgres (8,000), less what sealing (a third), mark, name and quotes add. */
export const longest = 5500

/** ms for which messages are collected for one statement */
export const every = 40

/** ms by which two instances' estimates of the database's time may differ. */
const tolerance = 5000

export const makeRelay = <Sent extends { topic: string }>(options: {
  mark: string
  seal: Seal
  /** Returns since when (performance.now) this instance listens to a topic; Infinity if it does not. */
  heardSince: (topic: string) => number
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  onReceived: (message: Sent) => void
  onError: (error: unknown) => void
}) => ({
  /** Sends messages to the other instances, in one statement. A message too long for a notification is skipped. */
  async send(all: readonly Sent[]): Promise<void> {
    const payloads = all.map(
      (message) => `${options.mark}${options.seal.seal(options.mark, JSON.stringify(message)) ?? ''}`,
    )
    const fits = payloads.map((payload) => payload.length > 1 && payload.length < 8000)
    const topics = all.filter((_, i) => fits[i]).map(({ topic }) => topic)
    if (topics.length === 0) return
    try {
      await options.notify(
        topics,
        payloads.filter((_, i) => fits[i]),
      )
    } catch (error) {
      options.onError(error)
    }
  },

  /** Takes a notification. Returns true if it has the mark of this relay. */
  receive(payload: string): boolean {
    if (!payload.startsWith(options.mark)) return false
    const opened = options.seal.open(options.mark, payload.slice(options.mark.length))
    if (!opened) return true
    try {
      const message = JSON.parse(opened.text) as Sent
      if (opened.sentAt > options.heardSince(message.topic) - tolerance) options.onReceived(message)
    } catch (error) {
      options.onError(error)
    }
    return true
  },
})
