// The result of a tap run, from its totals: "# { total: 5, pass: 3, fail: 1, skip: 1 }". Members that are 0 are missing.

/** Returns the counts of the last totals; both are 0 if no test ran. */
export const outcomeOf = (lines: readonly string[]): { passed: number; failed: number } => {
  const totals = lines.findLast((line) => /^ *# \{ total: \d+/.test(line)) ?? ''
  const count = (name: string): number => Number(new RegExp(`[{,] ${name}: (\\d+)`).exec(totals)?.[1] ?? 0)
  return { passed: count('pass'), failed: count('fail') }
}
