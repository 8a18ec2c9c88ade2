// deck doctor: looks at all that the server needs, and says what to do. Exit 0 if nothing fails, else 1.
// Never changes anything: its sessions are read-only; what it notifies goes to a channel of its own.
import type { Command } from 'commander'
import pg from 'pg'
import type { Config } from '../config.ts'
import { openDatabase, type Database } from '../log/database.ts'
import { whole } from './arguments.ts'
import { embeddedUrl } from './database.ts'
import { look, type Finding, type Status } from './doctor/finding.ts'
import * as here from './doctor/here.ts'
import { queue, transactions } from './doctor/others.ts'
import { clock, hints, server, unreachable } from './doctor/reach.ts'
import { migrations, seqs, triggers, violations } from './doctor/rows.ts'
import { privileges, room, session, settings } from './doctor/settings.ts'
import { makeIo, withJson, type Io } from './io.ts'

type Options = { json?: boolean; long: number }
type Found = (findings: Finding[]) => void

/** A session that is read-only, unless a pooler passes that over. */
const connect = async (database: Database): Promise<pg.Client> => {
  const { direct } = database
  const client = new pg.Client({
    ...direct,
    application_name: 'mission-deck doctor',
    options: `${direct.options} -c default_transaction_read_only=on`,
    connectionTimeoutMillis: 5000,
    query_timeout: 15_000,
  })
  client.on('error', () => {})
  await client.connect()
  return client
}

const inspect = async (client: pg.Client, database: Database, config: Config, long: number, found: Found) => {
  // Each in a transaction of its own: a setting of the session would stay behind in a pooler's.
  const steps = async (checks: [string, () => Promise<Finding | Finding[]>][]): Promise<void> => {
    for (const [name, check] of checks) {
      await client.query(`begin read only; set local statement_timeout = '14s'`)
      found(await look(name, check))
      await client.query('rollback')
    }
  }
  await steps([
    ['database', () => server(client)],
    ['clocks', () => clock(client)],
    ['listen', () => hints(database, config.databaseDirectUrl !== config.databaseUrl)],
    ['connections', () => room(client, config.poolMax)],
    ['settings', () => settings(client)],
    ['session', () => session(database.main)],
    ['privileges', () => privileges(client)],
  ])
  let made = false
  await steps([
    [
      'migrations',
      async () => {
        const state = await migrations(client)
        made = state.made
        return state.finding
      },
    ],
  ])
  if (!made) return
  await steps([
    ['triggers', () => triggers(client)],
    ['rows', () => violations(client)],
    ['seqs', () => seqs(client)],
    ['transactions', () => transactions(client, long)],
    ['notifications', () => queue(client)],
  ])
}

const examine = async (long: number, found: Found): Promise<void> => {
  found([here.node()])
  const { findings, config, partial } = here.environment()
  found(findings)
  if (!config) return
  if (!partial) found(await look('secrets', () => here.secrets(config)))
  let { databaseUrl: url, databaseDirectUrl: directUrl } = config
  if (!url) {
    const state = await here.embedded(config)
    found(state.findings)
    if (!state.running) return
    url = directUrl = await embeddedUrl(config.dataDir)
  }
  let database: Database | undefined
  let client: pg.Client | undefined
  try {
    try {
      database = await openDatabase({ url, directUrl, poolMax: config.poolMax }, () => {})
      client = await connect(database)
    } catch (error) {
      found([unreachable(error, directUrl === url ? 'DATABASE_URL' : 'DATABASE_DIRECT_URL')])
      return
    }
    await inspect(client, database, { ...config, databaseUrl: url, databaseDirectUrl: directUrl }, long, found)
  } finally {
    await client?.end().catch(() => {})
    await database?.close()
  }
}

const worst = (findings: Finding[]): Status =>
  (['fail', 'warn'] as const).find((status) => findings.some((finding) => finding.status === status)) ?? 'ok'

const colours = { ok: 'green', warn: 'yellow', fail: 'red' } as const
const line = ({ paint }: Io, { check, status, detail, advice }: Finding): string =>
  `${paint(colours[status], status.padEnd(4))}  ${check.padEnd(17)}  ${detail}${advice ? `\n${' '.repeat(25)}${paint('bold', `-> ${advice}`)}` : ''}\n`

export const doctorCommand = (program: Command): void => {
  withJson(program.command('doctor'))
    .description('looks at Node, settings and the database, and says what to do; changes nothing')
    .option('--long <seconds>', 'from when on an open transaction is told', whole, 60)
    .action(async (options: Options) => {
      const io = makeIo(options)
      const all: Finding[] = []
      await examine(options.long, (findings) => {
        all.push(...findings)
        if (!io.json) for (const finding of findings) io.write(line(io, finding))
      })
      const status = worst(all)
      const bad = all.filter((finding) => finding.status !== 'ok').length
      io.tell(bad === 0 ? 'All is well.' : `${bad} to look at.`, { status, checks: all })
      process.exitCode = status === 'fail' ? 1 : 0
    })
}
