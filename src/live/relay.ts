// A relay: what the instances tell one another beside the log, each kind under a mark of its own, on the channels of the topics
// that it is about, sealed: nobody else can read it, or say it. It may be lost, as any notification.
import type { Seal } from './seal.ts'

/** What Postgres takes as one notification, 8,000 bytes, less what sealing adds (a third), mark, name and quotes. */
export const longest = 5500

/** ms for which what is to be told is put together: one statement for all of it. */
export const every = 40

export const makeRelay = <Told extends { topic: string }>(options: {
  mark: string
  seal: Seal
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  onHeard: (told: Told) => void
  onError: (error: unknown) => void
}) => ({
  /** Tells the other instances, in one statement; what is too long for a notification is left out. */
  async tell(all: readonly Told[]): Promise<void> {
    const payloads = all.map((told) => `${options.mark}${options.seal.seal(JSON.stringify(told)) ?? ''}`)
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
    const told = options.seal.open(payload.slice(options.mark.length))
    if (told === undefined) return true
    try {
      options.onHeard(JSON.parse(told) as Told)
    } catch (error) {
      options.onError(error)
    }
    return true
  },
})
