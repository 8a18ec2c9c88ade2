// Two test runs compared: each list by its definition and against a simple model of random runs, the messages between the runs,
// and access.
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { flaky, slower, type RunDiff } from '../../src/protocol/run-diff.ts'
import { refused } from '../support/forms.ts'
import { admin, alice, bob, makeMission, rafael, startDeck, token, type Json } from '../support/server.ts'

const { database, instance } = await startDeck(t)
const { request } = instance

const makePlace = async () => {
  const { id } = await makeMission(instance)
  const tests = `/api/missions/${id}/tests`
  const report = async (results: unknown, status = 'failed'): Promise<Json> =>
    (await request('POST', tests, rafael, { status, results })).json
  const diff = async (a: Json, b: Json): Promise<RunDiff> => {
    const { status, json, text } = await request('GET', `${tests}/${a['id']}/diff/${b['id']}`, alice)
    if (status !== 200) throw new Error(text)
    return json as RunDiff
  }
  const say = async (citizen: string, message: string, more: Json = {}): Promise<Json> =>
    (await request('POST', `/api/missions/${id}/chat/${citizen}`, alice, { message, ...more })).json
  return { id, tests, report, diff, say }
}

void t.test('diff: lists failing, fixed, added, removed and slower tests', async (t) => {
  const { report, diff } = await makePlace()
  const a = await report([
    { name: 'breaks', status: 'passed' },
    { name: 'mended', status: 'failed', error: 'old' },
    { name: 'broken', status: 'failed', error: 'old' },
    { name: 'gone', status: 'passed' },
    { name: 'slow', status: 'passed', duration_ms: 100 },
    { name: 'bit slower', status: 'passed', duration_ms: 10 },
    { name: 'large', status: 'passed', duration_ms: 1000 },
    { name: 'twice', status: 'passed' },
    { name: 'twice', status: 'failed' },
    'no test',
    { status: 'failed' },
  ])
  const b = await report([
    { name: 'new', status: 'ok' },
    { name: 'breaks', status: 'failed', error: 'KeyError: x' },
    { name: 'mended', status: 'passed' },
    { name: 'broken', status: 'error', error: { no: 'text' } },
    { name: 'new and broken', status: 'failed' },
    { name: 'slow', status: 'passed', duration_ms: 150 },
    { name: 'bit slower', status: 'passed', duration_ms: 50 },
    { name: 'large', status: 'passed', duration_ms: 1499 },
    { name: 'twice', status: 'passed' },
    { name: 'left out', status: 'skipped' },
  ])
  const { between, ...lists } = await diff(a, b)
  const run = ({ id, status, created_at }: Json): Json => ({ id, status, created_at })
  t.same(lists, {
    a: run(a),
    b: run(b),
    newly_failing: [
      { name: 'breaks', error: 'KeyError: x' },
      { name: 'new and broken', error: null },
    ],
    fixed: [{ name: 'mended' }, { name: 'twice' }],
    still_failing: [{ name: 'broken', error: null }],
    added: [
      { name: 'new', status: 'passed' },
      { name: 'new and broken', status: 'failed' },
      { name: 'left out', status: 'skipped' },
    ],
    removed: [{ name: 'gone', status: 'passed' }],
    slower: [{ name: 'slow', a_ms: 100, b_ms: 150 }],
    flaky: [],
  })
  t.same(between, { since: a['created_at'], until: b['created_at'], messages: [], has_more: false })

  const back = await diff(b, a)
  t.same(
    [back.newly_failing.map(({ name }) => name), back.fixed],
    [['mended', 'twice'], [{ name: 'breaks' }]],
    'in the order given',
  )
  t.same(back.between, between)
  const same = await diff(a, a)
  t.same([same.newly_failing, same.fixed, same.added, same.removed, same.slower], [[], [], [], [], []])

  const odd = await report([{ name: 'x', status: 'passed', duration_ms: 1e300 }, [], null, { name: 7 }], 'running')
  await database.query(
    `update test_runs set results = '[{"name": "x", "status": "passed", "duration_ms": 1e130000}]' where id = $1`,
    [odd['id']],
  )
  t.same(
    (await diff(odd, await report(null, 'running'))).removed,
    [{ name: 'x', status: 'passed' }],
    'odd results, or no results',
  )
})

void t.test('diff: flaky tests flipped at least twice in the last twenty finished runs', async (t) => {
  const { report, diff } = await makePlace()
  const runs: Json[] = []
  for (let n = 0; n < 24; n++)
    runs.push(
      await report([
        { name: 'steady', status: 'passed' },
        { name: 'broke once', status: n < 12 ? 'passed' : 'failed' },
        { name: 'flips', status: n % 2 ? 'passed' : 'failed' },
        { name: 'flipped long ago', status: n === 1 ? 'failed' : 'passed' },
        ...(n % 3 ? [{ name: 'now and then', status: n === 10 ? 'failed' : n === 11 ? 'skipped' : 'passed' }] : []),
      ]),
    )
  await report([{ name: 'steady', status: 'failed' }], 'running')
  const [first = {}, second = {}, third = {}, , fifth = {}] = runs
  const last = runs.at(-1) ?? {}
  t.same((await diff(first, last)).flaky, [
    { name: 'flips', flips: 19, runs: 20 },
    { name: 'now and then', flips: 2, runs: 13 },
  ])
  t.same((await diff(last, third)).flaky, [
    { name: 'flipped long ago', flips: 2, runs: 3 },
    { name: 'flips', flips: 2, runs: 3 },
  ])
  t.same((await diff(fifth, second)).flaky, [], 'one flip is no flakiness')
})

void t.test('diff: equals the result of a simple model for random runs', async (t) => {
  const { report, diff } = await makePlace()
  const element = fc.record(
    {
      name: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'é', ''),
      status: fc.constantFrom('passed', 'passed', 'failed', 'skipped', 'nonsense'),
      duration_ms: fc.constantFrom(0, 40, 100, 150, 151, 400),
    },
    { requiredKeys: ['name', 'status'] },
  )
  type Element = { name: string; status: string; duration_ms?: number }
  const word = ({ status }: Element): string => (['passed', 'skipped'].includes(status) ? status : 'failed')
  const outcomeOf = (results: Element[], name: string) => {
    const mine = results.filter((one) => one.name === name)
    const words = mine.map(word)
    const ms = mine.flatMap(({ duration_ms }) => duration_ms ?? [])
    return {
      word: ['failed', 'skipped', 'passed'].find((one) => words.includes(one)),
      ms: ms.length ? Math.max(...ms) : undefined,
    }
  }
  const past: Element[][] = []
  await fc.assert(
    fc.asyncProperty(fc.array(element, { maxLength: 8 }), fc.array(element, { maxLength: 8 }), async (x, y) => {
      const found = await diff(await report(x), await report(y))
      past.push(x, y)
      const names = [...new Set([...x, ...y].map(({ name }) => name))]
      const those = (fits: (was: ReturnType<typeof outcomeOf>, now: ReturnType<typeof outcomeOf>) => boolean) =>
        names.filter((name) => fits(outcomeOf(x, name), outcomeOf(y, name))).sort()
      const shaky = [...new Set(past.flat().map(({ name }) => name))].filter((name) => {
        const words = past.slice(-flaky.runs).flatMap((run) => outcomeOf(run, name).word ?? [])
        const counted = words.filter((word) => word !== 'skipped')
        return counted.filter((word, i) => i > 0 && word !== counted[i - 1]).length >= flaky.flips
      })
      const want = {
        newly_failing: those((was, now) => now.word === 'failed' && was.word !== 'failed'),
        fixed: those((was, now) => was.word === 'failed' && now.word === 'passed'),
        still_failing: those((was, now) => was.word === 'failed' && now.word === 'failed'),
        added: those((was, now) => was.word === undefined && now.word !== undefined),
        removed: those((was, now) => was.word !== undefined && now.word === undefined),
        slower: those(
          (was, now) =>
            was.word === 'passed' &&
            now.word === 'passed' &&
            (now.ms ?? 0) >= (was.ms ?? Infinity) * slower.times &&
            (now.ms ?? 0) - (was.ms ?? 0) >= slower.more,
        ),
        flaky: shaky.sort(),
      }
      for (const [list, expected] of Object.entries(want)) {
        const actual = found[list as keyof typeof want].map(({ name }) => name).sort()
        if (JSON.stringify(actual) !== JSON.stringify(expected)) throw new Error(`${list}: ${actual}, not ${expected}`)
      }
    }),
    { numRuns: 60, endOnFailure: true },
  )
  t.pass('60 pairs')
})

void t.test('diff: has the messages of all chats, with their code, between the two runs', async (t) => {
  const { id, report, diff, say } = await makePlace()
  await say('rafael', 'before')
  const a = await report([])
  const first = await say('rafael', 'one\n\n```python\nprint(1)\n```')
  const second = await say('sofia', 'two')
  const third = await say('rafael', 'three', { code_blocks: [{ language: 'sql', code: 'select 1' }] })
  const b = await report([])
  await say('rafael', 'after')
  const { between } = await diff(a, b)
  t.same(between.messages, [first, second, third])
  t.match(between.messages[0]?.code_blocks, [{ language: 'python', code: 'print(1)\n' }])
  t.same((await diff(b, a)).between, between, 'in either order of the runs')

  // More messages than an answer has, in two chats, some in the same microsecond.
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, created_at)
     select $1, case when n % 3 = 0 then 'sofia' else 'emma' end, 'user', 'm' || n,
            $2::timestamptz at time zone 'utc' - make_interval(secs => (302 - n) / 2 * 0.000001)
     from generate_series(1, 300) n`,
    [id, b['created_at']],
  )
  const many = (await diff(a, b)).between
  t.equal(many.has_more, true)
  t.equal(many.messages.length, 200)
  const numbers = many.messages.map(({ message }) => Number(message.slice(1)))
  t.same(
    [...numbers].sort((x, y) => x - y),
    Array.from({ length: 200 }, (_, i) => 101 + i),
    'the newest',
  )
  const times = many.messages.map(({ created_at }) => created_at.slice(0, -1))
  t.same(times, [...times].sort(), 'oldest first')

  // Large messages: the answer stays below its byte limit.
  await database.query(
    `insert into chat_messages (mission_id, sender, message, code_blocks, created_at)
     select $1, 'user', 'x', jsonb_build_array(jsonb_build_object('language', null, 'code', repeat('y', 250000))),
            $2::timestamptz at time zone 'utc' - interval '1 microsecond' from generate_series(1, 30)`,
    [id, b['created_at']],
  )
  const { messages, has_more } = (await diff(a, b)).between
  t.ok(has_more && messages.length > 0 && JSON.stringify(messages).length < 4.1 * 1024 * 1024)
})

void t.test('diff: finds runs only under their own mission, and only for a token that may see it', async (t) => {
  const mine = await makePlace()
  const other = await makePlace()
  const [a, b] = [await mine.report([]), await other.report([])]
  const path = (tests: string, x: unknown, y: unknown): string => `${tests}/${x}/diff/${y}`
  for (const [x, y] of [
    [a['id'], b['id']],
    [b['id'], a['id']],
    [a['id'], randomUUID()],
  ])
    refused(t, await request('GET', path(mine.tests, x, y), admin), 404, 'not_found')
  refused(t, await request('GET', path(mine.tests, a['id'], 'latest'), admin), 400, 'bad_request')
  refused(t, await request('GET', path(mine.tests, a['id'], a['id']), bob), 404, 'not_found')
  const narrow = await token({ sub: 'sofia', role: 'citizen', missions: [other.id] })
  refused(t, await request('GET', path(mine.tests, a['id'], a['id']), narrow), 404, 'not_found')
  t.equal((await request('GET', path(mine.tests, String(a['id']).toUpperCase(), a['id']), rafael)).status, 200)
})
