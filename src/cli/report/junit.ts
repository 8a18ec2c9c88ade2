// JUnit's XML, as pytest, jest-junit, Maven Surefire, go-junit-report, node:test and others write it: read as a stream, so that a file's
// size is not memory's. Entities that a file declares are not looked up, and nothing is fetched: they are an error.
// Names: `classname > name`; where suites are nested (node:test) the path of suites instead; without either the suite's name.
import { SaxesParser, type SaxesTagPlain } from 'saxes'
import { deny } from '../../protocol/errors.ts'
import { clean, makeUnique, milliseconds, mostOfError, nameOf, type Report, type Result } from './results.ts'

type Suite = { name: string; file: string; ms: number | undefined; ownMs: number }
type Case = { attributes: Record<string, string>; status: Result['status']; errors: string[] }

/** Characters that XML forbids and tests print, such as those of colours. */
const isHarmless = (message: string): boolean => /disallowed character|malformed character entity/.test(message)

/** The encoding that a file's first bytes tell. */
const encodingOf = (start: Uint8Array): string => {
  if (start[0] === 0xff && start[1] === 0xfe) return 'utf-16le'
  if (start[0] === 0xfe && start[1] === 0xff) return 'utf-16be'
  const head = Buffer.from(start.subarray(0, 200)).toString('latin1')
  return /^[^<]*<\?xml[^>]*\bencoding\s*=\s*["']([\w.:-]+)["']/.exec(head)?.[1] ?? 'utf-8'
}

/** Seconds, with the commas that some write, as milliseconds. */
const toMs = (time: string | undefined): number | undefined => {
  const seconds = Number(time?.replaceAll(',', '') || NaN)
  return Number.isFinite(seconds) && seconds >= 0 ? milliseconds(seconds * 1000) : undefined
}

/** Makes a reader of files, one after the other; `onLog` takes what tests printed. */
export const makeJunit = (onLog: (text: string) => void) => {
  const results: Result[] = []
  const unique = makeUnique()
  let duration = 0

  const read = async (name: string, source: AsyncIterable<Uint8Array>): Promise<void> => {
    const parser = new SaxesParser()
    const fault = (text: string): Error => deny('bad_request', `${name} is no JUnit XML: ${text}`)
    const suites: Suite[] = []
    let depth = 0
    let one: Case | undefined
    /** What the open element says, and of it as much as is kept; undefined where nobody asks. */
    let text: string | undefined
    let printing = false

    const end = ({ attributes, status, errors }: Case): void => {
      const nested = suites.filter(({ name }) => name !== '')
      const { time } = attributes
      // node:test writes the same for all.
      const classname = attributes['classname'] === 'test' ? '' : (attributes['classname'] ?? '')
      const suite = nested.length > 1 || classname === '' ? nested.map(({ name }) => name).join(' > ') : classname
      const ms = toMs(time)
      const file = attributes['file'] || suites.findLast(({ file }) => file !== '')?.file
      const error = status === 'failed' ? errors.join('\n').trim() : ''
      for (const suite of suites) suite.ownMs += ms ?? 0
      results.push({
        name: unique(clean(nameOf(suite, attributes['name'] ?? ''))),
        status,
        ...(ms === undefined ? {} : { duration_ms: ms }),
        ...(error === '' ? {} : { error: clean(error) }),
        ...(suite === '' ? {} : { suite: clean(suite) }),
        ...(file ? { file: clean(file) } : {}),
      })
    }
    const open = ({ name: tag, attributes }: SaxesTagPlain): void => {
      const { name = '', file = '', time, message } = attributes
      if (depth++ === 0 && tag !== 'testsuites' && tag !== 'testsuite') throw fault(`it begins with <${tag}>`)
      if (tag === 'testsuite') suites.push({ name, file, ms: toMs(time), ownMs: 0 })
      else if (tag === 'testcase') {
        const idle = ['notrun', 'disabled', 'skipped'].includes(attributes['status'] ?? '')
        one = { attributes, status: idle ? 'skipped' : 'passed', errors: [] }
      } else if (tag === 'failure' || tag === 'error') {
        // A suite that fails without a test, as when it can't be set up.
        one ??= { attributes: { name: '', ...(suites.at(-1)?.name ? {} : { name }) }, status: 'failed', errors: [] }
        one.status = 'failed'
        if (message) one.errors.push(message)
        text = ''
      } else if (tag === 'skipped') {
        if (one?.status === 'passed') one.status = 'skipped'
      } else if (tag === 'system-out' || tag === 'system-err') {
        printing = true
        const where = one
          ? nameOf(one.attributes['classname'] ?? '', one.attributes['name'] ?? '')
          : suites.at(-1)?.name
        onLog(`--- ${where || name || tag} (${tag === 'system-out' ? 'stdout' : 'stderr'})\n`)
      }
    }
    let endsLine = true
    const close = ({ name: tag }: SaxesTagPlain): void => {
      depth--
      if ((tag === 'failure' || tag === 'error') && one) {
        const said = text?.trim() ?? ''
        const message = one.errors.at(-1)
        // Most write the message again before the trace.
        if (message !== undefined && said.startsWith(message.trim())) one.errors.pop()
        if (said !== '') one.errors.push(said)
        text = undefined
        if (depth === suites.length + (rooted ? 1 : 0)) {
          end(one)
          one = undefined
        }
      } else if (tag === 'testcase' && one) {
        end(one)
        one = undefined
      } else if (tag === 'testsuite') {
        const { ms, ownMs } = suites.pop() ?? { ms: 0, ownMs: 0 }
        if (suites.length === 0) duration += ms ?? ownMs
      } else if (tag === 'system-out' || tag === 'system-err') {
        if (!endsLine) onLog('\n')
        printing = false
        endsLine = true
      }
    }
    let rooted = false
    const said = (more: string): void => {
      if (printing && more !== '') {
        onLog(more)
        endsLine = more.endsWith('\n')
      } else if (text !== undefined && text.length < mostOfError) text += more
    }
    parser.on('opentag', (tag) => {
      if (depth === 0) rooted = tag.name === 'testsuites'
      open(tag)
    })
    parser.on('closetag', close)
    parser.on('text', said)
    parser.on('cdata', said)
    parser.on('error', ({ message }) => {
      if (!isHarmless(message)) throw fault(message)
    })
    let decoder: InstanceType<typeof TextDecoder> | undefined
    const decode = (chunk?: Uint8Array): string => {
      try {
        decoder ??= new TextDecoder(encodingOf(chunk ?? new Uint8Array()), { fatal: true })
        return chunk ? decoder.decode(chunk, { stream: true }) : decoder.decode()
      } catch {
        throw fault('its encoding is not what it says')
      }
    }
    for await (const chunk of source) parser.write(decode(chunk))
    parser.write(decode()).close()
  }

  return { read, report: (): Report => ({ results, duration_ms: duration }) }
}
