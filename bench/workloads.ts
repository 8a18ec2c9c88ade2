// The workloads W1 to W7, each on a fresh target; what is measured of each, with loss, doubles and disorder.
import { fork } from 'node:child_process'
import { on, once } from 'node:events'
import { readFile, stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { makeTexts } from './generate.ts'
import type { Plan, Result, Run, Told } from './load.ts'
import { spread } from './spread.ts'
import { memoryOf, usedBy, usedByFamily } from './system.ts'
import { startDeck, startPeer, type Competitor, type Postgres, type Target } from './targets.ts'

const here = fileURLToPath(new URL('.', import.meta.url))

type Sockets = Plan['sockets']
/** What the load saw, and the total CPU time (µs) and wakeups of server and Postgres meanwhile. */
export type Figures = Result & { server: number; postgres: number; wakeups: { server: number; postgres: number } }

export type Row = {
  workload: string
  target: Competitor
  /** in the order of the columns; NaN where it could not be measured */
  figures: Record<string, number>
  faults: { lost: number; doubles: number; disorder: number; errors: number; closed: number }
}

const connect = async (connectionString: string): Promise<pg.Client> => {
  const client = new pg.Client({ connectionString })
  await client.connect()
  return client
}

/** Opens sockets to a target from a process of its own. */
export const openLoad = async (target: Target, postgres: Postgres, sockets: Sockets) => {
  const child = fork(`${here}load.js`, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const gone = once(child, 'exit')
  const ended = gone.then(() => Promise.reject(new Error('the load ended')))
  ended.catch(() => {})
  const messages = on(child, 'message')
  const told = async <K extends string>(what: K): Promise<Extract<Told, Record<K, unknown>>> => {
    for (;;) {
      const next = await Promise.race([messages.next(), ended])
      const [message] = next.value as [Told]
      if (what in message) return message as Extract<Told, Record<K, unknown>>
    }
  }
  child.send({ plan: { target: target.adapter, token: target.token, sockets } satisfies Plan })
  await told('ready')
  return {
    async run(run: Run): Promise<Figures> {
      child.send({ run })
      await told('begun')
      const used = { server: usedBy(target.pids), postgres: usedByFamily(postgres.pid) }
      await told('over')
      const by = { server: usedBy(target.pids), postgres: usedByFamily(postgres.pid) }
      return {
        ...(await told('result')).result,
        server: by.server.cpu - used.server.cpu,
        postgres: by.postgres.cpu - used.postgres.cpu,
        wakeups: {
          server: by.server.wakeups - used.server.wakeups,
          postgres: by.postgres.wakeups - used.postgres.wakeups,
        },
      }
    },
    async end(): Promise<void> {
      child.send({ end: true })
      await gone
    },
  }
}

/** 20 topics with 5 subscribers each, 50 of whom publish. */
export const busy = ({ urls: [url = ''], topics }: Target): Sockets =>
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

/** A publisher and a subscriber in each of so many chats. */
const pairs =
  (chats: number) =>
  ({ urls: [url = ''], topics }: Target): Sockets =>
    topics.slice(0, chats).flatMap((topic) => [
      { url, topic, publishes: true, listens: false },
      { url, topic, publishes: false, listens: true },
    ])

const bytes = 200
const faultsOf = (runs: Figures[]): Row['faults'] => ({
  lost: runs.reduce((sum, { lost }) => sum + lost, 0),
  doubles: runs.reduce((sum, { doubles }) => sum + doubles, 0),
  disorder: runs.reduce((sum, { disorder, torn }) => sum + disorder + torn, 0),
  errors: runs.reduce((sum, { errors }) => sum + errors, 0),
  closed: runs.reduce((sum, { closed }) => sum + closed.length, 0),
})

export type Start = (instances: number) => Promise<Target>
type Measured = Pick<Row, 'figures' | 'faults'>

/** Servers run for days: the measured time is not the one in which their code is compiled. */
const warmUp = { closed: 4, bytes, warm: 0, seconds: 4 } satisfies Run

/** Waits until ours has made the search blocks of what is there, so that the next run's CPU is its own. */
export const settle = async ({ adapter, database }: Target): Promise<void> => {
  if (adapter !== 'deck') return
  const client = await connect(database)
  try {
    for (const end = performance.now() + 300_000; ; await delay(250)) {
      const { rows } = await client.query<{ due: boolean }>('select exists (select from deck.search_due()) as due')
      if (rows[0]?.due === false) return
      if (performance.now() > end) throw new Error('search blocks are still due after 5 minutes')
    }
  } finally {
    await client.end()
  }
}

export const measure = async (
  start: Start,
  postgres: Postgres,
  sockets: (target: Target) => Sockets,
  run: Omit<Run, 'warm'>,
  first: Run = warmUp,
): Promise<Figures> => {
  const target = await start(1)
  try {
    const load = await openLoad(target, postgres, sockets(target))
    await load.run(first)
    if (run.rate !== undefined) await settle(target)
    const figures = await load.run({ ...run, warm: 2 })
    await load.end()
    return figures
  } finally {
    await target.stop()
  }
}

/** Some runs of one target as one. */
const together = (runs: Figures[]): Figures => {
  const total = (of: (figures: Figures) => number): number => runs.reduce((sum, figures) => sum + of(figures), 0)
  const latencies = runs.flatMap((figures) => figures.latencies)
  return {
    ...spread(latencies),
    latencies,
    seconds: total(({ seconds }) => seconds),
    messages: total(({ messages }) => messages),
    deliveries: total(({ deliveries }) => deliveries),
    errors: total(({ errors }) => errors),
    lost: total(({ lost }) => lost),
    doubles: total(({ doubles }) => doubles),
    disorder: total(({ disorder }) => disorder),
    torn: total(({ torn }) => torn),
    closed: runs.flatMap(({ closed }) => closed),
    cpu:
      total(({ cpu, messages }) => cpu * messages) /
      Math.max(
        1,
        total(({ messages }) => messages),
      ),
    server: total(({ server }) => server),
    postgres: total(({ postgres }) => postgres),
    wakeups: { server: total(({ wakeups }) => wakeups.server), postgres: total(({ wakeups }) => wakeups.postgres) },
  }
}

/**
 * Starts all targets and measures them in turns, so that the machine's noise hits all alike. The others are idle meanwhile, but share
 * Postgres: its CPU is not any target's own.
 */
const inTurns = async (
  entries: Entry[],
  postgres: Postgres,
  sockets: (target: Target) => Sockets,
  run: Run,
  turns: number,
  first: Run = warmUp,
): Promise<{ target: Competitor; figures: Figures }[]> => {
  const open: { name: Competitor; target: Target; load: Awaited<ReturnType<typeof openLoad>>; runs: Figures[] }[] = []
  const started: Target[] = []
  try {
    for (const { target: name, start } of entries) {
      const target = await start(1)
      started.push(target)
      const load = await openLoad(target, postgres, sockets(target))
      await load.run(first)
      open.push({ name, target, load, runs: [] })
    }
    for (const { target } of open) await settle(target)
    // Each second turn is in reverse order: no target always follows the same neighbor.
    for (let turn = 0; turn < turns; turn++)
      for (const { load, runs } of turn % 2 === 0 ? open : open.toReversed())
        runs.push(await load.run({ ...run, keep: true }))
    for (const { load } of open) await load.end()
    return open.map(({ name, runs }) => ({ target: name, figures: together(runs) }))
  } finally {
    for (const target of started) await target.stop()
  }
}

/** How many turns W3 and W6 take; fewer for a short look. */
const turnsOf = (usual: number): number => Number(process.env['BENCH_TURNS'] ?? usual)

/** A target, and how to start it. */
export type Entry = { target: Competitor; start: Start }
type Rows = Omit<Row, 'workload'>[]
type Workload = {
  title: string
  /** measured beside a WebSocket server that stores nothing */
  raw?: true
  /** topics of each target; 20 if not given */
  topics?: number
  run(entries: Entry[], postgres: Postgres): Promise<Rows>
}

/** One target after the other. */
const each =
  (one: (start: Start, postgres: Postgres) => Promise<Measured>): Workload['run'] =>
  async (entries, postgres) => {
    const rows: Rows = []
    for (const { target, start } of entries) rows.push({ target, ...(await one(start, postgres)) })
    return rows
  }

const perMessage = ({ server, postgres, messages }: Figures): Row['figures'] => ({
  'CPU µs/message, server': server / messages,
  'CPU µs/message, Postgres': postgres / messages,
})

export const busyDeck = async (start: Start, postgres: Postgres): Promise<Measured> => {
  const f = await measure(start, postgres, busy, { closed: 8, bytes, seconds: 6 })
  return {
    figures: {
      'messages/s': f.messages / f.seconds,
      'p99 ms': f.p99,
      ...perMessage(f),
      'CPU µs/message, load': f.cpu,
    },
    faults: faultsOf([f]),
  }
}

/** Gives chat n 5n messages: at 5 messages/s in each chat, one chat reaches the 500 messages of a block each second. */
const fill = async ({ adapter, database, topics }: Target): Promise<void> => {
  if (adapter !== 'deck') return
  const client = await connect(database)
  await client.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     select t.id, 'rafael', 'user', s.texts[1 + (37 * t.n + k) % cardinality(s.texts)]
     from unnest($1::uuid[]) with ordinality t (id, n), (select $2::text[]) s (texts), generate_series(1, 5 * (t.n - 1)) k`,
    [topics.map((topic) => topic.slice(9, 45)), makeTexts().sentences.slice(0, 4000)],
  )
  await client.query('vacuum analyze chat_messages')
  await client.end()
}

const blocksOf = async ({ adapter, database }: Target): Promise<number> => {
  if (adapter !== 'deck') return NaN
  const client = await connect(database)
  const { rows } = await client.query<{ n: number }>('select count(*)::int as n from deck.search_blocks')
  await client.end()
  return rows[0]?.n ?? NaN
}

/** The longest statement (ms) of the search indexer while `work` runs, by the log of Postgres; NaN if none took 1 ms. */
const longestOfIndexer = async (postgres: Postgres, work: () => Promise<unknown>): Promise<number> => {
  const admin = await connect(postgres.adminUrl)
  const { size } = await stat(postgres.log)
  try {
    await admin.query('alter system set log_min_duration_statement = 1')
    await admin.query('alter system set log_parameter_max_length = 0')
    await admin.query('select pg_reload_conf()')
    await work()
  } finally {
    await admin.query('alter system reset log_min_duration_statement')
    await admin.query('alter system reset log_parameter_max_length')
    await admin.query('select pg_reload_conf()')
    await admin.end()
  }
  const log = (await readFile(postgres.log)).subarray(size).toString('latin1')
  const times = [...log.matchAll(/duration: ([\d.]+) ms .*deck\.search_(?!due)/g)].map(([, ms]) => Number(ms))
  return times.length === 0 ? NaN : Math.max(...times)
}

const manyChats = async (start: Start, postgres: Postgres): Promise<Measured> => {
  const target = await start(1)
  try {
    await fill(target)
    const load = await openLoad(target, postgres, pairs(100)(target))
    const run = { rate: 500, bytes, words: true }
    await load.run({ ...run, warm: 0, seconds: 4 })
    await settle(target)
    const before = await blocksOf(target)
    const f = await load.run({ ...run, warm: 2, seconds: 20 })
    const blocks = (await blocksOf(target)) - before
    // Apart from what is measured above, since the log costs something.
    const longest =
      target.adapter === 'deck'
        ? await longestOfIndexer(postgres, () => load.run({ ...run, warm: 0, seconds: 10 }))
        : NaN
    await load.end()
    return {
      figures: {
        'p50 ms': f.p50,
        'p99 ms': f.p99,
        'longest ms': f.most,
        ...perMessage(f),
        'CPU µs/message, both': (f.server + f.postgres) / f.messages,
        'search blocks built': blocks,
        'longest statement of the indexer, ms': longest,
      },
      faults: faultsOf([f]),
    }
  } finally {
    await target.stop()
  }
}

export const workloads: Record<string, Workload> = {
  W1: {
    title: 'busy deck: 20 topics × 5 subscribers, 50 publish, closed loop with 8 unacknowledged each',
    run: each(busyDeck),
  },
  W2: {
    title: 'steady: the same sockets, 500 messages/s offered',
    run: each(async (start, postgres) => {
      // 20 s: each chat gets 500 messages, and so one search block.
      const f = await measure(start, postgres, busy, { rate: 500, bytes, seconds: 20 })
      return {
        figures: {
          'p50 ms': f.p50,
          'p99 ms': f.p99,
          ...perMessage(f),
          'CPU µs/message, both': (f.server + f.postgres) / f.messages,
          'wakeups/message, server': f.wakeups.server / f.messages,
          'wakeups/message, Postgres': f.wakeups.postgres / f.messages,
        },
        faults: faultsOf([f]),
      }
    }),
  },
  W3: {
    title: 'hot room: 1 topic, 1,000 subscribers, 20 messages/s, all in turns',
    raw: true,
    async run(entries, postgres) {
      const found = await inTurns(entries, postgres, hot, { rate: 20, bytes, warm: 1, seconds: 4 }, turnsOf(4))
      return found.map(({ target, figures: f }) => ({
        target,
        figures: { 'p50 ms': f.p50, 'p99 ms': f.p99, 'server µs/delivery': f.server / f.deliveries },
        faults: faultsOf([f]),
      }))
    },
  },
  W4: {
    title: 'idle: 5,000 subscribed sockets',
    run: each(async (start, postgres) => {
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
    }),
  },
  W5: {
    title:
      'two instances: publishers on one, subscribers on the other; the highest rate with 98 % in time, p99 < 250 ms',
    run: each(async (start, postgres) => {
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
    }),
  },
  W6: {
    title: 'quiet: 4 chats, one subscriber each, a message each 100 ms, all in turns',
    raw: true,
    async run(entries, postgres) {
      const first = { rate: 500, bytes, warm: 0, seconds: 6 }
      const found = await inTurns(
        entries,
        postgres,
        pairs(4),
        { rate: 10, bytes, warm: 1, seconds: 6 },
        turnsOf(10),
        first,
      )
      return found.map(({ target, figures: f }) => ({
        target,
        figures: { 'p50 ms': f.p50, 'p90 ms': f.p90, 'p99 ms': f.p99 },
        faults: faultsOf([f]),
      }))
    },
  },
  W7: {
    title: '100 chats × 5 messages/s, one of which gets a search block each second',
    topics: 100,
    run: each(manyChats),
  },
}

/** `topics`: how many there are. */
export const starter =
  (postgres: Postgres, target: Competitor, topics = 20): Start =>
  (instances) =>
    target === 'deck' ? startDeck(postgres, instances, topics) : startPeer(postgres, target, instances, topics)
