// The environment, read once: one schema gives the check, the defaults, the meanings (.env.example is held to it by a test).
// Limits stand beside it, each with its reason.
import envSchema from 'env-schema'
import Type, { type Static } from 'typebox'

const variable = (description: string, fallback: string) => Type.String({ description, default: fallback })

export const Environment = Type.Object({
  HOST: variable('address to listen on; 0.0.0.0 in a container', '127.0.0.1'),
  PORT: Type.Integer({
    description: 'port to listen on; 0 takes a free one',
    default: 3000,
    minimum: 0,
    maximum: 65_535,
  }),
  DATABASE_URL: variable('Postgres 14 or later; empty runs an embedded one under DATA_DIR', ''),
  DATABASE_DIRECT_URL: variable(
    'session-level way to the same database (LISTEN, migrations, locks) where DATABASE_URL is a transaction pooler',
    '',
  ),
  DATABASE_POOL_MAX: Type.Integer({
    description: 'pooled connections of an instance; two more are kept for LISTEN and for the tail',
    default: 6,
    minimum: 4,
    maximum: 100,
  }),
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
  limits: typeof limits
}>

export const limits = Object.freeze({
  /** bytes of a client's frame: ten times the largest message with its JSON escapes; larger ones go by HTTP */
  frameBytes: 512 * 1024,
  /** bytes of an HTTP body: a chunk of a run's log, a summary and results of 1 MiB each */
  bodyBytes: 2 * 1024 * 1024,
  /** bytes that may wait for one socket: the largest frame of the server */
  outboxBytes: 4 * 1024 * 1024,
  /** topics a socket may follow: every chat of a busy agency; each costs some 200 bytes */
  topics: 1000,
  /** frames of one socket that wait for their answer; beyond, it is not read from */
  pending: 256,
  /** frames in a row that are none, until the socket is closed */
  badFrames: 100,
  /** ms between pings, and ms of silence until a socket is closed: proxies cut idle connections after 60 s */
  pingEvery: 25_000,
  silence: 60_000,
  /** entries and bytes of text a batch: beyond 500 a message costs the same */
  batch: 500,
  batchBytes: 4 * 1024 * 1024,
  /** entries and bytes that wait to be written, at the most: two seconds of full speed */
  queue: 20_000,
  queueBytes: 64 * 1024 * 1024,
  /** ms until a message that could not be written is answered; clients are promised 5 s */
  writeDeadline: 4_000,
  /** ms between two looks at all followed heads, should hints get lost */
  pollEvery: 5_000,
  /** ms between two looks at the rights of missions with seats; the promise is 2 s */
  rightsEvery: 1_000,
  /** ms between two rounds of house-keeping */
  tidyEvery: 10_000,
})

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
    limits,
  })
}
