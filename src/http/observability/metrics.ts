// GET /metrics, for Prometheus. The parts keep plain counters, which are read when the route is scraped. Only histograms are observed
// as events happen. Label values are codes and names of pools: their number is bounded, and they contain no personal data.
import type { FastifyInstance } from 'fastify'
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import Type from '../../protocol/typebox.ts'
import type { Limits } from '../../config/index.ts'
import type { Tally } from '../../live/connections/counters.ts'
import { errorCodes } from '../../protocol/errors.ts'
import { closeCodes } from '../../protocol/websocket-wire.ts'
import type { Readiness } from './health.ts'
import { most as mostLines } from '../streams/ndjson.ts'

/** The counters of the parts, read at each scrape. */
export type Readings = {
  sockets: number
  streams: number
  lines: number
  subscriptions: number
  catching: number
  topics: number
  tasksHeld: number
  claimsWaiting: number
  outboxBytes: number
  tally: Tally
  httpErrors: Map<string, number>
  /** database errors, counted also where the log leaves out repetitions */
  faults: number
  writer: { batches: number; entries: number; waiting: number; bytes: number; lane: number; held: number }
  tail: { reads: number; pages: number; hints: number; found: number }
  /** since: performance.now() at the start of the LISTEN session; undefined without a session */
  listener: { since: number | undefined; sessions: number }
  /** undefined: notifications use NOTIFY only */
  bus: { connected: boolean; sent: number; heard: number } | undefined
  /** reads of history: by the replica; by the primary because the replica was behind, or failed */
  reads: { replica: number; behind: number; failed: number }
  pools: Record<string, { totalCount: number; idleCount: number; waitingCount: number }>
}

export type Meters = {
  registry: Registry
  /** seconds from a message's request to its commit */
  commit: (seconds: number) => void
  /** A page was delivered to its subscriptions. Sockets are written at the end of the turn of the event loop. */
  delivered: () => void
  /** messages of a batch */
  batch: (size: number) => void
}

const isStream = /^(text\/event-stream|application\/x-ndjson)/
const seconds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5]

export const makeMeters = (): Meters => {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const histogram = (name: string, help: string, buckets: number[]): ((value: number) => void) => {
    const made = new Histogram({ name, help, buckets, registers: [registry] })
    return (value) => made.observe(value)
  }
  const write = histogram(
    'deck_commit_to_write_seconds',
    'from the notification of a commit to the write to its sockets',
    seconds,
  )
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
    batch: histogram('deck_batch_size', 'messages per batch', [1, 2, 5, 10, 20, 50, 100, 200, 500]),
  }
}

/** Configured limits by name: the counters' upper bounds. */
const boundsOf = (limits: Bounds): [string, number][] => [
  ['sockets', limits.sockets],
  ['event_streams', limits.streams],
  ['line_streams', mostLines],
  ['outbox_bytes', limits.outboxTotalBytes],
  ['queue_messages', limits.queue],
  ['queue_bytes', limits.queueBytes],
]
type Bounds = Pick<Limits, 'sockets' | 'streams' | 'outboxTotalBytes' | 'queue' | 'queueBytes'>

/** Close codes with a label value; all other codes (a client may send any of 4,000) count as `other`. */
const known = [1000, 1001, 1005, 1006, 1007, 1009, ...Object.values(closeCodes)].map(String)
const closesOf = (closes: Map<string, number>): [string, number][] => {
  const others = [...closes].filter(([code]) => !known.includes(code))
  return [
    ...known.map((code): [string, number] => [code, closes.get(code) ?? 0]),
    ['other', others.reduce((sum, [, count]) => sum + count, 0)],
  ]
}

/** Counts answered API requests and observes their time. Streams are not timed: their end depends on the client. */
const countRequests = (app: FastifyInstance, registry: Registry): void => {
  const answered = new Counter({
    name: 'deck_http_requests_total',
    help: 'requests of the API answered, by status',
    labelNames: ['status'],
    registers: [registry],
  })
  const took = new Histogram({
    name: 'deck_http_request_seconds',
    help: 'time that requests of the API took, by method; streams left out',
    labelNames: ['method'],
    buckets: seconds,
    registers: [registry],
  })
  app.addHook('onResponse', (request, reply, done) => {
    // Only known routes are timed: their methods are bounded, unlike the paths that a client may invent.
    if (request.url.startsWith('/api/')) {
      answered.inc({ status: reply.statusCode })
      const { url = '' } = request.routeOptions
      if (url !== '' && !isStream.test(String(reply.raw.getHeader('content-type'))))
        took.observe({ method: request.method }, reply.elapsedTime / 1000)
    }
    done()
  })
}

export const metricsRoute = (
  app: FastifyInstance,
  { registry }: Meters,
  { version, ready, limits }: { version: string; ready: Readiness; limits: Bounds },
  read: () => Readings,
): void => {
  type Value = number | Iterable<[string, number]>
  const meter = (
    Kind: typeof Gauge | typeof Counter,
    name: string,
    help: string,
    of: (now: Readings) => Value | Promise<Value>,
    label?: string,
  ) => {
    const made: Gauge | Counter = new Kind({
      name: `deck_${name}`,
      help,
      registers: [registry],
      ...(label ? { labelNames: [label] } : {}),
      async collect() {
        const value = await of(read())
        made.reset()
        if (typeof value === 'number') made.inc(value)
        else for (const [name, each] of value) made.inc({ [label ?? 'name']: name }, each)
      },
    })
  }
  const gauge = meter.bind(undefined, Gauge)
  const counter = meter.bind(undefined, Counter)
  countRequests(app, registry)
  new Gauge({ name: 'deck_build_info', help: 'always 1', labelNames: ['version'], registers: [registry] }).set(
    { version },
    1,
  )
  const checks = async (): Promise<[string, number][]> => (await ready()).map(({ check, ok }) => [check, Number(ok)])
  gauge('ready', '1 for each check of /readyz that passes', checks, 'check')
  gauge('limit', 'configured limits, by name', () => boundsOf(limits), 'of')
  gauge('sockets', 'open sockets', (now) => now.sockets)
  gauge('event_streams', 'open event streams', (now) => now.streams)
  gauge('line_streams', 'open NDJSON streams of histories and timelines', (now) => now.lines)
  gauge('seats', 'subscriptions', (now) => now.subscriptions)
  gauge('seats_catching', 'subscriptions that are catching up', (now) => now.catching)
  gauge('topics', 'followed topics', (now) => now.topics)
  gauge('tasks_held', 'tasks leased by sockets of this instance', (now) => now.tasksHeld)
  gauge('claims_waiting', 'claims over HTTP that wait for tasks', (now) => now.claimsWaiting)
  gauge('outbox_bytes', 'bytes waiting in send buffers', (now) => now.outboxBytes)
  counter('frames_in_total', 'frames received from sockets', ({ tally }) => tally.framesIn)
  counter('frames_out_total', 'frames sent to sockets', ({ tally }) => tally.framesOut)
  counter('bytes_in_total', 'bytes of frames received from sockets', ({ tally }) => tally.bytesIn)
  counter('bytes_out_total', 'bytes of frames sent to sockets', ({ tally }) => tally.bytesOut)
  const errors = (sent: Map<string, number>) => errorCodes.map((code): [string, number] => [code, sent.get(code) ?? 0])
  counter('socket_errors_total', 'errors sent to sockets', ({ tally }) => errors(tally.errors), 'code')
  counter('socket_closes_total', 'sockets closed', ({ tally }) => closesOf(tally.closes), 'code')
  counter('http_errors_total', 'HTTP responses with an error', (now) => errors(now.httpErrors), 'code')
  counter('database_errors_total', 'logged database errors', (now) => now.faults)
  counter('batches_total', 'committed batches of messages', ({ writer }) => writer.batches)
  counter('messages_total', 'messages committed by this instance', ({ writer }) => writer.entries)
  gauge('queue_messages', 'messages waiting to be written', ({ writer }) => writer.waiting)
  gauge('queue_bytes', 'bytes of text waiting to be written', ({ writer }) => writer.bytes)
  gauge('waiting_lane_topics', 'topics whose messages wait for a lock', ({ writer }) => writer.lane)
  gauge(
    'held_topics',
    'topics among them whose lock is held for longer than a batch takes',
    ({ writer }) => writer.held,
  )
  counter('tail_reads_total', 'reads of rows written elsewhere', ({ tail }) => tail.reads)
  counter('tail_pages_total', 'pages delivered to subscriptions', ({ tail }) => tail.pages)
  counter('hints_total', 'notifications received from other writers', ({ tail }) => tail.hints)
  counter(
    'poll_finds_total',
    'topics whose latest seq the poll found ahead of every notification',
    ({ tail }) => tail.found,
  )
  gauge('listen_age_seconds', 'age of the LISTEN session, 0 while LISTEN is down', ({ listener: { since } }) =>
    since === undefined ? 0 : (performance.now() - since) / 1000,
  )
  counter('listen_sessions_total', 'LISTEN sessions opened', ({ listener }) => listener.sessions)
  gauge('bus_connected', '1 while notifications use NATS, 0 while they use NOTIFY', ({ bus }) =>
    bus?.connected ? 1 : 0,
  )
  counter('bus_sent_total', 'notifications and signals sent by NATS', ({ bus }) => bus?.sent ?? 0)
  counter('bus_heard_total', 'notifications and signals received by NATS', ({ bus }) => bus?.heard ?? 0)
  counter(
    'replica_reads_total',
    'reads of history by the result of asking the replica',
    ({ reads }) => Object.entries(reads),
    'outcome',
  )
  const pools = (count: 'totalCount' | 'idleCount' | 'waitingCount') => (now: Readings) =>
    Object.entries(now.pools).map(([name, pool]): [string, number] => [name, pool[count]])
  gauge('pool_connections', 'connections to Postgres', pools('totalCount'), 'pool')
  gauge('pool_idle', 'idle connections to Postgres', pools('idleCount'), 'pool')
  gauge('pool_waiting', 'queries waiting for a connection', pools('waitingCount'), 'pool')

  const schema = {
    tags: ['health'],
    summary: 'Metrics for Prometheus',
    response: {
      200: { description: 'the text format of Prometheus', content: { 'text/plain': { schema: Type.String() } } },
    },
  }
  app.get('/metrics', { schema }, async (_request, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  )
}
