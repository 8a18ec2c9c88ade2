// Limits of answers and missions: each list at its largest, read in pages of at most 4 MiB that return each row once.
// The API limits the chats and items of a mission.
import t from 'tap'
import { admin, alice, makeMission, rafael, startDeck, type Json } from '../support/server.ts'

const { instance, database } = await startDeck(t)
const { request } = instance
const most = 4 * 1024 * 1024

/** Reads all pages of a list and asserts that none exceeds `most` bytes. */
const pages = async (path: string, rows: string, next: (json: Json) => string | undefined): Promise<Json[]> => {
  const all: Json[] = []
  for (let query: string | undefined = ''; query !== undefined;) {
    const { status, json, text } = await request(
      'GET',
      `${path}${path.includes('?') ? '&' : '?'}limit=500${query}`,
      alice,
    )
    t.equal(status, 200)
    t.ok(Buffer.byteLength(text) <= most, `${path}: ${Buffer.byteLength(text)} bytes`)
    const found = json[rows] as Json[]
    t.ok(found.length > 0)
    all.push(...found)
    query = next(json)
  }
  return all
}
const byCursor = (json: Json): string | undefined =>
  typeof json['next'] === 'string' ? `&cursor=${json['next']}` : undefined

void t.test('answer limit: pages of test runs of a megabyte each', async (t) => {
  const { id } = await makeMission(instance)
  await database.query(
    `insert into test_runs (mission_id, status, summary, results, created_at)
     select $1, 'passed', jsonb_build_object('a', repeat('x', 900000)), '[]', now() + n * interval '1 s' from generate_series(1, 40) n`,
    [id],
  )
  const path = `/api/missions/${id}/tests`
  const runs = await pages(path, 'test_runs', byCursor)
  t.equal(new Set(runs.map(({ id }) => id)).size, 40)
  const then = await pages(`${path}?at=${new Date(Date.now() + 3_600_000).toISOString()}`, 'test_runs', byCursor)
  t.strictSame(
    then.map(({ id }) => id),
    runs.map(({ id }) => id),
    'the same at a past time',
  )
  const events = await pages(`/api/missions/${id}/timeline`, 'events', byCursor)
  t.equal(events.filter(({ event }) => event === 'test_run.created').length, 40, 'the timeline has them as well')
})

void t.test('answer limit: pages of a chat, even when JSON takes six bytes a character', async (t) => {
  const { id } = await makeMission(instance)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, code_blocks)
     select $1, 'rafael', 'user', repeat(chr(1), 10000), jsonb_build_array(jsonb_build_object('language', null, 'code', repeat('x', 90000)))
     from generate_series(1, 100) n`,
    [id],
  )
  const path = `/api/missions/${id}/chat/rafael`
  t.equal(
    (await pages(`/api/missions/${id}/timeline`, 'events', byCursor)).filter(({ event }) => event === 'message.created')
      .length,
    100,
  )
  const seqs = (rows: Json[]): number[] => rows.map(({ seq }) => Number(seq))
  const wanted = Array.from({ length: 100 }, (_, i) => i + 1)
  let before: number | undefined
  const back: number[] = []
  for (;;) {
    const { json, text } = await request('GET', `${path}?limit=500${before ? `&before=${before}` : ''}`, alice)
    t.ok(Buffer.byteLength(text) <= most)
    back.unshift(...seqs(json['messages'] as Json[]))
    before = back[0]
    if (json['has_more'] !== true) break
  }
  t.strictSame(back, wanted)
  let after = 0
  const on: number[] = []
  for (;;) {
    const { json, text } = await request('GET', `${path}?limit=500&after=${after}`, alice)
    t.ok(Buffer.byteLength(text) <= most)
    on.push(...seqs(json['messages'] as Json[]))
    after = on.at(-1) ?? 0
    if (json['has_more'] !== true) break
  }
  t.strictSame(on, wanted)
})

void t.test('mission limit: the API makes up to 1,000 chats; SQL writers are not limited', async (t) => {
  const { id } = await makeMission(instance)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) select $1, 'c' || n, 'user', 'x' from generate_series(1, 998) n`,
    [id],
  )
  const post = (citizen: string) => request('POST', `/api/missions/${id}/chat/${citizen}`, alice, { message: 'x' })
  t.equal((await post('one')).status, 201)
  const both = await Promise.all(['two', 'three', 'four'].map(post))
  t.strictSame(both.map(({ status }) => status).sort(), [201, 409, 409])
  t.match(both.find(({ status }) => status === 409)?.json, {
    code: 'conflict',
    detail: 'a mission has up to 1000 chats',
  })
  t.equal((await post('c1')).status, 201, 'existing chats accept messages')
  const client = await instance.connect(alice)
  t.match(await client.ask({ type: 'send', topic: `missions/${id}/chat/five`, message: 'x' }), { code: 'conflict' })
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'six', 'user', 'x')`,
    [id],
  )
  t.equal((await post('six')).status, 201)
  t.equal((await post('seven')).status, 409)
})

void t.test('answer limit: a large checklist written by SQL is cut, and progress counts all its items', async (t) => {
  const { id } = await makeMission(instance)
  await database.query(
    `insert into dod_items (mission_id, text, category) select $1, n || repeat(chr(1), 3000), 'tests' from generate_series(1, 600) n`,
    [id],
  )
  for (const query of ['', `?at=${new Date(Date.now() + 3_600_000).toISOString()}`]) {
    const { status, json, text } = await request('GET', `/api/missions/${id}/dod${query}`, alice)
    t.equal(status, 200)
    t.ok(Buffer.byteLength(text) <= most && text.length > most / 2, `${text.length}`)
    const items = json['items'] as Json[]
    t.ok(items.every((item, n) => String(item['text']).startsWith(`${n + 1}\u0001`)))
    t.strictSame(json['progress'], { completed: 0, total: 600 })
  }
})

void t.test('search: finds code in every chat, though one scan reads 2 MiB of it', async (t) => {
  const { id } = await makeMission(instance)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, code_blocks)
     select $1, 'c' || n % 40, 'user', 'm', jsonb_build_array(jsonb_build_object('language', null, 'code', 'needle ' || n || repeat(' words', 30000)))
     from generate_series(1, 80) n`,
    [id],
  )
  const hits = await pages(`/api/missions/${id}/search?q=needle&kind=code`, 'hits', byCursor)
  t.equal(new Set(hits.map(({ id }) => id)).size, 80)
  t.equal(hits.length, 80, 'each once')
})

void t.test('mission limit: the API adds up to 1,000 items with 1 MiB of text', async (t) => {
  const [many, large] = [await makeMission(instance), await makeMission(instance)]
  const add = (id: string, text: string) =>
    request('POST', `/api/missions/${id}/dod`, rafael, { text, category: 'tests' })
  await database.query(
    `insert into dod_items (mission_id, text, category) select $1, 'x', 'tests' from generate_series(1, 999) n`,
    [many.id],
  )
  t.equal((await add(many.id, 'x')).status, 201)
  t.match(await add(many.id, 'x'), { status: 409, json: { code: 'conflict' } })
  await database.query(
    `insert into dod_items (mission_id, text, category) select $1, repeat('x', 10000), 'tests' from generate_series(1, 104) n`,
    [large.id],
  )
  t.equal((await add(large.id, 'x'.repeat(8000))).status, 201)
  t.match(await add(large.id, 'x'.repeat(8000)), { status: 409, json: { code: 'conflict' } })
  t.equal((await request('GET', `/api/missions/${large.id}/dod`, admin)).status, 200)
})
