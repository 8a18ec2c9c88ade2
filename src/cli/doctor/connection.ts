// Checks of the connection: reachable, a supported server, the same time, and notifications that arrive.
import { once } from 'node:events'
import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import type { Database } from '../../database/postgres/pools.ts'
import { isPooled, keepsPreparedStatements } from '../../database/postgres/pooler.ts'
import { withClient } from '../database.ts'
import { messageOf } from '../output.ts'
import { fail, ok, pooler, warn, type Finding } from './finding.ts'

/** Returns the finding for a connection that failed, with advice. */
export const unreachable = (error: unknown, where: string): Finding => {
  const first = error instanceof AggregateError ? (error.errors[0] as unknown) : error
  const { code = '' } = first as { code?: string }
  const message = messageOf(first)
  const advice =
    code === '28P01' || code === '28000'
      ? `check user and password in ${where} (characters such as @ : / # must be %-encoded)`
      : code === '3D000'
        ? `create it: createdb; or check the name in ${where}`
        : code === '53300'
          ? 'all connections are taken: raise max_connections, or lower DATABASE_POOL_MAX'
          : code === 'ERR_INVALID_URL'
            ? `${where} is not a URL: characters such as @ : / # in a password must be %-encoded`
            : /startup parameter/.test(message)
              ? pooler
              : /SSL|certificate/i.test(message)
                ? `check sslmode in ${where}, and PGSSLROOTCERT`
                : `is Postgres running there, and does a firewall let this machine in? Check host and port in ${where}`
  return fail('database', `can't be reached: ${message}`, advice)
}

type Server = {
  version: string
  number: number
  encoding: string
  standby: boolean
  name: string
  encrypted: boolean | null
  local: boolean
}

/** Checks Postgres's version, encoding, role and TLS. A finding fails if Mission Deck would refuse to start. */
export const server = async (client: pg.Client): Promise<Finding[]> => {
  const { rows } = await client.query<Server>(
    `select split_part(current_setting('server_version'), ' ', 1) as version,
            current_setting('server_version_num')::int as number,
            current_setting('server_encoding') as encoding, pg_is_in_recovery() as standby, current_database() as name,
            (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as encrypted,
            coalesce(inet_client_addr() = inet_server_addr() or inet_server_addr() <<= '127.0.0.0/8', true) as local`,
  )
  const [found] = rows
  if (!found) return []
  return [
    ok('database', `reached: ${found.name}`),
    found.number < 140_000
      ? fail('version', `Postgres ${found.version}`, 'Postgres 14 or later is needed')
      : ok('version', `Postgres ${found.version}`),
    found.encoding === 'UTF8'
      ? ok('encoding', 'UTF8')
      : fail('encoding', found.encoding, "create the database with encoding 'UTF8' template template0"),
    found.standby
      ? fail(
          'primary',
          'this is a standby',
          'set DATABASE_URL to the primary, or to all servers: host=a,b with target_session_attrs=read-write',
        )
      : ok('primary', 'not a standby'),
    ...(found.local || found.encrypted
      ? []
      : [
          warn(
            'tls',
            'the connection leaves this machine unencrypted',
            'add sslmode=require or verify-full to DATABASE_URL',
          ),
        ]),
  ]
}

/** Measures the difference between the clocks, and the duration of a round trip: the shortest of five. */
export const clock = async (client: pg.Client): Promise<Finding[]> => {
  let best = Infinity
  let skew = 0
  for (let n = 0; n < 5; n++) {
    const begun = performance.now()
    const wall = Date.now()
    const { rows } = await client.query<{ now: number }>(
      'select (extract(epoch from clock_timestamp()) * 1000)::float8 as now',
    )
    const took = performance.now() - begun
    if (took < best) {
      best = took
      skew = (rows[0]?.now ?? 0) - (wall + took / 2)
    }
  }
  const seconds = Math.abs(skew) / 1000
  const detail = `${seconds < 0.1 ? 'the same within 0.1 s' : `the database's is ${seconds.toFixed(1)} s ${skew > 0 ? 'ahead' : 'behind'}`}`
  const advice = 'run NTP on both machines: tokens and tickets expire by these clocks'
  return [
    seconds > 30 ? fail('clocks', detail, advice) : seconds > 2 ? warn('clocks', detail, advice) : ok('clocks', detail),
    best > 20
      ? warn('round trip', `${best.toFixed(1)} ms`, 'it delays every message: run the server near its database')
      : ok('round trip', `${best.toFixed(1)} ms`),
  ]
}

/** Checks that LISTEN on the session-level connection receives what the pool notifies, and whether a pooler is between. */
export const notifications = async (database: Database, separate: boolean): Promise<Finding[]> => {
  const pooled = await throughPooler(database.main)
  const channel = `deck_doctor_${randomBytes(6).toString('hex')}`
  const echoed = await withClient(await database.direct(), async (client) => {
    await client.query(`listen ${channel}`)
    const received = once(client, 'notification', { signal: AbortSignal.timeout(5000) }).then(
      () => true,
      () => false,
    )
    await database.main.query('select pg_notify($1, $2)', [channel, 'echo'])
    const echo = await received
    // A pooler keeps the session, which would continue to listen.
    await client.query(`unlisten ${channel}`)
    return echo
  })
  const name = separate ? 'DATABASE_DIRECT_URL' : 'DATABASE_URL'
  if (!echoed)
    return [
      fail(
        'listen',
        `notifications do not arrive: ${name} ${pooled || separate ? 'is' : 'seems to be'} a transaction pooler, or a different database`,
        'set DATABASE_DIRECT_URL to the database itself',
      ),
    ]
  const through = pooled ? `; DATABASE_URL goes through a pooler${separate ? '' : ' that seems to keep sessions'}` : ''
  return [
    pooled && !separate
      ? warn(
          'listen',
          `NOTIFY echoes${through}`,
          'set DATABASE_DIRECT_URL to the database itself: this echo may have been luck',
        )
      : ok('listen', `NOTIFY echoes${through}`),
  ]
}

const throughPooler = async (pool: pg.Pool): Promise<boolean> => {
  const client = await pool.connect()
  try {
    return await isPooled(client)
  } finally {
    client.release()
  }
}

/** Checks that prepared statements are kept between transactions. */
export const prepared = async ({ main, changes }: Database): Promise<Finding> =>
  (await keepsPreparedStatements(main, changes))
    ? ok('prepared', 'prepared statements are kept')
    : fail(
        'prepared',
        'a pooler keeps no prepared statements, so the server refuses to start',
        'PgBouncer needs version 1.21 or later with max_prepared_statements = 200; or set DATABASE_URL to the database itself',
      )
