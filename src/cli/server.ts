// mission-deck serve | migrate | seed: the server and its database.
import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { makeIo, withJson } from './output.ts'

type Options = { json?: boolean }

export const serverCommands = (program: Command): void => {
  withJson(program.command('serve'))
    .description('start the server, like npm start')
    .action(async () => {
      await import('../main.ts')
    })

  withJson(program.command('migrate'))
    .description('apply the migrations to the database of DATABASE_URL')
    .action(async (options: Options) => {
      const io = makeIo(options)
      const lines: string[] = []
      const log = (line: string): void => {
        lines.push(line)
        if (!io.json) io.write(`${line}\n`)
      }
      const [{ prepareDatabase }, { direct }] = await Promise.all([
        import('../database/postgres/prepare.ts'),
        import('./database.ts'),
      ])
      await prepareDatabase(direct, { seed: false, log })
      io.print('the database is up to date', { up_to_date: true, done: lines })
    })

  withJson(program.command('seed'))
    .description('add the example missions 47 and 48')
    .action(async (options: Options) => {
      const io = makeIo(options)
      const { direct, withClient } = await import('./database.ts')
      const { seedFile } = await import('../database/postgres/migrate.ts')
      await withClient(await direct(), async (client) => client.query(await readFile(seedFile, 'utf8')))
      io.print('the example missions 47 and 48 exist', { missions: [47, 48] })
    })
}
