// The environment, read once: one schema gives the check, the defaults, the meanings (.env.example is held to it by a test).
// Limits stand in it or beside it, each with its reason.
import envSchema from 'env-schema'
import Type, { type Static } from 'typebox'

const variable = (description: string, fallback: string) => Type.String({ description, default: fallback })
const number = (description: string, fallback: number, minimum = 1, maximum = Number.MAX_SAFE_INTEGER) =>
  Type.Integer({ description, default: fallback, minimum, maximum })
const mebibyte = 1024 * 1024

export const Environment = Type.Object({
  HOST: variable('address to listen on; 0.0.0.0 in a container', '127.0.0.1'),
  PORT: number('port to listen on; 0 takes a free one', 3000, 0, 65_535),
  DATABASE_URL: variable('Postgres 14 or later; empty runs an embedded one under DATA_DIR', ''),
  DATABASE_DIRECT_URL: variable(
    'session-level way to the same database (LISTEN, migrations, locks) where DATABASE_URL is a transaction pooler',
    '',
  ),
  DATABASE_POOL_MAX: number(
    'pooled connections of an instance; two more are kept for LISTEN and for the tail',
    6,
    4,
    100,
  ),
  PGSSLROOTCERT: variable('file of certificates to trust, for sslmode verify-ca and verify-full', ''),
  DATA_DIR: variable('folder of the embedded database and the generated secret', '.data'),
  JWT_SECRET: variable(
    'secret of HS256 tokens, at least 32 bytes; generated under DATA_DIR if empty, required in production',
    '',
  ),
  ALLOWED_ORIGINS: variable("comma-separated origins whose pages may open sockets, besides the server's own", ''),
  LOG_LEVEL: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    description: 'fatal, error, warn, info, debug, trace or silent',
    default: 'info',
  }),
  NODE_ENV: variable('production refuses unsafe settings', 'development'),
  RATE_LIMITS: Type.Enum(['on', 'off'], {
    description: 'off lifts limits on rates (frames a second), and no other; for benches and tests',
    default: 'on',
  }),
  ALLOW_UNSAFE: Type.Enum(['0', '1'], { description: '1 lets production run with RATE_LIMITS=off', default: '0' }),
  MAX_SOCKETS: number('sockets an instance serves; each costs some 20 KB, and as much as it may leave unread', 20_000),
  MAX_SOCKETS_PER_SUBJECT: number(
    'of them, sockets of one sub, so that nobody takes them all; lower it where each person has a token of their own',
    10_000,
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
  OUTBOX_BYTES: number(
    'bytes that may wait for one socket, then it is closed with 4408; the largest frame goes in any case',
    4 * mebibyte,
  ),
  OUTBOX_TOTAL_BYTES: number(
    'bytes that may wait for all sockets of an instance; the fuller, the less each may leave unread',
    256 * mebibyte,
  ),
  WRITE_QUEUE: number('messages that may wait to be written, then unavailable: two seconds of full speed', 20_000),
  WRITE_QUEUE_BYTES: number('bytes of text that may wait to be written', 64 * mebibyte),
  MAX_EVENT_LOOP_DELAY: number(
    'ms of mean delay of the event loop within 5 s, beyond which new work is refused; 0 never does',
    500,
    0,
  ),
})

export type Config = Readonly<{
  host: string
  port: number
  databaseUrl: string
  databaseDirectUrl: string
  poolMax: number
  dataDir: string
  jwtSecret: string
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
  /** ms that an idle HTTP connection is kept: longer than the 60 s for which proxies keep theirs */
  keepAlive: 72_000,
  /** frames in a row that are none, until the socket is closed */
  badFrames: 100,
  /** ms between pings, and ms of silence until a socket is closed: proxies cut idle connections after 60 s */
  pingEvery: 25_000,
  silence: 60_000,
  /** entries and bytes of text a batch: beyond 500 a message costs the same */
  batch: 500,
  batchBytes: 4 * mebibyte,
  /** bytes of rows that a seat catching up holds at a time, but for one row: a tenth of a second of a fast line */
  pageBytes: mebibyte,
  /** ms until a message that could not be written, or a look-up that was not answered, is given up; clients are promised 5 s */
  writeDeadline: 4_000,
  /** ms between two looks at all followed heads, should hints get lost */
  pollEvery: 5_000,
  /** ms between two looks at the rights of missions with seats; the promise is 2 s */
  rightsEvery: 1_000,
  /** ms over which the delay of the event loop is averaged: one pause is not yet too much to do */
  pressureEvery: 5_000,
  /** ms between two rounds of house-keeping */
  tidyEvery: 10_000,
}

const limitsOf = (env: Static<typeof Environment>) => ({
  ...fixed,
  sockets: env.MAX_SOCKETS,
  socketsPerSubject: env.MAX_SOCKETS_PER_SUBJECT,
  topics: env.MAX_TOPICS_PER_SOCKET,
  pending: env.MAX_PENDING_PER_SOCKET,
  framesPerSecond: env.RATE_LIMITS === 'off' ? Infinity : env.FRAMES_PER_SECOND,
  framesBurst: env.RATE_LIMITS === 'off' ? Infinity : env.FRAMES_BURST,
  outboxBytes: env.OUTBOX_BYTES,
  outboxTotalBytes: env.OUTBOX_TOTAL_BYTES,
  queue: env.WRITE_QUEUE,
  queueBytes: env.WRITE_QUEUE_BYTES,
  eventLoopDelay: env.MAX_EVENT_LOOP_DELAY,
})
export type Limits = Readonly<ReturnType<typeof limitsOf>>

/** Reads and checks the environment (and a .env file in the working folder, if there is one). */
export const readConfig = (environment: NodeJS.ProcessEnv): Config => {
  let env: Static<typeof Environment>
  try {
    env = envSchema<Static<typeof Environment>>({ schema: Environment, data: environment, env: false, dotenv: true })
  } catch (error) {
    throw new Error(`The environment is not valid: ${(error as Error).message.replace(/^env\//, '')}`, { cause: error })
  }
  const production = env.NODE_ENV === 'production'
  if (production && !env.JWT_SECRET) throw new Error('JWT_SECRET is required in production (at least 32 bytes).')
  if (env.JWT_SECRET && Buffer.byteLength(env.JWT_SECRET) < 32) {
    if (production) throw new Error('JWT_SECRET is too short: at least 32 bytes are needed.')
  }
  if (production && env.RATE_LIMITS === 'off' && env.ALLOW_UNSAFE !== '1')
    throw new Error('RATE_LIMITS=off is for benches and tests; production takes it with ALLOW_UNSAFE=1 only.')
  for (const [name, url] of [
    ['DATABASE_URL', env.DATABASE_URL],
    ['DATABASE_DIRECT_URL', env.DATABASE_DIRECT_URL],
  ])
    if (url && !/^postgres(ql)?:\/\//.test(url))
      throw new Error(`${name} must begin with postgres:// or postgresql://.`)
  return Object.freeze({
    host: env.HOST,
    port: env.PORT,
    databaseUrl: env.DATABASE_URL,
    databaseDirectUrl: env.DATABASE_DIRECT_URL || env.DATABASE_URL,
    poolMax: env.DATABASE_POOL_MAX,
    dataDir: env.DATA_DIR,
    jwtSecret: env.JWT_SECRET,
    allowedOrigins: new Set(
      env.ALLOWED_ORIGINS.split(',')
        .map((origin) => origin.trim())
        .filter(Boolean),
    ),
    logLevel: env.LOG_LEVEL,
    production,
    limits: Object.freeze(limitsOf(env)),
  })
}
