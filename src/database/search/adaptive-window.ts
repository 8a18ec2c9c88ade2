// A number of rows per statement that adapts to the statements' duration. So a scan is fast if rows are small, and its statements stay short
// if rows are large.

/** ms: the window grows after a statement faster than `quick`, and shrinks after one slower than `slow`. */
const quick = 40
const slow = 150

/** `first`, `least` and `most`: initial, minimum and maximum number of rows. */
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
    /** Sets the number of rows, within the bounds. */
    resize,
    /** Adapts to a statement that took `ms`. */
    took(ms: number): void {
      if (ms > slow) resize(rows >> 1)
      else if (ms < quick) resize(rows * 2)
    },
  }
}
