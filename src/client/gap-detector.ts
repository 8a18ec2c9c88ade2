// Tracks the last received seq of a subscription and finds missing events. The server reports the topic's latest seq with each
// subscription. A gap up to that seq is harmless: those messages were removed. A gap beyond it is a lost event.

/** Ticks without progress after which events up to the latest seq count as removed. */
const stalledTicks = 5

export type Arrival = 'next' | 'duplicate' | 'gap'

export const makeGapDetector = () => {
  let last = 0
  /** the topic's latest seq at the time of the subscription */
  let head = 0
  /** the same seq, lowered to `last` once the events up to it count as removed */
  let awaited = 0
  let stalled = { last: 0, ticks: 0 }
  /** a later latest seq that was reported but not received: when it was reported, and the last received seq at that time */
  let doubt: { since: number; last: number; head: number } | undefined
  /** the highest reported seq for which the topic was subscribed again */
  let healed = 0

  return {
    /** `subscribe` was answered: the server sends every event after `after`, and the topic's latest seq is `latest`. */
    restart(after: number, latest: number): void {
      last = after
      head = awaited = latest
      doubt = undefined
      stalled = { last, ticks: 0 }
      // A lower latest seq belongs to a new epoch: its seqs were never requested.
      healed = Math.min(healed, latest)
    },
    /** Classifies an event by its seq. An event behind a gap does not count as received: it is requested again with the missing ones. */
    take(seq: number): Arrival {
      if (seq <= last) return 'duplicate'
      if (seq > Math.max(last, head) + 1) return 'gap'
      last = seq
      return 'next'
    },
    /** The number of events that existed at the time of the subscription and are not received yet. */
    behind: (): number => Math.max(0, awaited - last),
    /** The server reports the topic's latest seq. */
    report(latest: number): void {
      if (latest > Math.max(last, healed)) doubt ??= { since: Date.now(), last, head: latest }
    },
    /**
     * Called at intervals. Returns whether events are missing: none arrived for `patience` ms after the report of a later seq.
     * Each seq is reported as missing once: if the next subscription does not bring it, it was removed.
     */
    tick(patience: number): boolean {
      if (awaited > last) {
        stalled = { last, ticks: stalled.last === last ? stalled.ticks + 1 : 0 }
        if (stalled.ticks >= stalledTicks) awaited = last
      }
      if (!doubt || Date.now() - doubt.since < patience) return false
      const { last: before, head: latest } = doubt
      doubt = undefined
      if (before !== last) return false
      healed = latest
      return true
    },
  }
}
