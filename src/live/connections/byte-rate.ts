// How many bytes one subject may send, over its sockets and in the bodies of its requests: beyond its rate neither is read for a while,
// so that TCP slows the sender down. Nothing is refused. Parsing costs the instance as much as writing.

export type Inflow = {
  /**
   * Counts a frame or a body. Returns the ms for which nothing more must be read; 0 while the subject is within its rate.
   * A negative number gives back what was counted too much.
   */
  take(bytes: number, now: number): number
}

/** `perSecond` and `burst` in bytes. */
export const makeInflow = (perSecond: number, burst: number): Inflow => {
  if (perSecond === Infinity) return { take: () => 0 }
  const perMs = perSecond / 1000
  // The time at which all bytes so far are within the rate.
  let paidAt = -Infinity
  return {
    take(bytes, now) {
      paidAt = Math.max(paidAt, now - burst / perMs) + bytes / perMs
      return Math.max(0, paidAt - now)
    },
  }
}
