// Whether the database can be reached, is one that the server takes, has the same time, and lets hints through.
import { once } from 'node:events'
import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import type { Database } from '../../database/postgres/pools.ts'
import { isPooled, keepsPreparedStatements } from '../../database/postgres/pooler.ts'
import { withClient } from '../database.ts'
import { messageOf } from '../output.ts'
import { fail, ok, pooler, warn, type Finding } from './finding.ts'

/** What a refused connection means, and what to do. */
export const unreachable = (error: unknown, where: string): Finding => {
  const first = error instanceof AggregateError ? (error.errors[0] as unknown) : error
  const { code = '' } = first as { code?: string }
  const message = messageOf(first)
  const advice =
    code === '28P01' || code === '28000'
      ? `check user and password in ${where} (characters such as @ : / # have to be %-encoded)`
      : code === '3D000'
        ? `create it: createdb; or check the name in ${where}`
        : code === '53300'
          ? 'all connections are taken: raise max_connections, or lower DATABASE_POOL_MAX'
          : code === 'ERR_INVALID_URL'
            ? `${where} is no URL: characters such as @ : / # in a password have to be %-encoded`
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

/** Version, encoding, role of the server; what the server's start would refuse is a fail. */
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
          'name the primary in DATABASE_URL, or all servers: host=a,b with target_session_attrs=read-write',
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

/** How far the clocks are apart, and how long a round trip takes: the best of five. */
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
  const said = `${seconds < 0.1 ? 'the same within 0.1 s' : `the database's is ${seconds.toFixed(1)} s ${skew > 0 ? 'ahead' : 'behind'}`}`
  const advice = 'run NTP on both machines: tokens and tickets end by these clocks'
  return [
    seconds > 30 ? fail('clocks', said, advice) : seconds > 2 ? warn('clocks', said, advice) : ok('clocks', said),
    best > 20
      ? warn('round trip', `${best.toFixed(1)} ms`, 'every message waits for it: run the server near its database')
      : ok('round trip', `${best.toFixed(1)} ms`),
  ]
}

/** Whether LISTEN on the session-level way hears what is notified by the pooled one, and what stands between. */
export const hints = async (database: Database, separate: boolean): Promise<Finding[]> => {
  const pooled = await throughPooler(database.main)
  const channel = `deck_doctor_${randomBytes(6).toString('hex')}`
  const echoed = await withClient(await database.direct(), async (client) => {
    await client.query(`listen ${channel}`)
    const heard = once(client, 'notification', { signal: AbortSignal.timeout(5000) }).then(
      () => true,
      () => false,
    )
    await database.main.query('select pg_notify($1, $2)', [channel, 'echo'])
    const echo = await heard
    // A pooler's session would go on listening.
    await client.query(`unlisten ${channel}`)
    return echo
  })
  const name = separate ? 'DATABASE_DIRECT_URL' : 'DATABASE_URL'
  if (!echoed)
    return [
      fail(
        'listen',
        `what is notified is not heard: ${name} ${pooled || separate ? 'is' : 'seems to be'} a transaction pooler, or another database`,
        'set DATABASE_DIRECT_URL to the database itself',
      ),
    ]
  const through = pooled
    ? `; DATABASE_URL goes through a pooler${separate ? '' : ' that keeps sessions, as it seems'}`
    : ''
  return [
    pooled && !separate
      ? warn(
          'listen',
          `NOTIFY echoes${through}`,
          'set DATABASE_DIRECT_URL to the database itself: it may have been luck',
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

/** Whether what is prepared stays prepared. */
export const prepared = async ({ main, changes }: Database): Promise<Finding> =>
  (await keepsPreparedStatements(main, changes))
    ? ok('prepared', 'prepared statements are kept')
    : fail(
        'prepared',
        'a pooler keeps no prepared statements, and a server refuses to start',
        'PgBouncer needs version 1.21 or later with max_prepared_statements = 200; or name the database itself in DATABASE_URL',
      )
