// Claims of drafts between instances. When a claim commits, the database notifies the other instances. The notification may be forged,
// so the stored generation decides whether a draft that is written here was taken over.
import type { DraftName } from './draft-fanout.ts'
import type { DraftRegistry } from './draft-registry.ts'

/** The first character of a claim's notification, "!instance topic key". */
export const claimMark = '!'

export const makeClaims =
  ({
    origin,
    registry,
    generation,
    onError,
  }: {
    /** this instance's name: its own notifications are ignored */
    origin: string
    registry: Pick<DraftRegistry, 'find' | 'overtake'>
    generation: (name: DraftName) => Promise<number>
    onError: (error: unknown) => void
  }) =>
  /** Takes a notification. Returns true if it is of a claim. */
  (payload: string): boolean => {
    if (!payload.startsWith(claimMark)) return false
    const [, from, topic, key] = /^!(\S+) (\S+) ([^]+)$/.exec(payload) ?? []
    const draft =
      topic !== undefined && key !== undefined && from !== origin ? registry.find({ topic, key }) : undefined
    if (draft?.writer)
      generation(draft).then((stored) => {
        if (draft.writer && stored > draft.generation) registry.overtake(draft)
      }, onError)
    return true
  }
