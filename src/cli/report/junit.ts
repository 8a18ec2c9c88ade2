// Reads JUnit XML of pytest, jest-junit, Maven Surefire, go-junit-report, node:test and others. It is parsed as a stream, so memory does
// not grow with the file. An entity that a file declares is an error; nothing is fetched.
// A test's name is `classname > name`. In nested suites (node:test), and without a class name, the path of suites replaces it.
// A case passes unless it states another outcome. So outcomes that are counted but not listed, and a file without cases, are failed results.
import { SaxesParser, type SaxesTagPlain } from 'saxes'
import { deny } from '../../protocol/errors.ts'
import { decodedXml } from './decode.ts'
import { clean, failuresOf, makeUnique, mostOfError, nameOf, type Report, type Result } from './results.ts'
import { addSuite, counted, openSuite, suiteMs, toMs, unlistedOf, type Attributes, type Suite } from './junit-suites.ts'
import { isHarmless, makeRepair, makeSkip } from './xml.ts'

type Case = {
  attributes: Attributes
  status: Result['status']
  /** the attribute that made it fail */
  reason: string
  /** the texts of its elements */
  failures: string[]
  reruns: string[]
  hasError: boolean
  /** its failure does not fail the run */
  isTodo: boolean
}

const mostDepth = 100

/** Values of a case's attributes `status` and `result` in several tools. Other values are failures. */
const words = new Map<string, Result['status']>([
  ...'run ran pass passed ok success successful succeeded completed complete done executed finished fixed'
    .split(' ')
    .map((word) => [word, 'passed'] as const),
  ...'notrun not_run skip skipped disabled ignored pending suppressed filtered inconclusive notexecuted untested todo xfail'
    .split(' ')
    .map((word) => [word, 'skipped'] as const),
])

/** Returns a case from its attributes, before its child elements are read. */
const caseOf = (attributes: Attributes): Case => {
  let status: Result['status'] = 'passed'
  let reason = ''
  for (const name of ['status', 'result']) {
    const value = attributes[name]?.trim()
    const means = value ? (words.get(value.toLowerCase()) ?? 'failed') : 'passed'
    if (means === 'failed') reason ||= `${name}: ${value}`
    if (status !== 'failed' && means !== 'passed') status = means
  }
  return { attributes, status, reason, failures: [], reruns: [], hasError: false, isTodo: false }
}

/**
 * Returns a reader of files, one after the other. `onLog` gets the output of tests. `comparesTests`: a suite that counts more tests
 * than it lists is a failure.
 */
export const makeJunit = (onLog: (text: string) => void, comparesTests = true) => {
  const results: Result[] = []
  const unique = makeUnique()
  let duration = 0
  const fail = (name: string, error: string): void =>
    void results.push({ name: unique(clean(name)), status: 'failed', error: clean(error) })

  const read = async (name: string, source: AsyncIterable<Uint8Array>): Promise<void> => {
    const parser = new SaxesParser()
    const fault = (text: string): Error => deny('bad_request', `${name} is not JUnit XML: ${text}`)
    const first = results.length
    const levels: Suite[] = []
    let depth = 0
    let one: Case | undefined
    /** The text of the open <failure> or <error>, up to the kept length; else undefined. */
    let text: string | undefined
    let isPrinting = false
    let endsLine = true
    let hasDoctype = false
    /** Whether a suite states that it has 0 tests. */
    let isEmpty = false
    /** Failures that node:test counts in comments at the end. */
    let noted = 0

    const path = (): string[] =>
      levels.flatMap(({ tag, attributes }) => (tag === 'testsuite' && attributes['name']) || [])

    const end = ({ attributes, status, reason, failures, reruns, hasError, isTodo }: Case, isCase: boolean): void => {
      const { time } = attributes
      // node:test writes the same class name for all cases.
      const classname = attributes['classname'] === 'test' ? '' : (attributes['classname'] ?? '')
      const names = path()
      const suite = names.length > 1 || classname === '' ? names.join(' > ') : classname
      const ms = toMs(time)
      const file = attributes['file'] || levels.findLast(({ attributes }) => attributes['file'])?.attributes['file']
      // A case with reruns but without a final result has failed.
      const hasFailed = status === 'failed' || (status === 'passed' && reruns.length > 0)
      const found = !hasFailed ? status : isTodo ? 'skipped' : 'failed'
      const texts = failures.length > 0 ? failures : status === 'failed' ? [reason] : reruns
      const error = found === 'failed' ? texts.join('\n').trim() : ''
      const level = levels.at(-1)
      if (level) {
        level.ownMs += ms ?? 0
        level.cases += isCase ? 1 : 0
        level.failed += Math.max(failures.length, found === 'failed' ? 1 : 0)
        level.skipped += found === 'skipped' ? 1 : 0
        // pytest counts a passed test and its later error as two tests, and each failed subtest as one.
        level.more += isCase && !hasError && failures.length < 2 ? 0 : failures.length
      }
      results.push({
        name: unique(clean(nameOf(suite, attributes['name'] ?? ''))),
        status: found,
        ...(ms === undefined ? {} : { duration_ms: ms }),
        ...(error === '' ? {} : { error: clean(error) }),
        ...(suite === '' ? {} : { suite: clean(suite) }),
        ...(file ? { file: clean(file) } : {}),
      })
    }
    const open = ({ name: tag, attributes }: SaxesTagPlain): void => {
      const { name = '', message = '' } = attributes
      const isSuite = tag === 'testsuites' || tag === 'testsuite'
      if (depth === 0 && !isSuite) throw fault(`it begins with <${tag}>`)
      if (++depth > mostDepth) throw fault('its elements are nested too deep')
      if (isSuite) {
        levels.push(openSuite(tag, attributes))
        isEmpty ||= counted(attributes, 'tests') === 0
      } else if (tag === 'testcase') one = caseOf(attributes)
      else if (tag === 'failure' || tag === 'error') {
        // A suite can fail without a case, as when its setup fails.
        one ??= caseOf({ name: '', ...(path().length > 0 ? {} : { name }) })
        one.status = 'failed'
        one.hasError ||= tag === 'error'
        one.failures.push(message)
        text = ''
      } else if (tag === 'rerunFailure' || tag === 'rerunError') one?.reruns.push(message)
      else if (tag === 'skipped' || tag === 'ignored') {
        if (one?.status === 'passed') one.status = 'skipped'
        // node:test: a todo test that fails does not fail the run.
        if (one && attributes['type'] === 'todo') one.isTodo = true
      } else if (tag === 'system-out' || tag === 'system-err') {
        isPrinting = true
        const where = one ? nameOf(one.attributes['classname'] ?? '', one.attributes['name'] ?? '') : path().at(-1)
        onLog(`--- ${where || name || tag} (${tag === 'system-out' ? 'stdout' : 'stderr'})\n`)
      }
    }
    const close = ({ name: tag }: SaxesTagPlain): void => {
      depth--
      if ((tag === 'failure' || tag === 'error') && one) {
        const details = text?.trim() ?? ''
        const message = one.failures.pop()?.trim() ?? ''
        // Most tools repeat the message before the trace.
        one.failures.push(details.startsWith(message) ? details : [message, details].filter(Boolean).join('\n'))
        text = undefined
        if (depth === levels.length) {
          end(one, false)
          one = undefined
        }
      } else if (tag === 'testcase' && one) {
        end(one, true)
        one = undefined
      } else if (tag === 'testsuite' || tag === 'testsuites') {
        const level = levels.at(-1)
        if (!level) return
        const fault = unlistedOf(level, comparesTests)
        if (fault) fail([...path(), 'JUnit'].join(' > '), fault)
        levels.pop()
        const outer = levels.at(-1)
        if (outer) addSuite(outer, level)
        else duration += suiteMs(level)
      } else if (tag === 'system-out' || tag === 'system-err') {
        if (!endsLine) onLog('\n')
        isPrinting = false
        endsLine = true
      }
    }
    const take = (more: string): void => {
      if (isPrinting && more !== '') {
        onLog(more)
        endsLine = more.endsWith('\n')
      } else if (text !== undefined && text.length < mostOfError) text += more
    }
    parser.on('opentag', open)
    parser.on('closetag', close)
    parser.on('text', take)
    parser.on('cdata', take)
    parser.on('doctype', () => (hasDoctype = true))
    parser.on('comment', (comment) => {
      if (depth === 1) noted += failuresOf(comment)
    })
    parser.on('error', ({ message }) => {
      // An undefined entity is an error if a doctype could declare it; else it is kept as text.
      if (!isHarmless(message) && (hasDoctype || !message.endsWith('undefined entity.'))) throw fault(message)
    })
    const skip = makeSkip()
    const repair = makeRepair()
    let hasBegun = false
    for await (const piece of decodedXml(source, fault)) {
      const more = skip(piece)
      if (more === undefined) break
      if (more === '') continue
      hasBegun = true
      parser.write(repair(more))
    }
    if (!hasBegun) throw fault('it has no <testsuites> or <testsuite>')
    parser.write(repair('', true)).close()
    const found = results.slice(first)
    if (noted > 0 && !found.some(({ status }) => status === 'failed'))
      fail('JUnit', `${name} counts ${noted} failures but lists 0`)
    if (found.length === 0 && !isEmpty) fail('JUnit', `${name} has no tests`)
  }

  return {
    read,
    report(): Report {
      if (results.length === 0) fail('JUnit', 'no tests are reported')
      return { results, duration_ms: duration }
    },
  }
}
