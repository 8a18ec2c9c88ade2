// The message rate of a user: all sockets and requests of one sub together. Citizens, admins and SQL writers are not limited: they
// are programs, and reply as fast as they can.
import type { Actor } from '../../access/actor.ts'
import { deny } from '../../protocol/errors.ts'
import { makeBucket } from './token-bucket.ts'
import { bySubject } from './by-subject.ts'

export type UserRate = {
  /** Counts one message of the actor. Throws `rate_limited` with the seconds until the next message is allowed. */
  take(actor: Actor): void
}

export const makeUserRate = (perSecond: number, burst: number): UserRate => {
  const bucketOf = bySubject(() => makeBucket(perSecond, burst, performance.now()))
  return {
    take({ role, sub }) {
      if (role !== 'user' || burst === Infinity) return
      if (!bucketOf(sub).take(performance.now()))
        throw deny('rate_limited', 'too many messages of this user', { retry_after: Math.ceil(10 / perSecond) / 10 })
    },
  }
}
