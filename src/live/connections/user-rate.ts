// How fast a person may send: all sockets and requests of one user's sub together. Citizens, admins and SQL writers are not counted: they
// are machines, and reply as fast as they can.
import type { Actor } from '../../access/actor.ts'
import { deny } from '../../protocol/errors.ts'
import { makeBucket } from './token-bucket.ts'
import { bySubject } from './by-subject.ts'

export type UserRate = {
  /** Counts a message of the actor's. Throws `rate_limited`, with the seconds after which one more may be sent. */
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
