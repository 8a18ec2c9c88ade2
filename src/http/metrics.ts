// GET /metrics, for Prometheus. The parts count by themselves, in plain numbers that are read when somebody asks; only what
// has a distribution is observed as it happens. Labels are codes and the names of pools: of bounded number, and nobody's name.
import type { FastifyInstance } from 'fastify'
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import Type from 'typebox'
import type { Tally } from '../live/tally.ts'

/** What the parts say of themselves. */
export type Readings = {
  sockets: number
  streams: number
  seats: number
  catching: number
  topics: number
  tasksHeld: number
  outboxBytes: number
  tally: Tally
  httpErrors: Map<string, number>
  writer: { batches: number; entries: number; waiting: number; bytes: number; lane: number }
  tail: { reads: number; pages: number; hints: number; found: number }
  /** since: performance.now of the LISTEN session, undefined if there is none */
  listener: { since: number | undefined; sessions: number }
  /** undefined: hints go by NOTIFY */
  bus: { connected: boolean; sent: number; heard: number } | undefined
  /** reads of history: of the replica; of the primary, as the replica was behind, or failed */
  reads: { replica: number; behind: number; failed: number }
  pools: Record<string, { totalCount: number; idleCount: number; waitingCount: number }>
}

export type Meters = {
  registry: Registry
  /** seconds from a message's request to its commit */
  commit: (seconds: number) => void
  /** A page was handed to its seats: what is delivered in a turn of the event loop is written at its end. */
  delivered: () => void
  /** messages of a batch */
  batch: (size: number) => void
}

const seconds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5]

export const makeMeters = (): Meters => {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const histogram = (name: string, help: string, buckets: number[]): ((value: number) => void) => {
    const made = new Histogram({ name, help, buckets, registers: [registry] })
    return (value) => made.observe(value)
  }
  const write = histogram('deck_commit_to_write_seconds', 'from a known commit to the write to its sockets', seconds)
  let deliveredAt: number | undefined
  return {
    registry,
    delivered() {
      if (deliveredAt !== undefined) return
      const begun = (deliveredAt = performance.now())
      setImmediate(() => {
        write((performance.now() - begun) / 1000)
        deliveredAt = undefined
      })
    },
    commit: histogram('deck_send_to_commit_seconds', 'from a message’s request to its commit', seconds),
    batch: histogram('deck_batch_size', 'messages of a batch', [1, 2, 5, 10, 20, 50, 100, 200, 500]),
  }
}

export const metricsRoute = (app: FastifyInstance, { registry }: Meters, read: () => Readings): void => {
  type Value = number | Iterable<[string, number]>
  const meter = (
    Kind: typeof Gauge | typeof Counter,
    name: string,
    help: string,
    of: (now: Readings) => Value,
    label?: string,
  ) => {
    const made: Gauge | Counter = new Kind({
      name: `deck_${name}`,
      help,
      registers: [registry],
      ...(label ? { labelNames: [label] } : {}),
      collect() {
        made.reset()
        const value = of(read())
        if (typeof value === 'number') made.inc(value)
        else for (const [name, each] of value) made.inc({ [label ?? 'name']: name }, each)
      },
    })
  }
  const gauge = meter.bind(undefined, Gauge)
  const counter = meter.bind(undefined, Counter)
  gauge('sockets', 'open sockets', (now) => now.sockets)
  gauge('event_streams', 'open event streams', (now) => now.streams)
  gauge('seats', 'subscriptions', (now) => now.seats)
  gauge('seats_catching', 'subscriptions that catch up', (now) => now.catching)
  gauge('topics', 'topics that are followed', (now) => now.topics)
  gauge('tasks_held', 'tasks that sockets here hold', (now) => now.tasksHeld)
  gauge('outbox_bytes', 'bytes that wait for sockets', (now) => now.outboxBytes)
  counter('frames_in_total', 'frames taken from sockets', ({ tally }) => tally.framesIn)
  counter('frames_out_total', 'frames given to sockets', ({ tally }) => tally.framesOut)
  counter('bytes_in_total', 'bytes of frames taken from sockets', ({ tally }) => tally.bytesIn)
  counter('bytes_out_total', 'bytes of frames given to sockets', ({ tally }) => tally.bytesOut)
  counter('socket_errors_total', 'errors told to sockets', ({ tally }) => tally.errors, 'code')
  counter('socket_closes_total', 'sockets closed', ({ tally }) => tally.closes, 'code')
  counter('http_errors_total', 'errors told over HTTP', (now) => now.httpErrors, 'code')
  counter('batches_total', 'batches of messages committed', ({ writer }) => writer.batches)
  counter('messages_total', 'messages committed by this instance', ({ writer }) => writer.entries)
  gauge('queue_messages', 'messages that wait to be written', ({ writer }) => writer.waiting)
  gauge('queue_bytes', 'bytes of text that wait to be written', ({ writer }) => writer.bytes)
  gauge('waiting_lane_topics', 'topics whose messages wait for somebody’s lock', ({ writer }) => writer.lane)
  counter('tail_reads_total', 'reads of what others wrote', ({ tail }) => tail.reads)
  counter('tail_pages_total', 'pages handed to seats', ({ tail }) => tail.pages)
  counter('hints_total', 'hints heard of other writers', ({ tail }) => tail.hints)
  counter(
    'poll_finds_total',
    'topics that a look at the heads found further on than any hint had told',
    ({ tail }) => tail.found,
  )
  gauge('listen_age_seconds', 'age of the LISTEN session, 0 if there is none', ({ listener: { since } }) =>
    since === undefined ? 0 : (performance.now() - since) / 1000,
  )
  counter('listen_sessions_total', 'LISTEN sessions opened', ({ listener }) => listener.sessions)
  gauge('bus_connected', '1 while hints go by NATS, 0 while they go by NOTIFY', ({ bus }) => (bus?.connected ? 1 : 0))
  counter('bus_sent_total', 'hints and signals given to NATS', ({ bus }) => bus?.sent ?? 0)
  counter('bus_heard_total', 'hints and signals heard by NATS', ({ bus }) => bus?.heard ?? 0)
  counter(
    'replica_reads_total',
    'reads of history by what came of asking the replica',
    ({ reads }) => Object.entries(reads),
    'outcome',
  )
  const pools = (count: 'totalCount' | 'idleCount' | 'waitingCount') => (now: Readings) =>
    Object.entries(now.pools).map(([name, pool]): [string, number] => [name, pool[count]])
  gauge('pool_connections', 'connections to Postgres', pools('totalCount'), 'pool')
  gauge('pool_idle', 'of them idle', pools('idleCount'), 'pool')
  gauge('pool_waiting', 'queries that wait for a connection', pools('waitingCount'), 'pool')

  const schema = {
    tags: ['health'],
    summary: 'Metrics for Prometheus',
    response: { 200: { description: 'its text format', content: { 'text/plain': { schema: Type.String() } } } },
  }
  app.get('/metrics', { schema }, async (_request, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  )
}
