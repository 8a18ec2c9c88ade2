// A pool and a client that report uncertain outcomes. If the synchronous standby did not confirm a commit, Postgres reports success with a
// warning; here the query fails. If the database was replaced, expire() discards all connections, and their running queries fail
// because their outcome is unknown.
import { createConnection } from 'node:net'
import pg from 'pg'
import { Unconfirmed, WrongServer } from './errors.ts'
import type { ServerAddress } from './server-address.ts'

/**
 * Checks a new connection. Resolves with false if the database was replaced while the check ran. Rejects if the server can't be used.
 */
export type Greet = (client: pg.ClientBase) => Promise<boolean>
type Done = (error: Error | undefined, result?: unknown) => void
/** Shared by the connections to one database. `over` is true once the database was replaced. */
type Era = { over: boolean }

export type ClientConfig = pg.ClientConfig & {
  /** ms until a query is cancelled; 0: never. statement_timeout does not end a commit that waits for its standby */
  deadline?: number
}

/** ms within which a cancelled query must end. */
const grace = 500

/** Cancels the running query of a connection. As in libpq, the request is sent on a separate connection. */
const cancel = (client: pg.Client): void => {
  const { host, port, processID, secretKey } = client as pg.Client & {
    processID: number | null
    secretKey: number | null
  }
  if (processID === null || secretKey === null) return
  const request = Buffer.alloc(16)
  for (const [n, value] of [16, 80_877_102, processID, secretKey].entries()) request.writeInt32BE(value, 4 * n)
  const socket = host.startsWith('/') ? createConnection(`${host}/.s.PGSQL.${port}`) : createConnection(port, host)
  socket.on('error', () => {})
  socket.setTimeout(2000, () => socket.destroy())
  socket.end(request)
}

/** A connection. Its queries reject with Unconfirmed if Postgres stopped waiting for its synchronous standby. */
export class Client extends pg.Client {
  era: Era = { over: false }
  /** A cancel request was sent. It may arrive late and cancel the next query, so the connection is discarded. */
  spent = false
  constructor({ deadline = 0, ...config }: ClientConfig = {}) {
    super(config)
    let unconfirmed = false
    // Recognized by its routine, because the text is translated. The warning arrives before the query's result.
    this.on('notice', ({ routine }) => {
      if (routine === 'SyncRepWaitForLSN') unconfirmed = true
    })
    const judge = (error: Error | undefined): Error | undefined => {
      const was = unconfirmed
      unconfirmed = false
      // Even if the statement failed after its commit.
      if (was) return new Unconfirmed()
      return error ?? (this.era.over ? new WrongServer('the database was replaced while the query ran') : undefined)
    }
    const ask = this.query.bind(this) as (...given: unknown[]) => unknown
    /** Runs a query and calls `done` once, with the result or an error; with a timeout error if neither arrives by the deadline. */
    const bounded = (given: unknown[], done: Done): void => {
      let timer: NodeJS.Timeout | undefined
      let open = true
      const end: Done = (error, result) => {
        if (!open) return
        open = false
        clearTimeout(timer)
        done(judge(error), result)
      }
      if (deadline > 0)
        timer = setTimeout(() => {
          this.spent = true
          cancel(this)
          // If the query does not end either, it fails and the connection is discarded.
          timer = setTimeout(() => end(new Error('Query read timeout')), grace)
        }, deadline)
      ask(...given, end)
    }
    this.query = ((...given: unknown[]) => {
      const last = given.at(-1)
      if (typeof last === 'function') return void bounded(given.slice(0, -1), last as Done)
      // A cursor or a stream is not limited.
      if (typeof (given[0] as { submit?: unknown }).submit === 'function') return ask(...given)
      return new Promise((resolve, reject) => {
        bounded(given, (error, result) => {
          if (error) reject(error)
          else resolve(result)
        })
      })
    }) as typeof this.query
  }
}

type Connected = (
  error: Error | undefined,
  client: pg.PoolClient | undefined,
  release: (broken?: unknown) => void,
) => void

/** A pool that locates the server when it opens a connection. `greet` checks each new connection and may refuse it. */
export class Pool extends pg.Pool {
  #era: Era = { over: false }
  readonly #address: ServerAddress
  constructor(
    { address, greet, ...config }: pg.PoolConfig & { address: ServerAddress; greet: Greet; deadline: number },
    onError: (error: Error) => void,
  ) {
    const { connectionTimeoutMillis = 0 } = config
    super({
      ...config,
      Client,
      // pg-pool awaits it, contrary to its type. The queries of `greet` are limited by the connection timeout.
      onConnect: (async (client: Client) => {
        const late = setTimeout(() => void client.end().catch(() => {}), connectionTimeoutMillis)
        const ofNow = await greet(client).finally(() => clearTimeout(late))
        client.era = ofNow ? this.#era : { over: true }
      }) as unknown as (client: pg.ClientBase) => void,
    })
    this.#address = address
    this.on('error', onError)
    // If a connection breaks while it is in use, its query rejects. Without this listener the error event would end the process.
    this.on('connect', (client) => client.on('error', () => {}))
  }

  /** Discards all connections: idle ones now, the others when they are released. */
  expire(): void {
    this.#era.over = true
    this.#era = { over: false }
    this.#address.forget()
    for (let n = this.idleCount; n > 0 && !this.ending; n--)
      super.connect().then(
        (client) => client.release((client as unknown as Client).era.over),
        () => {},
      )
  }

  override connect(): Promise<pg.PoolClient>
  override connect(connected: Connected): void
  override connect(connected?: Connected): Promise<pg.PoolClient> | undefined {
    if (connected) return void this.#take(connected)
    return new Promise((resolve, reject) => {
      this.#take((error, client) => {
        if (client) resolve(client)
        else reject(error ?? new Error('no connection'))
      })
    })
  }

  #take(connected: Connected): void {
    const go = (): void =>
      super.connect((error, client, release) => {
        if (!client) {
          this.#address.forget()
          return connected(error, undefined, release)
        }
        const { era, spent } = client as unknown as Client
        if (!era.over && !spent) return connected(undefined, client, release)
        release(true)
        this.#take(connected)
      })
    const known = this.#address.known()
    if (known !== undefined) this.options.connectionString = known
    // The server is located only if a connection will be opened.
    if (known !== undefined || this.idleCount > 0 || this.totalCount >= this.options.max) return go()
    this.#address.locate().then(
      (url) => {
        this.options.connectionString = url
        go()
      },
      (error: Error) => connected(error, undefined, () => {}),
    )
  }
}
