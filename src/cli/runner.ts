// mission-deck runner: works the test runs that people ask for. It runs a command for each, streams its output to the run's log, and stores
// its results.
import type { Command } from 'commander'
import type { Deck, RunHandler } from '../client/index.ts'
import { citizen, count } from './arguments.ts'
import type { Io } from './output.ts'
import { withDeck, withServer, type RemoteOptions } from './server-connection.ts'

type Options = RemoteOptions & {
  junit?: string[]
  tap?: string | true
  counts: boolean
  timeout?: number
  concurrency: number
}

/** Returns the environment of a run's command: without the runner's own token and secret. */
const environmentOf = (run: { id: string; mission_id: string }, url: string | null): NodeJS.ProcessEnv => {
  const env: NodeJS.ProcessEnv = { ...process.env, MISSION: run.mission_id, RUN: run.id }
  for (const name of ['DECK_TOKEN', 'JWT_SECRET', 'GITHUB_URL']) delete env[name]
  return url === null ? env : { ...env, GITHUB_URL: url }
}

const makeHandler =
  (deck: Deck, io: Io, command: readonly string[], { junit, tap: given, counts, timeout }: Options): RunHandler =>
  async (run, job) => {
    const { makeTapReader, outcomeOf, readFiles } = await import('./runner/outcome.ts')
    const { runCommand } = await import('./runner/command.ts')
    const { number, github_url } = await deck.mission(run.mission_id).get({ signal: job.signal })
    io.note(`run ${run.id} of #${number}: attempt ${job.attempt}`)
    const tap = await makeTapReader(given === true)
    const since = Date.now()
    const exit = await runCommand(command, {
      env: environmentOf(run, github_url),
      timeout,
      signal: job.signal,
      async take(text, from) {
        if (from === 'stdout') tap.write(text)
        await job.log(text)
      },
    }).catch((error: NodeJS.ErrnoException) => {
      if (error.syscall === undefined || job.signal.aborted) throw error
      return error
    })
    if (exit instanceof Error) {
      io.note(`the command could not be started: ${exit.message}`)
      return { status: 'failed', summary: { reason: `the command could not be started: ${exit.message}` } }
    }
    let unread: string | undefined
    const named = { junit, tap: given === true ? undefined : given, counts }
    const files = await readFiles(named, since).catch((error: Error) => void (unread = error.message))
    const result = outcomeOf(exit, files ?? tap.end(), unread)
    const told = job.signal.aborted ? 'stopped' : result.status
    io.print(`run ${run.id} of #${number}: ${told}`, { run: run.id, mission: run.mission_id, ...result, status: told })
    return result
  }

export const runnerCommand = (program: Command): void => {
  withServer(program.command('runner'), 'the citizen')
    .description('work the test runs that people ask for: run a command for each')
    .argument('<citizen>', 'citizen whose runs it works (RUN_CITIZEN of the server)', citizen)
    .argument('<command...>', 'the command and its arguments, after --')
    .option('--junit <file...>', 'JUnit XML files that the command writes')
    .option(
      '--tap [file]',
      'TAP that the command writes to a file or its output; on its output, "TAP version" is found without it',
    )
    .option('--no-counts', "do not compare JUnit's count of tests with its cases, for tools that count something else")
    .option('--timeout <seconds>', 'stop the command after this time', count)
    .option('--concurrency <n>', 'runs at a time', count, 1)
    .addHelpText(
      'after',
      `
The command gets MISSION and RUN (IDs) and GITHUB_URL in its environment. Its output is the run's log. If no results can be read, the
exit status decides. SIGTERM stops the command and gives the run back.
Example: mission-deck runner sofia --timeout 900 -- npm test`,
    )
    .action((name: string, command: string[], options: Options) =>
      withDeck(
        options,
        async ({ deck, io, signal }) => {
          const { concurrency } = options
          const handler = makeHandler(deck, io, command, options)
          await deck.citizen(name).run(handler, { concurrency, signal })
        },
        { sub: name, role: 'citizen' },
        true,
      ),
    )
}
