// Connections: how this server speaks to Postgres. Every session of ours is in UTC, bounded in time and named.
// At most DATABASE_POOL_MAX + 2 connections an instance: pools for requests, for the writer and its lane, one session for
// the tail, one for LISTEN.
import pg from 'pg'
import { Client, Pool, type Greet } from './pool.ts'
import { makeServerAddress, type ServerAddress } from './server-address.ts'

export type DatabaseOptions = {
  url: string
  /** a session-level way to the same database, where `url` is a transaction pooler */
  directUrl: string
  poolMax: number
  /** asks each new connection to the primary, before it is used */
  greet?: Greet
  /** ms that connecting, or waiting for a connection, and a statement may take */
  deadlines?: Partial<Deadlines>
  /** a replica to read history from; '': none */
  replicaUrl?: string
  /** the writer's batches notify nobody: their hints go another way */
  quietWriter?: boolean
}

/** ms. A statement gives up on the server before the client does, so that its answer is known. */
export type Deadlines = {
  connect: number
  /**
   * the writer's and the tail's: their statements take milliseconds. A connection that leads nowhere is known soon enough for a
   * message of unknown fate to be looked up by another, and for an instance to catch up within 7 s
   */
  writer: number
  tail: number
  statement: number
}

export type Database = {
  /** reads, look-ups and drafts: nothing that waits for a lock, or for a standby */
  main: pg.Pool
  /** all other writes: one that waits for somebody's lock, or for a standby, holds up no reader */
  changes: pg.Pool
  /** the writer's batches and its waiting lane */
  writer: pg.Pool
  /** the tail's reads */
  tail: pg.Pool
  /** a replica's, for history; undefined: there is none */
  replica: pg.Pool | undefined
  /** all of them by name */
  pools: Record<string, pg.Pool>
  /** configuration of a session-level connection (LISTEN, migrations, locks); it has no deadlines but that of connecting */
  direct(): Promise<pg.ClientConfig>
  /** Opens a connection anew, by which it is seen where the address leads by now: connections that are open stay where they are. */
  look(): Promise<void>
  /** Gives up every pooled connection: what they lead to is not the database any more. */
  expire(): void
  close(): Promise<void>
}

// Rows keep what Postgres says: bigint as a number (a seq is far below 2^53), times as RFC 3339 text, JSON as text.
const parsers: Record<number, (text: string) => unknown> = {
  20: Number,
  1114: (text) => `${text.replace(' ', 'T')}Z`,
  114: (text) => text,
  3802: (text) => text,
}
const types = {
  getTypeParser: (oid: number, format?: 'text' | 'binary'): unknown =>
    parsers[oid] ?? (pg.types.getTypeParser as (oid: number, format?: string) => unknown)(oid, format),
}

/** What each session asks for, whatever the role, the database, DATABASE_URL and PGOPTIONS ask. */
const settings = {
  // What our SQL means, and how its results are written.
  timezone: 'UTC',
  datestyle: 'ISO',
  intervalstyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '1',
  search_path: 'public',
  standard_conforming_strings: 'on',
  transform_null_equals: 'off',
  array_nulls: 'on',
  quote_all_identifiers: 'off',
  row_security: 'on',
  gin_fuzzy_search_limit: '0',
  default_transaction_isolation: 'read committed',
  default_transaction_deferrable: 'off',
  // What a commit does not say in its answer it says in a warning.
  client_min_messages: 'warning',
  idle_session_timeout: '0',
  // Prepared plans live as long as their session: one made while a table was small must not read all of it once it is large.
  // All that is asked here is served by nested loops over indexes.
  enable_nestloop: 'on',
  enable_indexscan: 'on',
  enable_indexonlyscan: 'on',
  enable_seqscan: 'off',
  enable_bitmapscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  jit: 'off',
  plan_cache_mode: 'force_generic_plan',
}
type Settings = Record<string, string | number>

/** Settings that count for our sessions, too, as the role or the database has them. */
const ofTheRole = new Set(['default_transaction_read_only', 'session_replication_role', 'synchronous_commit'])

/** What pooled sessions are bounded by, in ms. */
const boundsOf = (statement: number): Settings => ({
  statement_timeout: statement,
  lock_timeout: 3000,
  idle_in_transaction_session_timeout: 5000,
})

/** Settings of the role or the database that would end long work. */
const unbounded: Settings = {
  statement_timeout: 0,
  lock_timeout: 0,
  idle_in_transaction_session_timeout: 0,
}

/** libpq's `options`: the address's own first, so that ours count. */
const optionsOf = ({ options }: ServerAddress, values: Settings): string =>
  [options, ...Object.entries(values).map(([name, value]) => `-c ${name}=${String(value).replace(/[\\ ]/g, '\\$&')}`)]
    .filter((part) => part !== '')
    .join(' ')

// Of Postgres 17 and later: older ones refuse it at a session's start.
const noTransactionTimeout = `select set_config('transaction_timeout', '0', false)
  where current_setting('transaction_timeout', true) <> '0'`

/** Sets once more what something between dropped at the session's start; not in the sessions of a pooler, which are others', too. */
const insist = async (client: pg.ClientBase, values: Settings): Promise<void> => {
  await client.query(
    `select set_config(name, value, false) from unnest($1::text[], $2::text[]) as s (name, value)
     where current_setting('plan_cache_mode') <> 'force_generic_plan' and pg_backend_pid() = $3
     union all ${noTransactionTimeout} and pg_backend_pid() = $3`,
    [Object.keys(values), Object.values(values).map(String), (client as unknown as { processID: number }).processID],
  )
}

/** SQL that gives a role what our sessions ask for, where a pooler drops that. */
export const settingsForRole = (role: string, database: string): string[] =>
  Object.entries({ ...settings, ...boundsOf(4000) }).map(
    ([name, value]) =>
      `alter role ${pg.escapeIdentifier(role)} in database ${pg.escapeIdentifier(database)} set ${name} = ${pg.escapeLiteral(String(value))};`,
  )

/** The settings that a session lacks, as "name is value". */
export const missingSettings = async (connection: Pick<pg.Pool, 'query'>): Promise<string[]> => {
  const wanted = { ...settings, ...boundsOf(4000) }
  const { rows } = await connection.query<{ name: string; value: string; base: string }>(
    `select name, setting as value, current_setting(name) as base from pg_settings where name = any ($1) order by name`,
    [Object.keys(wanted).map((name) => name.toLowerCase())],
  )
  const same = (name: string, { value, base }: { value: string; base: string }): boolean => {
    const want = String(wanted[name as keyof typeof wanted])
    return [value, base, base.split(',')[0]].some(
      (found) => found === want || found === (want === 'UTC' ? 'Etc/UTC' : want),
    )
  }
  return rows.filter((row) => !same(row.name.toLowerCase(), row)).map(({ name, base }) => `${name} is ${base}`)
}

/** Returns what the role or the database sets otherwise than our sessions, and what a session can't set for itself. */
export const foreignSettings = async (
  client: pg.ClientBase,
): Promise<{ name: string; value: string; of: string; ours: string | undefined }[]> => {
  const { rows } = await client.query<{ name: string; value: string; of: string }>(
    `select lower(split_part(s, '=', 1)) as name, substr(s, strpos(s, '=') + 1) as value,
            case when d.setrole = 0 then 'the database' when d.setdatabase = 0 then 'the role' else 'the role in this database' end as of
     from pg_db_role_setting d cross join lateral unnest(d.setconfig) s
     where d.setdatabase in (0, (select oid from pg_database where datname = current_database()))
       and d.setrole in (0, current_user::regrole)
     order by 1, 3`,
  )
  const ours = new Map(
    Object.entries({ ...settings, ...unbounded, transaction_timeout: 0 }).map(([name, value]) => [name, String(value)]),
  )
  return rows
    .filter(({ name, value }) => ours.get(name) !== value)
    .map((row) => ({ ...row, ours: ours.get(row.name) }))
    .filter(({ name, ours }) => ours !== undefined || ofTheRole.has(name))
}

const addressOf = (url: string, primary: boolean): ServerAddress =>
  makeServerAddress(url, {
    primary,
    sslmode: process.env['PGSSLMODE'],
    rootCert: process.env['PGSSLROOTCERT'],
    options: process.env['PGOPTIONS'],
  })

/** Opens the pools (their connections open as needed). */
export const openDatabase = (
  {
    url,
    directUrl,
    poolMax,
    greet = () => Promise.resolve(true),
    deadlines = {},
    replicaUrl = '',
    quietWriter = false,
  }: DatabaseOptions,
  onError: (error: Error) => void,
): Database => {
  const { connect = 2000, writer: write = 1500, tail: follow = 2000, statement = 4000 } = deadlines
  const base = (name: string, connectionTimeoutMillis: number): pg.ClientConfig => ({
    application_name: `mission-deck ${name}`,
    connectionTimeoutMillis,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types,
  })
  const primary = addressOf(url, true)
  const session = directUrl === url ? primary : addressOf(directUrl, true)
  const pool = (
    max: number,
    patience: number,
    {
      address = primary,
      hello = greet,
      more = {},
      wait = connect,
    }: Partial<{ address: ServerAddress; hello: Greet; more: Settings; wait: number }> = {},
  ): Pool => {
    const wanted = { ...settings, ...more }
    return new Pool(
      {
        ...base('server', wait),
        address,
        options: optionsOf(address, wanted),
        ...boundsOf(patience),
        // A client that got no answer in time takes its connection for dead.
        deadline: patience + 250,
        max,
        idleTimeoutMillis: 30_000,
        greet: async (client) => {
          await insist(client, { ...wanted, ...boundsOf(patience) })
          return hello(client)
        },
      },
      onError,
    )
  }
  const writer = pool(2, write, quietWriter ? { more: { 'deck.hints': 'off' } } : {})
  const tail = pool(1, follow)
  const changes = pool(Math.max(1, Math.floor((poolMax - 2) / 2)), statement)
  const main = pool(Math.max(1, poolMax - 2 - changes.options.max), statement)
  // Its statement gives up soon: the primary is there.
  const replica = replicaUrl
    ? pool(main.options.max, 1500, {
        address: addressOf(replicaUrl, false),
        hello: () => Promise.resolve(true),
        wait: 1000,
      })
    : undefined
  const ofPrimary = { main, changes, writer, tail }
  return {
    ...ofPrimary,
    replica,
    pools: { ...ofPrimary, ...(replica ? { replica } : {}) },
    direct: async () => {
      session.forget()
      return {
        ...base('session', 2000),
        connectionString: await session.locate(),
        options: optionsOf(session, { ...settings, ...unbounded }),
      }
    },
    look: async () => {
      // Of the pool that is used the least; one that is busy is not waited for.
      if (changes.waitingCount > 0 || changes.totalCount - changes.idleCount >= changes.options.max) return
      ;(await changes.connect()).release(true)
      ;(await changes.connect()).release()
    },
    expire() {
      for (const one of Object.values(ofPrimary)) one.expire()
    },
    close: async () => {
      await Promise.all([main.end(), changes.end(), writer.end(), tail.end(), replica?.end()])
    },
  }
}

/** Opens a session without statement deadlines; the caller ends it. */
export const openSession = async (config: pg.ClientConfig): Promise<pg.Client> => {
  const client = new Client(config)
  // The statement that meets the error tells it.
  client.on('error', () => {})
  await client.connect()
  await insist(client, { ...settings, ...unbounded })
  await client.query(noTransactionTimeout)
  return client
}
