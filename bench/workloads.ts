// The workloads W1 to W5, each on a fresh target; what is measured of each, with loss, doubles and disorder.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Plan, Result, Run, Told } from './load.ts'
import { cpuOf, cpuOfFamily, memoryOf } from './system.ts'
import { startDeck, startPeer, type Postgres, type Target } from './targets.ts'

const here = fileURLToPath(new URL('.', import.meta.url))

type Sockets = Plan['sockets']
/** What the load saw, and the µs of CPU that server and Postgres used meanwhile, in all. */
export type Figures = Result & { server: number; postgres: number }

export type Row = {
  workload: string
  target: Plan['target']
  /** in the order of the columns */
  figures: Record<string, number>
  faults: { lost: number; doubles: number; disorder: number; errors: number; closed: number }
}

/** Opens sockets to a target from a process of its own. */
export const openLoad = async (target: Target, postgres: Postgres, sockets: Sockets) => {
  const child = fork(`${here}load.js`, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const gone = once(child, 'exit')
  const told = async <K extends string>(what: K): Promise<Extract<Told, Record<K, unknown>>> => {
    for (;;) {
      const [message] = (await Promise.race([
        once(child, 'message'),
        gone.then(() => Promise.reject(new Error('the load ended'))),
      ])) as [Told]
      if (what in message) return message as Extract<Told, Record<K, unknown>>
    }
  }
  child.send({ plan: { target: target.adapter, token: target.token, sockets } satisfies Plan })
  await told('ready')
  return {
    async run(run: Run): Promise<Figures> {
      child.send({ run })
      await told('begun')
      const server = cpuOf(target.pids)
      const used = cpuOfFamily(postgres.pid)
      await told('over')
      const spent = { server: cpuOf(target.pids) - server, postgres: cpuOfFamily(postgres.pid) - used }
      return { ...(await told('result')).result, ...spent }
    },
    async end(): Promise<void> {
      child.send({ end: true })
      await gone
    },
  }
}

/** 20 topics with 5 subscribers each, 50 of whom publish. */
const busy = ({ urls: [url = ''], topics }: Target): Sockets =>
  Array.from({ length: 100 }, (_, n) => ({ url, topic: topics[n % 20] ?? '', publishes: n < 50, listens: true }))

/** One topic with 1,000 subscribers, one of whom publishes. */
const hot = ({ urls: [url = ''], topics: [topic = ''] }: Target): Sockets =>
  Array.from({ length: 1000 }, (_, n) => ({ url, topic, publishes: n === 0, listens: true }))

const idle = ({ urls: [url = ''], topics }: Target): Sockets =>
  Array.from({ length: 5000 }, (_, n) => ({ url, topic: topics[n % 20] ?? '', publishes: false, listens: true }))

/** 50 publishers on one instance, 100 subscribers on another. */
const across = ({ urls: [a = '', b = ''], topics }: Target): Sockets => [
  ...Array.from({ length: 50 }, (_, n) => ({ url: a, topic: topics[n % 20] ?? '', publishes: true, listens: false })),
  ...Array.from({ length: 100 }, (_, n) => ({ url: b, topic: topics[n % 20] ?? '', publishes: false, listens: true })),
]

const bytes = 200
const faultsOf = (runs: Figures[]): Row['faults'] => ({
  lost: runs.reduce((sum, { lost }) => sum + lost, 0),
  doubles: runs.reduce((sum, { doubles }) => sum + doubles, 0),
  disorder: runs.reduce((sum, { disorder, torn }) => sum + disorder + torn, 0),
  errors: runs.reduce((sum, { errors }) => sum + errors, 0),
  closed: runs.reduce((sum, { closed }) => sum + closed.length, 0),
})

type Start = (instances: number) => Promise<Target>
type Measured = Pick<Row, 'figures' | 'faults'>

const once_ = async (
  start: Start,
  postgres: Postgres,
  sockets: (target: Target) => Sockets,
  run: Omit<Run, 'warm'>,
): Promise<Figures> => {
  const target = await start(1)
  try {
    const load = await openLoad(target, postgres, sockets(target))
    // Servers run for days: what is measured is not the compiler of their first seconds.
    await load.run({ closed: 4, bytes, warm: 0, seconds: 4 })
    const figures = await load.run({ ...run, warm: 2 })
    await load.end()
    return figures
  } finally {
    await target.stop()
  }
}

export const workloads: Record<string, { title: string; run(start: Start, postgres: Postgres): Promise<Measured> }> = {
  W1: {
    title: 'busy deck: 20 topics × 5 subscribers, 50 publish, closed loop with 8 unacknowledged each',
    async run(start, postgres) {
      const f = await once_(start, postgres, busy, { closed: 8, bytes, seconds: 6 })
      return {
        figures: {
          'messages/s': f.messages / f.seconds,
          'p99 ms': f.p99,
          'CPU µs/message, server': f.server / f.messages,
          'CPU µs/message, Postgres': f.postgres / f.messages,
          'CPU µs/message, load': f.cpu,
        },
        faults: faultsOf([f]),
      }
    },
  },
  W2: {
    title: 'steady: the same sockets, 500 messages/s offered',
    async run(start, postgres) {
      const f = await once_(start, postgres, busy, { rate: 500, bytes, seconds: 6 })
      return {
        figures: {
          'p50 ms': f.p50,
          'p99 ms': f.p99,
          'CPU µs/message, server': f.server / f.messages,
          'CPU µs/message, Postgres': f.postgres / f.messages,
        },
        faults: faultsOf([f]),
      }
    },
  },
  W3: {
    title: 'hot room: 1 topic, 1,000 subscribers, 20 messages/s',
    async run(start, postgres) {
      const f = await once_(start, postgres, hot, { rate: 20, bytes, seconds: 6 })
      return {
        figures: { 'p50 ms': f.p50, 'p99 ms': f.p99, 'server µs/delivery': f.server / f.deliveries },
        faults: faultsOf([f]),
      }
    },
  },
  W4: {
    title: 'idle: 5,000 subscribed sockets',
    async run(start, postgres) {
      const target = await start(1)
      try {
        // The first sockets pay for what all share.
        const before = await openLoad(target, postgres, idle(target).slice(0, 20))
        const memory = memoryOf(target.pids[0] ?? 0)
        const load = await openLoad(target, postgres, idle(target))
        await delay(20_000)
        const grown = memoryOf(target.pids[0] ?? 0) - memory
        const f = await load.run({ rate: 1, bytes, warm: 0, seconds: 1 })
        await Promise.all([load.end(), before.end()])
        return { figures: { 'KB/socket': grown / 5000 / 1024 }, faults: faultsOf([f]) }
      } finally {
        await target.stop()
      }
    },
  },
  W5: {
    title:
      'two instances: publishers on one, subscribers on the other; the highest rate with 98 % in time, p99 < 250 ms',
    async run(start, postgres) {
      const target = await start(2)
      try {
        const load = await openLoad(target, postgres, across(target))
        const runs: Figures[] = []
        let best: Figures | undefined
        const holds = async (rate: number): Promise<boolean> => {
          const f = await load.run({ rate, bytes, warm: 1, seconds: 3 })
          const inTime = f.deliveries >= 0.98 * rate * f.seconds * 5 && f.p99 < 250
          runs.push(f)
          if (inTime) best = f
          return inTime
        }
        // Up by halves, then between the last that held and the first that did not.
        let low = 500
        let high = low
        while (high < 60_000 && (await holds(high))) {
          low = high
          high = Math.round(high * 1.5)
        }
        for (let tries = 0; tries < 3 && high - low > low / 20; tries++) {
          const middle = Math.round((low + high) / 2)
          if (await holds(middle)) low = middle
          else high = middle
        }
        await load.end()
        return {
          figures: {
            'messages/s': best ? low : 0,
            'p99 ms': best?.p99 ?? 0,
            'CPU µs/message, servers': best ? best.server / (low * best.seconds) : 0,
            'CPU µs/message, Postgres': best ? best.postgres / (low * best.seconds) : 0,
          },
          faults: faultsOf(runs),
        }
      } finally {
        await target.stop()
      }
    },
  },
}

export const starter =
  (postgres: Postgres, target: Plan['target']): Start =>
  (instances) =>
    target === 'deck' ? startDeck(postgres, instances, 20) : startPeer(postgres, target, instances, 20)
