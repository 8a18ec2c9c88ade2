// Reads a test run's summary and results, whose shape the runner chose. Known sums are `passed` and `failed`, or `functional_passed`
// and `functional_total`. Known members of a result are a name, a status and an error. Other values are shown unchanged.
import type { TestRun } from '../client/index.ts'

export type Sum = { name: string; passed: number; total: number }
export type Result = { name: string; ok: boolean; skipped: boolean; status: string; error: string; figures: string[] }

const number = (value: unknown): number | undefined =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined
const words = (name: string): string => name.replaceAll('_', ' ')
/** `duration_ms: 12` as duration, 12 ms. */
const figure = (name: string, value: unknown): [string, string] => {
  const [, what = name, unit] = /^(.+)_(ms|s|kb|mb)$/i.exec(name) ?? []
  return [words(what), unit ? `${text(value)} ${unit}` : text(value)]
}

export const sumsOf = (summary: TestRun['summary']): Sum[] => {
  if (!summary) return []
  const sums = Object.keys(summary).flatMap((key): Sum[] => {
    const kind = /^(.*?)_?passed$/.exec(key)?.[1]
    if (kind === undefined) return []
    const of = (name: string): number | undefined => number(summary[kind ? `${kind}_${name}` : name])
    const passed = of('passed') ?? 0
    const total = of('total') ?? passed + (of('failed') ?? 0) + (of('skipped') ?? 0)
    return [{ name: words(kind) || 'tests', passed, total }]
  })
  return sums
}

/** Why a run failed, in a sentence; '' if its summary says nothing. */
export const reasonOf = (summary: TestRun['summary']): string => text(summary?.['reason'])

/** Returns the other values of a summary. */
export const figuresOf = (summary: TestRun['summary']): [string, string][] =>
  Object.entries(summary ?? {})
    .filter(([key]) => !/(^|_)(passed|failed|total)$|^reason$/.test(key))
    .map(([key, value]) => figure(key, value))

const skipped = new Set(['skipped', 'skip', 'todo', 'pending', 'disabled'])
const good = new Set(['passed', 'pass', 'ok', 'success', ...skipped])
const text = (value: unknown): string =>
  typeof value === 'string' ? value : value == null ? '' : JSON.stringify(value, null, 2)

const resultOf = (given: unknown, n: number): Result => {
  if (typeof given !== 'object' || given === null)
    return { name: text(given), ok: true, skipped: false, status: '', error: '', figures: [] }
  const { name, test, title, status, passed, ok, error, message, expected, actual, ...more } = given as Record<
    string,
    unknown
  >
  const outcome =
    text(status) || (passed === true || ok === true ? 'passed' : passed === false || ok === false ? 'failed' : '')
  const differs =
    expected !== undefined || actual !== undefined ? `expected ${text(expected)}\nactual   ${text(actual)}` : ''
  return {
    name: text(name) || text(test) || text(title) || `test ${n + 1}`,
    skipped: skipped.has(outcome.toLowerCase()),
    ok: outcome === '' ? error == null : good.has(outcome.toLowerCase()),
    status: outcome,
    error: [text(error), text(message), differs].filter(Boolean).join('\n'),
    figures: Object.entries(more).map(([key, value]) => figure(key, value).join(' ')),
  }
}

/** Returns the results, failed ones first. */
export const resultsOf = (run: TestRun): Result[] =>
  (run.results ?? []).map(resultOf).sort((a, b) => Number(a.ok) - Number(b.ok))
