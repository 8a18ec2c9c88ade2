// mission-deck export | import: exports missions as NDJSON, restores them exactly, and imports messages of other programs.
// Both connect to the database itself, with the rights of its role, so no access token is checked.
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { basename } from 'node:path'
import { once } from 'node:events'
import { Option, type Command } from 'commander'
import type { Defaults } from '../protocol/transfer.ts'
import { parseMission } from '../protocol/topics.ts'
import type { Bad } from '../database/transfer/import-batches.ts'
import type { Lines } from '../database/transfer/line-reader.ts'
import { citizen, mission } from './arguments.ts'
import { databaseHelp, makeIo, Usage, withJson, type Io } from './output.ts'
import type { Progress } from './progress.ts'

type ExportOptions = { json?: boolean; all?: boolean }
type ImportOptions = {
  json?: boolean
  mission?: string
  citizen?: string
  sender?: 'user' | 'citizen'
  skipBad?: boolean
  as?: string
}
/** Bad lines that are reported one by one. */
const mostReported = 100

/** Ctrl-C stops reading. Writes in progress are completed, and the exit code is 130. */
const interruptible = (): { signal: AbortSignal; forget: () => void } => {
  const stop = new AbortController()
  const interrupt = (): void => {
    process.exitCode = 130
    stop.abort()
  }
  process.once('SIGINT', interrupt)
  return { signal: stop.signal, forget: () => void process.off('SIGINT', interrupt) }
}

type Job = { io: Io; options: ImportOptions; name: string; lines: Lines; progress: Progress; signal: AbortSignal }

const restoreExport = async ({ io, options, lines, progress, signal }: Job): Promise<void> => {
  if (options.mission ?? options.citizen ?? options.sender)
    throw new Usage(
      'an export is restored into its own missions: --mission, --citizen and --sender are only for messages',
    )
  const [{ direct, withClient }, { restore }] = await Promise.all([
    import('./database.ts'),
    import('../database/transfer/restore.ts'),
  ])
  let read = 0
  const by = `${userInfo().username}@${hostname()}`
  const { missions, rows } = await withClient(await direct(true), (client) =>
    restore(client, lines, {
      by,
      signal,
      onProgress: (bytes) => progress.show((read += bytes), `${(read / 1e6).toFixed(0)} MB`),
    }),
  )
  progress.stop()
  const messages = rows['chat_messages'] ?? 0
  io.print(
    `${missions.length} ${missions.length === 1 ? 'mission is' : 'missions are'} restored, with ${messages} messages`,
    {
      missions,
      rows,
    },
  )
}

const importMessages = async ({ io, options, name, lines, progress, signal }: Job): Promise<void> => {
  const [{ direct, withClient }, { takeIn }] = await Promise.all([
    import('./database.ts'),
    import('../database/transfer/import-reader.ts'),
  ])
  const given: Defaults = {
    ...(options.mission === undefined ? {} : { mission: parseMission(options.mission) }),
    ...(options.citizen === undefined ? {} : { citizen: options.citizen }),
    ...(options.sender === undefined ? {} : { sender: options.sender }),
  }
  const config = await direct(true)
  const tally = { saved: 0, seen: 0, bad: 0 }
  const bad: Bad[] = []
  const onBad = (one: Bad): void => {
    if (tally.bad > mostReported) return tally.bad === mostReported + 1 ? io.note('… and more') : undefined
    bad.push(one)
    io.note(`line ${one.line}: ${one.why}`)
  }
  const since = performance.now()
  const status = (): string =>
    `${tally.saved} saved, ${tally.seen} there already${tally.bad > 0 ? `, ${tally.bad} bad` : ''} ` +
    `(${Math.round(((tally.saved + tally.seen) / (performance.now() - since)) * 1000)}/s)`
  let read = 0
  const onProgress = (bytes: number): void => progress.show((read += bytes), status())
  const skip = options.skipBad ?? false
  try {
    await withClient(config, (first) =>
      withClient(config, (second) => {
        const clients = [first, second]
        return takeIn({ clients, lines, given, name: options.as ?? name, skip, onBad, onProgress, signal, tally })
      }),
    )
  } catch (error) {
    progress.stop()
    io.note(`${status()}; run it again to continue`)
    throw error
  }
  progress.stop()
  const end = signal.aborted ? '; interrupted: run it again to continue' : ''
  io.print(`${status()}${end}`, { ...tally, ...(bad.length > 0 ? { lines: bad } : {}) })
}

/** Returns the first line, and all lines including it. */
const peek = async (lines: Lines): Promise<{ first: string; lines: Lines }> => {
  const rest = lines[Symbol.asyncIterator]()
  const held: { lines: (Buffer | undefined)[]; bytes: number }[] = []
  let first: Buffer | undefined
  for (let next = await rest.next(); !next.done; next = await rest.next()) {
    held.push(next.value)
    first = next.value.lines[0]
    if (next.value.lines.length > 0) break
  }
  return {
    first: first?.toString('utf8', 0, 100) ?? '',
    lines: (async function* () {
      yield* held
      for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value
    })(),
  }
}

export const carryCommands = (program: Command): void => {
  withJson(program.command('export'))
    .description('write a mission, or all missions, to stdout as NDJSON')
    .argument('[mission]', 'number or UUID of the mission', mission)
    .option('--all', 'export every mission')
    .addHelpText('after', databaseHelp)
    .action(async (ref: string | undefined, options: ExportOptions) => {
      if ((ref === undefined) !== (options.all === true)) throw new Usage('export takes a mission, or --all')
      const [{ direct, withClient }, { exportMissions }] = await Promise.all([
        import('./database.ts'),
        import('../database/transfer/export.ts'),
      ])
      const { stdout } = process
      await withClient(await direct(true), (client) =>
        exportMissions(client, ref === undefined ? 'all' : parseMission(ref), async (bytes) => {
          if (!stdout.write(bytes)) await once(stdout, 'drain')
        }),
      )
    })

  withJson(program.command('import'))
    .description('import an export, or messages of any program into chats')
    .argument('<file>', 'NDJSON file; - reads stdin')
    .option('--mission <mission>', 'messages: the mission of all lines, instead of their own', mission)
    .option('--citizen <citizen>', 'messages: the citizen of all lines, instead of their own', citizen)
    .addOption(
      new Option('--sender <sender>', 'messages: the sender of lines without one').choices(['user', 'citizen']),
    )
    .option('--skip-bad', 'messages: report and skip invalid lines, instead of ending at the first one')
    .option(
      '--as <name>',
      "messages: name of the source, by which a repeated import skips its lines (default: the file's name)",
    )
    .addHelpText('after', databaseHelp)
    .action(async (file: string, options: ImportOptions) => {
      const io = makeIo(options)
      const total = file === '-' ? undefined : (await stat(file)).size
      const source = file === '-' ? process.stdin : createReadStream(file, { highWaterMark: 256 * 1024 })
      const [{ readLines }, { lineBytes }, { isExport }, { makeProgress }] = await Promise.all([
        import('../database/transfer/line-reader.ts'),
        import('../database/transfer/import-reader.ts'),
        import('../protocol/transfer.ts'),
        import('./progress.ts'),
      ])
      const { signal, forget } = interruptible()
      // The first line shows whether the file is an export. An export's lines may be as long as its rows, so they have no limit.
      let most = lineBytes
      const known = await peek(readLines(source as AsyncIterable<Buffer>, () => most))
      const exported = isExport(known.first)
      if (exported) most = Infinity
      const job = { io, options, name: basename(file), progress: makeProgress(io, total), signal }
      try {
        await (exported ? restoreExport : importMessages)({ ...job, lines: known.lines })
      } catch (error) {
        if (!signal.aborted) throw error
        if (exported) io.note('interrupted; nothing was changed')
      } finally {
        job.progress.stop()
        forget()
        source.destroy()
      }
    })
}
