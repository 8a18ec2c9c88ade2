// The environment variables: one schema gives the check, the defaults and the meanings. A test holds .env.example to it.
import Type, { type Static } from '../protocol/typebox.ts'

const variable = (description: string, fallback: string) => Type.String({ description, default: fallback })
const number = (description: string, fallback: number, minimum = 1, maximum = Number.MAX_SAFE_INTEGER) =>
  Type.Integer({ description, default: fallback, minimum, maximum })
const samplers = ['always_on', 'always_off', 'traceidratio'] as const
export const mebibyte = 1024 * 1024

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
    'key set of the identity provider, for RS256, ES256 and EdDSA tokens; https, or http for localhost',
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
  MAX_SOCKETS: number('sockets an instance serves; each costs some 10 KB, and its unread bytes', 20_000),
  MAX_SOCKETS_PER_SUBJECT: number('of these, sockets of one sub; lower it if each person has a separate token', 10_000),
  MAX_SOCKETS_PER_USER: number(
    'of these, sockets of one sub whose role is user: a person with some tabs on some machines',
    100,
  ),
  MAX_TOPICS_PER_SOCKET: number('topics a socket may follow: every chat of a busy agency, some 200 bytes each', 1000),
  MAX_PENDING_PER_SOCKET: number('frames of a socket that wait for their answer; beyond, it is not read from', 256),
  FRAMES_PER_SECOND: number(
    'sustained frames a second of a socket: several replies written at 150 deltas a second each',
    500,
  ),
  FRAMES_BURST: number(
    'frames that a socket may send at once: a client that resends and resubscribes all it has',
    2500,
  ),
  SUBJECT_FRAMES_PER_SECOND: number(
    'sustained frames a second of all sockets of one sub together: a fifth of what an instance can write',
    5000,
  ),
  SUBJECT_FRAMES_BURST: number('frames that all sockets of one sub may send at once', 25_000),
  USER_MESSAGES_PER_SECOND: number(
    'sustained messages a second of one sub whose role is user, over sockets and HTTP together',
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
    'requests a minute of one address whose token is missing or wrong; more are refused as rate_limited',
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
export type Env = Static<typeof Environment>
