// The environment variables: one schema has the checks, the defaults and the descriptions. A test compares .env.example with it.
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
    'session-level connection to the same database, for LISTEN, migrations and locks, if DATABASE_URL is a transaction pooler',
    '',
  ),
  DATABASE_REPLICA_URL: variable(
    'a streaming replica for reads of history; if it lags behind the requested rows, the primary is read; empty: none',
    '',
  ),
  DATABASE_POOL_MAX: number(
    'pooled connections of an instance; two more connections are held for LISTEN and for the tail',
    6,
    4,
    100,
  ),
  START_PATIENCE: number(
    'seconds that a start waits while the database is down, a standby, or not yet reachable; 0: exit at once',
    120,
    0,
    86_400,
  ),
  RUN_CITIZEN: variable('citizen whose runners get the test runs that are asked for', 'sofia'),
  RUN_PATIENCE: number(
    'seconds after which a run fails if no runner asks for it and nothing changes it or its log; 0: never',
    900,
    0,
    31_536_000,
  ),
  HINTS_URL: variable(
    'NATS for notifications between instances, nats://user:password@host:4222 (or tls://; several: comma-separated); empty: NOTIFY',
    '',
  ),
  PGSSLROOTCERT: variable('file of certificates to trust, for sslmode verify-ca and verify-full', ''),
  DATA_DIR: variable('folder of the embedded database and the generated secret', '.data'),
  JWT_SECRET: variable(
    'secret of HS256 tokens, at least 32 bytes; without it and JWKS_URL one is generated under DATA_DIR, but not in production',
    '',
  ),
  JWT_SECRET_PREVIOUS: variable(
    'former JWT_SECRET, whose tokens stay valid until they expire; it signs nothing; empty: none',
    '',
  ),
  JWKS_URL: variable(
    'key set of the identity provider, for RS256, ES256 and EdDSA tokens; https, or http for localhost',
    '',
  ),
  JWT_ISSUER: variable('iss that tokens must have; empty: any', ''),
  JWT_AUDIENCE: variable('aud that tokens must have; empty: any', ''),
  PUBLIC_URL: variable(
    'address of this server for links and sign-in, such as https://deck.example; empty: the Host of each request',
    '',
  ),
  OIDC_ISSUER: variable('issuer of the OpenID Connect provider with which people sign in; empty: invites only', ''),
  OIDC_CLIENT_ID: variable('client ID that the provider gave this server', ''),
  OIDC_CLIENT_SECRET: variable('client secret that the provider gave this server; empty: a public client', ''),
  OIDC_SUB_CLAIM: variable("claim of the provider that is a person's user ID (sub); email must be verified", 'email'),
  OIDC_ADMINS: variable('comma-separated user IDs of people who are admins when they sign in with the provider', ''),
  OIDC_ROLE_CLAIM: variable('claim of the provider that has the role: user, citizen or admin; empty: user', ''),
  OIDC_MISSIONS_CLAIM: variable('claim of the provider that has the missions a person sees; empty: none', ''),
  ALLOWED_ORIGINS: variable(
    "comma-separated origins whose pages may open sockets and call the API, besides the server's own; * (any) not in production",
    '',
  ),
  TRUST_PROXY: variable(
    'proxies whose X-Forwarded-For is trusted: comma-separated addresses, such as 10.0.0.0/8, or uniquelocal; empty: none',
    '',
  ),
  LOG_LEVEL: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    description: 'fatal, error, warn, info, debug, trace or silent',
    default: 'info',
  }),
  NODE_ENV: variable('production refuses unsafe settings', 'development'),
  RENDER: variable('set by Render; counts as production', ''),
  RATE_LIMITS: Type.Enum(['on', 'off'], {
    description:
      'off disables rate limits (frames a second, requests a minute) and no other limits; for benchmarks and tests',
    default: 'on',
  }),
  ALLOW_UNSAFE: Type.Enum(['0', '1'], { description: '1 lets production run with RATE_LIMITS=off', default: '0' }),
  MAX_SOCKETS: number('the most sockets of an instance; each takes about 10 KB plus its unread bytes', 20_000),
  MAX_SOCKETS_PER_SUBJECT: number('the most sockets of one sub; lower it if each person has a separate token', 10_000),
  MAX_SOCKETS_PER_USER: number(
    'the most sockets of one sub whose role is user: a person with several tabs on several machines',
    100,
  ),
  MAX_TOPICS_PER_SOCKET: number('the most topics of a socket: every chat of a busy agency, about 200 bytes each', 1000),
  MAX_PENDING_PER_SOCKET: number(
    'the most unanswered frames of a socket; above that, the server stops reading from it',
    256,
  ),
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
  USER_MESSAGES_BURST: number('messages that one sub whose role is user may send at once', 50),
  REQUESTS_PER_MINUTE: number(
    'requests and new sockets a minute of one sub: as many as a socket may send frames',
    30_000,
  ),
  ANONYMOUS_PER_MINUTE: number(
    'requests a minute of one address to routes without a token: the page, the reference',
    1000,
  ),
  AUTH_FAILURES_PER_MINUTE: number(
    'requests a minute of one address whose token is missing or wrong; more are refused as rate_limited',
    1000,
  ),
  OUTBOX_BYTES: number(
    'the most unread bytes of one socket; above that, it is closed with 4408; one frame of any size always fits',
    4 * mebibyte,
  ),
  OUTBOX_TOTAL_BYTES: number(
    'the most unread bytes of all sockets of an instance; as it fills up, the limit of each socket shrinks',
    256 * mebibyte,
  ),
  WRITE_QUEUE: number(
    'the most messages waiting to be written: a second at full speed; further ones get unavailable',
    20_000,
  ),
  WRITE_QUEUE_BYTES: number('the most bytes of text waiting to be written', 64 * mebibyte),
  OTEL_EXPORTER_OTLP_ENDPOINT: variable(
    'OTLP endpoint for traces, over HTTP, such as http://127.0.0.1:4318; empty: no traces, and the library is not loaded',
    '',
  ),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: variable('the same as a full URL with its path; takes precedence', ''),
  OTEL_SERVICE_NAME: variable('name of this service in traces', 'mission-deck'),
  OTEL_TRACES_SAMPLER: Type.Enum([...samplers, ...samplers.map((name) => `parentbased_${name}` as const)], {
    description:
      'which messages are traced: always_on, always_off or traceidratio; a parentbased_ prefix has no effect',
    default: 'parentbased_always_on',
  }),
  OTEL_TRACES_SAMPLER_ARG: Type.Number({
    description: 'traceidratio only: the share of traced messages, 0 to 1',
    default: 1,
    minimum: 0,
    maximum: 1,
  }),
  OTEL_SDK_DISABLED: Type.Enum(['true', 'false'], {
    description: 'true: no traces, regardless of other settings',
    default: 'false',
  }),
  MAX_EVENT_LOOP_DELAY: number(
    'mean delay of the event loop in ms within 5 s, above which new work is refused; 0: never',
    500,
    0,
  ),
})
export type Env = Static<typeof Environment>
