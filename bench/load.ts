// The load generator, a separate process: it opens sockets, publishes, and checks deliveries. Latency is the time from the send to
// the delivery. For each socket and publisher, the numbers must arrive as 1, 2, 3 …. A repeated number is a duplicate, a number that
// skips others is out of order, and a missing number at the end is lost. All sockets of a topic must receive the same order.
import { setTimeout as delay } from 'node:timers/promises'
import { deck, mark, socketio, tutorial, type Adapter } from './adapters.ts'
import { ejabberd } from './ejabberd.ts'
import { makeTexts } from './generate.ts'
import { spread, type Spread } from './spread.ts'
import { openWire, type Wire } from './socket.ts'

export type Plan = {
  target: 'deck' | 'socketio' | 'tutorial' | 'ejabberd'
  token: string
  /** the sockets: their URL, their topic, and whether they publish and listen */
  sockets: { url: string; topic: string; publishes: boolean; listens: boolean }[]
}
export type Run = {
  /** `closed`: unacknowledged messages of each publisher; `rate`: messages per second of all publishers together */
  closed?: number
  rate?: number
  bytes: number
  /** texts of words instead of one letter: what a search index has to do depends on it */
  words?: boolean
  warm: number
  seconds: number
  /** the result has every latency */
  keep?: boolean
}
export type Result = Spread & {
  seconds: number
  /** acknowledged messages and deliveries within the measured time */
  messages: number
  deliveries: number
  /** ms from send to delivery, of all deliveries, if they are kept */
  latencies: number[]
  errors: number
  lost: number
  doubles: number
  disorder: number
  /** topics whose sockets did not all receive the same order */
  torn: number
  closed: string[]
  /** µs of the load generator's CPU per message */
  cpu: number
}
export type Order = { plan: Plan } | { run: Run } | { end: true }
export type Told = { ready: true } | { begun: true } | { over: true } | { result: Result }

const tell = (told: Told): void => void process.send?.(told)
const micros = (): number => Math.floor(performance.now() * 1000)

type Member = {
  wire: Wire
  topic: string
  listens: boolean
  /** for each publisher of the topic, the next number, and earlier numbers that have not arrived */
  next: Map<number, number>
  missing: Set<string>
  early: number
  hash: number
  out: string[]
}
type Publisher = { index: number; member: Member; sent: number; acked: number }

const members: Member[] = []
const publishers: Publisher[] = []
let adapter: Adapter
let latencies = new Float64Array(0)
let measuring = false
let publish: (publisher: Publisher) => void = () => {}
const counts = { messages: 0, deliveries: 0, errors: 0, doubles: 0 }
const closed: string[] = []
/** for each publisher, the number of messages sent before this run */
let base: number[] = []

const deliver = (member: Member, chunk: Buffer, start: number): void => {
  let at = chunk.indexOf(mark, start) + 1
  const read = (): number => {
    let value = 0
    for (;;) {
      const digit = (chunk[at++] ?? 0) - 48
      if (digit < 0 || digit > 9) return value
      value = value * 10 + digit
    }
  }
  const publisher = read()
  const n = read()
  const sentAt = read()
  // A late message of an earlier run.
  if (n <= (base[publisher] ?? 0)) return
  const next = member.next.get(publisher) ?? 1
  if (n >= next) {
    if (n > next) member.early++
    for (let skipped = next; skipped < n; skipped++) member.missing.add(`${publisher}.${skipped}`)
    member.next.set(publisher, n + 1)
  } else if (!member.missing.delete(`${publisher}.${n}`)) counts.doubles++
  member.hash = (Math.imul(member.hash, 31) + publisher * 7919 + n) | 0
  if (!measuring) return
  if (counts.deliveries === latencies.length) {
    const more = new Float64Array(Math.max(1 << 16, latencies.length * 2))
    more.set(latencies)
    latencies = more
  }
  latencies[counts.deliveries++] = micros() - sentAt
}

const open = async (plan: Plan): Promise<void> => {
  adapter = { deck: () => deck(plan.token), socketio, tutorial, ejabberd }[plan.target]()
  const one = async ({ url, topic, publishes, listens }: Plan['sockets'][number], name: number): Promise<void> => {
    let resolve = (): void => {}
    let reject: (why: Error) => void = () => {}
    const joining = new Promise<void>((...settle) => ([resolve, reject] = settle))
    const member: Member = {
      wire: { send() {}, close() {} },
      topic,
      listens,
      next: new Map(),
      missing: new Set(),
      early: 0,
      hash: 0,
      out: [],
    }
    const publisher: Publisher | undefined = publishes
      ? { index: publishers.length, member, sent: 0, acked: 0 }
      : undefined
    if (publisher) publishers.push(publisher)
    members.push(member)
    let joined = false
    const join = (frame: string): void => {
      const { send, joined: done } = adapter.join(frame, name, listens ? topic : undefined)
      if (send) member.wire.send(send)
      if (!done) return
      joined = true
      resolve()
    }
    const ack = (): void => {
      if (!publisher) return
      publisher.acked++
      if (measuring) counts.messages++
      publish(publisher)
    }
    const door = adapter.door(url, name)
    member.wire = await openWire(
      door.url,
      door.headers ?? {},
      (chunk, start, end) => {
        if (!joined) return join(chunk.toString('utf8', start, end))
        switch (adapter.kind(chunk, start, end)) {
          case 'ack':
            return ack()
          case 'echo':
            deliver(member, chunk, start)
            return ack()
          case 'delivery':
            return deliver(member, chunk, start)
          case 'ping':
            return void member.out.push(adapter.pong ?? '')
          case 'error':
            if (counts.errors++ === 0) process.stderr.write(`${chunk.toString('utf8', start, end)}\n`)
            return
          case 'none':
        }
      },
      () => flush(member),
      (why) => {
        if (!ending) closed.push(why)
        reject(new Error(why))
      },
    )
    join('')
    await joining
  }
  // Names are unique, also beside a second load generator. 50 sockets are opened at a time.
  const first = (process.pid % 10_000) * 10_000
  for (let i = 0; i < plan.sockets.length; i += 50)
    await Promise.all(plan.sockets.slice(i, i + 50).map((socket, n) => one(socket, first + i + n)))
}

let ending = false
const flush = (member: Member): void => {
  if (member.out.length === 0) return
  member.wire.send(member.out)
  member.out = []
}

/** Texts that are sent in turn. */
const makeFillings = (bytes: number, words: boolean): string[] => {
  if (!words) return ['x'.repeat(bytes)]
  const { sentences } = makeTexts()
  const all = sentences.slice(0, 4000).map((sentence, i) => `${sentence} ${sentences[4000 + i]} ${sentences[8000 + i]}`)
  return all.map((text) => text.padEnd(bytes, ' and so on').slice(0, bytes))
}

const run = async ({
  closed: window,
  rate,
  bytes,
  words = false,
  warm,
  seconds,
  keep = false,
}: Run): Promise<Result> => {
  const fillings = makeFillings(bytes, words)
  let written = 0
  const write = (publisher: Publisher): void => {
    const { member, index } = publisher
    const head = `~${index}.${++publisher.sent}.${micros()}~`
    const filling = fillings[written++ % fillings.length] ?? ''
    member.out.push(adapter.publish(member.topic, publisher.sent, head + filling.slice(head.length)))
  }
  let running = true
  publish = (publisher) => {
    if (window !== undefined && running) write(publisher)
  }
  if (window !== undefined)
    for (const publisher of publishers) {
      for (let i = 0; i < window; i++) write(publisher)
      flush(publisher.member)
    }
  const offer = async (perSecond: number): Promise<void> => {
    const start = performance.now()
    for (let sent = 0; running;) {
      const due = Math.floor(((performance.now() - start) / 1000) * perSecond)
      while (sent < due) {
        const publisher = publishers[sent++ % publishers.length]
        if (publisher) write(publisher)
      }
      for (const { member } of publishers) flush(member)
      // Until the next one is due: a load that wakes more often takes time from a server that is idle.
      await delay(Math.max(1, start + ((sent + 1) / perSecond) * 1000 - performance.now()))
    }
  }
  const offering = rate === undefined ? undefined : offer(rate)
  await delay(warm * 1000)
  measuring = true
  const cpu = process.cpuUsage()
  const start = performance.now()
  tell({ begun: true })
  await delay(seconds * 1000)
  measuring = false
  const took = (performance.now() - start) / 1000
  const used = process.cpuUsage(cpu)
  tell({ over: true })
  running = false
  await offering
  // Messages in transit may still arrive for a while; then the missing ones are lost.
  const expected = (): { member: Member; missing: number }[] =>
    members
      .filter(({ listens }) => listens)
      .map((member) => ({
        member,
        missing: publishers
          .filter((publisher) => publisher.member.topic === member.topic)
          .reduce((sum, { index, sent }) => sum + Math.max(0, sent + 1 - (member.next.get(index) ?? 1)), 0),
      }))
  let lost = 0
  for (let tries = 0; tries < 200; tries++) {
    lost = expected().reduce((sum, { missing }) => sum + missing, 0)
    if (lost === 0) break
    await delay(50)
  }
  const orders = new Map<string, Set<number>>()
  for (const { topic, hash } of members.filter(({ listens }) => listens))
    orders.set(topic, (orders.get(topic) ?? new Set()).add(hash))
  const found = latencies.subarray(0, counts.deliveries).map((latency) => latency / 1000)
  const result: Result = {
    seconds: took,
    ...counts,
    ...spread(found),
    latencies: keep ? [...found] : [],
    lost,
    disorder: members.reduce((sum, { early }) => sum + early, 0),
    torn: [...orders.values()].filter((hashes) => hashes.size > 1).length,
    closed: [...closed],
    cpu: (used.user + used.system) / Math.max(1, counts.messages),
  }
  // The next run starts with new counters.
  latencies = new Float64Array(0)
  Object.assign(counts, { messages: 0, deliveries: 0, errors: 0, doubles: 0 })
  closed.length = 0
  base = publishers.map(({ sent }) => sent)
  for (const member of members) {
    member.early = 0
    member.missing.clear()
    for (const { index, sent, member: own } of publishers)
      if (own.topic === member.topic) member.next.set(index, sent + 1)
  }
  return result
}

process.on('message', (order: Order) => {
  const fault = (error: unknown): void => {
    process.stderr.write(`${String(error instanceof Error ? error.stack : error)}\n`)
    process.exit(1)
  }
  if ('plan' in order) open(order.plan).then(() => tell({ ready: true }), fault)
  else if ('run' in order) run(order.run).then((result) => tell({ result }), fault)
  else {
    ending = true
    for (const { wire } of members) wire.close()
    process.disconnect?.()
  }
})
