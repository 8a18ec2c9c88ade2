// How fast a person may send: all sockets and requests of one user's sub together. Citizens, admins and SQL writers are not counted: they
// are machines, and reply as fast as they can.
import type { Actor } from '../access/actor.ts'
import { deny } from '../protocol/errors.ts'
import { makeBucket, type Bucket } from './bucket.ts'

/** Users kept in memory; the one that sent longest ago is dropped first. */
const most = 10_000

export type UserRate = {
  /** Counts a message of the actor's. Throws `rate_limited`, with the seconds after which one more may be sent. */
  take(actor: Actor): void
}

export const makeUserRate = (perSecond: number, burst: number): UserRate => {
  const buckets = new Map<string, Bucket>()
  return {
    take({ role, sub }) {
      if (role !== 'user' || burst === Infinity) return
      const now = performance.now()
      const bucket = buckets.get(sub) ?? makeBucket(perSecond, burst, now)
      // The last to have sent is the last in the map.
      buckets.delete(sub)
      if (buckets.size >= most) for (const oldest of buckets.keys()) if (buckets.delete(oldest)) break
      buckets.set(sub, bucket)
      if (!bucket.take(now))
        throw deny('rate_limited', 'too many messages of this user', { retry_after: Math.ceil(10 / perSecond) / 10 })
    },
  }
}
