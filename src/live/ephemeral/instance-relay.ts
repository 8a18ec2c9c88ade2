// A relay: what the instances tell one another beside the log, each kind under a mark of its own, on the channels of the topics
// that it is about, sealed: nobody else can read it, or say it. It may be lost, as any notification. What was sent before this instance
// heard its topic is not taken: it can only be a copy.
import type { Seal } from './seal.ts'

/** What Postgres takes as one notification, 8,000 bytes, less what sealing adds (a third), mark, name and quotes. */
export const longest = 5500

/** ms for which messages are collected into one statement. */
export const every = 40

/** ms by which two instances may differ about the database's time. */
const tolerance = 5000

export const makeRelay = <Told extends { topic: string }>(options: {
  mark: string
  seal: Seal
  /** since when (performance.now) a topic is heard; Infinity if it is not */
  heardSince: (topic: string) => number
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  onHeard: (told: Told) => void
  onError: (error: unknown) => void
}) => ({
  /** Tells the other instances, in one statement; what is too long for a notification is left out. */
  async tell(all: readonly Told[]): Promise<void> {
    const payloads = all.map((told) => `${options.mark}${options.seal.seal(options.mark, JSON.stringify(told)) ?? ''}`)
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

  /** Takes a notification: true if it was one of these. */
  hear(payload: string): boolean {
    if (!payload.startsWith(options.mark)) return false
    const opened = options.seal.open(options.mark, payload.slice(options.mark.length))
    if (!opened) return true
    try {
      const told = JSON.parse(opened.text) as Told
      if (opened.sentAt > options.heardSince(told.topic) - tolerance) options.onHeard(told)
    } catch (error) {
      options.onError(error)
    }
    return true
  },
})
