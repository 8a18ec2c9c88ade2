// 200 claims (CLAIMS) wait 50 s for tasks on one server: its CPU time meanwhile, and the connections of its pools that are in use, beside
// those without claims. (A read of /metrics uses one itself.)
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { freshDatabase } from '../support/database.ts'
import { spawnServer } from '../support/processes.ts'
import { door, rafael, until } from '../support/server.ts'

t.setTimeout(300_000)
const claims = Number(process.env['CLAIMS'] ?? 200)
const database = await freshDatabase(t)
const server = await spawnServer(t, { DATABASE_URL: database.url })
const { request } = door(t, server.url)

const read = async () => {
  const { text } = await request('GET', '/metrics')
  const sum = (name: string): number =>
    [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].reduce((all, [, n]) => all + Number(n), 0)
  return {
    waiting: sum('deck_claims_waiting'),
    cpu: sum('process_cpu_seconds_total'),
    busy: sum('deck_pool_connections') - sum('deck_pool_idle') + sum('deck_pool_waiting'),
    memory: sum('process_resident_memory_bytes') / 1024 / 1024,
  }
}

/** Waits with so many claims. Prints the figures, and returns the mean number of connections in use. */
const measure = async (n: number, keyed: boolean): Promise<number> => {
  const before = await read()
  const answers = Array.from({ length: n }, (_, i) =>
    request('POST', '/api/inbox/rafael/claim', rafael, { wait: 50 }, keyed ? { 'idempotency-key': `k${i}` } : {}),
  )
  await until(async () => (await read()).waiting === n, 'the claims to wait')
  const from = await read()
  const begun = performance.now()
  const busy: number[] = []
  while (performance.now() - begun < 30_000) {
    await delay(500)
    busy.push((await read()).busy)
  }
  const to = await read()
  const seconds = (performance.now() - begun) / 1000
  const used = busy.reduce((all, count) => all + count, 0) / busy.length
  t.comment(
    `${n} ${keyed ? 'keyed ' : ''}claims: ${(((to.cpu - from.cpu) / seconds) * 100).toFixed(1)} % of a core, ` +
      `${(to.memory - before.memory).toFixed(0)} MB more; connections in use: ${used.toFixed(2)} on average, ` +
      `at most ${Math.max(...busy)}`,
  )
  for (const answer of await Promise.all(answers)) t.match(answer, { status: 200, json: { tasks: [] } })
  return used
}

await t.test(`inbox over HTTP: ${claims} claims that wait hold no connection`, async (t) => {
  const none = await measure(0, false)
  for (const keyed of [false, true]) {
    const used = await measure(claims, keyed)
    t.ok(used < none + 1, `${used} connections in use, ${none} without claims`)
  }
})
