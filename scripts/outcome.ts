// How a run of tap ended, from its own totals: "# { total: 5, pass: 3, fail: 1, skip: 1 }", in which members that are 0 are missing.

/** Returns the counts of the last totals; none at all if no test ran. */
export const outcomeOf = (lines: readonly string[]): { passed: number; failed: number } => {
  const totals = lines.findLast((line) => /^ *# \{ total: \d+/.test(line)) ?? ''
  const count = (name: string): number => Number(new RegExp(`[{,] ${name}: (\\d+)`).exec(totals)?.[1] ?? 0)
  return { passed: count('pass'), failed: count('fail') }
}
