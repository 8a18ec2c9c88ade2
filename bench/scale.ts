// Several instances on one machine. CPU is the main figure, because all processes share the same cores.
// - hints: notifications by NOTIFY and by NATS
// - workers: one process and several
// - cost: the parameters of the cost model (docs/scaling.md), and its prediction beside the measured cost
// - prune: mission-deck prune beside senders
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createConnection, createServer, type AddressInfo } from 'node:net'
import { cpus } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { connect } from '@nats-io/transport-node'
import type { Cost, Unit } from './model.ts'
import { cpuOf } from './system.ts'
import { startDeck, type Postgres, type Target } from './targets.ts'
import { openLoad, type Figures } from './workloads.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const bytes = 200
const seconds = Number(process.env['BENCH_SECONDS'] ?? 6)
const counts = (process.env['BENCH_INSTANCES'] ?? '1,2,4').split(',').map(Number)

type Sockets = Parameters<typeof openLoad>[2]

/** The sockets of W1, spread over the instances: each topic has sockets on every instance. */
const spread = ({ urls, topics }: Target): Sockets =>
  Array.from({ length: 100 }, (_, n) => ({
    url: urls[Math.floor(n / 20) % urls.length] ?? '',
    topic: topics[n % 20] ?? '',
    publishes: n < 50,
    listens: true,
  }))
/** The sockets of W3, spread in the same way. */
const room = ({ urls, topics: [topic = ''] }: Target): Sockets =>
  Array.from({ length: 1000 }, (_, n) => ({
    url: urls[n % urls.length] ?? '',
    topic,
    publishes: n === 0,
    listens: true,
  }))

const faults = (f: Figures): string => [f.lost, f.doubles, f.disorder + f.torn, f.errors, f.closed.length].join(', ')
const row = (cells: (string | number)[]): string =>
  `| ${cells.map((cell) => (typeof cell === 'number' ? cell.toFixed(cell < 10 ? 2 : cell < 1000 ? 1 : 0) : cell)).join(' | ')} |`
const head = (cells: string[]): string[] => [row(cells), row(cells.map((_, i) => (i === 0 ? '---' : '--:')))]

const has = (command: string): boolean => {
  try {
    execFileSync('which', [command], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

const startNats = async (): Promise<{ url: string; pid: number; stop(): Promise<void> }> => {
  const free = createServer().listen(0, '127.0.0.1')
  await once(free, 'listening')
  const { port } = free.address() as AddressInfo
  free.close()
  const child: ChildProcess = spawn('nats-server', ['-a', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' })
  process.once('exit', () => child.kill())
  for (let tries = 0; tries < 100; tries++) {
    const up = await new Promise<boolean>((resolve) => {
      const socket = createConnection(port, '127.0.0.1', () => (socket.destroy(), resolve(true)))
      socket.once('error', () => resolve(false))
    })
    if (up) break
    await delay(50)
  }
  return {
    url: `nats://127.0.0.1:${port}`,
    pid: child.pid ?? 0,
    async stop() {
      const gone = once(child, 'exit')
      child.kill()
      await gone
    },
  }
}

/** Returns a metric's sum over the instances' /metrics. */
const metric = async ({ urls }: Target, name: string): Promise<number> => {
  const texts = await Promise.all(urls.map(async (url) => (await fetch(`${url.replace('ws', 'http')}/metrics`)).text()))
  return texts.reduce((sum, text) => sum + Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? 0), 0)
}
const walOf = async (target: Target): Promise<number> => {
  const client = new pg.Client({ connectionString: target.database })
  await client.connect()
  const { rows } = await client.query<{ wal: string }>(`select pg_current_wal_insert_lsn() - '0/0' as wal`)
  await client.end()
  return Number(rows[0]?.wal)
}

type Measured = { f: Figures; nats: number; wal: number; hints: number; heard: number; batches: number; reads: number }

/** Runs a load on warm instances, with notifications by NATS or by NOTIFY. */
const measure = async (
  postgres: Postgres,
  instances: number,
  byNats: boolean,
  sockets: (target: Target) => Sockets,
  run: { rate?: number; closed?: number },
): Promise<Measured> => {
  const nats = byNats ? await startNats() : undefined
  const target = await startDeck(postgres, instances, 20, undefined, { HINTS_URL: nats?.url ?? '' })
  try {
    const load = await openLoad(target, postgres, sockets(target))
    await load.run({ closed: 4, bytes, warm: 0, seconds: 4 })
    const look = async () => ({
      nats: nats ? cpuOf([nats.pid]) : 0,
      wal: await walOf(target),
      hints: await metric(target, 'deck_hints_total'),
      heard: await metric(target, 'deck_bus_heard_total'),
      batches: await metric(target, 'deck_batches_total'),
      reads: await metric(target, 'deck_tail_reads_total'),
      messages: await metric(target, 'deck_messages_total'),
    })
    const before = await look()
    const f = await load.run({ ...run, bytes, warm: 2, seconds })
    const after = await look()
    await load.end()
    // The counters include the warm-up, so they are divided by the number of messages.
    const all = after.messages - before.messages
    const per = (name: keyof typeof before): number => (after[name] - before[name]) / all
    return {
      f,
      nats: per('nats'),
      wal: per('wal'),
      hints: per('hints'),
      heard: per('heard'),
      batches: per('batches'),
      reads: per('reads'),
    }
  } finally {
    await target.stop()
    await nats?.stop()
  }
}

const kinds = (): boolean[] => (has('nats-server') ? [false, true] : [false])

/** NOTIFY and NATS: CPU at a steady rate, then the rate of a closed loop. */
const hints = async (postgres: Postgres): Promise<string> => {
  const rate = Number(process.env['BENCH_RATE'] ?? 2000)
  const steady = head([
    'hints, instances',
    'p50 ms',
    'p99 ms',
    'µs/message, servers',
    'Postgres',
    'NATS',
    'batches',
    'reads',
    'hints heard',
    'WAL bytes',
    'faults',
  ])
  const closed = head(['hints, instances', 'messages/s', 'p99 ms', 'µs/message, servers', 'Postgres', 'NATS', 'faults'])
  for (const instances of counts)
    for (const byNats of kinds()) {
      const name = `${byNats ? 'NATS' : 'NOTIFY'}, ${instances}`
      const s = await measure(postgres, instances, byNats, spread, { rate })
      const { f } = s
      steady.push(
        row([
          name,
          f.p50,
          f.p99,
          f.server / f.messages,
          f.postgres / f.messages,
          s.nats,
          s.batches,
          s.reads,
          s.hints,
          s.wal,
          faults(f),
        ]),
      )
      const c = await measure(postgres, instances, byNats, spread, { closed: 8 })
      closed.push(
        row([
          name,
          Math.round(c.f.messages / c.f.seconds).toLocaleString('en'),
          c.f.p99,
          c.f.server / c.f.messages,
          c.f.postgres / c.f.messages,
          c.nats,
          faults(c.f),
        ]),
      )
    }
  return [
    `Hints at ${rate} messages/s (20 topics × 5 subscribers, on all instances in turn), figures a message:`,
    '',
    ...steady,
    '',
    'In a closed loop, 50 publishers with 8 unacknowledged each:',
    '',
    ...closed,
    ...(has('nats-server') ? [] : ['', 'no nats-server here (Debian: apt-get install nats-server)']),
  ].join('\n')
}

/** One process and several on the same cores, as WORKERS would start them. */
const workers = async (postgres: Postgres): Promise<string> => {
  const lines = head([
    'processes',
    'W1 messages/s',
    'p99 ms',
    'µs/message, servers',
    'Postgres',
    'W3 p50 ms',
    'p99 ms',
    'µs/delivery, servers',
    'faults',
  ])
  for (const instances of counts.filter((n) => n <= 2)) {
    const { f: one } = await measure(postgres, instances, false, spread, { closed: 8 })
    const { f: three } = await measure(postgres, instances, false, room, { rate: 20 })
    lines.push(
      row([
        String(instances),
        Math.round(one.messages / one.seconds).toLocaleString('en'),
        one.p99,
        one.server / one.messages,
        one.postgres / one.messages,
        three.p50,
        three.p99,
        three.server / three.deliveries,
        `${faults(one)}; ${faults(three)}`,
      ]),
    )
  }
  return ['One process and two on the same machine:', '', ...lines].join('\n')
}

/** mission-deck prune, alone and beside senders. */
const prune = async (postgres: Postgres): Promise<string> => {
  const count = Number(process.env['BENCH_ROWS'] ?? 300_000)
  const target = await startDeck(postgres, 1, 40)
  const client = new pg.Client({ connectionString: target.database })
  await client.connect()
  const lines: string[] = []
  try {
    const fill = async (): Promise<void> => {
      await client.query(
        `insert into chat_messages (mission_id, citizen, sender, message)
         select deck.topic_mission(t), 'c' || n % 5, 'user', repeat('x', ${bytes}) from unnest($1::text[]) t, generate_series(1, $2::integer) n`,
        [target.topics.slice(20), count / 20],
      )
      await client.query(
        `begin; set local deck.numbering = '0'; update chat_messages set at = '2024-01-01' where citizen <> 'rafael'; commit`,
      )
      await client.query('vacuum analyze chat_messages')
    }
    const run = async (): Promise<{ messages: number; seconds: number }> => {
      const child = spawn(process.execPath, [`${root}dist/cli/index.js`, 'prune', '--before', '2025-01-01', '--json'], {
        env: { ...process.env, DATABASE_URL: target.database },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let out = ''
      child.stdout.on('data', (data: Buffer) => (out += data.toString()))
      await once(child, 'close')
      return JSON.parse(out) as { messages: number; seconds: number }
    }
    const told = ({ messages, seconds }: { messages: number; seconds: number }): string =>
      `${messages.toLocaleString('en')} messages in ${seconds.toFixed(1)} s: ${Math.round(messages / seconds).toLocaleString('en')} rows/s`
    await fill()
    lines.push(`alone: ${told(await run())}`)
    await fill()
    const load = await openLoad(target, postgres, spread(target))
    await load.run({ closed: 4, bytes, warm: 0, seconds: 4 })
    const steady = (f: Figures): string =>
      `p50 ${f.p50.toFixed(1)} ms, p99 ${f.p99.toFixed(1)} ms, most ${f.most.toFixed(0)} ms (faults ${faults(f)})`
    const before = await load.run({ rate: 500, bytes, warm: 1, seconds })
    const beside = run()
    const during = await load.run({ rate: 500, bytes, warm: 1, seconds })
    lines.push(
      `beside 500 messages/s: ${told(await beside)}`,
      `their delivery before: ${steady(before)}`,
      `and during: ${steady(during)}`,
    )
    await load.end()
  } finally {
    await client.end()
    await target.stop()
  }
  return `deck prune, 100 chats:\n\n${lines.map((line) => `- ${line}`).join('\n')}`
}

/**
 * The cost of notifications that an instance receives beside a busy one: its own µs for each, and µs of Postgres and of NATS per message.
 * With NATS, an instance receives only missions that it follows. So there it follows them, and the cost includes the reads.
 */
const listening = async (postgres: Postgres, byNats: boolean): Promise<Unit & { nats: number; wake: number }> => {
  const nats = byNats ? await startNats() : undefined
  const target = await startDeck(postgres, 2, 500, undefined, { HINTS_URL: nats?.url ?? '' })
  try {
    const [a = '', b = ''] = target.urls
    // Enough missions that the instance listens to all channels of NOTIFY.
    const quiet = target.topics.slice(20).map((topic) => ({ url: b, topic, publishes: false, listens: true }))
    const load = await openLoad(target, postgres, [...spread({ ...target, urls: [a] }), ...quiet])
    const [, pid = 0] = target.pids
    const look = async () => ({
      cpu: cpuOf([pid]),
      nats: nats ? cpuOf([nats.pid]) : 0,
      heard: await metric({ ...target, urls: [b] }, 'deck_hints_total'),
    })
    await load.run({ closed: 4, bytes, warm: 0, seconds: 4 })
    const idle = cpuOf([pid])
    await delay(3000)
    const perSecond = (cpuOf([pid]) - idle) / 3
    const [before, begun] = [await look(), performance.now()]
    const f = await load.run({ rate: 2000, bytes, warm: 0, seconds })
    const after = await look()
    const own = after.cpu - before.cpu - (perSecond * (performance.now() - begun)) / 1000
    const heard = after.heard - before.heard
    // The cost of one more listening session for Postgres, measured with 30, because a single one is below the noise.
    let wake = 0
    if (!byNats) {
      const ears = await Promise.all(
        Array.from({ length: 30 }, async () => {
          const client = new pg.Client({ connectionString: target.database })
          await client.connect()
          await client.query(Array.from({ length: 64 }, (_, n) => `listen deck_${n}`).join(';'))
          return client
        }),
      )
      const many = await load.run({ rate: 2000, bytes, warm: 1, seconds })
      await Promise.all(ears.map((client) => client.end()))
      wake = Math.max(0, (many.postgres / many.messages - f.postgres / f.messages) / ears.length / (heard / f.messages))
    }
    await load.end()
    return {
      server: heard > 0 ? Math.max(0, own / heard) : 0,
      postgres: f.postgres / f.messages,
      nats: (after.nats - before.nats) / f.messages,
      wake,
    }
  } finally {
    await target.stop()
    await nats?.stop()
  }
}

/** Returns the µs of a busy NATS server per message in or out: four listeners, messages like notifications. */
const busyNats = async (): Promise<number> => {
  const nats = await startNats()
  const servers = nats.url.slice(7)
  const count = 200_000
  const clients = await Promise.all([0, 1, 2, 3, 4].map(() => connect({ servers })))
  const [publisher, ...listeners] = clients
  let heard = 0
  for (const client of listeners) client.subscribe('deck.x', { callback: () => void heard++ })
  await Promise.all(clients.map((client) => client.flush()))
  const before = cpuOf([nats.pid])
  const payload = `instance 1000000 missions/00000000-0000-4000-8000-000000000000/chat/rafael`
  for (let n = 0; n < count; n++) {
    publisher?.publish('deck.x', payload)
    if (n % 1000 === 0) await publisher?.flush()
  }
  while (heard < count * listeners.length) await delay(10)
  const spent = cpuOf([nats.pid]) - before
  await Promise.all(clients.map((client) => client.close()))
  await nats.stop()
  return spent / (count * clients.length)
}

/**
 * Measures the parameters of the cost model: µs per message, batch, delivery, read and notification, each from runs that differ by it.
 * Reads and notifications are measured with two instances; the cost of four is predicted and compared.
 * The result is stored in bench/cost.json.
 */
const cost = async (postgres: Postgres): Promise<string> => {
  const silent = (target: Target): Sockets => spread(target).map((socket) => ({ ...socket, listens: false }))
  const each = ({ f }: Measured) => ({ server: f.server / f.messages, postgres: f.postgres / f.messages })
  const full = await measure(postgres, 1, false, silent, { closed: 8 })
  const thin = await measure(postgres, 1, false, silent, { rate: 300 })
  const perBatch = (part: 'server' | 'postgres'): number =>
    Math.max(0, (each(thin)[part] - each(full)[part]) / (thin.batches - full.batches))
  const batch = { server: perBatch('server'), postgres: perBatch('postgres') }
  const message = {
    server: each(full).server - batch.server * full.batches,
    postgres: each(full).postgres - batch.postgres * full.batches,
  }
  const { f: crowd } = await measure(postgres, 1, false, room, { rate: 20 })
  const kinds = has('nats-server') ? ['NATS', 'NOTIFY'] : ['NOTIFY']
  const runs: [string, number, Measured][] = []
  for (const kind of kinds)
    for (const instances of [1, 2, 4])
      runs.push([kind, instances, await measure(postgres, instances, kind === 'NATS', spread, { closed: 8 })])
  const run = (kind: string, instances: number) => runs.find(([of, n]) => of === kind && n === instances)?.[2]
  const base = (part: 'server' | 'postgres', { batches }: Measured): number => message[part] + batch[part] * batches
  const one = run('NOTIFY', 1)
  const busy = one ? Math.max(0, (each(one).server - base('server', one)) / 5) : 0
  // With NATS, the cost of a read does not include NOTIFY.
  const two = run('NATS', 2) ?? run('NOTIFY', 2)
  const rest = (part: 'server' | 'postgres'): number =>
    two ? Math.max(0, (each(two)[part] - base(part, two) - (part === 'server' ? 5 * busy : 0)) / two.reads) : 0
  const read = { server: rest('server'), postgres: rest('postgres') }
  const byNotify = await listening(postgres, false)
  const byNats = kinds.length > 1 ? await listening(postgres, true) : undefined
  const found: Cost = {
    message,
    batch,
    delivery: { busy, alone: crowd.server / crowd.deliveries },
    read,
    hint: {
      NOTIFY: { server: byNotify.server, postgres: byNotify.wake, nats: 0 },
      ...(byNats
        ? { NATS: { server: byNotify.server, postgres: 0, nats: byNats.nats, natsBusy: await busyNats() } }
        : {}),
    },
    wal: thin.wal,
    walFull: full.wal,
    batchMs: (1000 * full.f.seconds) / (full.f.messages * full.batches),
  }
  const lines = head([
    'hints, instances',
    'servers, foretold',
    'measured',
    'Postgres, foretold',
    'measured',
    'batches',
    'reads',
    'hints',
    'messages/s',
    'faults',
  ])
  for (const [kind, instances, m] of runs)
    lines.push(
      row([
        `${kind}, ${instances}`,
        base('server', m) + 5 * busy + read.server * m.reads,
        each(m).server,
        base('postgres', m) + read.postgres * m.reads + (found.hint[kind]?.postgres ?? 0) * m.hints,
        each(m).postgres,
        m.batches,
        m.reads,
        kind === 'NATS' ? m.heard : m.hints,
        Math.round(m.f.messages / m.f.seconds).toLocaleString('en'),
        faults(m.f),
      ]),
    )
  writeFileSync(`${root}bench/cost.json`, `${JSON.stringify({ machine: machine(), ...found }, null, 2)}\n`)
  const unit = (of: { server: number; postgres: number }): string =>
    `${of.server.toFixed(1)} + ${of.postgres.toFixed(1)}`
  return [
    `What things cost, µs of server + Postgres (${machine()}):`,
    '',
    `a message ${unit(message)}, a batch ${unit(batch)}, a read ${unit(read)}; a delivery ${busy.toFixed(1)} among many, ${found.delivery.alone.toFixed(1)} alone;`,
    ...Object.entries(found.hint).map(
      ([kind, { server, postgres, nats, natsBusy = 0 }]) =>
        `a hint by ${kind} ${server.toFixed(1)} of who hears it, ${postgres.toFixed(2)} of Postgres; of NATS ${nats.toFixed(2)} a message at 2,000/s, ${natsBusy.toFixed(2)} for each taken or given in a row;`,
    ),
    `WAL ${Math.round(found.wal)} bytes a message one by one, ${Math.round(found.walFull)} in full batches; a batch lasts ${found.batchMs.toFixed(1)} ms`,
    '',
    'A message, foretold from how many batches, reads and hints there were to it, and measured:',
    '',
    ...lines,
  ].join('\n')
}

const machine = (): string =>
  `${cpus().length} × ${cpus()[0]?.model ?? ''}, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}`

export const scale = { hints, workers, prune, cost }
