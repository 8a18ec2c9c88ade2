// A number of rows that follows the time of the statements that read them: a scan is fast where rows are small, and each of its
// statements stays short where they are large.

/** ms of a statement: the window grows after a faster one, and shrinks after a slower one. */
const quick = 40
const slow = 150

/** `first`, `least` and `most`: rows at the start, at least and at most. */
export const adaptiveWindow = ({ first, least, most }: { first: number; least: number; most: number }) => {
  let rows = first
  const resize = (wanted: number): void => {
    rows = Math.min(most, Math.max(least, wanted))
  }
  return {
    get rows(): number {
      return rows
    },
    get isLeast(): boolean {
      return rows === least
    },
    /** As many rows as wanted, within the bounds. */
    resize,
    /** Adapts to a statement that took `ms`. */
    took(ms: number): void {
      if (ms > slow) resize(rows >> 1)
      else if (ms < quick) resize(rows * 2)
    },
  }
}
