// mission-deck report: posts a test run from the files of test runners. JUnit XML is read before anything is sent.
// TAP is sent while it arrives, so that its log can be followed live. The results are sent last, after the log.
import { createReadStream } from 'node:fs'
import type { Command } from 'commander'
import type { TestRun, TestRunPatch } from '../protocol/rows.ts'
import { mission, run } from './arguments.ts'
import { plain, Usage } from './output.ts'
import { withDeck, withServer, type RemoteOptions } from './server-connection.ts'
import type { Report } from './report/results.ts'

type Options = RemoteOptions & { junit?: string[]; tap?: string | true; run?: string; fail?: boolean; counts: boolean }

/** Yields the bytes of a file, or of stdin for -. */
const bytesOf = async function* (file: string): AsyncGenerator<Uint8Array> {
  yield* (file === '-' ? process.stdin : createReadStream(file)) as AsyncIterable<Uint8Array>
}

const report = async (mission: string, options: Options): Promise<void> => {
  const { junit, tap } = options
  if ((junit === undefined) === (tap === undefined)) throw new Usage('either --junit or --tap is needed')
  const { fit, hasFailed, summaryOf } = await import('./report/results.ts')
  const log: string[] = []
  let given: Report | undefined
  if (junit) {
    const { makeJunit } = await import('./report/junit.ts')
    const files = makeJunit((text) => void log.push(text), options.counts)
    for (const file of junit) await files.read(file === '-' ? 'stdin' : file, bytesOf(file))
    given = files.report()
    // Results that are too large are refused before anything is sent.
    fit(given.results)
  }
  await withDeck(
    options,
    async ({ deck, io }) => {
      const tests = deck.tests(mission)
      const open = async (): Promise<string> => options.run ?? (await tests.create({ status: 'running' })).id
      const id = junit && log.length === 0 ? options.run : await open()
      if (id !== undefined) {
        const { makeLog } = await import('../client/run-log.ts')
        const logs = tests.logs(id)
        const out = makeLog((text) => logs.append(text))
        for (const text of log) await out.write(text)
        if (tap !== undefined) {
          const { makeTap } = await import('./report/tap.ts')
          const { decodedText } = await import('./report/decode.ts')
          const parser = makeTap()
          for await (const text of decodedText(bytesOf(tap === true ? '-' : tap))) {
            parser.write(text)
            await out.write(text)
          }
          given = parser.end()
        }
        await out.end()
      }
      if (!given) return
      const summary = summaryOf(given)
      const status = hasFailed(given) ? 'failed' : 'passed'
      const end = (body: TestRunPatch): Promise<TestRun> =>
        id === undefined ? tests.create(body) : tests.update(id, body)
      let fitting: ReturnType<typeof fit>
      try {
        fitting = fit(given.results)
      } catch (error) {
        // The results are too large for a run: end it without them.
        await end({ status, summary })
        throw error
      }
      const { results, shortened } = fitting
      const done = await end({ status, summary, results })
      if (shortened) io.note('errors were shortened: a run holds 1 MiB of results')
      const { passed, failed, skipped, duration_ms } = summary
      io.print(
        `run ${done.id} ${status}: ${passed} passed, ${failed} failed, ${skipped} skipped in ` +
          `${(duration_ms / 1000).toFixed(1)} s`,
        done,
      )
      for (const one of io.json ? [] : results.filter(({ status }) => status === 'failed').slice(0, 20))
        io.note(plain(`  ${one.name}`))
      if (options.fail && status === 'failed') process.exitCode = 1
    },
    { sub: 'reporter', role: 'citizen' },
  )
}

export const reportCommand = (program: Command): void => {
  withServer(program.command('report'), 'reporter')
    .description('post a test run from the files of a test runner, with its log')
    .argument('<mission>', 'number or UUID of the mission', mission)
    .option('--junit <file...>', 'one or more JUnit XML files; - reads stdin')
    .option('--tap [file]', 'TAP from a file or stdin, sent as it is written')
    .option('--run <id>', 'ID of the requested run to fill, instead of a new one', run)
    .option('--fail', 'exit 1 if a test failed')
    .option('--no-counts', "do not compare JUnit's count of tests with its cases, for tools that count something else")
    .action((mission: string, options: Options) => report(mission, options))
}
