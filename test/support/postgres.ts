// A Postgres cluster for tests that stop, kill or freeze it, in a temporary folder that is removed with the test.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import type { Test } from 'tap'
import { openCluster } from '../../src/database/embedded/cluster.ts'
import { until } from './server.ts'

export type OwnPostgres = {
  /** the port it listens on; it changes with each start */
  port(): number
  /** connection string of its superuser */
  url(): string
  start(): Promise<void>
  /** Stops it immediately, like a crash. It recovers at the next start. */
  crash(): Promise<void>
  /** Freezes or thaws all its processes. */
  freeze(): Promise<void>
  thaw(): void
  /** Runs a statement on a new connection; the cluster must be up. */
  query<Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<Row[]>
}

/** The IDs of a process and its children. */
const family = async (parent: number): Promise<number[]> => {
  const found = [parent]
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '')
    if (Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent) found.push(Number(name))
  }
  return found
}

export const startPostgres = async (t: Test): Promise<OwnPostgres> => {
  const folder = await mkdtemp(join(tmpdir(), 'mission-deck-faults-'))
  const cluster = await openCluster(join(folder, 'postgres'), { fsync: 'off', max_connections: '200' })
  let pid = 0
  let port = 0
  let frozen: number[] = []
  const signal = (pids: number[], name: NodeJS.Signals): void => {
    for (const pid of pids)
      try {
        process.kill(pid, name)
      } catch {}
  }
  const url = (): string =>
    `postgres://postgres:${cluster.passwords.postgres}@127.0.0.1:${port}/postgres?sslmode=disable`

  const own: OwnPostgres = {
    port: () => port,
    url,
    async start() {
      const launched = await cluster.launch()
      await until(
        async () => {
          const end = await launched.ended()
          if (end) throw new Error(end.log)
          const running = await cluster.running()
          if (running?.status !== 'ready') return false
          ;({ pid, port } = running)
          return true
        },
        'Postgres to start',
        30_000,
      )
    },
    async crash() {
      signal([pid], 'SIGQUIT')
      await until(async () => (await cluster.running()) === undefined, 'Postgres to stop')
    },
    async freeze() {
      frozen = await family(pid)
      signal(frozen, 'SIGSTOP')
    },
    thaw: () => signal(frozen.splice(0), 'SIGCONT'),
    async query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []) {
      const client = new pg.Client({ connectionString: url(), application_name: 'mission-deck test' })
      client.on('error', () => {})
      await client.connect()
      try {
        return (await client.query<Row>(text, values)).rows
      } finally {
        await client.end()
      }
    },
  }
  t.teardown(async () => {
    own.thaw()
    const running = await cluster.running()
    if (running) await cluster.stop(running.pid)
    await rm(folder, { recursive: true, force: true })
  })
  await own.start()
  return own
}
