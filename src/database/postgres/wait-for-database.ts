// Waits at the start for an unreachable database, so that an instance does not exit during a failover: its supervisor would restart it with
// growing delays.
import { setTimeout as delay } from 'node:timers/promises'
import { meaningOf } from './errors.ts'

/** ms between two tries, and between two reports. */
const every = 500
const reportEvery = 10_000

/**
 * Retries `work` for up to `seconds` while the database is unavailable. `report` receives the error and the seconds that remain. Rejects
 * with the error of `work` if it has a different cause, the time is over or `over` returns true.
 */
export const patiently = async <T>(
  seconds: number,
  work: () => Promise<T>,
  report: (error: unknown, seconds: number) => void,
  over: () => boolean,
): Promise<T> => {
  const end = performance.now() + seconds * 1000
  for (let reportedAt = -Infinity; ;) {
    try {
      return await work()
    } catch (error) {
      const now = performance.now()
      if (meaningOf(error) === undefined || now > end || over()) throw error
      if (now - reportedAt >= reportEvery) {
        report(error, Math.ceil((end - now) / 1000))
        reportedAt = now
      }
      await delay(every)
    }
  }
}
