// Studies beside the table of workloads. Each prints its results: the limits of the machine, SQL bulk writers, an instance beside a
// busy one, growth with topics and subscribers, the cost of a resume.
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { deck } from './adapters.ts'
import { callCosts as calls } from './calls.ts'
import { drafts } from './drafts.ts'
import { rate } from './rate.ts'
import { scale } from './scale.ts'
import { openWire } from './socket.ts'
import { cpuOf, cpuOfFamily } from './system.ts'
import { freshDatabase, startDeck, startPeer, type Postgres, type Target } from './targets.ts'
import { busyDeck, openLoad } from './workloads.ts'

const perSecond = (n: number, ms: number): string => `${Math.round((n * 1000) / ms).toLocaleString('en')}/s`
const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
const connect = async (connectionString: string): Promise<pg.Client> => {
  const client = new pg.Client({ connectionString })
  await client.connect()
  return client
}

/** INSERTs alone, sockets alone, JSON alone. */
const limits = async (postgres: Postgres): Promise<string> => {
  const database = await freshDatabase(postgres, 'bench_limits')
  const pool = new pg.Pool({ connectionString: database, max: 10 })
  await pool.query(`create table messages (id bigserial primary key, room text not null, text text not null, created_at timestamptz not null default now());
    create index on messages (room, id)`)
  const text = 'x'.repeat(200)
  const inserts = async (clients: number, rows: number): Promise<string> => {
    const end = performance.now() + 3000
    const start = performance.now()
    let written = 0
    const one = async (): Promise<void> => {
      while (performance.now() < end) {
        await pool.query({
          name: `insert ${rows}`,
          text: `insert into messages (room, text) select $1, $2 from generate_series(1, ${rows})`,
          values: ['room', text],
        })
        written += rows
      }
    }
    await Promise.all(Array.from({ length: clients }, one))
    return perSecond(written, performance.now() - start)
  }
  const lines = [
    `INSERTs of one row, 10 clients: ${await inserts(10, 1)}`,
    `INSERTs of 500 rows, 1 client: ${await inserts(1, 500)}`,
  ]
  await pool.end()
  const target = await startPeer(postgres, 'raw', 1, 1)
  const [url = ''] = target.urls
  const [topic = ''] = target.topics
  const load = await openLoad(
    target,
    postgres,
    Array.from({ length: 1000 }, (_, n) => ({ url, topic, publishes: n === 0, listens: true })),
  )
  const f = await load.run({ rate: 20, bytes: 200, warm: 2, seconds: 5 })
  await load.end()
  await target.stop()
  lines.push(
    `ws alone, 1,000 subscribers, 20 messages/s: ${(f.server / f.deliveries).toFixed(1)} µs a delivery, p99 ${f.p99.toFixed(1)} ms`,
  )
  const message = JSON.stringify({ type: 'send', id: 1, topic: 'missions/x/chat/rafael', message: text })
  const rounds = 100_000
  const start = performance.now()
  for (let i = 0; i < rounds; i++) JSON.stringify(JSON.parse(message))
  lines.push(`JSON of a message, parsed and written: ${(((performance.now() - start) * 1000) / rounds).toFixed(2)} µs`)
  return `Limits of the machine\n\n${lines.map((line) => `- ${line}`).join('\n')}`
}

/** Opens a socket that follows a topic, after a seq or only live. `arrived` resolves after `count` deliveries. */
const follow = async ({ token, urls: [url = ''] }: Target, topic: string, after: number | undefined, count: number) => {
  let got = 0
  let all = (): void => {}
  const arrived = new Promise<void>((resolve) => (all = resolve))
  const adapter = deck(token)
  const door = adapter.door(url, 0)
  const wire = await openWire(
    door.url,
    door.headers ?? {},
    (chunk, start, end) => {
      if (chunk.toString('latin1', start, start + 17) === '{"type":"welcome"')
        wire.send([JSON.stringify({ type: 'subscribe', id: 0, topic, after })])
      if (adapter.kind(chunk, start, end) === 'delivery' && ++got === count) all()
    },
    () => {},
    () => {},
  )
  return { arrived, end: wire.close }
}

const copy = async (postgres: Postgres): Promise<string> => {
  const count = 100_000
  const target = await startDeck(postgres, 1, 2)
  const [topic = '', other = ''] = target.topics
  const mission = topic.slice(9, 45)
  const client = await connect(target.database)
  const single = async (): Promise<number> => {
    const times: number[] = []
    for (let i = 0; i < 300; i++) {
      const start = performance.now()
      await client.query(
        `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'one')`,
        [other.slice(9, 45)],
      )
      times.push(performance.now() - start)
    }
    return median(times)
  }
  await single()
  const before = await single()
  const { arrived, end } = await follow(target, topic, undefined, count)
  await delay(500)
  const folder = await mkdtemp(join(tmpdir(), 'deck-bench-'))
  await chmod(folder, 0o755)
  const file = join(folder, 'rows')
  const filling = 'x'.repeat(180)
  const lines = Array.from({ length: count }, (_, n) => `${mission}\trafael\tuser\trow ${n} ${filling}\n`)
  await writeFile(file, lines.join(''))
  const into = async (table: string): Promise<number> => {
    const start = performance.now()
    await client.query(`copy ${table} (mission_id, citizen, sender, message) from '${file}'`)
    return performance.now() - start
  }
  const start = performance.now()
  const withTriggers = await into('chat_messages')
  await arrived
  const last = performance.now() - start
  end()
  const after = await single()
  // The same table, indexes and constraints, without triggers.
  await client.query('create table bare (like chat_messages including all)')
  const without = await into('bare')
  await rm(folder, { recursive: true })
  await client.end()
  await target.stop()
  return [
    `COPY of ${count.toLocaleString('en')} rows: ${perSecond(count, withTriggers)} with the triggers, ${perSecond(count, without)} into the same table without;`,
    `the last row was on a socket ${(last / 1000).toFixed(1)} s after the start, ${((last - withTriggers) / 1000).toFixed(1)} s after the COPY was over;`,
    `a single INSERT took ${before.toFixed(2)} ms before and ${after.toFixed(2)} ms after (medians of 300)`,
  ].join('\n')
}

/** CPU of an instance (ms per second) beside a second one that is busy with 1,000 topics. */
const beside = async (postgres: Postgres): Promise<string> => {
  const target = await startDeck(postgres, 2, 1001)
  const [a = '', b = ''] = target.urls
  const [, second = 0] = target.pids
  const [quiet = '', ...busy] = target.topics
  const cpu = async (seconds: number): Promise<number> => {
    const start = cpuOf([second])
    await delay(seconds * 1000)
    return (cpuOf([second]) - start) / 1000 / seconds
  }
  await delay(2000)
  const idle = await cpu(6)
  const load = await openLoad(
    target,
    postgres,
    busy.map((topic) => ({ url: a, topic, publishes: true, listens: true })),
  )
  const during = async (): Promise<{ used: number; rate: number }> => {
    const run = load.run({ rate: 3000, bytes: 200, warm: 1, seconds: 6 })
    await delay(1000)
    const used = await cpu(5)
    const f = await run
    return { used, rate: f.messages / f.seconds }
  }
  const nobody = await during()
  const reader = await openLoad(target, postgres, [{ url: b, topic: quiet, publishes: false, listens: true }])
  const one = await during()
  await reader.end()
  const all = await openLoad(
    target,
    postgres,
    busy.map((topic) => ({ url: b, topic, publishes: false, listens: true })),
  )
  const everything = await during()
  await all.end()
  await load.end()
  await target.stop()
  return [
    `An instance beside one with 1,000 busy topics (${Math.round(one.rate).toLocaleString('en')} messages/s), ms of CPU a second:`,
    `${idle.toFixed(1)} while nothing happens anywhere; ${nobody.used.toFixed(1)} beside it, without sockets;`,
    `${one.used.toFixed(1)} with one socket that follows a quiet topic; ${everything.used.toFixed(1)} with sockets that follow all 1,000`,
  ].join('\n')
}

const growth = async (postgres: Postgres): Promise<string> => {
  const lines: string[] = []
  const measure = async (
    sockets: (target: Target) => Parameters<typeof openLoad>[2],
    topics: number,
    rate: number,
  ): Promise<string> => {
    const target = await startDeck(postgres, 1, topics)
    const load = await openLoad(target, postgres, sockets(target))
    const f = await load.run({ rate, bytes: 200, warm: 3, seconds: 6 })
    await load.end()
    await target.stop()
    return `${(f.server / f.deliveries).toFixed(1)} µs of server and ${(f.postgres / f.deliveries).toFixed(1)} of Postgres a delivery (${Math.round(f.deliveries / f.seconds).toLocaleString('en')}/s, lost ${f.lost})`
  }
  for (const topics of [10, 100, 1000, 10_000])
    lines.push(
      `${topics.toLocaleString('en')} topics, a subscriber each, 2,000 messages/s: ${await measure(
        ({ urls: [url = ''], topics }) => topics.map((topic) => ({ url, topic, publishes: true, listens: true })),
        topics,
        2000,
      )}`,
    )
  for (const [subscribers, rate] of [
    [1, 2000],
    [10, 1000],
    [100, 200],
    [1000, 20],
  ] as const)
    lines.push(
      `1 topic, ${subscribers.toLocaleString('en')} subscribers, ${rate.toLocaleString('en')} messages/s: ${await measure(
        ({ urls: [url = ''], topics: [topic = ''] }) =>
          Array.from({ length: subscribers }, (_, n) => ({ url, topic, publishes: n === 0, listens: true })),
        1,
        rate,
      )}`,
    )
  return `Growth\n\n${lines.map((line) => `- ${line}`).join('\n')}`
}

/** A resume after 100 missed messages, in a short and in a long chat. */
const resume = async (postgres: Postgres): Promise<string> => {
  const target = await startDeck(postgres, 1, 2)
  const client = await connect(target.database)
  const lines: string[] = []
  for (const [i, length] of [1000, 100_000].entries()) {
    const topic = target.topics[i] ?? ''
    await client.query(
      `insert into chat_messages (mission_id, citizen, sender, message) select $1, 'rafael', 'user', repeat('x', 200) from generate_series(1, $2)`,
      [topic.slice(9, 45), length],
    )
    for (const missed of [10, 100, 1000]) {
      const rounds = Math.min(200, 20_000 / missed)
      const used = { server: cpuOf(target.pids), postgres: cpuOfFamily(postgres.pid) }
      const times: number[] = []
      for (let round = 0; round < rounds; round++) {
        const start = performance.now()
        const { arrived, end } = await follow(target, topic, length - missed, missed)
        await arrived
        times.push(performance.now() - start)
        end()
      }
      const server = (cpuOf(target.pids) - used.server) / rounds
      const ofPostgres = (cpuOfFamily(postgres.pid) - used.postgres) / rounds
      lines.push(
        `${missed.toLocaleString('en')} missed of ${length.toLocaleString('en')}: ${median(times).toFixed(1)} ms, ${Math.round(server)} µs of server and ${Math.round(ofPostgres)} of Postgres`,
      )
    }
  }
  await client.end()
  await target.stop()
  return `A resume, from the connection to the last message\n\n${lines.map((line) => `- ${line}`).join('\n')}`
}

/** The cost of building search blocks for a writer: W1 and a COPY with and without it, in turn. */
const indexer = async (postgres: Postgres): Promise<string> => {
  const lines: string[] = []
  const hold = async (target: Target): Promise<pg.Client> => {
    const client = await connect(target.database)
    await client.query(`update deck.search_turn set holder = 'bench', until = clock_timestamp() + interval '1 h'`)
    return client
  }
  const file = `${await mkdtemp(join(tmpdir(), 'deck-bench-'))}/rows`
  await chmod(dirname(file), 0o755)
  for (let turn = 0; turn < 4; turn++) {
    const off = turn % 2 === 0
    const start = async (instances: number): Promise<Target> => {
      const target = await startDeck(postgres, instances, 20)
      if (off) await (await hold(target)).end()
      return target
    }
    const figures: Record<string, number> = (await busyDeck(start, postgres)).figures
    const target = await start(1)
    const [topic = ''] = target.topics
    const client = await connect(target.database)
    await writeFile(
      file,
      Array.from(
        { length: 100_000 },
        (_, n) => `${topic.slice(9, 45)}\trafael\tuser\trow ${n} ${'word '.repeat(36)}\n`,
      ).join(''),
    )
    // The first COPY gives the indexer work; the second is measured beside it.
    const into = (): Promise<unknown> =>
      client.query(`copy chat_messages (mission_id, citizen, sender, message) from '${file}'`)
    await into()
    const since = performance.now()
    await into()
    const took = performance.now() - since
    const { rows } = await client.query<{ n: number }>('select count(*)::int as n from deck.search_blocks')
    await client.end()
    await target.stop()
    const w1 = Object.entries(figures).map(([name, value]) => `${name} ${value.toFixed(1)}`)
    lines.push(
      `${off ? 'without' : 'with'}: W1 ${w1.join(', ')}; COPY ${perSecond(100_000, took)} (${rows[0]?.n} blocks by then)`,
    )
  }
  await rm(dirname(file), { recursive: true })
  return `Blocks being made, or not, in turn\n\n${lines.map((line) => `- ${line}`).join('\n')}`
}

export const studies: Record<string, (postgres: Postgres) => Promise<string>> = {
  limits,
  rate,
  copy,
  beside,
  growth,
  resume,
  drafts,
  indexer,
  calls,
  ...scale,
}
