// Runs the doctor's checks in order, and stops when the remaining ones can't run.
// Nothing is changed: the transactions are read-only, and the test notification has its own channel.
import pg from 'pg'
import type { Config } from '../../config/index.ts'
import { openDatabase, type Database } from '../../database/postgres/pools.ts'
import { embeddedUrl } from '../database.ts'
import { runCheck, type Finding } from './finding.ts'
import * as here from './environment.ts'
import { queue, transactions } from './activity.ts'
import { clock, notifications, prepared, server, unreachable } from './connection.ts'
import { nats, replica } from './optional.ts'
import { migrations, seqs, triggers, violations } from './contents.ts'
import { privileges, roleSettings, room, session, settings } from './settings.ts'

type Found = (findings: Finding[]) => void
type Steps = [string, () => Promise<Finding | Finding[]>][]

/** Opens a read-only session. A pooler may ignore that option. */
const connect = async (database: Database): Promise<pg.Client> => {
  const direct = await database.direct()
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
  // One transaction for each check: a setting of the session would remain in a pooler's session.
  const steps = async (checks: Steps): Promise<void> => {
    for (const [name, check] of checks) {
      await client.query(`begin read only; set local statement_timeout = '14s'`)
      found(await runCheck(name, check))
      await client.query('rollback')
    }
  }
  await steps([
    ['database', () => server(client)],
    ['clocks', () => clock(client)],
    ['listen', () => notifications(database, config.databaseDirectUrl !== config.databaseUrl)],
    ['connections', () => room(client, config.poolMax)],
    ['settings', () => settings(client)],
    ['role settings', () => roleSettings(client)],
    ['prepared', () => prepared(database)],
    ['session', () => session(database.main)],
    ['privileges', () => privileges(client)],
  ])
  const { replica: pool } = database
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
    ...(pool ? ([['replica', () => replica(client, pool)]] satisfies Steps) : []),
  ])
}

/** Calls `found` for each finding. `long`: seconds after which an open transaction is reported. */
export const examine = async (long: number, found: Found): Promise<void> => {
  found([here.node()])
  const { findings, config, partial } = here.environment()
  found(findings)
  if (!config) return
  if (!partial) found(await runCheck('secrets', () => here.secrets(config)))
  if (config.hintsUrl) found([await nats(config.hintsUrl)])
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
      database = openDatabase(
        { url, directUrl, poolMax: config.poolMax, replicaUrl: config.databaseReplicaUrl },
        () => {},
      )
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
