// mission-deck prune: deletes old data in batches. If it is interrupted, running it again continues.
import type { Command } from 'commander'
import { parseMission } from '../protocol/topics.ts'
import { mission, time } from './arguments.ts'
import { databaseHelp, makeIo, withJson } from './output.ts'

type Options = { json?: boolean; before: string; mission?: string; dryRun?: boolean }

export const pruneCommand = (program: Command): void => {
  withJson(program.command('prune'))
    .description('delete messages, finished test runs and void events that are older than a time')
    .requiredOption('--before <time>', 'a date, or an RFC 3339 time with a zone; at least 24 hours ago', time)
    .option('--mission <mission>', 'only in this mission', mission)
    .option('--dry-run', 'report what would be deleted, and change nothing')
    .addHelpText('after', databaseHelp)
    .action(async ({ json, before, mission: ref, dryRun: dry = false }: Options) => {
      const io = makeIo({ ...(json === undefined ? {} : { json }) })
      const [{ direct, withClient }, { prune }, { makeProgress }] = await Promise.all([
        import('./database.ts'),
        import('../database/retention.ts'),
        import('./progress.ts'),
      ])
      const stop = new AbortController()
      const interrupt = (): void => {
        process.exitCode = 130
        stop.abort()
      }
      process.once('SIGINT', interrupt)
      const since = performance.now()
      let progress: ReturnType<typeof makeProgress> | undefined
      try {
        const found = await withClient(await direct(true), (client) =>
          prune(client, {
            before,
            mission: ref === undefined ? undefined : parseMission(ref),
            dry,
            signal: stop.signal,
            onProgress({ missions, messages, runs, events }, of) {
              progress ??= makeProgress(io, of)
              progress.show(missions, `${messages} messages, ${runs} runs, ${events} events`)
            },
          }),
        )
        progress?.stop()
        const seconds = Math.round(performance.now() - since) / 1000
        const { messages, runs, events, missions, kept } = found
        const what = `${messages} messages, ${runs} runs and ${events} void events of ${missions} missions`
        const left = kept > 0 ? `; ${kept} are in use and were kept` : ''
        const end = stop.signal.aborted ? '; interrupted: run it again to continue' : ''
        io.print(`${what} ${dry ? 'would be deleted' : 'were deleted'}${left}${end}`, {
          before,
          dry_run: dry,
          ...found,
          seconds,
        })
      } finally {
        progress?.stop()
        process.off('SIGINT', interrupt)
      }
    })
}
