// Lanes: one queue per topic, for messages whose mission or head another transaction has locked, or whose topic has no head yet. A lane
// keeps its order: its first messages are sent again until the lock is acquired.
//
// If a topic's lock can't be acquired, the topic is held: it is only tried without waiting. From time to time it gets a turn, in which
// a call waits briefly for this topic alone. So no other topic waits behind it.
import type { Pending } from './pending-message.ts'

/** ms to wait for a lock; the same for a held topic. Postgres grants locks in order, so instances that write to one topic alternate. */
const laneWait = 50
const heldWait = 3
/** ms between two turns of a held topic; ms after which a topic without waiting messages is no longer held. */
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

    /** Returns the first messages of these lanes, at most a batch. They stay in their lanes until they are settled and released. */
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

    /**
     * Returns the topics whose locks the next call waits for, and for how many ms. These are up to `most` topics that are not held. If all are
     * held, it is one whose turn it is.
     */
    turn(most: number): { topics: string[]; wait: number } {
      const time = now()
      for (const [topic, next] of held) if (!lanes.has(topic) && next < time - heldMemory) held.delete(topic)
      const free = [...lanes.keys()].filter((topic) => !held.has(topic)).sort()
      if (free.length > 0) return { topics: free.slice(0, most), wait: laneWait }
      for (const [topic, next] of held) if (next < time && lanes.has(topic)) return { topics: [topic], wait: heldWait }
      return { topics: [], wait: heldWait }
    },

    /** Marks topics as held: a call waited for their locks in vain. */
    hold(topics: string[]): void {
      for (const topic of topics) held.set(topic, now() + heldFor)
    },

    /**
     * After a call with `batch` (from fronts(topics)): removes settled messages. Topics of the batch without `busy` messages are no longer
     * held. Returns the number of these topics.
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
