// Waits for a topic's next event, for requests over HTTP that answer once something has changed. A wait is a subscription to the hub: it
// holds no connection of the pool, and an event is read once for all.
import type { Actor } from '../../access/actor.ts'
import type { MissionRights } from '../../protocol/rows.ts'
import type { Hub } from './hub.ts'
import type { Receiver } from './subscription.ts'

/** The topic's rights and latest seq, read at `asOf` (performance.now). */
type Place = { rights: MissionRights; head: number; asOf: number }

/** Resolves after the topic's next event, once the actor may not read it any more, or when the signal is aborted. Never rejects. */
export const nextEvent = (
  hub: Pick<Hub, 'join' | 'leave'>,
  actor: Actor,
  topic: string,
  place: Place,
  signal: AbortSignal,
): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const over = (): void => {
      signal.removeEventListener('abort', over)
      // (The hub may send before `join` returns.)
      queueMicrotask(() => hub.leave(subscription))
      resolve()
    }
    const receiver: Receiver = {
      actor,
      form: 'events',
      send: () => {
        over()
        return true
      },
      fits: () => true,
      drained: () => Promise.resolve(),
      ended: over,
    }
    signal.addEventListener('abort', over)
    const subscription = hub.join(receiver, topic, place, place.head)
  })
