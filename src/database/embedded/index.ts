// Embedded Postgres: starts a cluster from npm's binaries on a folder, or joins the cluster that already runs there.
//
// Guarantees: processes that use the same folder share one cluster, in whatever order they start and stop. kill -9 of any of them does no
// harm. The last process to stop also stops the cluster. Passwords are only in the folder and in the URLs.
//
// It does not migrate, pool or back up. `settings` apply only if this call starts the cluster.
import { randomBytes } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { openCluster, type Cluster } from './cluster.ts'
import { isAlive, type Launched, type Postmaster } from './postmaster.ts'

export type Embedded = {
  /** connection string of the non-superuser role `deck`, owner of the database `deck` */
  url: string
  /** connection string of the superuser `postgres` on database `postgres` */
  adminUrl: string
  /** whether the cluster was already running: used by another process, or left by one that was killed */
  joined: boolean
  /** Stops the cluster if no other process uses it. Idempotent. */
  stop(): Promise<void>
}

/** A connection that stays open as long as its process uses the cluster. It shows other processes that the cluster is in use. */
type Keeper = { client: pg.Client; socket: Socket }

const KEEPER = 'mission-deck keeper '
const LOCK = 1_296_319_812
/** Log texts of a launched server that ended because it lost a race for the port or the folder: starting again may succeed. */
const RACES = /could not bind|could not create any TCP|lock file "postmaster.pid"|pre-existing shared memory block/

const connect = async ({ passwords }: Cluster, server: Postmaster): Promise<Keeper> => {
  const socket = new Socket()
  const client = new pg.Client({
    host: '127.0.0.1',
    port: server.port,
    user: 'postgres',
    password: passwords.postgres,
    database: 'postgres',
    ssl: false,
    application_name: `${KEEPER}${process.pid}`,
    connectionTimeoutMillis: 5000,
    query_timeout: 30_000,
    lock_timeout: 10_000,
    stream: () => socket,
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    // After a crash another server may use the port, and it may accept any password.
    const { rows } = await client.query<{ lock: string }>("select pg_read_file('postmaster.pid') as lock")
    if (Number(rows[0]?.lock.split('\n')[0]) !== server.pid)
      throw new Error(`port ${server.port} belongs to another server`)
    return { client, socket }
  } catch (error) {
    socket.destroy()
    throw error
  }
}

const makeUrl = (user: keyof Cluster['passwords'], { passwords }: Cluster, { port }: Postmaster) =>
  `postgres://${user}:${passwords[user]}@127.0.0.1:${port}/${user}`

/** Creates the role, the database and the URL file. Takes the lock, so that it conflicts with no other process, nor with a shutdown. */
const provide = async (cluster: Cluster, server: Postmaster, client: pg.Client) => {
  await client.query('select pg_advisory_lock($1)', [LOCK])
  // Postgres would log a failing statement including the password.
  await client.query('set log_min_error_statement = panic')
  const role = await client.query("select from pg_roles where rolname = 'deck'")
  if (!role.rowCount) {
    await client.query(`create role deck with login password ${client.escapeLiteral(cluster.passwords.deck)}`)
  }
  const database = await client.query("select from pg_database where datname = 'deck'")
  if (!database.rowCount) await client.query('create database deck owner deck')
  const path = join(dirname(cluster.dir), 'url')
  const draft = `${path}.${randomBytes(4).toString('hex')}`
  try {
    await writeFile(draft, `${makeUrl('deck', cluster, server)}\n`, { mode: 0o600, flag: 'wx' })
    await rename(draft, path)
  } finally {
    await rm(draft, { force: true })
  }
  await client.query('select pg_advisory_unlock($1)', [LOCK])
}

const enter = async (cluster: Cluster, server: Postmaster) => {
  const keeper = await connect(cluster, server)
  try {
    await provide(cluster, server, keeper.client)
    return keeper
  } catch (error) {
    keeper.socket.destroy()
    throw error
  }
}

/** Connects to the running server, or launches one and connects to it. Retries until a connection succeeds or time runs out. */
const reach = async (cluster: Cluster) => {
  const begun = Date.now()
  let launched: Launched | undefined
  let problem = ''
  for (;;) {
    const server = await cluster.running()
    if (server?.status === 'ready') {
      try {
        const keeper = await enter(cluster, server)
        return { server, keeper, joined: server.pid !== launched?.pid }
      } catch (error) {
        problem = error instanceof Error ? error.message : String(error)
      }
    }
    const end = await launched?.ended()
    if (end) {
      // Exit code 0: another process joined the server and stopped it before this process could connect.
      if (end.code !== 0 && !RACES.test(end.log))
        throw new Error(`Postgres did not start in ${cluster.dir}:\n${end.log}`)
      problem = end.log
      launched = undefined
    }
    // Recovery after a crash may take long.
    const patience = launched || server?.status === 'starting' ? 60_000 : 15_000
    if (Date.now() - begun > patience) {
      const holder = server && `Process ${server.pid} (${server.status}) holds ${cluster.dir} but does not let us in`
      throw new Error(`${holder ?? `Postgres did not start in ${cluster.dir}`}: ${problem}`)
    }
    if (!server && !launched) launched = await cluster.launch()
    await sleep(problem ? 100 : 20)
  }
}

/** Makes other processes ignore this connection, which may take a moment to close. */
const unname = (client: pg.Client) => client.query("set application_name = 'left'")

/** Takes the lock and returns whether no other process uses the cluster. Waits up to a second for connections that are closing. */
const isLastOne = async (client: pg.Client) => {
  await client.query('select pg_advisory_lock($1)', [LOCK])
  const deadline = Date.now() + 1000
  for (;;) {
    const { rows } = await client.query<{ name: string }>(
      `select application_name as name from pg_stat_activity where backend_type = 'client backend'
        and pid <> pg_backend_pid() and application_name like 'mission-deck%'`,
    )
    if (!rows.length) return true
    const living = rows.some(({ name }) => name.startsWith(KEEPER) && isAlive(Number(name.slice(KEEPER.length))))
    if (living || Date.now() > deadline) break
    await sleep(20)
  }
  await unname(client)
  return false
}

/** Stops the server if this process is the last one. The lock is held until the server has ended, so that no process can join it. */
const leave = async (cluster: Cluster, keeper: Keeper) => {
  const server = await cluster.running()
  if (!server) return
  const keepers = [keeper]
  const again = async () => {
    const second = await connect(cluster, server)
    keepers.push(second)
    return isLastOne(second.client)
  }
  const unlessGone = async (error: unknown) => {
    if ((await cluster.running())?.status === 'ready') throw error
    return false
  }
  try {
    const last = await isLastOne(keeper.client).catch(again).catch(unlessGone)
    if (last) await cluster.stop(server.pid)
  } finally {
    for (const { socket } of keepers) socket.destroy()
  }
}

export const startEmbedded = async (options: {
  dir: string
  settings?: Record<string, string>
  /** leave the cluster running at stop() */
  linger?: boolean
}): Promise<Embedded> => {
  const cluster = await openCluster(resolve(options.dir), options.settings ?? {})
  const { server, keeper, joined } = await reach(cluster)
  keeper.socket.unref()
  let left: Promise<void> | undefined
  const stop = async () => {
    keeper.socket.ref()
    if (options.linger) await unname(keeper.client).catch(() => undefined)
    else await leave(cluster, keeper)
    keeper.socket.destroy()
  }
  const urls = { url: makeUrl('deck', cluster, server), adminUrl: makeUrl('postgres', cluster, server) }
  return { ...urls, joined, stop: () => (left ??= stop()) }
}
