// Connections that say what they know. A commit of which the synchronous standby knows nothing comes back as a success with a
// warning beside it: here it is an error. A pool can be told that all it has open leads to another time: what comes of it is then
// of unknown outcome, and it is given up.
import { createConnection } from 'node:net'
import pg from 'pg'
import { Unconfirmed, WrongServer } from './errors.ts'
import type { ServerAddress } from './server-address.ts'

/** Asks a new connection; false: what it answered is of a time that is over. It throws if the server will not do. */
export type Greet = (client: pg.ClientBase) => Promise<boolean>
type Done = (error: Error | undefined, result?: unknown) => void
/** Shared by the connections to one database; `over` once the database was replaced. */
type Era = { over: boolean }

export type ClientConfig = pg.ClientConfig & {
  /** ms until a query is cancelled; 0: never. A commit that waits for its standby heeds no statement_timeout */
  deadline?: number
}

/** ms that a cancelled query has to end. */
const grace = 500

/** Asks the server of a connection to cancel what it is doing there, as libpq does: by a connection of its own. */
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

/** A connection. Its queries throw Unconfirmed where Postgres gave up waiting for its synchronous standby. */
export class Client extends pg.Client {
  era: Era = { over: false }
  /** A cancel request is on its way: it may meet the next query. */
  spent = false
  constructor({ deadline = 0, ...config }: ClientConfig = {}) {
    super(config)
    let unconfirmed = false
    // By the routine: the words are in the server's language. It comes before the answer that it belongs to.
    this.on('notice', ({ routine }) => {
      if (routine === 'SyncRepWaitForLSN') unconfirmed = true
    })
    const judge = (error: Error | undefined): Error | undefined => {
      const was = unconfirmed
      unconfirmed = false
      // It counts also where the statement failed after its commit.
      if (was) return new Unconfirmed()
      return error ?? (this.era.over ? new WrongServer('the database was replaced while the query ran') : undefined)
    }
    const ask = this.query.bind(this) as (...given: unknown[]) => unknown
    /** Calls `done` once: with what became of the query, or with an error if nothing did. */
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
          // It did not end: the connection is discarded.
          timer = setTimeout(() => end(new Error('Query read timeout')), grace)
        }, deadline)
      ask(...given, end)
    }
    this.query = ((...given: unknown[]) => {
      const last = given.at(-1)
      if (typeof last === 'function') return void bounded(given.slice(0, -1), last as Done)
      // A cursor or a stream.
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

/** A pool whose address is looked up when a connection is wanted; `greet` asks each new one, and may refuse it. */
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
      // It is awaited, whatever its type says. Its query has no deadline of its own yet.
      onConnect: (async (client: Client) => {
        const late = setTimeout(() => void client.end().catch(() => {}), connectionTimeoutMillis)
        const ofNow = await greet(client).finally(() => clearTimeout(late))
        client.era = ofNow ? this.#era : { over: true }
      }) as unknown as (client: pg.ClientBase) => void,
    })
    this.#address = address
    this.on('error', onError)
    // One that breaks while it is taken out tells its query, or the next one; without a listener it would end the process.
    this.on('connect', (client) => client.on('error', () => {}))
  }

  /** Gives up every connection: what is idle now, what is taken out when it comes back. */
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
    // Where none is opened nothing is looked up.
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
