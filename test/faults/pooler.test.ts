// A transaction pooler between: one that keeps no prepared statements is known at the start and refused in one sentence, before a message
// is lost by it; the doctor says so, too, and prints what the role has to be given.
// Runs where there is a pgbouncer; one before 1.21 is refused, a later one is used.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { makePlace } from '../clusters.ts'
import { freshDatabase } from '../database.ts'
import { alice, makeMission, startInstance, until } from '../helper.ts'
import pg from 'pg'

const told = await promisify(execFile)('pgbouncer', ['--version']).catch(() => undefined)
const [, major = 0, minor = 0] = (/PgBouncer (\d+)\.(\d+)/.exec(told?.stdout ?? '') ?? []).map(Number)
const skip = told ? false : 'no pgbouncer on this machine'
const keeps = major > 1 || minor >= 21

/** A transaction pooler before a database; -> the URL through it. */
const startPooler = async (t: Test, database: string, size: number): Promise<string> => {
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
pool_mode = transaction
default_pool_size = ${size}
ignore_startup_parameters = options,statement_timeout,lock_timeout,idle_in_transaction_session_timeout
${keeps ? 'max_prepared_statements = 200\n' : ''}`,
  )
  await chmod(file, 0o644)
  // It refuses to run as root.
  const child = spawn('pgbouncer', ['-q', ...(process.getuid?.() === 0 ? ['-u', 'nobody'] : []), file], {
    stdio: 'ignore',
  })
  t.teardown(async () => {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  })
  const url = `postgres://any@127.0.0.1:${port}/deck?sslmode=disable`
  await until(async () => {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => {})
    return client.connect().then(
      () => client.end().then(() => true),
      () => false,
    )
  }, 'the pooler')
  return url
}

for (const size of [1, 5])
  void t.test(`a start through a pooler of ${size} sessions`, { skip }, async (t) => {
    const database = await freshDatabase(t, true)
    const url = await startPooler(t, database.url, size)
    const start = startInstance(t, url, { databaseDirectUrl: database.url })
    if (!keeps) return t.rejects(start, /keeps no prepared statements: PgBouncer needs version 1.21/)
    const instance = await start
    const { id } = await makeMission(instance)
    const client = await instance.connect(alice)
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, n) =>
        client.ask({ type: 'send', topic: `missions/${id}/chat/c${n % 20}`, message: `${n}`, key: `${n}` }),
      ),
    )
    t.ok(answers.every(({ type }) => type === 'ok'))
  })
