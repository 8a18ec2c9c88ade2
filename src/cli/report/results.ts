// Test results in the form that runs have, independent of the tool. Names are the same in every run, so that runs can be compared,
// and the results fit into a run.
import { clean } from '../../client/run-log.ts'
import { deny } from '../../protocol/errors.ts'

export { clean }

export type Result = {
  /** the suite and the test, joined by " > "; a repeated name ends in " (2)" */
  name: string
  status: 'passed' | 'failed' | 'skipped'
  duration_ms?: number
  error?: string
  suite?: string
  file?: string
}
export type Summary = { passed: number; failed: number; skipped: number; total: number; duration_ms: number }
export type Report = { results: Result[]; duration_ms: number }
export const hasFailed = ({ results }: Pick<Report, 'results'>): boolean =>
  results.some(({ status }) => status === 'failed')

/** A run's results may have 1 MiB as Postgres's JSON text, which has a space after each colon and comma. */
const mostBytes = 1024 * 1024
/** UTF-16 code units kept of an error. If the results are too large, fewer are kept. */
export const mostOfError = 16_384
const shorter = [mostOfError, 4096, 1024, 256, 80, 0]

export const milliseconds = (value: number): number => Math.round(value * 1000) / 1000

/** A test's name under its suite. */
export const nameOf = (suite: string, test: string): string =>
  suite === '' || suite === test ? test : test === '' ? suite : `${suite} > ${test}`

/** Returns a function that makes names unique: the first use keeps the name, later ones get a number. */
export const makeUnique = (): ((name: string) => string) => {
  const seen = new Map<string, number>()
  return (name) => {
    for (;;) {
      const count = (seen.get(name) ?? 0) + 1
      seen.set(name, count)
      if (count === 1) return name
      const numbered = `${name} (${count})`
      if (!seen.has(numbered)) {
        seen.set(numbered, 1)
        return numbered
      }
    }
  }
}

/** The failures that a line of node:test's or tape's totals counts, such as `fail 2`. */
export const failuresOf = (comment: string): number =>
  Number(/^\s*(?:fail|cancelled)\s+(\d+)\s*$/.exec(comment)?.[1] ?? 0)

export const summaryOf = ({ results, duration_ms }: Report): Summary => {
  const count = (status: Result['status']): number => results.filter((result) => result.status === status).length
  return {
    passed: count('passed'),
    failed: count('failed'),
    skipped: count('skipped'),
    total: results.length,
    duration_ms: milliseconds(duration_ms),
  }
}

const cut = (text: string, length: number): string =>
  text.length <= length ? text : `${text.slice(0, length).toWellFormed()}… (${text.length - length} more)`

const bytesOf = (results: Result[]): number =>
  results.reduce((sum, one) => sum + Buffer.byteLength(JSON.stringify(one)) + 2 * Object.keys(one).length + 2, 2)

/** Shortens errors, but not names, until the results fit into a run. Throws `too_large` if they never do. */
export const fit = (results: Result[]): { results: Result[]; shortened: boolean } => {
  for (const length of shorter) {
    const fitting = results.map(({ error, ...result }) =>
      error === undefined || length === 0 ? result : { ...result, error: cut(error, length) },
    )
    if (bytesOf(fitting) <= mostBytes) return { results: fitting, shortened: length !== mostOfError }
  }
  throw deny(
    'too_large',
    `the results of ${results.length} tests are over 1 MiB even without their errors: report them as several runs`,
  )
}
