// How many bytes the sockets of one subject may send: beyond its rate a socket is not read for a while, so that TCP slows its sender down.
// Nothing is refused. Parsing frames costs the instance as much as writing them.

export type Inflow = {
  /** Counts a frame. Returns the ms for which its socket must not be read; 0 while the subject is within its rate. */
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
