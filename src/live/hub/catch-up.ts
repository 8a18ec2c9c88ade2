// Catching up: a subscription reads pages from its cursor until it reaches the tail's cursor, and becomes live in the same tick.
// Subscribing, resuming and repairing a gap all use this one function.
import { sees } from '../../access/policy.ts'
import type { MissionRights } from '../../protocol/rows.ts'
import { topicParts } from '../../protocol/topics.ts'
import type { Reads } from './catch-up-reads.ts'
import { rightsOf, type Encoded } from './page.ts'
import type { Subscription } from './subscription.ts'

/** ms before a failed read is repeated */
const retryAfter = 200

export const makeCatchUp = (options: {
  /** Returns the tail's cursor in a topic. */
  cursor: (topic: string) => number | undefined
  setRights: (mission: string, rights: MissionRights | undefined, asOf: number) => void
  leave: (subscription: Subscription) => void
  /** Ends a subscription whose receiver may not read the mission, or whose mission was deleted. */
  end: (subscription: Subscription) => void
  onError: (error: unknown) => void
}) => {
  const { leave, end } = options
  let catching = 0

  /** Sends as much of a page as the receiver has room for. Returns false if the subscription has ended. */
  const giveSlowly = (subscription: Subscription, { page, as }: Encoded): boolean => {
    const { bytes, ends } = as(subscription.receiver.form)
    for (const [i, end] of ends.entries()) {
      const { seq } = page.events[i] as { seq: number }
      if (seq <= subscription.cursor) continue
      const frame = bytes.subarray(ends[i - 1] ?? 0, end)
      if (!subscription.receiver.fits(frame.length)) return true
      if (!subscription.receiver.send(frame, 1)) {
        leave(subscription)
        return false
      }
      subscription.cursor = seq
    }
    subscription.cursor = Math.max(subscription.cursor, page.covered)
    return true
  }

  /**
   * Sends the next page to a subscription. Returns true if the receiver has no room for the rest. The rest is read again later, so that
   * a waiting subscription holds no page. (A separate function, since an async function that waits keeps its variables alive.)
   */
  const step = async (reads: Reads, subscription: Subscription, target: number): Promise<boolean> => {
    const { from, encoded: reading } = reads(subscription.cursor, subscription.asOf)
    const encoded = await reading
    const { mission, asOf, covered } = encoded.page
    options.setRights(topicParts(subscription.topic).mission, mission, asOf)
    if (subscription.gone) return false
    const rights = rightsOf(encoded.page)
    // The page's rights and its rows come from the same snapshot. If newer rights are already known, the next read decides.
    if (!rights || !sees(subscription.receiver.actor, rights)) {
      if (!rights || !mission) end(subscription)
      subscription.asOf = performance.now()
      return false
    }
    if (covered <= subscription.cursor) {
      // Either the page was read for another subscription and ends before this one's cursor, or a restore set the topic back: then
      // there is nothing more to catch up with.
      if (from === subscription.cursor) subscription.cursor = target
      return false
    }
    if (!giveSlowly(subscription, encoded)) return false
    if (subscription.cursor < covered) return true
    if (!mission) end(subscription)
    return false
  }

  const untilLive = async (reads: Reads, subscription: Subscription): Promise<void> => {
    while (!subscription.gone) {
      const target = options.cursor(subscription.topic)
      if (target === undefined || subscription.cursor >= target) {
        subscription.live = true
        return
      }
      try {
        if (await step(reads, subscription, target)) await subscription.receiver.drained()
      } catch (error) {
        options.onError(error)
        await new Promise((resolve) => setTimeout(resolve, retryAfter))
      }
    }
  }

  return {
    async catchUp(reads: Reads, subscription: Subscription): Promise<void> {
      subscription.live = false
      catching++
      await untilLive(reads, subscription)
      catching--
    },
    /** Returns the number of subscriptions that are catching up. */
    catching: (): number => catching,
  }
}
