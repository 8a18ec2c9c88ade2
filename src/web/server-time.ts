// The server's time. What the server says bounds it: a state that has begun is past, a lease that holds ends later. The machine's own clock
// counts as right as long as it is within these bounds.
let skew = 0

/** Returns the server's time in ms. */
export const serverNow = (): number => Date.now() + skew

/** Call with times that the server has just sent: `past` is not later than its time, `future` is later. */
export const boundServerTime = (past: string | null, future: string | null = null): void => {
  const now = Date.now()
  if (past !== null) skew = Math.max(skew, Date.parse(past) - now)
  if (future !== null) skew = Math.min(skew, Date.parse(future) - now)
}
