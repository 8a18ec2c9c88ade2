// Sends a chat's new follower the drafts written so far. The stored drafts of a followed chat are read once; later deltas keep the
// copies up to date.
import type { Subscription } from '../hub/subscription.ts'
import type { Begun, Slices } from './draft-fanout.ts'
import type { DraftRegistry, Stored } from './draft-registry.ts'

export const makeDraftCatchUp = ({
  registry,
  slices,
  load,
  merge,
  onError,
}: {
  registry: Pick<DraftRegistry, 'of' | 'forget'>
  slices: Pick<Slices, 'begin' | 'prime'>
  load: (topic: string) => Promise<Stored[]>
  merge: (stored: Stored) => void
  onError: (error: unknown) => void
}) => {
  // Reads of stored drafts, by followed chat.
  const reads = new Map<string, { over: boolean; done: Promise<void> }>()
  const read = (topic: string) => {
    const reading = {
      over: false,
      done: load(topic).then(
        (stored) => {
          if (reads.get(topic) === reading) stored.forEach(merge)
          reading.over = true
        },
        (error: unknown) => {
          onError(error)
          // The next follower reads again.
          if (reads.get(topic) === reading) reads.delete(topic)
        },
      ),
    }
    reads.set(topic, reading)
    return reading
  }

  /**
   * The chat's drafts. The text of a draft that is written here and was not published yet is left out: the next flush sends all of it. So is
   * such a draft without steps.
   */
  const begun = (topic: string): Begun[] =>
    registry.of(topic).flatMap((draft) => {
      const isPublished = !draft.writer || draft.sent > 0
      const offset = isPublished ? 0 : draft.text.length
      return isPublished || draft.activity.length > 0 ? [{ draft, offset }] : []
    })

  return {
    /** Sends a chat's new follower the text of the drafts so far, before any delta. */
    join(subscription: Subscription): void {
      const { topic } = subscription
      const known = reads.get(topic)
      if (known?.over) return slices.begin(subscription, begun(topic))
      const { done } = known ?? read(topic)
      void slices.prime(
        subscription,
        done.then(() => begun(topic)),
      )
    },

    /** The topic has no more followers here: drops the copies of its drafts. */
    left(topic: string): void {
      reads.delete(topic)
      for (const draft of registry.of(topic)) if (!draft.writer) registry.forget(draft)
    },
  }
}
