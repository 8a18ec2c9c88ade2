// The environment: .env.example lists the variables that config.ts reads. Each error is one sentence. Production refuses unsafe settings.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { Environment, readConfig } from '../../src/config/index.ts'

type Property = { description: string; default: unknown }

void t.test('.env.example: lists every variable with its description and default, and no other', (t) => {
  const text = readFileSync(new URL('../../.env.example', import.meta.url), 'utf8')
  const found = [...text.matchAll(/^# (.+)\n([A-Z_]+)=(.*)$/gm)].map(([, meaning, name, value]) => [
    name,
    meaning,
    value,
  ])
  const properties = Object.entries(Environment.properties as unknown as Record<string, Property>)
  t.strictSame(
    found,
    properties.map(([name, property]) => [name, property.description, String(property.default)]),
  )
  t.end()
})

void t.test('config: an invalid value is refused with an error that names the variable', (t) => {
  for (const [environment, name] of [
    [{ PORT: 'many' }, /PORT/],
    [{ PORT: '70000' }, /PORT/],
    [{ LOG_LEVEL: 'loud' }, /LOG_LEVEL/],
    [{ DATABASE_URL: 'mysql://x' }, /DATABASE_URL/],
    [{ DATABASE_POOL_MAX: '2' }, /DATABASE_POOL_MAX/],
    [{ HINTS_URL: 'nats://one,redis://two' }, /HINTS_URL/],
  ] as const)
    t.throws(() => readConfig(environment), name)
  t.end()
})

const provider = {
  JWKS_URL: 'https://id.example/keys',
  JWT_ISSUER: 'https://id.example',
  JWT_AUDIENCE: 'deck',
}

void t.test('config: production requires a secret of at least 32 bytes, or an identity provider', (t) => {
  const production = { NODE_ENV: 'production', DATABASE_URL: 'postgres://localhost/deck' }
  t.throws(() => readConfig(production), /JWT_SECRET is required/)
  t.throws(() => readConfig({ ...production, JWT_SECRET: 'short' }), /JWT_SECRET is too short/)
  t.ok(readConfig({ ...production, JWT_SECRET: 'x'.repeat(32) }).production)
  t.ok(readConfig({ ...production, ...provider }).production, 'a provider instead of a secret')
  t.end()
})

void t.test('config: in production and on Render, each unsafe setting is refused with a separate sentence', (t) => {
  const safe = { DATABASE_URL: 'postgres://localhost/deck', JWT_SECRET: 'x'.repeat(32) }
  for (const [unsafe, sentence] of [
    [{ JWT_SECRET: '' }, /^JWT_SECRET is required .*JWKS_URL\.$/],
    [{ JWT_SECRET: 'x'.repeat(31) }, /^JWT_SECRET is too short: .*\.$/],
    [{ JWT_SECRET_PREVIOUS: 'x'.repeat(31) }, /^JWT_SECRET_PREVIOUS is too short: .*\.$/],
    [{ DATABASE_URL: '' }, /^DATABASE_URL is required .*\.$/],
    [{ ALLOWED_ORIGINS: 'https://deck.example, *' }, /^ALLOWED_ORIGINS=\* is refused .*\.$/],
    [{ RATE_LIMITS: 'off' }, /^RATE_LIMITS=off .*ALLOW_UNSAFE=1\.$/],
    [{ ...provider, JWKS_URL: 'http://id.example/keys' }, /^JWKS_URL must begin with https:\/\/ .*\.$/],
    [{ ...provider, JWT_ISSUER: '' }, /^JWKS_URL needs JWT_ISSUER and JWT_AUDIENCE .*\.$/],
    [{ ...provider, JWT_AUDIENCE: '' }, /^JWKS_URL needs JWT_ISSUER and JWT_AUDIENCE .*\.$/],
  ] as const) {
    t.ok(readConfig({ ...safe, ...unsafe }), 'accepted outside production')
    for (const production of [{ NODE_ENV: 'production' }, { RENDER: 'true' }])
      t.throws(() => readConfig({ ...safe, ...production, ...unsafe }), { message: sentence })
  }
  const all = { NODE_ENV: 'production', RATE_LIMITS: 'off', ALLOWED_ORIGINS: '*' }
  t.throws(() => readConfig(all), { message: /^(.+\.\n){3}.+\.$/ }, 'all errors at once, one a line')
  t.ok(readConfig({ ...safe, ...all, ALLOWED_ORIGINS: '', ALLOW_UNSAFE: '1' }))
  t.ok(
    readConfig({ ...safe, NODE_ENV: 'production', ...provider, JWKS_URL: 'http://127.0.0.1:8080/keys' }),
    'a provider on the same host, without TLS',
  )
  t.end()
})

void t.test('config: origins and proxies are normalized; an invalid one is refused', (t) => {
  const { allowedOrigins, trustedProxies } = readConfig({
    ALLOWED_ORIGINS: ' https://Deck.example/, http://localhost:80 ,capacitor://localhost',
    TRUST_PROXY: '10.0.0.0/8, ::1, uniquelocal',
  })
  t.strictSame([...allowedOrigins], ['https://deck.example', 'http://localhost', 'capacitor://localhost'])
  t.strictSame(trustedProxies, ['10.0.0.0/8', '::1', 'uniquelocal'])
  for (const origin of ['deck.example', 'https://deck.example/page', 'https://*.example/x', 'https://a@b.example'])
    t.throws(() => readConfig({ ALLOWED_ORIGINS: origin }), /ALLOWED_ORIGINS: .* is not an origin/, origin)
  for (const proxy of ['1', 'true', '10.0.0.0/33', 'proxy.example', '10.0.0.0/8/8'])
    t.throws(() => readConfig({ TRUST_PROXY: proxy }), /TRUST_PROXY must be/, proxy)
  t.throws(() => readConfig({ JWKS_URL: 'id.example/keys' }), /JWKS_URL must be/)
  t.end()
})

void t.test('traces: the OpenTelemetry variables set endpoint, service and ratio; off by default', (t) => {
  const traces = (more: NodeJS.ProcessEnv) =>
    readConfig({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318/', ...more }).traces
  t.equal(readConfig({}).traces, undefined)
  t.strictSame(traces({}), { url: 'http://collector:4318/v1/traces', service: 'mission-deck', ratio: 1 })
  t.match(traces({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://other/in' }), { url: 'https://other/in' })
  t.match(traces({ OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.01' }), {
    ratio: 0.01,
  })
  for (const off of [{ OTEL_SDK_DISABLED: 'true' }, { OTEL_TRACES_SAMPLER: 'always_off' }])
    t.equal(traces(off), undefined)
  t.throws(() => traces({ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector' }), /OTEL_EXPORTER_OTLP_ENDPOINT must be an address/)
  t.throws(() => traces({ OTEL_TRACES_SAMPLER: 'xray' }), /OTEL_TRACES_SAMPLER/)
  t.end()
})
