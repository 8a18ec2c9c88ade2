#!/usr/bin/env node
// deck: the command line. serve | migrate | seed | token; more to come.
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { makeTokens, type Role } from '../access/actor.ts'
import { readConfig } from '../config.ts'
import { openDatabase } from '../log/database.ts'
import { seedFile } from '../log/migrate.ts'
import { prepareDatabase } from '../log/prepare.ts'

const usage = `deck serve                       the server, as npm start runs it
deck migrate                     brings the database of DATABASE_URL up to date
deck seed                        adds the example missions 47 and 48
deck token SUB ROLE [--missions 47,48] [--seconds 86400]
                                 a token signed with JWT_SECRET; ROLE is user, citizen or admin
`

/** The session-level connection to the database that is to be migrated or seeded. */
const direct = async (): Promise<pg.ClientConfig> => {
  const config = readConfig({ JWT_SECRET: 'not needed here, so any 32 bytes do', ...process.env })
  if (!config.databaseUrl) throw new Error('DATABASE_URL is needed.')
  const { databaseUrl: url, databaseDirectUrl: directUrl, poolMax } = config
  const database = await openDatabase({ url, directUrl, poolMax }, () => {})
  await database.close()
  return database.direct
}
const log = (line: string): void => void process.stdout.write(`${line}\n`)

const commands: Record<string, (args: string[]) => Promise<void>> = {
  async serve() {
    await import('../main.ts')
  },

  async migrate() {
    await prepareDatabase(await direct(), { seed: false, log })
    log('the database is up to date')
  },

  async seed() {
    const client = new pg.Client(await direct())
    await client.connect()
    try {
      await client.query(await readFile(seedFile, 'utf8'))
    } finally {
      await client.end()
    }
  },

  async token(args) {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { missions: { type: 'string' }, seconds: { type: 'string', default: '86400' } },
    })
    const [sub, role] = positionals
    const seconds = Number(values.seconds)
    if (!sub || !role || !['user', 'citizen', 'admin'].includes(role) || !(seconds > 0)) throw new Error(usage)
    const { JWT_SECRET } = process.env
    if (!JWT_SECRET) throw new Error('JWT_SECRET is needed: the one that the server uses.')
    const missions = values.missions === '*' ? '*' : values.missions?.split(',')
    log(await makeTokens(JWT_SECRET).sign({ sub, role: role as Role, ...(missions ? { missions } : {}) }, seconds))
  },
}

const [name = '', ...args] = process.argv.slice(2)
const command = commands[name]
try {
  if (command) await command(args)
  else {
    process.stderr.write(usage)
    process.exitCode = 2
  }
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exitCode = 1
}
