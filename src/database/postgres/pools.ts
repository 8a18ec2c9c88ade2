// Connections to Postgres. Each session of the server uses UTC, has time limits and an application_name.
// An instance uses at most DATABASE_POOL_MAX + 2 connections: pools for requests, for the writer and its lanes, one connection for the
// tail, one for LISTEN.
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
  /** the same database without a transaction pooler; equals `url` if that leads through none */
  directUrl: string
  poolMax: number
  /** checks each new connection to the primary before it is used */
  greet?: Greet
  /** ms that connecting, or waiting for a connection, and a statement may take */
  deadlines?: Partial<Deadlines>
  /** a replica from which history is read, or '' */
  replicaUrl?: string
  /** the writer's batches send no NOTIFY, because their notifications are sent by NATS */
  quietWriter?: boolean
}

/** ms. The server's timeout of a statement is shorter than the client's, so that the client learns the outcome. */
export type Deadlines = {
  connect: number
  /**
   * for the writer and the tail: their statements take milliseconds. A dead connection is detected so early that a different connection can
   * look up whether a message was saved, and that an instance catches up within 7 s
   */
  writer: number
  tail: number
  statement: number
}

export type Database = {
  /** for reads and drafts: statements that wait neither for locks nor for a standby */
  main: pg.Pool
  /** for all other writes: they may wait for locks or for a standby, and must not delay reads */
  changes: pg.Pool
  /** for the writer's batches and lanes */
  writer: pg.Pool
  /** for the tail's reads */
  tail: pg.Pool
  /** for reads of history from the replica; undefined without a replica */
  replica: pg.Pool | undefined
  /** all pools by name */
  pools: Record<string, pg.Pool>
  /** Returns the configuration of a connection without a pooler (LISTEN, migrations, locks). Only connecting has a time limit. */
  direct(): Promise<pg.ClientConfig>
  /** Opens a new connection, which checks the server that the address leads to now. Open connections would stay with their server. */
  look(): Promise<void>
  /** Discards all pooled connections, because the database was replaced. */
  expire(): void
  close(): Promise<void>
}

// Types of result columns: bigint as a number (a seq is far below 2^53), times as RFC 3339 text, JSON as text.
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

/** Creates the pools. Connections are opened as needed. */
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
        // If a query has no result by then, the client cancels it and discards the connection.
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
  // The replica's timeouts are short, because the primary can serve the read.
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
      // Uses the pool with the least load, and only if it has a free connection.
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

/** Opens a connection without a statement timeout. The caller ends it. */
export const openSession = async (config: pg.ClientConfig): Promise<pg.Client> => {
  const client = new Client(config)
  // The next statement rejects with the error.
  client.on('error', () => {})
  await client.connect()
  await insist(client, { ...settings, ...unbounded })
  await client.query(noTransactionTimeout)
  return client
}
