// How long to wait before the next connect.
import { backoff } from './async.ts'

/**
 * Seconds to wait at least after a close with a code, whatever the server's goodbye said. 1007, 1009 and 4400 mean that this client
 * is at fault, which an earlier try does not change.
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
    /** The connection was lost; `open`: after the welcome. Returns the ms to wait. */
    wait(code: number, open: boolean): number {
      if (open && Date.now() - openSince > 5000) tries = 0
      // A client that connects and is closed again comes back soon, but not at once each time.
      else if (open) tries = Math.min(tries, 2)
      const least = Math.max(retryAfter, leastWait[code] ?? 0) * 1000
      retryAfter = 0
      notBefore = Date.now() + least
      return least + backoff(tries++)
    },
    /** Whether the server allows to connect now, without the rest of the backoff. */
    allowed: (): boolean => Date.now() >= notBefore,
  }
}
