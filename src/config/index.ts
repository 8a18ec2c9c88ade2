// The environment, read once: one schema gives the check, the defaults, the meanings (.env.example is held to it by a test).
// Limits stand in it or beside it, each with its reason.
import envSchema from 'env-schema'
import Type, { type Static } from '../protocol/typebox.ts'
import { listOf, mistakes, toOrigin, unsafe } from './safety.ts'

const variable = (description: string, fallback: string) => Type.String({ description, default: fallback })
const number = (description: string, fallback: number, minimum = 1, maximum = Number.MAX_SAFE_INTEGER) =>
  Type.Integer({ description, default: fallback, minimum, maximum })
const samplers = ['always_on', 'always_off', 'traceidratio'] as const
const mebibyte = 1024 * 1024

export const Environment = Type.Object({
  HOST: variable('address to listen on; 0.0.0.0 in a container', '127.0.0.1'),
  PORT: number('port to listen on; 0 takes a free one', 3000, 0, 65_535),
  DATABASE_URL: variable('Postgres 14 or later; empty runs an embedded one under DATA_DIR', ''),
  DATABASE_DIRECT_URL: variable(
    'session-level way to the same database (LISTEN, migrations, locks) where DATABASE_URL is a transaction pooler',
    '',
  ),
  DATABASE_REPLICA_URL: variable(
    'a streaming replica that pages and streams of history are read from, as long as it has what they are to show; empty: none',
    '',
  ),
  DATABASE_POOL_MAX: number(
    'pooled connections of an instance; two more are kept for LISTEN and for the tail',
    6,
    4,
    100,
  ),
  START_PATIENCE: number(
    'seconds for which a start waits for a database that is away, a standby, or not yet reachable; 0: it exits at once',
    120,
    0,
    86_400,
  ),
  HINTS_URL: variable(
    'NATS for the hints among instances, nats://user:password@host:4222 (or tls://; several: comma-separated); empty: NOTIFY',
    '',
  ),
  PGSSLROOTCERT: variable('file of certificates to trust, for sslmode verify-ca and verify-full', ''),
  DATA_DIR: variable('folder of the embedded database and the generated secret', '.data'),
  JWT_SECRET: variable(
    'secret of HS256 tokens, at least 32 bytes; without it and JWKS_URL one is generated under DATA_DIR, but not in production',
    '',
  ),
  JWKS_URL: variable(
    "key set of the identity provider, for RS256, ES256 and EdDSA tokens; https, but for one's own machine",
    '',
  ),
  JWT_ISSUER: variable('iss that tokens must have; empty: any', ''),
  JWT_AUDIENCE: variable('aud that tokens must have; empty: any', ''),
  ALLOWED_ORIGINS: variable(
    "comma-separated origins whose pages may open sockets and call the API, besides the server's own; * (any) not in production",
    '',
  ),
  TRUST_PROXY: variable(
    'proxies whose X-Forwarded-For is believed: comma-separated addresses, such as 10.0.0.0/8, or uniquelocal; empty: none',
    '',
  ),
  LOG_LEVEL: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    description: 'fatal, error, warn, info, debug, trace or silent',
    default: 'info',
  }),
  NODE_ENV: variable('production refuses unsafe settings', 'development'),
  RENDER: variable('set by Render; counts as production', ''),
  RATE_LIMITS: Type.Enum(['on', 'off'], {
    description: 'off lifts limits on rates (frames a second, requests a minute), and no other; for benches and tests',
    default: 'on',
  }),
  ALLOW_UNSAFE: Type.Enum(['0', '1'], { description: '1 lets production run with RATE_LIMITS=off', default: '0' }),
  MAX_SOCKETS: number('sockets an instance serves; each costs some 10 KB, and as much as it may leave unread', 20_000),
  MAX_SOCKETS_PER_SUBJECT: number(
    'of them, sockets of one sub, so that nobody takes them all; lower it where each person has a token of their own',
    10_000,
  ),
  MAX_SOCKETS_PER_USER: number(
    'of them, sockets of one sub whose role is user: a person with some tabs on some machines',
    100,
  ),
  MAX_TOPICS_PER_SOCKET: number('topics a socket may follow: every chat of a busy agency, some 200 bytes each', 1000),
  MAX_PENDING_PER_SOCKET: number('frames of a socket that wait for their answer; beyond, it is not read from', 256),
  FRAMES_PER_SECOND: number(
    'frames a second that a socket may send for long: several replies written at 150 deltas a second each',
    500,
  ),
  FRAMES_BURST: number(
    'frames that a socket may send at once: a client that resends and resubscribes all it has',
    2500,
  ),
  SUBJECT_FRAMES_PER_SECOND: number(
    'frames a second that all sockets of one sub may send together for long: a fifth of what an instance can write',
    5000,
  ),
  SUBJECT_FRAMES_BURST: number('frames that all sockets of one sub may send at once', 25_000),
  USER_MESSAGES_PER_SECOND: number(
    'messages a second that one sub whose role is user may send for long, over sockets and HTTP together',
    10,
  ),
  USER_MESSAGES_BURST: number('messages that such a sub may send at once', 50),
  REQUESTS_PER_MINUTE: number(
    'requests and new sockets a minute of one sub: as many as a socket may send frames',
    30_000,
  ),
  ANONYMOUS_PER_MINUTE: number(
    'requests a minute of one address for what needs no token: the page, the reference',
    1000,
  ),
  AUTH_FAILURES_PER_MINUTE: number(
    'requests a minute of one address whose token is missing or wrong; beyond, they are told rate_limited',
    1000,
  ),
  OUTBOX_BYTES: number(
    'bytes that may wait for one socket, then it is closed with 4408; the largest frame goes in any case',
    4 * mebibyte,
  ),
  OUTBOX_TOTAL_BYTES: number(
    'bytes that may wait for all sockets of an instance; the fuller, the less each may leave unread',
    256 * mebibyte,
  ),
  WRITE_QUEUE: number('messages that may wait to be written, then unavailable: a second of full speed', 20_000),
  WRITE_QUEUE_BYTES: number('bytes of text that may wait to be written', 64 * mebibyte),
  OTEL_EXPORTER_OTLP_ENDPOINT: variable(
    'where traces go by OTLP over HTTP, such as http://127.0.0.1:4318; empty: none are made, and nothing of it is loaded',
    '',
  ),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: variable('the same as a whole address, path and all; counts before it', ''),
  OTEL_SERVICE_NAME: variable('name of this service in traces', 'mission-deck'),
  OTEL_TRACES_SAMPLER: Type.Enum([...samplers, ...samplers.map((name) => `parentbased_${name}` as const)], {
    description: 'which messages are traced: always_on, always_off or traceidratio; parentbased_ changes nothing here',
    default: 'parentbased_always_on',
  }),
  OTEL_TRACES_SAMPLER_ARG: Type.Number({
    description: 'of traceidratio: the share of messages that are traced, 0 to 1',
    default: 1,
    minimum: 0,
    maximum: 1,
  }),
  OTEL_SDK_DISABLED: Type.Enum(['true', 'false'], {
    description: 'true: no traces, whatever else is set',
    default: 'false',
  }),
  MAX_EVENT_LOOP_DELAY: number(
    'ms of mean delay of the event loop within 5 s, beyond which new work is refused; 0 never does',
    500,
    0,
  ),
})

export type Config = Readonly<{
  /** where traces go, under which name, and of how many messages; undefined where none are made */
  traces: Readonly<{ url: string; service: string; ratio: number }> | undefined
  host: string
  port: number
  databaseUrl: string
  databaseDirectUrl: string
  databaseReplicaUrl: string
  poolMax: number
  /** s */
  startPatience: number
  hintsUrl: string
  dataDir: string
  jwtSecret: string
  jwksUrl: string
  jwtIssuer: string
  jwtAudience: string
  /** addresses of the proxies whose X-Forwarded-For is believed */
  trustedProxies: string[]
  allowedOrigins: ReadonlySet<string>
  logLevel: string
  production: boolean
  limits: Limits
}>

/** Limits that are not for the operator to set: the protocol's, and those that a measurement chose. */
const fixed = {
  /** bytes of a client's frame: ten times the largest message with its JSON escapes; larger ones go by HTTP */
  frameBytes: 512 * 1024,
  /** bytes of an HTTP body: a chunk of a run's log, a summary and results of 1 MiB each */
  bodyBytes: 2 * mebibyte,
  /** bytes of a request's headers: a token that names some hundred missions */
  headerBytes: 16 * 1024,
  /** ms until a request's headers, and the whole of it, have to be there: 2 MiB over a slow line take half a minute */
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  /** ms without a byte in either direction until an HTTP connection with an open request is closed: longer than any response takes */
  httpSilence: 60_000,
  /** ms that an idle HTTP connection is kept: longer than the 60 s for which proxies keep theirs */
  keepAlive: 72_000,
  /** frames in a row that are none, until the socket is closed */
  badFrames: 100,
  /** ms between pings, and ms of silence until a socket is closed: proxies cut idle connections after 60 s */
  pingEvery: 25_000,
  silence: 60_000,
  /** event streams that an instance serves, and of them those of one sub: some 10 KB each, and what it leaves unread, as a socket */
  streams: 5_000,
  streamsPerSubject: 1_000,
  /** ms between two comments on an event stream: proxies cut what is idle for 30 s or 60 s */
  commentEvery: 20_000,
  /** for one subject: responses and searches prepared at a time, requests that may wait, and unread response bytes */
  answersAtOnce: 1,
  searchesAtOnce: 8,
  answersWaiting: 256,
  answersUnread: 16 * mebibyte,
  /** request bodies that are read or handled at a time, in bytes: of one subject, and of all */
  bodyBytesAtOnce: 16 * mebibyte,
  bodyBytesOfAll: 64 * mebibyte,
  /** for one subject: requests whose bodies may wait to be read, and bytes of them: 16 s at the rate below */
  bodiesWaiting: 256,
  bodyBytesWaiting: 64 * mebibyte,
  /** ms before its token's end that a socket is told */
  tokenWarning: 30_000,
  /** seconds that a ticket is good for: a page opens its socket at once */
  ticketLife: 30,
  /** ms that the provider's keys are kept, that a fetch of them may take, at least lies between two, and that they count while it is away */
  keysKeep: 600_000,
  keysTimeout: 5_000,
  keysPause: 5_000,
  keysStale: 86_400_000,
  /** entries and bytes of text a batch: beyond 500 a message costs the same */
  batch: 500,
  batchBytes: 4 * mebibyte,
  /** bytes of rows that a seat catching up holds at a time, but for one row: a tenth of a second of a fast line */
  pageBytes: mebibyte,
  /** ms until a message that could not be written, or a look-up that was not answered, is given up; clients are promised 5 s */
  writeDeadline: 4_000,
  /** ms that connecting to the database, and a statement of each kind, may take */
  databaseDeadlines: { connect: 2_000, writer: 1_500, tail: 2_000, statement: 4_000 },
  /** ms between two looks at all followed heads, should hints get lost */
  pollEvery: 5_000,
  /** ms between two looks at where the database's address leads: an instance that only reads learns of a failover by it */
  lookEvery: 5_000,
  /** ms between two looks at the rights of missions with seats; the promise is 2 s */
  rightsEvery: 1_000,
  /** ms over which the delay of the event loop is averaged: one pause is not yet too much to do */
  pressureEvery: 5_000,
  /** ms that a page with filters may be looked for: a million messages that no block rules out take 15 s */
  searchPatience: 30_000,
  /** ms between two rounds of house-keeping */
  tidyEvery: 10_000,
  /** ms until a draft that does not grow is given up */
  draftSilence: 60_000,
  /** bytes of drafts (two for each UTF-16 code unit) of an instance, and of one subject: 200 of the longest */
  draftBytes: 64 * mebibyte,
  draftBytesPerSubject: 8 * mebibyte,
  /** ms after which the people of an instance that is not heard of are gone: 24 s with the look for them, 30 are promised */
  presenceLife: 22_000,
  /** seconds that a task stays with a socket that is gone, and ms between two renewals for those that are there */
  lease: 30,
  renewEvery: 10_000,
}

export type Env = Static<typeof Environment>

const limitsOf = (env: Env) => {
  const rate = (limit: number): number => (env.RATE_LIMITS === 'off' ? Infinity : limit)
  return {
    ...fixed,
    sockets: env.MAX_SOCKETS,
    socketsPerSubject: env.MAX_SOCKETS_PER_SUBJECT,
    socketsPerUser: env.MAX_SOCKETS_PER_USER,
    topics: env.MAX_TOPICS_PER_SOCKET,
    pending: env.MAX_PENDING_PER_SOCKET,
    framesPerSecond: rate(env.FRAMES_PER_SECOND),
    framesBurst: rate(env.FRAMES_BURST),
    subjectFramesPerSecond: rate(env.SUBJECT_FRAMES_PER_SECOND),
    subjectFramesBurst: rate(env.SUBJECT_FRAMES_BURST),
    /** bytes that one subject may send, over its sockets and in request bodies; beyond, both are read more slowly */
    subjectBytesPerSecond: rate(4 * mebibyte),
    subjectBytesBurst: 32 * mebibyte,
    userMessagesPerSecond: rate(env.USER_MESSAGES_PER_SECOND),
    userMessagesBurst: rate(env.USER_MESSAGES_BURST),
    requestsPerMinute: rate(env.REQUESTS_PER_MINUTE),
    anonymousPerMinute: rate(env.ANONYMOUS_PER_MINUTE),
    authFailuresPerMinute: rate(env.AUTH_FAILURES_PER_MINUTE),
    outboxBytes: env.OUTBOX_BYTES,
    outboxTotalBytes: env.OUTBOX_TOTAL_BYTES,
    queue: env.WRITE_QUEUE,
    queueBytes: env.WRITE_QUEUE_BYTES,
    eventLoopDelay: env.MAX_EVENT_LOOP_DELAY,
  }
}
export type Limits = Readonly<ReturnType<typeof limitsOf>>

/** Where traces go, if anywhere. */
const tracesOf = (env: Env): Config['traces'] => {
  const url =
    env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ||
    (env.OTEL_EXPORTER_OTLP_ENDPOINT && `${env.OTEL_EXPORTER_OTLP_ENDPOINT.replace(/\/$/, '')}/v1/traces`)
  const sampler = env.OTEL_TRACES_SAMPLER.replace('parentbased_', '')
  const ratio = sampler === 'always_on' ? 1 : sampler === 'always_off' ? 0 : env.OTEL_TRACES_SAMPLER_ARG
  return url && ratio > 0 && env.OTEL_SDK_DISABLED !== 'true'
    ? Object.freeze({ url, service: env.OTEL_SERVICE_NAME, ratio })
    : undefined
}

/** Reads and checks the environment (and a .env file in the working folder, if there is one). */
export const readConfig = (environment: NodeJS.ProcessEnv): Config => {
  let env: Env
  try {
    env = envSchema<Env>({ schema: Environment, data: environment, env: false, dotenv: true })
  } catch (error) {
    throw new Error(`The environment is not valid: ${(error as Error).message.replace(/^env\//, '')}`, { cause: error })
  }
  const production = env.NODE_ENV === 'production' || env.RENDER !== ''
  const faults = [...mistakes(env), ...(production ? unsafe(env) : [])]
  if (faults.length > 0) throw new Error(faults.join('\n'))
  return Object.freeze({
    host: env.HOST,
    port: env.PORT,
    databaseUrl: env.DATABASE_URL,
    databaseDirectUrl: env.DATABASE_DIRECT_URL || env.DATABASE_URL,
    databaseReplicaUrl: env.DATABASE_REPLICA_URL,
    poolMax: env.DATABASE_POOL_MAX,
    startPatience: env.START_PATIENCE,
    hintsUrl: env.HINTS_URL,
    dataDir: env.DATA_DIR,
    jwtSecret: env.JWT_SECRET,
    jwksUrl: env.JWKS_URL,
    jwtIssuer: env.JWT_ISSUER,
    jwtAudience: env.JWT_AUDIENCE,
    trustedProxies: listOf(env.TRUST_PROXY),
    allowedOrigins: new Set(listOf(env.ALLOWED_ORIGINS).map(toOrigin)),
    logLevel: env.LOG_LEVEL,
    traces: tracesOf(env),
    production,
    limits: Object.freeze(limitsOf(env)),
  })
}
