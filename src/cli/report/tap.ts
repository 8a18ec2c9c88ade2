// Reads TAP of tap, node:test and others while it arrives. Each assertion is a result. The line that ends a subtest repeats its
// assertions. It is a result only if the subtest has no assertions, or if it failed and none of them did.
// A name joins the subtests' names and the assertion's by " > ". `todo` and `skip` are skipped. A wrong plan, a bail-out, failures
// that are counted but not listed, and no tests at all fail the run.
import { Parser, type Result as Assertion } from 'tap-parser'
import { parseDocument, visit } from 'yaml'
import { clean, failuresOf, hasFailed, makeUnique, milliseconds, nameOf, type Report, type Result } from './results.ts'

type Leaf = Omit<Result, 'name'> & { path: string[] }

const isPath = (name: string): boolean => /\.[cm]?[jt]sx?$|\.\w{1,4}$/.test(name) && !/\s/.test(name)
const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))

// A number with more digits than a double holds, or with an exponent.
const longNumber = /\d[\d.]{14,}|\d[eE]/

/** Returns the diagnostics. Numbers that a double would round are replaced by their YAML text. */
const exact = (diag: unknown, yaml: string): unknown => {
  if (!diag || !longNumber.test(yaml)) return diag
  const document = parseDocument(yaml)
  visit(document, {
    Scalar(_key, node) {
      if (typeof node.value === 'number' && String(node.value) !== node.source) node.value = node.source
    },
  })
  return document.errors.length > 0 ? diag : document.toJS()
}

/** Returns the error text of a test's diagnostics: the message, the difference, then the stack. */
const errorOf = (diag: Record<string, unknown> | null): string => {
  if (!diag) return ''
  const named = ['error', 'message', 'diff', 'stack'].filter((name) => diag[name] !== undefined && diag[name] !== '')
  const compared = named.includes('diff') ? [] : ['expected', 'actual'].filter((name) => name in diag)
  return [...named.map((name) => textOf(diag[name])), ...compared.map((name) => `${name}: ${textOf(diag[name])}`)]
    .join('\n')
    .trim()
}

const toLeaf = (parents: string[], { name, id, ok, skip, todo, time, diag }: Assertion): Leaf => {
  const details = (diag ?? null) as Record<string, unknown> | null
  const status = skip || todo ? 'skipped' : ok ? 'passed' : 'failed'
  const at = details?.['at'] as { fileName?: unknown } | undefined
  const [first] = [...parents, name]
  const file = typeof at?.fileName === 'string' ? at.fileName : first && isPath(first) ? first : undefined
  const ms = time ?? (typeof details?.['duration_ms'] === 'number' ? details['duration_ms'] : undefined)
  const error = status === 'failed' ? errorOf(details) : ''
  return {
    path: [...parents, name === '' ? `#${id}` : name],
    status,
    ...(ms === undefined ? {} : { duration_ms: milliseconds(ms) }),
    ...(error === '' ? {} : { error: clean(error) }),
    ...(file === undefined ? {} : { file: clean(file) }),
  }
}

const toSkipped = (leaf: Leaf): Leaf => {
  const skipped: Leaf = { ...leaf, status: 'skipped' }
  delete skipped.error
  return skipped
}

/** Returns the faults of the TAP itself, such as a wrong plan. */
const faultsOf = ({ results }: Parser): string[] =>
  (results?.failures ?? []).flatMap(({ tapError }) => (tapError ? [String(tapError)] : []))

/** Collects the assertions of a parser and its subtests. Returns a function that returns those so far, in order. */
const gather = (parser: Parser, parents: string[]): (() => Leaf[]) => {
  const found: Leaf[] = []
  // The YAML of the newest diagnostics. The event also reports lines of subtests, indented by four more spaces.
  let yaml = ''
  let isYaml = false
  parser.on('line', (line: string) => {
    if (/^ {1,3}(---|\.\.\.)\n$/.test(line)) {
      isYaml = line.includes('---')
      if (isYaml) yaml = ''
    } else if (isYaml) yaml += line
  })
  let inner: { child: Parser; leaves: () => Leaf[] } | undefined
  parser.on('child', (child: Parser) => {
    // The previous subtest had no line that ended it.
    found.push(...(inner?.leaves() ?? []))
    inner = { child, leaves: gather(child, [...parents, child.name]) }
  })
  parser.on('assert', (assertion: Assertion) => {
    const ended = assertion.closingTestPoint ? inner : undefined
    if (ended) inner = undefined
    const own = toLeaf(parents, { ...assertion, diag: exact(assertion.diag, yaml) })
    const faults = ended ? faultsOf(ended.child) : []
    if (own.status === 'passed' && faults.length > 0) Object.assign(own, { status: 'failed', error: faults.join('; ') })
    // Failures in a todo or skipped subtest do not fail the run.
    const leaves = ended?.leaves() ?? []
    const kept = own.status === 'skipped' ? leaves.map(toSkipped) : leaves
    found.push(...kept)
    const isShown = own.status === 'failed' ? kept.some(({ status }) => status === 'failed') : kept.length > 0
    if (!isShown) found.push(own)
  })
  return () => [...found, ...(inner?.leaves() ?? [])]
}

export const makeTap = () => {
  const parser = new Parser()
  const leaves = gather(parser, [])
  let topMs = 0
  /** Failures that node:test and tape count in comments at the end. */
  let noted = 0
  parser.on('assert', ({ time }: Assertion) => {
    topMs += time ?? 0
    noted = 0
  })
  parser.on('comment', (comment: string) => (noted += failuresOf(comment.replace('#', ''))))
  return {
    write: (text: string): void => void parser.write(text),
    end(): Report {
      parser.end()
      const unique = makeUnique()
      const results = leaves().map(({ path, ...rest }): Result => {
        const suite = path.slice(0, -1).join(' > ')
        return {
          name: unique(clean(nameOf(suite, path.at(-1) ?? ''))),
          ...rest,
          ...(suite === '' ? {} : { suite: clean(suite) }),
        }
      })
      const final = parser.results
      const reasons = [
        ...(parser.syntheticPlan ? [results.length === 0 ? 'it contains no TAP' : 'it ends within a subtest'] : []),
        ...(final?.bailout ? [`bailed out: ${String(final.bailout)}`] : []),
        ...faultsOf(parser),
      ]
      const isSkipped = /^skip/i.test(final?.plan.skipReason ?? '')
      if (results.length === 0 && reasons.length === 0 && !isSkipped) reasons.push('it has no tests')
      if (noted > 0 && reasons.length === 0 && !hasFailed({ results }))
        reasons.push(`it counts ${noted} failures but lists 0`)
      // A failed run has a result that gives the reason.
      if (reasons.length > 0) results.push({ name: unique('TAP'), status: 'failed', error: clean(reasons.join('; ')) })
      return { results, duration_ms: final?.time ?? topMs }
    },
  }
}
