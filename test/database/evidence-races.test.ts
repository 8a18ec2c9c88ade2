// Evidence under concurrent SQL writers. Once all have ended, every item shows the result of the newest finished run, computed
// here from the rows alone. No item was completed without a pass. No writer waits for a transaction that stays open.
import fc from 'fast-check'
import pg from 'pg'
import t from 'tap'
import type { Test } from 'tap'
import { migrate } from '../../src/database/postgres/migrate.ts'
import { freshDatabase, insertMission, type Row } from '../support/database.ts'

const db = await freshDatabase(t)
await migrate(await db.connect(), () => undefined)

const connect = async (): Promise<pg.Client> => {
  const client = await db.connect()
  await client.query(`set lock_timeout = '10s'`)
  return client
}
const failure = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work
    return 'none'
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    return error.code ?? ''
  }
}

const resultsOf = (words: Record<string, string>): string =>
  JSON.stringify(Object.entries(words).map(([name, status]) => ({ name, status })))
const addRun = `insert into test_runs (mission_id, status, results) values ($1, $2, $3)`
const addItem = `insert into dod_items (mission_id, text, category, test_name) values ($1, $2, 'tests', $3) returning id`
const weighAgain = async (): Promise<void> => void (await db.query('select deck.weigh_again()'))

/** The evidence that each item must show, computed from all runs. */
const reckon = async (mission: string): Promise<[item: unknown, shown: string, truth: string][]> => {
  const items = await db.query(
    `select id, test_name, evidence_run as run, evidence_status as status from dod_items where mission_id = $1 and test_name is not null`,
    [mission],
  )
  const runs = await db.query(
    `select id, results from test_runs where mission_id = $1 and status in ('passed', 'failed') order by created_at desc, id desc`,
    [mission],
  )
  return items.map((item) => {
    const has = (run: Row): string[] =>
      ((run['results'] ?? []) as { name: string; status: string }[])
        .filter(({ name }) => name === item['test_name'])
        .map(({ status }) => status)
    const run = runs.find((run) => has(run).length > 0)
    const words = run ? has(run) : []
    const status = words.includes('failed')
      ? 'failed'
      : words.length && !words.includes('skipped')
        ? 'passed'
        : 'missing'
    return [item['id'], `${item['run']} ${item['status']}`, `${(run?.['id'] as string | undefined) ?? null} ${status}`]
  })
}
const proven = async (t: Test, mission: string, what: string): Promise<void> => {
  const wrong = (await reckon(mission)).filter(([, shown, truth]) => shown !== truth)
  t.strictSame(wrong, [], what)
}
/** Completions of a mission's items that did not follow a pass, in the order of its topic; items that differ from their last event. */
const unfounded = async (mission: string): Promise<unknown[]> => {
  const events = await db.query(`select event, data from deck.events where topic = $1 order by seq`, [
    `missions/${mission}/dod`,
  ])
  const last = new Map<string, Row>()
  const found: unknown[] = []
  for (const { event, data } of events) {
    const item = data as { id: string; completed: boolean; evidence?: { status: string } }
    const before = last.get(item.id) as typeof item | undefined
    const status = (before?.evidence ?? item.evidence)?.status
    if (item.completed && !before?.completed && item.evidence && status !== 'passed') found.push(item)
    if (event === 'dod_item.deleted') last.delete(item.id)
    else last.set(item.id, item)
  }
  const rows = await db.query('select deck.dod_item_json(d) as json from dod_items d where mission_id = $1', [mission])
  for (const { json } of rows) {
    const { id } = json as { id: string }
    if (JSON.stringify(last.get(id)) !== JSON.stringify(json)) found.push([json, last.get(id)])
  }
  return found
}

await t.test('evidence: a run and an item for its test, written concurrently, always see each other', async (t) => {
  const mission = await insertMission(db)
  const [a, b] = [await connect(), await connect()]
  for (let n = 0; n < 60; n++) {
    const name = `test ${n}`
    await Promise.all([
      a.query(addRun, [mission, 'passed', resultsOf({ [name]: n % 3 ? 'passed' : 'failed' })]),
      b.query(addItem, [mission, name, name]),
    ])
  }
  await proven(t, mission, 'at once')
  // Both transactions finish their statements before either commits. The commits come in either order.
  for (const [first, second] of [
    [a, b],
    [b, a],
  ] as const) {
    await Promise.all([a.query('begin'), b.query('begin')])
    const name = `open ${first === a}`
    await a.query(addRun, [mission, 'failed', resultsOf({ [name]: 'passed' })])
    await b.query(addItem, [mission, name, name])
    await first.query('commit')
    await second.query('commit')
  }
  await proven(t, mission, 'commits in either order')

  const older = await connect()
  const run = (client: pg.Client) => client.query(addRun, [mission, 'passed', resultsOf({ old: 'passed' })])
  const item = (client: pg.Client) => client.query(addItem, [mission, 'x', 'old'])
  for (const isolation of ['repeatable read', 'serializable'])
    for (const [what, meanwhile, work] of [
      ['a run', run, item],
      ['an item', item, run],
    ] as const) {
      await db.query(`delete from dod_items where mission_id = $1 and test_name = 'old'`, [mission])
      await older.query(`begin isolation level ${isolation}`)
      await older.query('select from missions')
      await meanwhile(a)
      await work(older)
      t.equal(await failure(older.query('commit')), '40001', `${isolation}: a snapshot that misses ${what}`)
      await older.query('rollback')
    }
  await proven(t, mission, 'older snapshots')
  t.strictSame(await unfounded(mission), [])
})

await t.test(
  'evidence: an item is never completed after a failed run when both are written at the same time',
  async (t) => {
    const mission = await insertMission(db)
    const [a, b] = [await connect(), await connect()]
    const ends = { none: 0, DK001: 0 }
    for (let n = 0; n < 60; n++) {
      const name = `test ${n}`
      await a.query(addRun, [mission, 'passed', resultsOf({ [name]: 'passed' })])
      const { rows } = await b.query<{ id: string }>(addItem, [mission, name, name])
      const complete = b.query('update dod_items set completed = true where id = $1', [rows[0]?.id])
      // Its error is awaited only once the run has committed.
      const [, end] = await Promise.all([
        a.query(addRun, [mission, 'failed', resultsOf({ [name]: 'failed' })]),
        failure(complete),
      ])
      ends[end as keyof typeof ends]++
    }
    await b.query('begin')
    const { rows } = await b.query<{ id: string }>(addItem, [mission, 'held', 'held'])
    await b.query('commit')
    await a.query(addRun, [mission, 'passed', resultsOf({ held: 'passed' })])
    await b.query('begin')
    await b.query('update dod_items set completed = true where id = $1', [rows[0]?.id])
    await a.query(addRun, [mission, 'failed', resultsOf({ held: 'failed' })])
    t.equal(
      await failure(b.query('commit')),
      'DK001',
      'a completion is refused at its commit if a run failed since the statement',
    )
    // Postgres reports a failure before it releases the locks. The next statement runs after the release.
    await b.query('rollback')
    t.equal(ends.none + ends.DK001, 60)
    await weighAgain()
    await proven(t, mission, 'at the end')
    t.strictSame(await unfounded(mission), [])
  },
)

await t.test(
  'evidence: a transaction that stays open delays no run, and its items get their evidence afterwards',
  async (t) => {
    const mission = await insertMission(db)
    const open = await connect()
    const other = await db.connect()
    // (Far less than the transaction stays open, and more than a table takes to grow.)
    await other.query(`set lock_timeout = '1s'`)
    const [{ id } = { id: '' }] = await db.query(addItem, [mission, 'x', 'a'])
    const [{ id: second } = { id: '' }] = await db.query(addItem, [mission, 'z', 'a'])
    const during: [name: string, work: string][] = [
      [
        'a run',
        `insert into test_runs (mission_id, status, results) values ('${mission}', 'failed', '${resultsOf({ a: 'failed' })}')`,
      ],
      [
        'an item with that test',
        `insert into dod_items (mission_id, text, category, test_name) values ('${mission}', 'y', 'tests', 'a')`,
      ],
      ['the item changed', `update dod_items set text = text || '.' where id = '${id}'`],
      ['the item locked', `select from dod_items where id = '${id}' for update`],
      ['the item without its test name', `update dod_items set test_name = null where id = '${second}'`],
      ['the item deleted', `delete from dod_items where id = '${id}'`],
    ]
    for (const [name, work] of during)
      for (const end of ['rollback', 'commit']) {
        await open.query('begin')
        await open.query(work)
        t.equal(
          await failure(other.query(addRun, [mission, 'passed', resultsOf({ a: 'passed' })])),
          'none',
          `${name} is open`,
        )
        await open.query(end)
        if (/deleted|locked|without its test name/.test(name) || end === 'rollback') await weighAgain()
        await proven(t, mission, `${name}, ${end}`)
        t.strictSame(await db.query('select item from deck.unproven'), [], `${name}, ${end}: nothing is left`)
      }
    t.strictSame(await unfounded(mission), [])
  },
)

type Step =
  | { kind: 'run'; status: string; words: Record<string, string>; age: number | null }
  | { kind: 'rerun'; nth: number; status: string; words: Record<string, string> }
  | { kind: 'unrun'; nth: number }
  | { kind: 'item'; name: string; completed: boolean }
  | { kind: 'tick'; nth: number; completed: boolean }
  | { kind: 'rename'; nth: number; name: string | null }
  | { kind: 'word'; nth: number }
  | { kind: 'unitem'; nth: number }
type Script = { steps: Step[]; end: 'commit' | 'rollback'; immediate: boolean; isolation: string; pause: boolean }

const name = fc.constantFrom('a', 'b', 'c')
const words = fc.dictionary(name, fc.constantFrom('passed', 'passed', 'failed', 'skipped'), { maxKeys: 3 })
const status = fc.constantFrom('passed', 'failed', 'running')
const nth = fc.nat(5)
// Runs first, then items by their position. Without a fixed order the writers would deadlock.
const order = ['run', 'rerun', 'unrun', 'item', 'tick', 'rename', 'word', 'unitem']
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('run'), status, words, age: fc.option(fc.nat(3)) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('rerun'), nth, status, words }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('unrun'), nth }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('item'), name, completed: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('tick'), nth, completed: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('rename'), nth, name: fc.option(name) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('word'), nth }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('unitem'), nth }) },
)
const scriptOf: fc.Arbitrary<Script> = fc.record({
  steps: fc.array(step, { minLength: 1, maxLength: 3 }).map((steps) => {
    const place = (step: Step): number => order.indexOf(step.kind) * 10 + ('nth' in step ? step.nth : 0)
    const sorted = steps.sort((x, y) => place(x) - place(y))
    // At most one item per transaction.
    return sorted.filter(
      (step, i) => step.kind.endsWith('run') || i === sorted.findIndex((s) => !s.kind.endsWith('run')),
    )
  }),
  end: fc.constantFrom('commit', 'commit', 'commit', 'rollback'),
  immediate: fc.boolean(),
  isolation: fc.constantFrom('read committed', 'read committed', 'read committed', 'repeatable read', 'serializable'),
  pause: fc.boolean(),
})

const perform = async (client: pg.Client, mission: string, { steps, end, immediate, isolation, pause }: Script) => {
  await client.query(`begin isolation level ${isolation}`)
  for (const step of steps) {
    const item = `(select id from dod_items where mission_id = $1 order by ordinal offset $2 limit 1)`
    const run = `(select id from test_runs where mission_id = $1 order by created_at, id offset $2 limit 1)`
    switch (step.kind) {
      case 'run':
        await client.query(
          `insert into test_runs (mission_id, status, results, created_at)
           values ($1, $2, $3, coalesce(timestamp '2025-01-01' + make_interval(hours => $4), now() at time zone 'utc'))`,
          [mission, step.status, resultsOf(step.words), step.age],
        )
        break
      case 'rerun':
        await client.query(`update test_runs set status = $3, results = $4 where id = ${run}`, [
          mission,
          step.nth,
          step.status,
          resultsOf(step.words),
        ])
        break
      case 'unrun':
        await client.query(`delete from test_runs where id = ${run}`, [mission, step.nth])
        break
      case 'item':
        await client.query(
          `insert into dod_items (mission_id, text, category, test_name, completed) values ($1, 'x', 'tests', $2, $3)`,
          [mission, step.name, step.completed],
        )
        break
      case 'tick':
        await client.query(`update dod_items set completed = $3 where id = ${item}`, [
          mission,
          step.nth,
          step.completed,
        ])
        break
      case 'rename':
        await client.query(`update dod_items set test_name = $3 where id = ${item}`, [mission, step.nth, step.name])
        break
      case 'word':
        await client.query(`update dod_items set text = text || '.' where id = ${item}`, [mission, step.nth])
        break
      case 'unitem':
        await client.query(`delete from dod_items where id = ${item}`, [mission, step.nth])
        break
    }
    if (pause) await client.query('select pg_sleep(0.001)')
  }
  if (immediate) await client.query('set constraints all immediate')
  await client.query(end)
}

await t.test('evidence: correct after any concurrent transactions of eight writers', async (t) => {
  const writers = await Promise.all(Array.from({ length: 8 }, connect))
  const scripts = fc.array(fc.array(scriptOf, { minLength: 8, maxLength: 8 }), { minLength: 8, maxLength: 8 })
  const codes = new Map<string, number>()
  const run = async (scripts: Script[][]): Promise<void> => {
    const mission = await insertMission(db)
    for (const test of ['a', 'b', 'c']) await db.query(addItem, [mission, test, test])
    await Promise.all(
      writers.map(async (client, w) => {
        for (const script of scripts[w] ?? []) {
          const code = await failure(perform(client, mission, script))
          codes.set(code, (codes.get(code) ?? 0) + 1)
          if (code !== 'none') await client.query('rollback')
          // Serialization failures are allowed, deadlocks are not.
          const may = script.isolation === 'read committed' ? ['none', 'DK001'] : ['none', 'DK001', '40001']
          if (!may.includes(code)) throw new Error(`${code} by ${JSON.stringify(script)}`)
        }
      }),
    )
    await weighAgain()
    const wrong = (await reckon(mission)).filter(([, shown, truth]) => shown !== truth)
    const left = [...(await db.query('select from deck.pending')), ...(await db.query('select from deck.unproven'))]
    if (wrong.length || left.length) throw new Error(`wrong: ${JSON.stringify(wrong)}, left: ${left.length}`)
    const rows = await db.query(
      `select d.* from dod_items d left join lateral (
         select data from deck.events where topic = 'missions/' || $1::uuid || '/dod' and data ->> 'id' = d.id::text
         order by seq desc limit 1) e on true
       where d.mission_id = $1 and e.data is distinct from deck.dod_item_json(d)`,
      [mission],
    )
    if (rows.length) throw new Error(`differ from their last event: ${JSON.stringify(rows)}`)
  }
  await fc.assert(fc.asyncProperty(scripts, run), { numRuns: 8, endOnFailure: true })
  t.comment(JSON.stringify(Object.fromEntries(codes)))
  t.ok((codes.get('none') ?? 0) > 100 && codes.has('DK001'), 'most committed, and some were refused')
})
