// The cost of evidence and comparisons, as medians in ms:
// - a full run (1 MiB of results), written to a mission with and without items that name tests
// - the search of a history for a missing test
// - the comparison of two full runs after 20 others
// - a message by SQL
//   npx tap --reporter=tap bench/evidence.ts
import t from 'tap'
import { admin, makeMission, rafael, startDeck, type Json } from '../test/support/server.ts'

const { database, instance } = await startDeck(t)
const { request } = instance
const tests = 9000
const results = (salt: number): Json[] =>
  Array.from({ length: tests }, (_, n) => ({
    name: `suite ${n % 90} > the test number ${n} does what it should`,
    status: (n + salt) % 100 ? 'passed' : 'failed',
    duration_ms: (n * salt) % 1000,
  }))

const median = async (name: string, rounds: number, work: (n: number) => Promise<unknown>): Promise<void> => {
  const times: number[] = []
  for (let n = 0; n < rounds; n++) {
    const begun = performance.now()
    await work(n)
    times.push(performance.now() - begun)
  }
  t.comment(`${name}: ${times.sort((a, b) => a - b)[rounds >> 1]?.toFixed(1)}`)
}

const runs: Json[] = []
const report = async (id: string, n: number): Promise<void> => {
  const { json, status, text } = await request('POST', `/api/missions/${id}/tests`, rafael, {
    status: 'failed',
    results: results(n),
  })
  if (status !== 201) throw new Error(text)
  runs.push(json)
}
const { id } = await makeMission(instance)
await median('a full run by the API, no item names a test', 11, (n) => report(id, n))
for (let n = 0; n < 20; n++)
  await request('POST', `/api/missions/${id}/dod`, admin, {
    text: 'x',
    category: 'tests',
    test_name: results(0)[n * 400]?.['name'],
  })
await median('a full run by the API, 20 items do', 11, (n) => report(id, n))
const [{ size }] = (await database.query(
  'select octet_length(max(results::text)) as size from test_runs where mission_id = $1',
  [id],
)) as [{ size: number }]
t.comment(`bytes of results: ${size}`)

const add = (test_name?: string) =>
  database.query(`insert into dod_items (mission_id, text, category, test_name) values ($1, 'x', 'tests', $2)`, [
    id,
    test_name,
  ])
await median('an item by SQL that names no test', 21, () => add())
await median('an item by SQL whose test is in the newest run', 21, () => add(String(results(0)[5]?.['name'])))
await median('an item by SQL whose test is in none of 22 runs', 5, () => add('nowhere'))
const [a, b] = [runs.at(-2)?.['id'], runs.at(-1)?.['id']]
await median('two full runs compared, behind 20 others', 11, () =>
  request('GET', `/api/missions/${id}/tests/${a}/diff/${b}`, admin),
)

const other = await makeMission(instance)
const small = `insert into test_runs (mission_id, status, results) values ($1, 'passed', '[{"name": "a", "status": "passed"}]')`
await median('a small run by SQL', 201, () => database.query(small, [other.id]))
await median('a run without results by SQL', 201, () =>
  database.query(`insert into test_runs (mission_id, status) values ($1, 'running')`, [other.id]),
)
await median('a message by SQL', 501, () =>
  database.query(`insert into chat_messages (mission_id, sender, message) values ($1, 'user', 'x')`, [other.id]),
)
t.end()
