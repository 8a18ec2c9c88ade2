// Waiting for a database that is away at a start: a failover is no reason for an instance to exit, and to be restarted ever more slowly.
import { setTimeout as delay } from 'node:timers/promises'
import { meaningOf } from './errors.ts'

/** ms between two tries, and between two words about it. */
const every = 500
const toldEvery = 10_000

/** Tries `work` until it succeeds, for up to so many seconds, as long as it fails by the state of the database. */
export const patiently = async <T>(
  seconds: number,
  work: () => Promise<T>,
  tell: (error: unknown, seconds: number) => void,
  over: () => boolean,
): Promise<T> => {
  const end = performance.now() + seconds * 1000
  for (let toldAt = -Infinity; ;) {
    try {
      return await work()
    } catch (error) {
      const now = performance.now()
      if (meaningOf(error) === undefined || now > end || over()) throw error
      if (now - toldAt >= toldEvery) {
        tell(error, Math.ceil((end - now) / 1000))
        toldAt = now
      }
      await delay(every)
    }
  }
}
