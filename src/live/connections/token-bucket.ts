// A token bucket: so many at once, and so many a second for long; infinitely many are never counted. Time (ms) comes in as
// an argument.

export type Bucket = {
  /** Takes one; false if none was left. */
  take(now: number): boolean
  /** Whether more than half of what may be had at once is used up. */
  low(now: number): boolean
}

export const makeBucket = (perSecond: number, burst: number, now: number): Bucket => {
  if (burst === Infinity) return { take: () => true, low: () => false }
  let left = burst
  let filledAt = now
  const fill = (now: number): void => {
    left = Math.min(burst, left + ((now - filledAt) / 1000) * perSecond)
    filledAt = now
  }
  return {
    take(now) {
      fill(now)
      if (left < 1) return false
      left--
      return true
    },
    low(now) {
      fill(now)
      return left < burst / 2
    },
  }
}
