// The suites of a JUnit XML file: the counts in their attributes, and the counts of the cases that they list.
import { milliseconds } from './results.ts'

export type Attributes = Record<string, string>
/** An open <testsuites> or <testsuite>, and the counts of what it has listed so far, nested suites included. */
export type Suite = {
  tag: string
  attributes: Attributes
  ownMs: number
  cases: number
  failed: number
  skipped: number
  /** outcomes without a case, which some tools count as tests */
  more: number
}

/** Returns milliseconds for a time in seconds, which some tools write with commas. */
export const toMs = (time: string | undefined): number | undefined => {
  const seconds = Number(time?.replaceAll(',', '') || NaN)
  return Number.isFinite(seconds) && seconds >= 0 ? milliseconds(seconds * 1000) : undefined
}

/** Returns the sum of a suite's counts under these names; undefined if it has none, NaN if one is not a number. */
export const counted = (attributes: Attributes, ...names: string[]): number | undefined => {
  const given = names.flatMap((name) => attributes[name]?.trim() || []).map((text) => Number(text.replaceAll(',', '')))
  return given.length === 0 ? undefined : given.reduce((sum, count) => sum + count, 0)
}

export const openSuite = (tag: string, attributes: Attributes): Suite => ({
  tag,
  attributes,
  ownMs: 0,
  cases: 0,
  failed: 0,
  skipped: 0,
  more: 0,
})

/** Returns a suite's duration: its own attribute, or the sum of what it lists. */
export const suiteMs = ({ tag, attributes, ownMs }: Suite): number =>
  (tag === 'testsuite' ? toMs(attributes['time']) : undefined) ?? ownMs

/** Adds a closed suite to the suite around it. */
export const addSuite = (outer: Suite, suite: Suite): void => {
  outer.ownMs += suiteMs(suite)
  outer.cases += suite.cases
  outer.failed += suite.failed
  outer.skipped += suite.skipped
  outer.more += suite.more
}

/**
 * Returns a fault if a suite counts outcomes that it does not list; the enclosing suite then counts them as listed. A lower count is
 * not a fault: node:test counts the direct members of a suite, Surefire those of the last run.
 */
export const unlistedOf = (suite: Suite, comparesTests: boolean): string | undefined => {
  const { attributes, cases, failed, skipped, more } = suite
  const bad = counted(attributes, 'failures', 'errors') ?? 0
  const idle = Math.max(0, counted(attributes, 'skipped', 'skip', 'skips', 'ignored', 'disabled') || 0)
  // Catch2 and doctest count assertions.
  const countsTests = attributes['hostname'] !== 'tbd' && attributes['doctest_version'] === undefined
  const tests = comparesTests && countsTests ? counted(attributes, 'tests') : undefined
  // libtest counts skipped tests without a case.
  const unlisted = Math.max(0, (tests ?? cases) - cases)
  const explained = Math.max(0, idle - skipped) + more
  suite.cases = Math.max(cases, tests || 0)
  suite.failed = Math.max(failed, bad || 0)
  suite.skipped = Math.max(skipped, idle)
  const faults = [
    ...(unlisted > explained || Number.isNaN(tests) ? [`${attributes['tests']} tests but lists ${cases}`] : []),
    ...(bad > failed || Number.isNaN(bad)
      ? [`${attributes['failures'] ?? 0} failures and ${attributes['errors'] ?? 0} errors but lists ${failed}`]
      : []),
    ...(idle - skipped > unlisted ? [`${idle} skipped tests but lists ${skipped}`] : []),
  ]
  return faults.length > 0 ? `the report counts ${faults.join(', ')}` : undefined
}
