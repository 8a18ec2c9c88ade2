// A transaction pooler in front of Postgres. A pooler that keeps no prepared statements is refused at the start, in one sentence.
// The doctor reports it too, and prints the settings that the role needs.
// With a pooler that keeps prepared statements, faults of the pooler and of the database behind it lose nothing.
// Runs if pgbouncer is installed. A version before 1.21 must be refused; a later one is used.
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { missingSettings } from '../../src/database/postgres/session-settings.ts'
import { openCluster } from '../../src/database/embedded/cluster.ts'
import { deck } from '../support/cli.ts'
import { connectTo, makePlace, provide, settings, start } from '../support/clusters.ts'
import { makeMission, realDeadlines, secret, startInstance, until } from '../support/server.ts'
import { judge, startClient, startSender } from './failover.ts'
import { startProxy } from '../support/database-proxy.ts'
import pg from 'pg'

const version = await promisify(execFile)('pgbouncer', ['--version']).catch(() => undefined)
const [, major = 0, minor = 0] = (/PgBouncer (\d+)\.(\d+)/.exec(version?.stdout ?? '') ?? []).map(Number)
const skip = version ? false : 'no pgbouncer on this machine'
const keeps = major > 1 || minor >= 21

/** Starts a transaction pooler in front of a database. `restart()` kills it and starts it again. */
const startPooler = async (t: Test, database: string, size: number) => {
  const place = await makePlace(t)
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  probe.close()
  const { hostname, port: behind, username, password, pathname } = new URL(database)
  const file = join(place, 'pgbouncer.ini')
  await writeFile(
    file,
    `[databases]
deck = host=${hostname} port=${behind} dbname=${pathname.slice(1)} user=${username} password=${decodeURIComponent(password)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
server_tls_sslmode = disable
server_login_retry = 1
pool_mode = transaction
default_pool_size = ${size}
ignore_startup_parameters = options,statement_timeout,lock_timeout,idle_in_transaction_session_timeout
${keeps ? 'max_prepared_statements = 200\n' : ''}`,
  )
  await chmod(file, 0o644)
  const url = `postgres://any@127.0.0.1:${port}/deck?sslmode=disable`
  let child: ChildProcess | undefined
  const stop = async (): Promise<void> => {
    if (!child) return
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
  t.teardown(stop)
  const restart = async (): Promise<void> => {
    await stop()
    // It refuses to run as root.
    child = spawn('pgbouncer', ['-q', ...(process.getuid?.() === 0 ? ['-u', 'nobody'] : []), file], { stdio: 'ignore' })
    await until(async () => {
      const client = new pg.Client({ connectionString: url })
      client.on('error', () => {})
      return client.connect().then(
        () => client.end().then(() => true),
        () => false,
      )
    }, 'the pooler')
  }
  await restart()
  return { url, restart }
}

/** A cluster for this test, behind a proxy with a constant address and a pooler. */
const begin = async (t: Test, size: number) => {
  const place = await makePlace(t)
  const postgres = await start(t, await openCluster(join(place, 'postgres'), settings))
  await provide(postgres, 'deck')
  const proxy = await startProxy(t)
  const direct = proxy.url(postgres.url('deck', 'deck'))
  return { postgres, proxy, direct, pooler: await startPooler(t, direct, size) }
}

void t.test('doctor: names the PgBouncer version, or the settings that the role needs', { skip }, async (t) => {
  const { direct, pooler } = await begin(t, 5)
  const env = { DATABASE_URL: pooler.url, DATABASE_DIRECT_URL: direct, JWT_SECRET: secret }
  const lines = async (): Promise<string[]> =>
    (await deck(t, ['doctor'], env)).out.split('\n').map((line) => line.trim())
  if (!keeps) {
    t.match((await lines()).join('\n'), 'PgBouncer needs version 1.21')
    return
  }
  const client = await connectTo(t, direct)
  const statements = (await lines()).filter((line) => line.startsWith('alter role'))
  t.ok(statements.length > 5, statements.join('\n'))
  for (const line of statements) await client.query(line)
  await pooler.restart()
  const pool = new pg.Pool({ connectionString: pooler.url })
  t.teardown(() => pool.end())
  t.strictSame(await missingSettings(pool), [])
  t.strictSame(
    (await lines()).filter((line) => line.startsWith('alter role')),
    [],
  )
})

for (const size of [1, 5])
  void t.test(`pooler: with ${size} sessions, its faults and those of Postgres lose nothing`, { skip }, async (t) => {
    const { postgres, proxy, direct, pooler } = await begin(t, size)
    const starting = startInstance(t, pooler.url, { databaseDirectUrl: direct, limits: realDeadlines })
    if (!keeps) return t.rejects(starting, /keeps no prepared statements: PgBouncer needs version 1.21/)
    const instance = await starting
    const { id } = await makeMission(instance)
    const senders = [
      ...Array.from({ length: 10 }, (_, n) => startSender(() => instance, `missions/${id}/chat/c${n}`)),
      startClient(instance.url, `missions/${id}/chat/client`),
    ]
    const more = async (what: string): Promise<void> => {
      const before = senders.map(({ acknowledged }) => acknowledged.size)
      await until(
        () => senders.every(({ acknowledged }, i) => acknowledged.size >= (before[i] ?? 0) + 20),
        `20 more of each sender: ${what}`,
        30_000,
      )
    }
    await more('at the start')
    await postgres.admin.query(`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'deck'`)
    await more('after the backends were terminated')
    await pooler.restart()
    await more('after the pooler was killed')
    await postgres.stop()
    const again = await start(t, postgres)
    proxy.port = again.port
    await more('after Postgres restarted')
    // Only a socket whose mission was being read may be closed. LISTEN bypasses the pooler and is reopened without closing sockets.
    await judge(t, senders, again.url('deck', 'deck'))
  })
