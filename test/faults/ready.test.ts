// /readyz and /metrics report the same faults: each check fails because of its cause, alone, and recovers when the cause ends.
// No reason contains an address, a role or a statement.
import t from 'tap'
import { makeReadiness } from '../../src/http/observability/health.ts'
import { freshDatabase } from '../support/database.ts'
import { startInstance, until, type Json } from '../support/server.ts'
import { startProxy } from '../support/database-proxy.ts'

type Check = { check: string; ok: boolean; why?: string }

const database = await freshDatabase(t)
const proxy = await startProxy(t)
const instance = await startInstance(t, proxy.url(database.url))
const probe = async (): Promise<{ status: number; json: Json; failed: Check[] }> => {
  const { status, json } = await instance.request('GET', '/readyz')
  return { status, json, failed: (json['checks'] as Check[]).filter(({ ok }) => !ok) }
}
const gauges = async (): Promise<string[]> =>
  (await instance.request('GET', '/metrics')).text.split('\n').filter((line) => /^deck_ready\{.* 0$/.test(line))
const failing = (...checks: string[]): Promise<void> =>
  until(
    async () => (await probe()).failed.map(({ check }) => check).join() === checks.join(),
    `failing: ${checks.join()}`,
    20_000,
  )

void t.test('readyz: returns every check with ok when nothing is wrong', async (t) => {
  const { status, json } = await probe()
  t.equal(status, 200)
  t.strictSame(json, {
    status: 'ok',
    checks: ['serving', 'database', 'schema', 'listener', 'writer', 'capacity'].map((check) => ({ check, ok: true })),
  })
  t.strictSame(await gauges(), [])
})

void t.test('readyz: the schema check fails when the schema is missing', async (t) => {
  await database.query('alter schema deck rename to elsewhere')
  const { status, json, failed } = await probe()
  t.equal(status, 503)
  t.match(json, { code: 'unavailable', detail: 'not ready: schema' })
  t.match(failed, [{ check: 'schema', why: /migrations are not applied/ }])
  t.strictSame(await gauges(), ['deck_ready{check="schema"} 0'])
  await database.query('alter schema elsewhere rename to deck')
  await failing()
})

void t.test('readyz: the database and listener checks fail when Postgres is down or does not answer', async (t) => {
  proxy.refusing = true
  proxy.cut()
  await failing('database', 'listener')
  const { json, failed } = await probe()
  t.match(json, { detail: 'not ready: database, listener' })
  t.match(failed[0]?.why, /^it does not answer/)
  t.notOk(
    (json['checks'] as Check[]).some(({ check }) => check === 'schema'),
    'the state of the schema is unknown',
  )
  t.notMatch(JSON.stringify(json), /127\.0\.0\.1|localhost|select|password|role/)
  proxy.heal()
  await failing()
  proxy.blackHole('new')
  await until(
    async () => (await probe()).failed.some(({ why }) => why === 'no answer within 2 s'),
    'the timeout to be reported',
    20_000,
  )
  proxy.heal()
  await failing()
})

void t.test('readiness: checks the database at most ten times a second in a flood of probes', async (t) => {
  let checks = 0
  let away = false
  const readiness = makeReadiness({
    draining: () => false,
    probe: () => (
      checks++,
      away ? Promise.reject(Object.assign(new Error(), { code: 'ECONNREFUSED' })) : Promise.resolve()
    ),
    patience: 2000,
    listening: () => true,
    writing: () => undefined,
    overloaded: () => false,
  })
  const began = performance.now()
  const failed = async (): Promise<boolean> => (await readiness()).some(({ ok }) => !ok)
  for (let n = 0; n < 10_000; n++) await readiness()
  await Promise.all(Array.from({ length: 10_000 }, readiness))
  const seconds = (performance.now() - began) / 1000
  t.ok(checks >= 20 && checks <= 21 + 10 * seconds, `${checks} checks in ${seconds.toFixed(2)} s`)
  away = true
  await until(failed, 'a failure during the flood')
  away = false
  await until(async () => !(await failed()), 'the failure to end')
})
