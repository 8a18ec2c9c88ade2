// Connections to Postgres. Every session of the server uses UTC, is bounded in time, and is named.
// At most DATABASE_POOL_MAX + 2 connections an instance: pools for requests, for the writer and its lane, one session for
// the tail, one for LISTEN.
import pg from 'pg'
import { Client, Pool, type Greet } from './pool.ts'
import { makeServerAddress, type ServerAddress } from './server-address.ts'
import {
  boundsOf,
  insist,
  noTransactionTimeout,
  optionsOf,
  settings,
  unbounded,
  type Settings,
} from './session-settings.ts'

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
  /** the replica's, for history; undefined without a replica */
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
