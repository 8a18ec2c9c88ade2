// Messages whose mission or head another transaction has locked (or whose topic has no head yet), each topic's in a lane of its own. A lane
// keeps its order: its front is sent again until its lock comes. A topic whose lock did not come is held: it is only checked for a
// while, then waited for briefly and alone, so that no other topic waits behind it.
import type { Pending } from './pending-message.ts'

/** ms to wait in the queue of a lock, which is fair between instances that write to one topic; the same for a held topic. */
const laneWait = 50
const heldWait = 3
/** ms between two turns of a held topic; ms that a topic stays held without a lane, should more of its messages come. */
const heldFor = 500
const heldMemory = 30_000

export type LaneEntry = Pick<Pending, 'bytes' | 'settled'> & { entry: { topic: string } }

/** `limits`: messages and bytes of a batch; `now`: ms. */
export const makeTopicLanes = <T extends LaneEntry>(
  limits: { batch: number; batchBytes: number },
  now: () => number = () => performance.now(),
) => {
  // By topic; the first message is next.
  const lanes = new Map<string, T[]>()
  // Held topics, and when each has its next turn.
  const held = new Map<string, number>()

  return {
    get size(): number {
      return lanes.size
    },
    has: (topic: string): boolean => lanes.has(topic),
    isHeld: (topic: string): boolean => held.has(topic),
    topics: (): string[] => [...lanes.keys()],
    /** How many lanes wait for a held topic. */
    heldLanes: (): number => [...held.keys()].filter((topic) => lanes.has(topic)).length,

    push(message: T): void {
      const { topic } = message.entry
      const lane = lanes.get(topic)
      if (lane) lane.push(message)
      else lanes.set(topic, [message])
    },

    /** The next messages of some lanes, up to a batch. They stay in their lanes until they are settled and released. */
    fronts(topics: string[]): T[] {
      const batch: T[] = []
      let bytes = 0
      for (const topic of topics)
        for (const message of lanes.get(topic) ?? []) {
          if (message.settled) continue
          if (batch.length === limits.batch || (batch.length > 0 && bytes + message.bytes > limits.batchBytes))
            return batch
          bytes += message.bytes
          batch.push(message)
        }
      return batch
    },

    /** What waits for its locks next, and for how long: up to `most` topics that are not held, else one that is, when it has its turn. */
    turn(most: number): { topics: string[]; wait: number } {
      const time = now()
      for (const [topic, next] of held) if (!lanes.has(topic) && next < time - heldMemory) held.delete(topic)
      const free = [...lanes.keys()].filter((topic) => !held.has(topic)).sort()
      if (free.length > 0) return { topics: free.slice(0, most), wait: laneWait }
      for (const [topic, next] of held) if (next < time && lanes.has(topic)) return { topics: [topic], wait: heldWait }
      return { topics: [], wait: heldWait }
    },

    /** The locks of these topics did not come. */
    hold(topics: string[]): void {
      for (const topic of topics) held.set(topic, now() + heldFor)
    },

    /**
     * After a call with `batch`, the fronts of `topics`: removes what is settled. Topics of the batch that are not `busy` are held no
     * longer. Returns how many these are.
     */
    release(topics: string[], batch: T[], busy: T[]): number {
      for (const topic of topics) {
        const lane = (lanes.get(topic) ?? []).filter(({ settled }) => !settled)
        if (lane.length === 0) lanes.delete(topic)
        else lanes.set(topic, lane)
      }
      const moved = new Set(batch.map(({ entry }) => entry.topic))
      for (const { entry } of busy) moved.delete(entry.topic)
      for (const topic of moved) held.delete(topic)
      return moved.size
    },
  }
}
