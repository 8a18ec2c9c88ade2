// The environment: .env.example says what config.ts reads; mistakes are told in one sentence; production is strict.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { Environment, readConfig } from '../src/config.ts'

type Property = { description: string; default: unknown }

void t.test('.env.example has every variable with its meaning and default, and no other', (t) => {
  const text = readFileSync(new URL('../.env.example', import.meta.url), 'utf8')
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

void t.test('a mistake in the environment is a sentence that names the variable', (t) => {
  for (const [environment, name] of [
    [{ PORT: 'many' }, /PORT/],
    [{ PORT: '70000' }, /PORT/],
    [{ LOG_LEVEL: 'loud' }, /LOG_LEVEL/],
    [{ DATABASE_URL: 'mysql://x' }, /DATABASE_URL/],
    [{ DATABASE_POOL_MAX: '2' }, /DATABASE_POOL_MAX/],
  ] as const)
    t.throws(() => readConfig(environment), name)
  t.end()
})

void t.test('production asks for a secret of at least 32 bytes', (t) => {
  const production = { NODE_ENV: 'production', DATABASE_URL: 'postgres://localhost/deck' }
  t.throws(() => readConfig(production), /JWT_SECRET is required/)
  t.throws(() => readConfig({ ...production, JWT_SECRET: 'short' }), /JWT_SECRET is too short/)
  t.ok(readConfig({ ...production, JWT_SECRET: 'x'.repeat(32) }).production)
  t.end()
})
