// The rate of bytes that one subject may send, over its sockets and in request bodies. Above the rate, neither is read for a while, so
// that TCP slows the sender down. Nothing is refused. Parsing costs the instance as much as writing.

export type Inflow = {
  /**
   * Counts the bytes of a frame or body. Returns the ms for which nothing more may be read; 0 while the subject is within its rate.
   * Negative `bytes` correct an earlier count that was too high.
   */
  take(bytes: number, now: number): number
}

/** `perSecond` and `burst` in bytes. */
export const makeInflow = (perSecond: number, burst: number): Inflow => {
  if (perSecond === Infinity) return { take: () => 0 }
  const perMs = perSecond / 1000
  // The time at which all bytes counted so far are within the rate.
  let paidAt = -Infinity
  return {
    take(bytes, now) {
      paidAt = Math.max(paidAt, now - burst / perMs) + bytes / perMs
      return Math.max(0, paidAt - now)
    },
  }
}
