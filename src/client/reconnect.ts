// How long to wait before the next connect.
import { backoff } from './async.ts'

/**
 * The least seconds to wait after a close code, even if the server's goodbye allows less. 1007, 1009 and 4400 mean that this client
 * is at fault: an earlier try would fail again.
 */
const leastWait: Partial<Record<number, number>> = { 1007: 30, 1009: 30, 1013: 2, 4400: 30, 4408: 1, 4429: 5 }

export const makeReconnect = () => {
  let tries = 0
  let retryAfter = 0
  let notBefore = 0
  let openSince = 0
  return {
    opened: (): void => void (openSince = Date.now()),
    /** The server said how many seconds to wait. */
    goodbye: (seconds: unknown): void => void (retryAfter = Number(seconds) || 0),
    /** The connection was lost; `open`: after the welcome. Returns the ms to wait before the next connect. */
    wait(code: number, open: boolean): number {
      if (open && Date.now() - openSince > 5000) tries = 0
      // A client that connects and is closed at once retries soon, but with some backoff.
      else if (open) tries = Math.min(tries, 2)
      const least = Math.max(retryAfter, leastWait[code] ?? 0) * 1000
      retryAfter = 0
      notBefore = Date.now() + least
      return least + backoff(tries++)
    },
    /** Whether the client may connect now and skip the rest of the backoff: the server's wait is over. */
    allowed: (): boolean => Date.now() >= notBefore,
  }
}
