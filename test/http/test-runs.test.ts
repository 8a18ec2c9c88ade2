// Test runs and their logs over HTTP, written by the API and by SQL: the exact answer of each route of the contract.
// Runs and items are found under their own mission only.
import t from 'tap'
import { isForm, itemForm, missionForm, refused, runForm, time } from '../support/forms.ts'
import { admin, alice, makeMission, rafael, startDeck, type Json } from '../support/server.ts'

const { database, instance } = await startDeck(t)
const { request } = instance
const list = (value: unknown): Json[] => value as Json[]
const seqOf = async (path: string): Promise<unknown> => (await request('GET', path, admin)).json['seq']

void t.test('test runs: are requested, reported and read', async (t) => {
  const { id } = await makeMission(instance)
  const tests = `/api/missions/${id}/tests`
  t.strictSame((await request('GET', tests, alice)).json, { test_runs: [], next: null })
  refused(t, await request('GET', `${tests}/latest`, alice), 404, 'not_found', 'the latest run of an empty list')
  const asked = await request('POST', `${tests}/run`, alice)
  t.equal(asked.status, 202)
  isForm(t, asked.json, runForm({ mission_id: id }), 'TestRun')
  const run = `${tests}/${asked.json['id']}`
  t.strictSame((await request('GET', run.toUpperCase().replace(/.*TESTS/, tests), rafael)).json, asked.json)

  const summary = { total: 2, passed: 1, nested: { '☕': [null, true, 1.5, 'a\r\nb '] }, '': {} }
  const results = [{ name: 'works' }, 'text', 1, null, []]
  const changed = await request('PATCH', run, rafael, { status: 'failed', summary, results })
  t.strictSame([changed.status, changed.json], [200, { ...asked.json, status: 'failed', summary, results, seq: 2 }])
  const nothing = await request('PATCH', run, rafael, {})
  t.strictSame([nothing.status, nothing.json], [200, changed.json], 'an empty patch makes no event')
  const nulled = await request('PATCH', run, rafael, { summary: null })
  t.strictSame(
    nulled.json,
    { ...changed.json, summary: null, seq: 3 },
    'null clears a field, an absent one is unchanged',
  )

  const full = await request('POST', tests, rafael, { status: 'passed', summary, results, logs: 'done\n' })
  t.equal(full.status, 201)
  isForm(t, full.json, runForm({ mission_id: id, status: 'passed', summary, results, seq: 4 }), 'all fields given')
  t.equal((await request('GET', `${tests}/${full.json['id']}/logs`, alice)).text, 'done\n')
  const least = await request('POST', tests, rafael, {})
  isForm(t, least.json, runForm({ mission_id: id, seq: 5 }), 'no field given')
  t.strictSame((await request('GET', `${tests}/latest`, alice)).json, least.json)
  t.strictSame((await request('GET', tests, alice)).json, {
    test_runs: [least.json, full.json, nulled.json],
    next: null,
  })

  const found: unknown[] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const { json } = await request('GET', `${tests}?limit=1${cursor ? `&cursor=${cursor}` : ''}`, alice)
    found.push(...list(json['test_runs']).map((row) => row['id']))
    cursor = json['next'] as string | null
  }
  t.strictSame(found, [least.json['id'], full.json['id'], asked.json['id']], 'in pages, each once')
})

void t.test('run log: appended chunks are read back byte for byte', async (t) => {
  const { id } = await makeMission(instance)
  const run = (await request('POST', `/api/missions/${id}/tests`, rafael, {})).json
  const path = `/api/missions/${id}/tests/${run['id']}/logs`
  const read = async (): Promise<string> => {
    const response = await fetch(instance.url + path, { headers: { authorization: `Bearer ${alice}` } })
    t.match(response.headers.get('content-type'), /^text\/plain/)
    t.equal(response.status, 200)
    return Buffer.from(await response.arrayBuffer()).toString()
  }
  t.equal(await read(), '', 'an empty log')
  const chunks = [
    '\uFEFFstart\r\n',
    'e\u0301 😀 ',
    '   \n\n',
    '\u001b[31mred',
    '\u0001',
    'x'.repeat(1024 * 1024),
    '\ud7ff\uffff',
  ]
  const append = (body: string | Uint8Array) =>
    request('POST', path, rafael, body, { 'content-type': 'text/plain; charset=utf-8' })
  for (const [n, chunk] of chunks.entries()) {
    const { status, json } = await append(Buffer.from(chunk))
    t.strictSame([status, json], [200, { seq: n + 1 }])
  }
  t.ok((await read()) === chunks.join(''), 'exact')
  t.strictSame((await append('')).json, { seq: chunks.length }, 'an empty append makes no event')
  t.equal(await seqOf(`/api/missions/${id}/tests/${run['id']}`), 1, 'an append makes no event of the run')
})

void t.test('run log: reads as one text when SQL extends or replaces it', async (t) => {
  const { id } = await makeMission(instance)
  const run = (await request('POST', `/api/missions/${id}/tests`, rafael, { logs: 'one' })).json['id']
  const path = `/api/missions/${id}/tests/${run}/logs`
  const read = async (): Promise<string> => (await request('GET', path, alice)).text
  t.equal(await read(), 'one')
  await database.query(`update test_runs set logs = logs || ', two' where id = $1`, [run])
  t.equal(await read(), 'one, two')
  await database.query(`update test_runs set logs = 'all new' where id = $1`, [run])
  t.equal(await read(), 'all new')
  t.strictSame((await request('POST', path, rafael, '!', { 'content-type': 'text/plain' })).json, { seq: 4 })
  t.equal(await read(), 'all new!')
  await database.query(`update test_runs set logs = null where id = $1`, [run])
  t.equal(await read(), '')
})

void t.test('test runs, checklist: runs and items are found under their own mission only', async (t) => {
  const [mine, other] = [await makeMission(instance), await makeMission(instance)]
  const run = (await request('POST', `/api/missions/${mine.id}/tests`, admin, {})).json['id']
  const item = (await request('POST', `/api/missions/${mine.id}/dod`, admin, { text: 'x', category: 'tests' })).json[
    'id'
  ]
  const text = { 'content-type': 'text/plain' }
  for (const [mission, runId, itemId] of [
    [other.id, run, item],
    [mine.id, mine.id, mine.id],
  ]) {
    const path = `/api/missions/${mission}`
    refused(t, await request('GET', `${path}/tests/${runId}`, admin), 404, 'not_found', 'GET run')
    refused(t, await request('PATCH', `${path}/tests/${runId}`, admin, { status: 'passed' }), 404, 'not_found', 'PATCH')
    refused(t, await request('PATCH', `${path}/tests/${runId}`, admin, {}), 404, 'not_found', 'empty PATCH')
    refused(t, await request('GET', `${path}/tests/${runId}/logs`, admin), 404, 'not_found', 'GET logs')
    refused(t, await request('POST', `${path}/tests/${runId}/logs`, admin, 'x', text), 404, 'not_found', 'POST logs')
    refused(
      t,
      await request('PATCH', `${path}/dod/${itemId}`, admin, { completed: true }),
      404,
      'not_found',
      'PATCH item',
    )
    refused(t, await request('DELETE', `${path}/dod/${itemId}`, admin), 404, 'not_found', 'DELETE item')
  }
  t.equal(await seqOf(`/api/missions/${mine.id}/tests/${run}`), 1, 'nothing was changed')
})

void t.test('SQL writers: HTTP returns their rows like all others', async (t) => {
  const { id } = await makeMission(instance)
  await database.query(
    `insert into dod_items (mission_id, text, category, completed) values ($1, 'By SQL', 'tests', true)`,
    [id],
  )
  const { items, progress } = (await request('GET', `/api/missions/${id}/dod`, alice)).json
  t.strictSame(progress, { completed: 1, total: 1 })
  const sql = itemForm({ mission_id: id, text: 'By SQL', category: 'tests', completed: true, completed_at: time })
  isForm(t, list(items)[0], sql, 'an item by SQL')
  await database.query(`insert into test_runs (mission_id, status, logs) values ($1, 'passed', 'ok')`, [id])
  const { json } = await request('GET', `/api/missions/${id}/tests/latest`, alice)
  isForm(t, json, runForm({ mission_id: id, status: 'passed' }), 'a run by SQL')
  t.equal((await request('GET', `/api/missions/${id}/tests/${json['id']}/logs`, alice)).text, 'ok')
  await database.query(`update missions set title = 'By SQL' where id = $1`, [id])
  isForm(
    t,
    (await request('GET', `/api/missions/${id}`, alice)).json,
    missionForm({ title: 'By SQL', seq: 1 }),
    'Mission',
  )
})
