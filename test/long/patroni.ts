// Two Postgres servers under Patroni, with etcd, behind HAProxy, all from Debian's packages, on this machine: a usual high-availability
// setup. Each is a separate process that a test may stop, freeze and kill.
import { spawn, execFile, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, connect as dial, type Socket } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import type { Test } from 'tap'
import { makePlace } from '../support/clusters.ts'
import { until } from '../support/server.ts'

const run = promisify(execFile)
const bins = {
  patroni: '/usr/bin/patroni',
  haproxy: '/usr/sbin/haproxy',
  etcd: '/usr/bin/etcd',
  postgres: '/usr/lib/postgresql/15/bin/postgres',
}

/** Returns the programs of the packages patroni, haproxy, etcd-server and postgresql-15 that are not installed. */
export const missing = (): string[] => Object.values(bins).filter((file) => !existsSync(file))

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })

/** A proxy to a Postgres server, for replication: the standby connects through it, and a test can cut it. */
const makeWay = async (t: Test, to: number) => {
  const sockets = new Set<Socket>()
  const way = {
    port: 0,
    open: true,
    /** Stops all traffic without closing a socket. */
    cut() {
      way.open = false
      for (const socket of sockets) socket.unpipe().pause()
    },
    close() {
      way.open = false
      for (const socket of sockets) socket.destroy()
    },
  }
  const server = createServer((socket) => {
    if (!way.open) {
      sockets.add(socket)
      return void socket.on('error', () => {}).on('close', () => sockets.delete(socket))
    }
    const there = dial(to, '127.0.0.1')
    for (const end of [socket, there]) {
      sockets.add(end)
      end
        .on('error', () => {})
        .on('close', () => {
          sockets.delete(end)
          socket.destroy()
          there.destroy()
        })
    }
    socket.pipe(there).pipe(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  way.port = (server.address() as { port: number }).port
  t.teardown(() => {
    way.close()
    server.close()
  })
  return way
}

export type Node = {
  name: string
  port: number
  api: number
  /** The proxy through which the standby replicates. */
  way: { cut(): void }
  patroni: ChildProcess
  /** Returns the process IDs of its Postgres. */
  postgres(): Promise<number[]>
}

/** Returns a process and its descendants. */
const family = async (root: number): Promise<number[]> => {
  const parents = new Map<number, number>()
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '')
    parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
  }
  const found = [root]
  for (const each of found) for (const [pid, parent] of parents) if (parent === each) found.push(pid)
  return found
}

const signal = (pids: number[], name: NodeJS.Signals): void => {
  for (const pid of pids)
    try {
      process.kill(pid, name)
    } catch {}
}

/** `shutdown`: HAProxy ends the sessions of a server that is no longer the primary. */
export const startPatroni = async (t: Test, { shutdown }: { shutdown: boolean }) => {
  const place = await makePlace(t)
  const ids = (await run('id', ['-u', 'postgres'])).stdout.trim()
  const uid = Number(ids)
  const password = 'of a test'
  const launch = (file: string, args: string[]): ChildProcess => {
    const child = spawn(file, args, {
      cwd: place,
      uid,
      gid: uid,
      env: { PATH: '/usr/bin:/bin', LC_ALL: 'C.UTF-8' },
      stdio: 'ignore',
    })
    const exited = once(child, 'exit')
    t.teardown(async () => {
      child.kill('SIGKILL')
      await exited
    })
    return child
  }
  await chown(place, uid, uid)
  await chmod(place, 0o755)
  const [client, peer, front] = [await freePort(), await freePort(), await freePort()]
  launch(bins.etcd, [
    ...['--data-dir', join(place, 'etcd'), '--name', 'e', '--initial-cluster', `e=http://127.0.0.1:${peer}`],
    ...['--initial-advertise-peer-urls', `http://127.0.0.1:${peer}`, '--listen-peer-urls', `http://127.0.0.1:${peer}`],
    ...['--listen-client-urls', `http://127.0.0.1:${client}`, '--advertise-client-urls', `http://127.0.0.1:${client}`],
  ])
  await until(
    () =>
      fetch(`http://127.0.0.1:${client}/health`).then(
        ({ ok }) => ok,
        () => false,
      ),
    'etcd',
    20_000,
  )
  const nodes: Node[] = []
  const startNode = async (name: string): Promise<Node> => {
    const [port, api] = [await freePort(), await freePort()]
    const way = await makeWay(t, port)
    const dir = join(place, name)
    await mkdir(dir)
    await chown(dir, uid, uid)
    const config = {
      scope: 'deck',
      name,
      restapi: { listen: `127.0.0.1:${api}`, connect_address: `127.0.0.1:${api}` },
      etcd3: { host: `127.0.0.1:${client}` },
      bootstrap: {
        dcs: {
          ttl: 20,
          loop_wait: 2,
          retry_timeout: 3,
          synchronous_mode: true,
          postgresql: { use_pg_rewind: true, parameters: { wal_log_hints: 'on', fsync: 'off', max_connections: 100 } },
        },
        initdb: [{ encoding: 'UTF8' }, { locale: 'C.UTF-8' }],
        pg_hba: ['local all all trust', 'host all all 127.0.0.1/32 trust', 'host replication all 127.0.0.1/32 trust'],
      },
      postgresql: {
        listen: `127.0.0.1:${port}`,
        connect_address: `127.0.0.1:${way.port}`,
        data_dir: join(dir, 'data'),
        bin_dir: bins.postgres.replace(/\/postgres$/, ''),
        authentication: {
          superuser: { username: 'postgres', password },
          replication: { username: 'replicator', password },
          rewind: { username: 'postgres', password },
        },
        parameters: { unix_socket_directories: dir },
      },
    }
    // JSON is YAML.
    await writeFile(join(dir, 'patroni.yml'), JSON.stringify(config))
    const patroni = launch('/usr/bin/python3', [bins.patroni, join(dir, 'patroni.yml')])
    const node: Node = {
      name,
      port,
      api,
      way,
      patroni,
      async postgres() {
        const file = await readFile(join(dir, 'data/postmaster.pid'), 'utf8').catch(() => '')
        const pid = Number(file.split('\n')[0])
        return pid > 0 ? family(pid) : []
      },
    }
    t.teardown(async () => {
      const all = [...(await family(patroni.pid ?? 0)), ...(await node.postgres())]
      signal(all, 'SIGCONT')
      signal(all, 'SIGKILL')
      await until(() => all.every((pid) => !existsSync(`/proc/${pid}`) || pid === patroni.pid), 'Postgres to end')
    })
    nodes.push(node)
    return node
  }
  const role = async ({ api }: Node): Promise<string> =>
    fetch(`http://127.0.0.1:${api}/`, { signal: AbortSignal.timeout(1000) })
      .then((answer) => answer.json() as Promise<{ role?: string; state?: string }>)
      .then(
        ({ role = '', state }) => (state === 'running' ? role : ''),
        () => '',
      )
  const isLeader = async (node: Node): Promise<boolean> => ['master', 'primary'].includes(await role(node))

  const first = await startNode('a')
  await until(() => isLeader(first), 'the first server to be the primary', 60_000)
  const second = await startNode('b')
  await until(async () => (await role(second)) === 'replica', 'the second server to be a replica', 60_000)

  const more = shutdown ? ' on-marked-down shutdown-sessions' : ''
  await writeFile(
    join(place, 'haproxy.cfg'),
    `defaults
  mode tcp
  timeout connect 2s
  timeout client 30m
  timeout server 30m
listen postgres
  bind 127.0.0.1:${front}
  option httpchk OPTIONS /primary
  http-check expect status 200
  default-server inter 1s fall 2 rise 1${more}
${nodes.map(({ name, port, api }) => `  server ${name} 127.0.0.1:${port} check port ${api}\n`).join('')}`,
  )
  launch(bins.haproxy, ['-f', join(place, 'haproxy.cfg')])

  const query = async <Row extends pg.QueryResultRow>(text: string, port = front): Promise<Row[]> => {
    const client = new pg.Client({
      host: '127.0.0.1',
      port,
      user: 'postgres',
      database: 'postgres',
      connectionTimeoutMillis: 2000,
    })
    client.on('error', () => {})
    try {
      await client.connect()
      return (await client.query<Row>(text)).rows
    } finally {
      await client.end().catch(() => {})
    }
  }
  await until(async () => (await query('select').catch(() => [])).length === 1, 'the primary through HAProxy', 20_000)
  await until(
    async () => {
      const answer = await fetch(`http://127.0.0.1:${first.api}/cluster`)
      return ((await answer.json()) as { members: { role: string }[] }).members.some(
        ({ role }) => role === 'sync_standby',
      )
    },
    'the standby to be synchronous',
    60_000,
  )
  await query('create role deck login')
  await query('create database deck owner deck')
  const url = (port = front): string => `postgres://deck@127.0.0.1:${port}/deck?sslmode=disable`

  return {
    nodes,
    url,
    query,
    role,
    /** Returns the primary and the standby. */
    async places(): Promise<[primary: Node, standby: Node]> {
      return (await isLeader(first)) ? [first, second] : [second, first]
    },
    isLeader,
    /** Kills only Patroni, or its Postgres too. */
    async kill(node: Node, what: 'patroni' | 'all') {
      const postgres = await node.postgres()
      signal([node.patroni.pid ?? 0, ...(what === 'all' ? postgres : [])], 'SIGKILL')
    },
    async freeze(node: Node): Promise<() => void> {
      const all = [node.patroni.pid ?? 0, ...(await node.postgres())]
      signal(all, 'SIGSTOP')
      return () => signal(all, 'SIGCONT')
    },
    async switchover(): Promise<void> {
      const [primary, standby] = await this.places()
      const answer = await fetch(`http://127.0.0.1:${primary.api}/switchover`, {
        method: 'POST',
        body: JSON.stringify({ leader: primary.name, candidate: standby.name }),
      })
      if (!answer.ok) throw new Error(await answer.text())
    },
  }
}
