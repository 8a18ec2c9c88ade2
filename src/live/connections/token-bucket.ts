// A token bucket with a burst and a sustained rate a second. An infinite burst is not counted. The time (ms) is an argument.

export type Bucket = {
  /** Takes one token. Returns false if the bucket is empty. */
  take(now: number): boolean
  /** Returns whether more than half of the burst is used up. */
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
