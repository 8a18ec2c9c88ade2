// npm run bench [W1 …] [-- target …]: measures workloads on targets, one after the other, and prints a table.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { startEmbedded } from '../src/log/embedded.ts'
import type { Plan, Result, Run, Told } from './load.ts'
import { cpuOf, cpuOfFamily, memoryOf } from './system.ts'
import { pidOfPostgres, startDeck, startPeer, type Postgres, type Target } from './targets.ts'

const here = fileURLToPath(new URL('.', import.meta.url))
const root = fileURLToPath(new URL('../../../', import.meta.url))

type Sockets = Plan['sockets']
export type Figures = Result & { server: number; postgres: number; memory: number }

const measure = async (target: Target, postgres: Postgres, sockets: Sockets) => {
  const child = fork(`${here}load.js`, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const told = async <K extends string>(what: K): Promise<Extract<Told, Record<K, unknown>>> => {
    for (;;) {
      const [message] = (await Promise.race([
        once(child, 'message'),
        once(child, 'exit').then(() => Promise.reject(new Error('the load ended'))),
      ])) as [Told]
      if (what in message) return message as Extract<Told, Record<K, unknown>>
    }
  }
  const before = memoryOf(target.pids[0] ?? 0)
  child.send({ plan: { target: target.adapter, token: target.token, sockets } satisfies Plan })
  await told('ready')
  return {
    before,
    async run(run: Run): Promise<Figures> {
      child.send({ run })
      await told('begun')
      const start = { server: cpuOf(target.pids), postgres: cpuOfFamily(postgres.pid) }
      await told('over')
      const server = cpuOf(target.pids) - start.server
      const used = cpuOfFamily(postgres.pid) - start.postgres
      const { result } = await told('result')
      return { ...result, server, postgres: used, memory: 0 }
    },
    async end() {
      child.send({ end: true })
      await once(child, 'exit')
    },
  }
}

/** 20 topics with 5 subscribers each, 50 of whom publish. */
const busy = ({ urls: [url = ''], topics }: Target): Sockets =>
  Array.from({ length: 100 }, (_, n) => ({ url, topic: topics[n % 20] ?? '', publishes: n < 50, listens: true }))

const hot = ({ urls: [url = ''], topics: [topic = ''] }: Target): Sockets =>
  Array.from({ length: 1000 }, (_, n) => ({ url, topic, publishes: n === 0, listens: true }))

const across = ({ urls: [a = '', b = ''], topics }: Target): Sockets => [
  ...Array.from({ length: 50 }, (_, n) => ({ url: a, topic: topics[n % 20] ?? '', publishes: true, listens: false })),
  ...Array.from({ length: 100 }, (_, n) => ({ url: b, topic: topics[n % 20] ?? '', publishes: false, listens: true })),
]

const once_ = async (target: Target, postgres: Postgres, sockets: Sockets, run: Run): Promise<Figures> => {
  const load = await measure(target, postgres, sockets)
  const figures = await load.run(run)
  await load.end()
  return figures
}

const round = (n: number, digits = 1): string => n.toFixed(digits)
const faults = ({ lost, doubles, disorder, torn, errors, closed }: Figures): string =>
  `lost ${lost}, doubles ${doubles}, disorder ${disorder}, torn ${torn}, errors ${errors}, closed ${closed.length} ${closed[0] ?? ''}`

const workloads: Record<
  string,
  (start: (instances: number, topics: number) => Promise<Target>, postgres: Postgres) => Promise<void>
> = {
  async W1(start, postgres) {
    const target = await start(1, 20)
    const f = await once_(target, postgres, busy(target), { closed: 8, bytes: 200, warm: 2, seconds: 6 })
    await target.stop()
    process.stdout.write(
      `W1 ${target.name}: ${round(f.messages / f.seconds, 0)} messages/s, ${round(f.deliveries / f.seconds, 0)} deliveries/s, p50 ${round(f.p50)} p99 ${round(f.p99)} ms, ` +
        `CPU ${round(f.server / f.messages)} + ${round(f.postgres / f.messages)} µs (load ${round(f.cpu)}); ${faults(f)}\n`,
    )
  },
  async W2(start, postgres) {
    const target = await start(1, 20)
    const f = await once_(target, postgres, busy(target), { rate: 500, bytes: 200, warm: 2, seconds: 6 })
    await target.stop()
    process.stdout.write(
      `W2 ${target.name}: ${round(f.messages / f.seconds, 0)} messages/s, p50 ${round(f.p50)} p99 ${round(f.p99)} ms, CPU ${round(f.server / f.messages)} + ${round(f.postgres / f.messages)} µs; ${faults(f)}\n`,
    )
  },
  async W3(start, postgres) {
    const target = await start(1, 20)
    const f = await once_(target, postgres, hot(target), { rate: 20, bytes: 200, warm: 2, seconds: 6 })
    await target.stop()
    process.stdout.write(
      `W3 ${target.name}: ${round(f.deliveries / f.seconds, 0)} deliveries/s, p50 ${round(f.p50)} p99 ${round(f.p99)} ms, server ${round(f.server / f.deliveries, 2)} µs/delivery; ${faults(f)}\n`,
    )
  },
  async W4(start, postgres) {
    const target = await start(1, 20)
    const sockets = Array.from({ length: 5000 }, (_, n) => ({
      url: target.urls[0] ?? '',
      topic: target.topics[n % 20] ?? '',
      publishes: false,
      listens: true,
    }))
    const load = await measure(target, postgres, sockets)
    await delay(3000)
    const grown = memoryOf(target.pids[0] ?? 0) - load.before
    await load.end()
    await target.stop()
    process.stdout.write(`W4 ${target.name}: ${round(grown / 5000 / 1024)} KB/socket\n`)
  },
  async W5(start, postgres) {
    const target = await start(2, 20)
    const load = await measure(target, postgres, across(target))
    let best = 0
    let line = ''
    for (const rate of (process.env['W5'] ?? '500,1000,1500,2000,3000,5000,8000,10000,12000,15000,17000,20000,23000')
      .split(',')
      .map(Number)) {
      const f = await load.run({ rate, bytes: 200, warm: 1, seconds: 3 })
      const share = f.deliveries / (rate * f.seconds * 5)
      process.stdout.write(
        `   ${rate}: ${round(share * 100)} % in time, p99 ${round(f.p99)}, CPU ${round(f.server / f.messages)} + ${round(f.postgres / f.messages)} (load ${round(f.cpu)}); ${faults(f)}\n`,
      )
      if (share < 0.98 || f.p99 > 250) break
      best = rate
      line = `p99 ${round(f.p99)} ms, CPU ${round(f.server / f.messages)} + ${round(f.postgres / f.messages)} µs; ${faults(f)}`
    }
    await load.end()
    await target.stop()
    process.stdout.write(`W5 ${target.name}: ${best} messages/s, ${line}\n`)
  },
}

const dir = `${root}.data/bench/postgres`
const embedded = await startEmbedded({ dir, settings: { max_connections: '100' } })
const admin = new pg.Client({ connectionString: embedded.adminUrl })
await admin.connect()
const { rows } = await admin.query<{ dir: string }>(`select current_setting('data_directory') as dir`)
await admin.end()
const postgres: Postgres = { adminUrl: embedded.adminUrl, pid: pidOfPostgres(rows[0]?.dir ?? dir) }

const asked = process.argv.slice(2)
const targets = { deck: 'deck', socketio: 'socketio', tutorial: 'tutorial' } as const
const chosen = Object.values(targets).filter((name) => !asked.some((a) => a in targets) || asked.includes(name))
try {
  for (const [name, workload] of Object.entries(workloads)) {
    if (asked.some((a) => a in workloads) && !asked.includes(name)) continue
    for (const target of chosen)
      await workload(
        (instances, topics) =>
          target === 'deck' ? startDeck(postgres, instances, topics) : startPeer(postgres, target, instances, topics),
        postgres,
      )
  }
} finally {
  await embedded.stop()
}
