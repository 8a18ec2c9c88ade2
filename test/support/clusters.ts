// Postgres clusters for one test, from the embedded binaries: started, given a standby, and stopped at the end of the test.
import { appendFile, chmod, chown, cp, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative, sep } from 'node:path'
import pg from 'pg'
import type { Test } from 'tap'
import { openCluster, type Cluster } from '../../src/database/embedded/cluster.ts'
import { until } from './server.ts'

const isRoot = process.getuid?.() === 0

export const connectTo = async (t: Test, connectionString: string): Promise<pg.Client> => {
  const client = new pg.Client({ connectionString, application_name: 'mission-deck test' })
  client.on('error', () => undefined)
  await client.connect()
  t.teardown(() => client.end())
  return client
}

export const settings = { fsync: 'off', shared_buffers: '16MB', max_connections: '50', autovacuum: 'off' }

/** A folder that the user who runs Postgres in place of root can traverse. It is removed at the end of the test. */
export const makePlace = async (t: Test) => {
  const place = await mkdtemp(join(tmpdir(), 'mission-deck-'))
  await chmod(place, 0o711)
  t.teardown(() => rm(place, { recursive: true, force: true }))
  return place
}

/** Starts a cluster, and stops it at the end of the test. */
export const start = async (t: Test, cluster: Cluster) => {
  const stop = async () => {
    const running = await cluster.running()
    if (running) await cluster.stop(running.pid)
  }
  t.teardown(stop)
  let launched = await cluster.launch()
  await until(
    async () => {
      const end = await launched.ended()
      // A different process took the port.
      if (end && /could not bind|could not create any TCP/.test(end.log)) launched = await cluster.launch()
      else if (end) throw new Error(end.log)
      return (await cluster.running())?.status === 'ready'
    },
    'Postgres to start',
    30_000,
  )
  const port = (await cluster.running())?.port ?? 0
  const url = (user: keyof Cluster['passwords'], database: string) =>
    `postgres://${user}:${cluster.passwords[user]}@127.0.0.1:${port}/${database}`
  const admin = await connectTo(t, url('postgres', 'postgres'))
  return { ...cluster, port, url, admin, stop }
}
export type Started = Awaited<ReturnType<typeof start>>

/** Creates the role `deck` and databases that it owns. */
export const provide = async ({ admin, passwords }: Started, ...names: string[]) => {
  await admin.query(`create role deck login password '${passwords.deck}'`)
  for (const name of names) await admin.query(`create database ${name} owner deck`)
}

/** Makes a base backup with the low-level API and configures it as a standby of its original. */
export const makeStandby = async ({ dir: from, admin, port, passwords }: Started, dir: string): Promise<Cluster> => {
  const left = /^(postmaster\..*|server\.log|pg_wal\/.*)$|(^|\/)(pg_internal\.init.*|pgsql_tmp.*)$/
  await admin.query(`select pg_backup_start('test', true)`)
  await cp(from, dir, { recursive: true, filter: (path) => !left.test(relative(from, path).split(sep).join('/')) })
  const { rows } = await admin.query<{ labelfile: string }>('select labelfile from pg_backup_stop(false)')
  await writeFile(join(dir, 'backup_label'), rows[0]?.labelfile ?? '')
  await writeFile(join(dir, 'standby.signal'), '')
  await appendFile(
    join(dir, 'postgresql.auto.conf'),
    `primary_conninfo = 'host=127.0.0.1 port=${port} user=postgres password=${passwords.postgres} sslmode=disable'\n`,
  )
  await chmod(dir, 0o700)
  const { uid, gid } = await stat(from)
  for (const path of isRoot ? ['.', ...(await readdir(dir, { recursive: true }))] : [])
    await chown(join(dir, path), uid, gid)
  return openCluster(dir, settings)
}
