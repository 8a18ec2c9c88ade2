#!/usr/bin/env node
// deck: the command line. serve | migrate | seed | token | revoke | unrevoke | revoked; more to come.
import { readFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { roles, type Role } from '../access/actor.ts'
import { makeTokens } from '../access/tokens.ts'
import { readConfig } from '../config.ts'
import { openDatabase } from '../log/database.ts'
import { seedFile } from '../log/migrate.ts'
import { prepareDatabase } from '../log/prepare.ts'

const usage = `deck serve                       the server, as npm start runs it
deck migrate                     brings the database of DATABASE_URL up to date
deck seed                        adds the example missions 47 and 48
deck token SUB ROLE [--missions 47,48] [--jti NAME] [--seconds 86400]
                                 a token signed with JWT_SECRET; ROLE is user, citizen or admin
deck revoke NAME                 shuts out a sub, or one token by its jti: at once, on every instance, for good
deck unrevoke NAME               lets it in again
deck revoked                     lists who is shut out

Without DATABASE_URL the last three speak to the embedded database of a server that runs in this folder.
`

/** The session-level connection to the database that is to be changed. */
const direct = async (orEmbedded = false): Promise<pg.ClientConfig> => {
  // Only what concerns the database: a command needs no secret.
  const { DATABASE_URL, DATABASE_DIRECT_URL, DATA_DIR } = process.env
  const given = Object.entries({ DATABASE_URL, DATABASE_DIRECT_URL, DATA_DIR }).filter(
    ([, value]) => value !== undefined,
  )
  const { databaseUrl, databaseDirectUrl, dataDir, poolMax } = readConfig(Object.fromEntries(given))
  const kept = (): Promise<string> => readFile(join(dataDir, 'url'), 'utf8').catch(() => '')
  const url = databaseUrl || (orEmbedded ? (await kept()).trim() : '')
  if (!url) throw new Error('DATABASE_URL is needed.')
  const database = await openDatabase({ url, directUrl: databaseDirectUrl || url, poolMax }, () => {})
  await database.close()
  return database.direct
}
const withClient = async <T>(config: pg.ClientConfig, work: (client: pg.Client) => Promise<T>): Promise<T> => {
  const client = new pg.Client(config)
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
const log = (line: string): void => void process.stdout.write(`${line}\n`)

const change = async (verb: 'revoke' | 'unrevoke', name: string | undefined, said: [string, string]): Promise<void> => {
  if (!name) throw new Error(usage)
  const by = `${userInfo().username}@${hostname()}`
  const changed = await withClient(await direct(true), async (client) => {
    const { rows } = await client.query<{ changed: boolean }>(`select deck.${verb}($1, $2) as changed`, [name, by])
    return rows[0]?.changed === true
  })
  log(`${name} ${said[changed ? 0 : 1]}`)
}

const commands: Record<string, (args: string[]) => Promise<void>> = {
  async serve() {
    await import('../main.ts')
  },

  async migrate() {
    await prepareDatabase(await direct(), { seed: false, log })
    log('the database is up to date')
  },

  async seed() {
    await withClient(await direct(), async (client) => client.query(await readFile(seedFile, 'utf8')))
  },

  async token(args) {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        missions: { type: 'string' },
        jti: { type: 'string' },
        seconds: { type: 'string', default: '86400' },
      },
    })
    const [sub, role] = positionals
    const seconds = Number(values.seconds)
    if (!sub || !role || !roles.includes(role as Role) || !(seconds > 0)) throw new Error(usage)
    const { JWT_SECRET } = process.env
    if (!JWT_SECRET) throw new Error('JWT_SECRET is needed: the one that the server uses.')
    const missions = values.missions === '*' ? ('*' as const) : values.missions?.split(',')
    const claims = {
      sub,
      role: role as Role,
      ...(missions ? { missions } : {}),
      ...(values.jti ? { jti: values.jti } : {}),
    }
    log(await makeTokens({ secret: JWT_SECRET }).sign(claims, seconds))
  },

  revoke: ([name]) => change('revoke', name, ['is shut out', 'was shut out already']),

  unrevoke: ([name]) => change('unrevoke', name, ['is let in again', 'was not shut out']),

  async revoked() {
    const { rows } = await withClient(await direct(true), (client) =>
      client.query<{ name: string; by: string; at: string }>('select name, by, at from deck.revocations order by id'),
    )
    for (const { name, by, at } of rows) log(`${at}  ${name}  (by ${by})`)
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
