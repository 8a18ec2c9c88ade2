// TAP, as tap, node:test and others write it, read while it comes. An assertion is a result; a subtest's own line, which only repeats
// what is in it, is one where nothing else says that it failed, or where there is nothing in it.
// Names: the subtests' and the assertion's, joined by " > ". `todo` and `skip` are skipped; a plan that is not kept, a bail-out, totals that
// count failures without one, and no tests at all fail the run.
import { Parser, type Result as Assertion } from 'tap-parser'
import { parseDocument, visit } from 'yaml'
import { clean, failuresOf, hasFailed, makeUnique, milliseconds, nameOf, type Report, type Result } from './results.ts'

type Leaf = Omit<Result, 'name'> & { path: string[] }

const isPath = (name: string): boolean => /\.[cm]?[jt]sx?$|\.\w{1,4}$/.test(name) && !/\s/.test(name)
const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))

// A number of more digits than a double has, or with an exponent.
const longNumber = /\d[\d.]{14,}|\d[eE]/

/** Diagnostics whose numbers, where a double would round them, are the text that their YAML has. */
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

/** What a test's diagnostics say of its failure: what went wrong, then where. */
const errorOf = (diag: Record<string, unknown> | null): string => {
  if (!diag) return ''
  const named = ['error', 'message', 'diff', 'stack'].filter((name) => diag[name] !== undefined && diag[name] !== '')
  const compared = named.includes('diff') ? [] : ['expected', 'actual'].filter((name) => name in diag)
  return [...named.map((name) => textOf(diag[name])), ...compared.map((name) => `${name}: ${textOf(diag[name])}`)]
    .join('\n')
    .trim()
}

const toLeaf = (parents: string[], { name, id, ok, skip, todo, time, diag }: Assertion): Leaf => {
  const told = (diag ?? null) as Record<string, unknown> | null
  const status = skip || todo ? 'skipped' : ok ? 'passed' : 'failed'
  const at = told?.['at'] as { fileName?: unknown } | undefined
  const [first] = [...parents, name]
  const file = typeof at?.fileName === 'string' ? at.fileName : first && isPath(first) ? first : undefined
  const ms = time ?? (typeof told?.['duration_ms'] === 'number' ? told['duration_ms'] : undefined)
  const error = status === 'failed' ? errorOf(told) : ''
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

/** What a parser found wrong with the TAP itself. */
const faultsOf = ({ results }: Parser): string[] =>
  (results?.failures ?? []).flatMap(({ tapError }) => (tapError ? [String(tapError)] : []))

/** Gathers the assertions of a parser and of its subtests; -> those so far, in order. */
const gather = (parser: Parser, parents: string[]): (() => Leaf[]) => {
  const found: Leaf[] = []
  // The YAML of the newest diagnostics; lines of subtests come here, too, indented by four spaces more.
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
    // One that its own line never ended.
    found.push(...(inner?.leaves() ?? []))
    inner = { child, leaves: gather(child, [...parents, child.name]) }
  })
  parser.on('assert', (assertion: Assertion) => {
    const ended = assertion.closingTestPoint ? inner : undefined
    if (ended) inner = undefined
    const own = toLeaf(parents, { ...assertion, diag: exact(assertion.diag, yaml) })
    const faults = ended ? faultsOf(ended.child) : []
    if (own.status === 'passed' && faults.length > 0) Object.assign(own, { status: 'failed', error: faults.join('; ') })
    // What fails in a subtest that is to do fails nothing.
    const leaves = ended?.leaves() ?? []
    const kept = own.status === 'skipped' ? leaves.map(toSkipped) : leaves
    found.push(...kept)
    const told = own.status === 'failed' ? kept.some(({ status }) => status === 'failed') : kept.length > 0
    if (!told) found.push(own)
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
        ...(parser.syntheticPlan ? [results.length === 0 ? 'there is no TAP in it' : 'it ends within a subtest'] : []),
        ...(final?.bailout ? [`bailed out: ${String(final.bailout)}`] : []),
        ...faultsOf(parser),
      ]
      const isSkipped = /^skip/i.test(final?.plan.skipReason ?? '')
      if (results.length === 0 && reasons.length === 0 && !isSkipped) reasons.push('it has no tests')
      if (noted > 0 && reasons.length === 0 && !hasFailed({ results }))
        reasons.push(`it counts ${noted} failures but lists 0`)
      // A run that failed says why.
      if (reasons.length > 0) results.push({ name: unique('TAP'), status: 'failed', error: clean(reasons.join('; ')) })
      return { results, duration_ms: final?.time ?? topMs }
    },
  }
}
