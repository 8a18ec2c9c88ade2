// mission-deck citizens: the registry of citizens, and who of them is connected.
import type { Command } from 'commander'
import type { Citizen } from '../protocol/rows.ts'
import { citizen, integer } from './arguments.ts'
import { plain, type Io } from './output.ts'
import { seenOf } from './question-line.ts'
import { withDeck, withServer, type RemoteOptions } from './server-connection.ts'

type PutOptions = { title: string; about?: string; position?: number }

const admin = { sub: 'admin', role: 'admin' } as const

const print = (io: Io, { name, title, about, position, listening, last_seen }: Citizen): void => {
  const state = listening ? io.paint('green', 'connected') : seenOf(last_seen)
  io.write(`${String(position).padStart(3)}  ${name}  ${plain(title)}  (${state})\n`)
  if (about !== null) io.write(io.paint('dim', `     ${plain(about).replace(/\s+/g, ' ')}\n`))
}

export const citizenCommands = (program: Command): void => {
  const citizens = withServer(program.command('citizens'))
    .description('list the registered citizens, and whether something works for them')
    .action((options: RemoteOptions) =>
      withDeck(options, async ({ deck, io, signal }) => {
        const found = await deck.citizens({ signal })
        if (io.json) return io.print('', found)
        for (const citizen of found) print(io, citizen)
        if (found.length === 0) io.note('no citizen is registered')
      }),
    )

  citizens
    .command('put')
    .configureHelp({ showGlobalOptions: true })
    .description(`register a citizen, or replace its entry (an admin; --as: "${admin.sub}" if left out)`)
    .argument('<name>', 'name of the citizen', citizen)
    .requiredOption('--title <title>', 'what it does, in a word or two')
    .option('--about <text>', 'what to ask it; none if left out')
    .option('--position <n>', 'its place in the list; last if left out', integer)
    .action((name: string, { title, about, position }: PutOptions, command: Command) =>
      withDeck(
        command.optsWithGlobals(),
        async ({ deck, io, signal }) => {
          const body = {
            title,
            ...(about === undefined ? {} : { about }),
            ...(position === undefined ? {} : { position }),
          }
          const entry = await deck.citizen(name).put(body, { signal })
          if (io.json) io.print('', entry)
          else print(io, entry)
        },
        admin,
      ),
    )

  citizens
    .command('delete')
    .configureHelp({ showGlobalOptions: true })
    .description(`remove a citizen from the registry; its chats stay (an admin; --as: "${admin.sub}" if left out)`)
    .argument('<name>', 'name of the citizen', citizen)
    .action((name: string, _options: object, command: Command) =>
      withDeck(
        command.optsWithGlobals(),
        async ({ deck, io, signal }) => {
          await deck.citizen(name).remove({ signal })
          io.print(`${name} is no longer registered`, { name })
        },
        admin,
      ),
    )
}
