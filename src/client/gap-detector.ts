// Where a subscription stands in its topic's sequence, and which events are missing. The server reports the topic's latest seq with
// each subscription. A gap up to there is harmless: those messages were removed. A gap beyond it is a lost event.

/** Ticks without progress after which events up to the latest seq count as removed. */
const stalledTicks = 5

export type Arrival = 'next' | 'duplicate' | 'gap'

export const makeGapDetector = () => {
  let last = 0
  /** the topic's latest seq when it was subscribed */
  let head = 0
  /** the same, until it is received or turns out to be removed */
  let awaited = 0
  let stalled = { last: 0, ticks: 0 }
  /** a latest seq that the server reported later and that is not received: since when, and how far the subscription was then */
  let doubt: { since: number; last: number; head: number } | undefined
  /** the newest doubt for which the topic was subscribed again */
  let healed = 0

  return {
    /** A subscription was answered: it sends every event after `after`, and the topic's latest seq is `latest`. */
    restart(after: number, latest: number): void {
      last = after
      head = awaited = latest
      doubt = undefined
      stalled = { last, ticks: 0 }
      // A lower latest seq belongs to a new epoch: its seqs were never requested.
      healed = Math.min(healed, latest)
    },
    /** Classifies an event by its seq. An event behind a gap is not counted as received: it comes again with what is missing. */
    take(seq: number): Arrival {
      if (seq <= last) return 'duplicate'
      if (seq > Math.max(last, head) + 1) return 'gap'
      last = seq
      return 'next'
    },
    /** How many events are still to come of those that the topic had when it was subscribed. */
    behind: (): number => Math.max(0, awaited - last),
    /** The server reports the topic's latest seq. */
    report(latest: number): void {
      if (latest > Math.max(last, healed)) doubt ??= { since: Date.now(), last, head: latest }
    },
    /**
     * To be called at intervals. Returns whether events are missing: nothing came for `patience` ms after a report of a later seq.
     * Each seq is reported as missing once; what does not come after that was removed.
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
