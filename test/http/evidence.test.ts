// Evidence: an item that names a test shows the result of that test in the newest finished run, live.
// Without a pass, neither the API nor SQL can complete the item. An admin's override is visible to every reader.
// evidence-races.test.ts covers concurrent writers.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import pg from 'pg'
import t from 'tap'
import type { Test } from 'tap'
import { migrate, seedFile } from '../../src/database/postgres/migrate.ts'
import { freshDatabase } from '../support/database.ts'
import { isForm, itemForm, refused, time } from '../support/forms.ts'
import { admin, alice, makeMission, rafael, startDeck, until, type Json } from '../support/server.ts'

const { database, instance } = await startDeck(t)
const { request } = instance
const superuser = new pg.Client({ connectionString: database.adminUrl })
await superuser.connect()
t.teardown(() => superuser.end())
const isSuperuser = (await superuser.query<Json>('select rolsuper from pg_roles where rolname = current_user'))
  .rows[0]?.['rolsuper']

const missing = { run: null, status: 'missing', at: null }

const makePlace = async () => {
  const { id } = await makeMission(instance)
  const mission = `/api/missions/${id}`
  const add = async (more: Json = {}): Promise<Json> => {
    const body = { text: 'Works', category: 'tests', test_name: 'a', ...more }
    return (await request('POST', `${mission}/dod`, rafael, body)).json
  }
  const report = async (results: unknown, status = 'failed'): Promise<Json> =>
    (await request('POST', `${mission}/tests`, rafael, { status, results })).json
  const items = async (): Promise<Json[]> => (await request('GET', `${mission}/dod`, alice)).json['items'] as Json[]
  const set = (item: Json, body: Json, bearer = alice) => request('PATCH', `${mission}/dod/${item['id']}`, bearer, body)
  return { id, mission, add, report, items, set }
}
const evidence = ({ id, created_at }: Json, status: string): Json => ({ run: id, status, at: created_at })

void t.test('evidence: the newest finished run decides it; changes arrive on the topic of the checklist', async (t) => {
  const { id, mission, add, report, items, set } = await makePlace()
  const client = await instance.connect(alice)
  const topic = `missions/${id}/dod`
  t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok', seq: 0 })
  const eventAt = async (seq: number): Promise<Json> => {
    await until(() => client.events(topic).some((event) => event.seq === seq), `event ${seq}`)
    return client.events(topic).find((event) => event.seq === seq) as Json
  }

  const item = await add({ text: 'Callbacks work', test_name: 'test_callback' })
  isForm(
    t,
    item,
    itemForm({ text: 'Callbacks work', category: 'tests', test_name: 'test_callback', evidence: missing }),
    '',
  )
  const plain = await add({ test_name: null })
  isForm(t, plain, itemForm({ category: 'tests', seq: 2 }), 'an item without a test has no evidence members')

  const early = await set(item, { completed: true })
  refused(t, early, 409, 'conflict')
  t.match(early.json['detail'], /no passing evidence for "Callbacks work" \(test_callback: missing\)/)
  await report([{ name: 'test_callback', status: 'passed' }], 'running')
  await report([{ name: 'another', status: 'passed' }], 'passed')
  t.same((await items())[0]?.['evidence'], missing, 'neither an unfinished run nor one without the test')

  const good = await report([{ name: 'other' }, { name: 'test_callback', status: 'passed', duration_ms: 5 }])
  const proven = { ...item, evidence: evidence(good, 'passed'), seq: 3 }
  t.match(
    await eventAt(3),
    { event: 'dod_item.updated', data: proven },
    "the test's own status counts, although the run failed",
  )
  t.same(await items(), [proven, plain])
  const done = await set(item, { completed: true })
  t.equal(done.status, 200)
  isForm(t, done.json['item'] ?? {}, { ...proven, completed: true, completed_at: time, seq: 4 }, 'completed')

  const bad = await report([{ name: 'test_callback', status: 'failed', error: 'KeyError' }])
  t.match(await eventAt(5), { data: { evidence: evidence(bad, 'failed'), completed: true } }, 'a later failure arrives')
  t.equal((await set(item, { completed: false })).status, 200)
  refused(t, await set(item, { completed: true }), 409, 'conflict', 'a test that has failed since')

  const fixed = await request('PATCH', `${mission}/tests/${bad['id']}`, rafael, {
    results: [{ name: 'test_callback', status: 'passed' }],
  })
  t.equal(fixed.status, 200)
  t.match(await eventAt(7), { data: { evidence: evidence(bad, 'passed') } }, 'a changed run')
  t.equal((await set(item, { completed: true })).status, 200)
  await request('PATCH', `${mission}/tests/${bad['id']}`, rafael, { status: 'running' })
  t.match(await eventAt(9), { data: { evidence: evidence(good, 'passed') } }, 'a reopened run: the previous one counts')
  await database.query('delete from test_runs where id = $1', [good['id']])
  t.match(await eventAt(10), { data: { evidence: missing, completed: true } }, 'a deleted run')
})

void t.test("evidence: a test's worst result in a run counts, and an unknown status is no pass", async (t) => {
  const { add, report, items } = await makePlace()
  await add()
  const cases: [results: unknown[], status: string, named: boolean][] = [
    [[{ name: 'a', status: 'ok' }], 'passed', true],
    [[{ name: 'a', status: 'PASS' }], 'passed', true],
    [[{ name: 'a' }], 'failed', true],
    [[{ name: 'a', status: 'fine' }], 'failed', true],
    [[{ name: 'a', status: true }], 'failed', true],
    [[{ name: 'a', status: 'passed' }, 'a', null, { name: 'a', status: 'error' }], 'failed', true],
    [
      [
        { name: 'a', status: 'passed' },
        { name: 'a', status: 'skipped' },
      ],
      'missing',
      true,
    ],
    [[{ name: 'a', status: 'success' }, { name: 'A', status: 'failed' }, { status: 'failed' }], 'passed', true],
  ]
  for (const [results, status] of cases) {
    const run = await report(results)
    t.same((await items())[0]?.['evidence'], evidence(run, status), JSON.stringify(results))
    const later = await add({ text: 'Later' })
    t.same(later['evidence'], evidence(run, status), 'an item that is added later has the same evidence')
  }
  const before = (await items())[0]?.['evidence']
  for (const results of [[{ name: 5 }, [{ name: 'a', status: 'passed' }], 'a', { name: ['a'] }], [], null])
    await report(results)
  t.same((await items())[0]?.['evidence'], before, 'no element with that name')
})

void t.test('checklist: complete is all or nothing; a refusal names the items without evidence', async (t) => {
  const { mission, add, report, items } = await makePlace()
  const plain = await add({ test_name: null })
  await add({ text: 'One', test_name: 'a' })
  await add({ text: 'Two', test_name: 'b' })
  await add({ text: 'Three', test_name: 'c' })
  await report([
    { name: 'a', status: 'passed' },
    { name: 'b', status: 'failed' },
  ])
  const before = await items()
  const answer = await request('POST', `${mission}/dod/complete`, alice)
  refused(t, answer, 409, 'conflict')
  t.equal(answer.json['detail'], 'no passing evidence for "Two" (b: failed), "Three" (c: missing)')
  t.same(await items(), before, 'nothing is ticked')
  t.equal((await request('GET', mission, alice)).json['status'], 'active')

  for (const body of [{ override: '' }, { override: 5 }, { override: null }, 5, { override: 'x'.repeat(1001) }])
    refused(t, await request('POST', `${mission}/dod/complete`, admin, body), 400, 'bad_request', JSON.stringify(body))
  refused(t, await request('POST', `${mission}/dod/complete`, alice, { override: 'x' }), 403, 'forbidden')
  const all = await request('POST', `${mission}/dod/complete`, admin, { override: 'shown to the client' })
  t.equal(all.status, 200)
  const overrides = (all.json['items'] as Json[]).map((item) => (item['override'] as Json | undefined)?.['reason'])
  t.same(
    overrides,
    [undefined, undefined, 'shown to the client', 'shown to the client'],
    'only where evidence is missing',
  )
  t.equal((await request('GET', mission, alice)).json['status'], 'qa')
  t.equal((await request('POST', `${mission}/dod/reset`, alice)).status, 200)
  t.notOk(
    (await items()).some((item) => 'override' in item || item['completed']),
    'a reset removes overrides',
  )

  await report(['a', 'b', 'c'].map((name) => ({ name, status: 'passed' })))
  t.equal((await request('POST', `${mission}/dod/complete`, alice, {})).status, 200, 'after all tests passed')
  t.equal(Object.keys(plain).length, 7)
})

void t.test("evidence: an admin's override is recorded and shown until the item is unticked", async (t) => {
  const { id, add, report, items, set } = await makePlace()
  const item = await add()
  const override = { completed: true, override: 'the client said so' }
  refused(t, await set(item, override, alice), 403, 'forbidden')
  refused(t, await set(item, override, rafael), 403, 'forbidden')
  for (const body of [
    { override: 'x' },
    { ...override, completed: false },
    { ...override, override: null },
    { completed: 1 },
  ])
    refused(t, await set(item, body, admin), 400, 'bad_request', JSON.stringify(body))
  refused(t, await set(await add({ test_name: null }), override, admin), 409, 'conflict', 'nothing to override')

  const { json } = await set(item, override, admin)
  const shown = json['item'] as Json
  isForm(t, shown['override'], { reason: 'the client said so', by: 'root', at: time }, 'who, when and why')
  t.same([shown['completed'], shown['evidence']], [true, missing])
  t.same((await set(item, override, admin)).json['item'], shown, 'a repeated override changes nothing')
  const [last] = await database.query(`select data from deck.events where topic = $1 order by seq desc limit 1`, [
    `missions/${id}/dod`,
  ])
  t.same(last?.['data'], shown, 'in its event')
  t.match(await database.query('select action, actor, detail from deck.audit where mission_id = $1', [id]), [
    {
      action: 'dod.override',
      actor: 'root',
      detail: { item: item['id'], test_name: 'a', reason: 'the client said so' },
    },
  ])
  await report([{ name: 'a', status: 'passed' }])
  t.match(
    (await items())[0],
    { override: shown['override'], evidence: { status: 'passed' } },
    'even after the test passed',
  )
  const unticked = (await set(item, { completed: false })).json['item'] as Json
  t.notOk('override' in unticked)
  t.equal((await set(item, { completed: true })).status, 200)
})

void t.test('evidence: only an admin changes the test of an item, while the item is open', async (t) => {
  const { add, report, set } = await makePlace()
  const item = await add({ test_name: null })
  const run = await report([{ name: 'b', status: 'passed' }])
  for (const bearer of [alice, rafael]) refused(t, await set(item, { test_name: 'b' }, bearer), 403, 'forbidden')
  for (const test_name of ['', 5, 'x'.repeat(1001), {}])
    refused(t, await set(item, { test_name }, admin), 400, 'bad_request')
  const named = (await set(item, { test_name: 'b' }, admin)).json['item'] as Json
  t.match(named, { test_name: 'b', evidence: evidence(run, 'passed') })
  t.equal((await set(item, { completed: true })).status, 200)
  const kept = await set(item, { test_name: null }, admin)
  refused(t, kept, 409, 'conflict')
  t.match(kept.json['detail'], /untick/)
  const both = (await set(item, { completed: false, test_name: 'c' }, admin)).json['item'] as Json
  t.match(both, { completed: false, test_name: 'c', evidence: missing })
  refused(
    t,
    await set(item, { completed: true, test_name: 'b' }, admin),
    409,
    'conflict',
    'a completion together with another test',
  )
  const { completed, seq } = (await set(item, { test_name: null }, admin)).json['item'] as Json
  t.same([completed, seq], [false, 5])
})

const failure = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work
    return 'none'
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    return `${error.code} ${error.constraint ?? ''}`.trim()
  }
}

/** A connection as a role that only has grants on the four tables. */
const makeWriter = async (t: Test): Promise<pg.Client> => {
  const role = `deck_test_writer_${randomUUID().slice(0, 8)}`
  await superuser.query(`create role ${role}`)
  const writer = new pg.Client({ connectionString: database.adminUrl })
  await writer.connect()
  t.teardown(async () => {
    await writer.end()
    await superuser.query(`drop owned by ${role}; drop role ${role}`)
  })
  await database.query(
    `grant select, insert, update, delete on missions, dod_items, chat_messages, test_runs to ${role}`,
  )
  await writer.query(`set session authorization ${role}`)
  return writer
}

void t.test(
  'audit: names the login of the SQL writer, even if it sets deck.actor',
  { skip: isSuperuser ? false : 'needs a superuser' },
  async (t) => {
    const writer = await makeWriter(t)
    const { id } = await makePlace()
    await writer.query(`set "deck.actor" = 'the boss'`)
    await writer.query(`delete from missions where id = $1`, [id])
    const [found] = await database.query(`select action, actor from deck.audit where mission_id = $1`, [id])
    t.match(found, { action: 'mission.delete', actor: /^deck_test_writer_/ })
  },
)

void t.test(
  'evidence: binds SQL writers with grants on the four tables, even if they change settings',
  { skip: isSuperuser ? false : 'needs a superuser' },
  async (t) => {
    const writer = await makeWriter(t)
    for (const setting of ['off', '0']) {
      const { id, add, items } = await makePlace()
      await writer.query(`set "deck.weighing" = '${setting}'; set "deck.numbering" = '${setting}'`)
      const item = await add()
      const complete = `update dod_items set completed = true where id = '${item['id']}'`
      const runs = (status: string) =>
        `insert into test_runs (mission_id, status, results) values ('${id}', 'passed', '[{"name": "a", "status": "${status}"}]')`
      const insert = (columns: string, values: string) =>
        `insert into dod_items (mission_id, text, category, test_name, ${columns}) values ('${id}', 'x', 'tests', 'a', ${values})`
      const refusedToAll: [name: string, text: string, code: string][] = [
        ['completed', complete, 'DK001 dod_items_evidence'],
        ['completed from the start', insert('completed', 'true'), 'DK001 dod_items_evidence'],
        [
          'completed by evidence that the writer sets',
          insert('completed, evidence_status, evidence_run, evidence_at', `true, 'passed', gen_random_uuid(), now()`),
          'DK001 dod_items_evidence',
        ],
        [
          'completed as evidence is written',
          `update dod_items set completed = true, evidence_status = 'passed' where id = '${item['id']}'`,
          'DK001 dod_items_evidence',
        ],
        ['overridden', `${complete.replace('true', `true, override_reason = 'x'`)}`, '42501'],
        ['overridden from the start', insert('completed, override_reason', `true, 'x'`), '42501'],
        [
          'a run that failed, and completed',
          `begin; ${runs('failed')}; ${complete}; commit`,
          'DK001 dod_items_evidence',
        ],
        ['set immediate', `begin; set constraints all immediate; ${complete}; commit`, 'DK001 dod_items_evidence'],
        [
          'an empty name',
          `update dod_items set test_name = '' where id = '${item['id']}'`,
          '23514 dod_items_test_name_valid',
        ],
      ]
      for (const [name, text, code] of refusedToAll) {
        t.equal(await failure(writer.query(text)), code, `${name}, ${setting}`)
        await writer.query('rollback').catch(() => undefined)
      }
      await writer.query(insert('evidence_status, override_by', `'passed', 'me'`))
      await writer.query(`update dod_items set evidence_status = 'passed', override_by = 'me' where mission_id = $1`, [
        id,
      ])
      t.match(await items(), [item, { test_name: 'a', evidence: missing }], 'evidence that a writer sets is ignored')

      t.equal(await failure(writer.query(`begin; ${complete}; ${runs('passed')}; commit`)), 'none', 'both at once')
      t.match((await items())[0], { completed: true, evidence: { status: 'passed' } })
      t.equal(
        await failure(writer.query(`update dod_items set test_name = null where id = $1`, [item['id']])),
        'DK001 dod_items_test_name',
      )
      await request('PATCH', `/api/missions/${id}/dod/${item['id']}`, admin, { completed: true, override: 'x' })
      t.equal(
        await failure(writer.query(`update dod_items set override_reason = null where id = $1`, [item['id']])),
        '42501',
        'an override can not be removed either',
      )
      t.equal(await failure(writer.query('update dod_items set completed = false where mission_id = $1', [id])), 'none')
      await writer.query('delete from test_runs where mission_id = $1', [id])
      t.match(await items(), [{ evidence: missing }, { evidence: missing }])
      await writer.query('delete from missions where id = $1', [id])
    }
    t.strictSame(await database.query('select from deck.pending'), [], 'no row waits for a number')
  },
)

void t.test('evidence: an override by the database owner in SQL records the login', async (t) => {
  const { id, add, items } = await makePlace()
  await add()
  await database.query(`update dod_items set completed = true, override_reason = 'by hand' where mission_id = $1`, [id])
  const [{ by } = { by: '' }] = await database.query('select session_user as by')
  t.match(await items(), [{ completed: true, override: { reason: 'by hand', by } }])
  t.equal(
    await failure(database.query('update dod_items set override_reason = null where mission_id = $1', [id])),
    'DK001 dod_items_evidence',
    'without the override the item would lack evidence',
  )
})

void t.test('docs/evidence.md: its SQL examples have the results that it shows', async (t) => {
  const seeded = await freshDatabase(t)
  await migrate(await seeded.connect(), () => undefined)
  await seeded.query(readFileSync(seedFile, 'utf8'))
  const page = readFileSync(new URL('../../docs/evidence.md', import.meta.url), 'utf8')
  const [, block = ''] = /```sql\n([^]*?)```/.exec(page) ?? []
  // Each statement of the page, and its result where the page shows one.
  const steps = [...block.matchAll(/([^-][^;]*);\n(?:-- (.*)\n)?/g)]
  t.ok(steps.length > 5)
  for (const [, statement = '', shown] of steps) {
    let actual: string | undefined
    try {
      const rows = await seeded.query(statement)
      actual = rows[0] && Object.values(rows[0]).join(' | ')
    } catch (error) {
      actual = error instanceof pg.DatabaseError ? `ERROR ${error.code}: ${error.message}` : String(error)
    }
    t.equal(actual, shown, statement)
  }
})
