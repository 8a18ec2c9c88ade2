// Connections: how this server speaks to Postgres. Every session of ours is in UTC, bounded in time and named.
// At most DATABASE_POOL_MAX + 2 connections an instance: pools for requests, for the writer and its lane, one session for
// the tail, one for LISTEN.
import pg from 'pg'
import { deny, Refusal } from '../protocol/errors.ts'

export type DatabaseOptions = {
  url: string
  /** a session-level way to the same database, where `url` is a transaction pooler */
  directUrl: string
  poolMax: number
  /** asks a new connection for readers, before it is used */
  greet?: Greet
  /** a replica to read history from; '': none */
  replicaUrl?: string
  /** the writer's batches notify nobody: their hints go another way */
  quietWriter?: boolean
}

type Greet = (client: pg.ClientBase) => Promise<void>

export type Database = {
  /** reads and look-ups, none of which waits for a lock */
  main: pg.Pool
  /** changes of missions, checklists and runs: one that waits for somebody's lock holds up no reader */
  changes: pg.Pool
  /** the writer's batches and its waiting lane */
  writer: pg.Pool
  /** the tail's reads */
  tail: pg.Pool
  /** a replica's, for history; undefined: there is none */
  replica: pg.Pool | undefined
  /** all of them by name */
  pools: Record<string, pg.Pool>
  /** configuration of a session-level connection (LISTEN, migrations, locks) */
  direct: pg.ClientConfig
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

/** libpq's meaning of sslmode, and its default: TLS if the server has it. */
const withSsl = async (url: string): Promise<string> => {
  const parsed = new URL(url)
  const params = parsed.searchParams
  const mode = params.get('sslmode') ?? process.env['PGSSLMODE'] ?? 'prefer'
  const root = process.env['PGSSLROOTCERT']
  if (root && !params.has('sslrootcert') && mode !== 'disable') params.set('sslrootcert', root)
  params.set('uselibpqcompat', 'true')
  if (mode !== 'prefer' && mode !== 'allow') {
    params.set('sslmode', mode)
    return parsed.href
  }
  params.delete('sslrootcert')
  params.set('sslmode', 'require')
  const probe = new pg.Client({ connectionString: parsed.href, connectionTimeoutMillis: 5000 })
  probe.on('error', () => {})
  try {
    await probe.connect()
  } catch (error) {
    if (error instanceof Error && /does not support SSL/.test(error.message)) params.set('sslmode', 'disable')
  } finally {
    await probe.end().catch(() => {})
  }
  return parsed.href
}

// Prepared plans live as long as their session: one made while a table was small must not read all of it once it is large.
// All that is asked here is served by nested loops over indexes.
const settings = {
  timezone: 'UTC',
  datestyle: 'ISO',
  search_path: 'public',
  enable_seqscan: 'off',
  enable_bitmapscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  jit: 'off',
  plan_cache_mode: 'force_generic_plan',
}

/** Opens the pools (their connections open as needed). */
export const openDatabase = async (
  { url, directUrl, poolMax, greet, replicaUrl = '', quietWriter = false }: DatabaseOptions,
  onError: (error: Error) => void,
): Promise<Database> => {
  const optionsOf = (values: Record<string, string>): string =>
    Object.entries(values)
      .map(([name, value]) => `-c ${name}=${value}`)
      .join(' ')
  const config = async (connectionString: string, name: string): Promise<pg.ClientConfig> => ({
    connectionString: await withSsl(connectionString),
    application_name: `mission-deck ${name}`,
    options: optionsOf(settings),
    connectionTimeoutMillis: 2000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types,
  })
  const pooled = await config(url, 'server')
  // A statement gives up on the server before the client does, so that its answer is known; a client that got none in time
  // takes its connection for dead.
  const pool = (max: number, statement: number, greeting?: Greet, more: pg.ClientConfig = {}): pg.Pool => {
    const made = new pg.Pool({
      ...pooled,
      ...more,
      statement_timeout: statement,
      query_timeout: statement + 500,
      lock_timeout: 3000,
      idle_in_transaction_session_timeout: 5000,
      max,
      idleTimeoutMillis: 30_000,
      // It is awaited, whatever its type says.
      ...(greeting ? { onConnect: greeting as unknown as (client: pg.ClientBase) => void } : {}),
    })
    made.on('error', onError)
    // One that breaks while it is taken out tells its query, or the next one; without a listener it would end the process.
    made.on('connect', (client) => client.on('error', () => {}))
    return made
  }
  // The writer's and the tail's statements take milliseconds: a connection that leads nowhere is known soon enough for a
  // message of unknown fate to be looked up by another, and for an instance to catch up within 7 s.
  const quiet = quietWriter ? { options: optionsOf({ ...settings, 'deck.hints': 'off' }) } : {}
  const writer = pool(2, 1500, greet, quiet)
  const tail = pool(1, 2000, greet)
  const changes = pool(Math.max(1, Math.floor((poolMax - 2) / 2)), 4000)
  const main = pool(Math.max(1, poolMax - 2 - changes.options.max), 4000, greet)
  // Its statement gives up soon: the primary is there.
  const replica = replicaUrl
    ? pool(main.options.max, 1500, undefined, {
        connectionString: await withSsl(replicaUrl),
        connectionTimeoutMillis: 1000,
      })
    : undefined
  return {
    main,
    changes,
    writer,
    tail,
    replica,
    pools: { main, changes, writer, tail, ...(replica ? { replica } : {}) },
    direct: await config(directUrl, 'session'),
    close: async () => {
      await Promise.all([main.end(), changes.end(), writer.end(), tail.end(), replica?.end()])
    },
  }
}

/** The SQLSTATE of an error that Postgres reported; undefined for one of the connection. */
export const sqlState = (error: unknown): string | undefined =>
  error instanceof pg.DatabaseError ? error.code : undefined

/** Whether the same statement may do better at once (serialization failure, deadlock). */
export const isRetryable = (error: unknown): boolean => ['40001', '40P01'].includes(sqlState(error) ?? '')

/** Whether it is not known if the statement took effect: the connection broke, or the server went down. */
export const isAmbiguous = (error: unknown): boolean => {
  const state = sqlState(error)
  return state === undefined || state.startsWith('08') || state.startsWith('57P') || state.startsWith('53')
}

/** Of db/functions/evidence.sql: what an item's evidence forbids; its message is for the reader. */
export const noEvidence = 'DK001'

/** What a client may hear of a database error; undefined if it is a fault of ours. */
export const toRefusal = (error: unknown): Refusal | undefined => {
  if (error instanceof Refusal) return error
  const state = sqlState(error)
  if (state === undefined) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    const text = error instanceof Error ? error.message : ''
    return /^E[A-Z]+$/.test(code) || /connection|timeout|timed out|Client was closed/i.test(text)
      ? deny('unavailable')
      : undefined
  }
  if (isAmbiguous(error) || isRetryable(error) || state === '55P03' || state === '57014' || state.startsWith('25P'))
    return deny('unavailable')
  const { constraint = '' } = error as pg.DatabaseError
  if (constraint === 'dod_items_override_valid')
    return deny('conflict', 'an override is for an item that names a test and is being completed')
  if (state === '23514') return deny('bad_request', constraint ? `refused by ${constraint}` : (error as Error).message)
  if (state === '23505') return deny('conflict', constraint === 'missions_number' ? 'this number is taken' : undefined)
  if (state === '23503') return deny('not_found')
  if (state === noEvidence) return deny('conflict', (error as Error).message)
  // Data that a column can't hold: encodings, times and numbers out of range, JSON nested too deep.
  if (state.startsWith('22') || state === '54001') return deny('bad_request', 'a value can not be stored')
  return undefined
}
