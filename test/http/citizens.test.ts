// The registry of citizens: list, put, delete; its limits; listening and last_seen on two instances.
import t, { type Test } from 'tap'
import { isForm, refused, time } from '../support/forms.ts'
import {
  admin,
  alice,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  type Answer,
  type Json,
} from '../support/server.ts'

const seeded = [
  ['emma', 'Scope'],
  ['inna', 'Specification'],
  ['rafael', 'Code'],
  ['sofia', 'Quality'],
  ['maya', 'Delivery'],
]

const open = async (t: Test) => {
  const { database, instance } = await startDeck(t)
  const { request } = instance
  const put = (name: string, body: unknown, bearer = admin): Promise<Answer> =>
    request('PUT', `/api/citizens/${name}`, bearer, body)
  const remove = (name: string, bearer = admin): Promise<Answer> => request('DELETE', `/api/citizens/${name}`, bearer)
  const list = async (bearer = alice, from = instance): Promise<Json[]> =>
    (await from.request('GET', '/api/citizens', bearer)).json['citizens'] as Json[]
  const names = async (): Promise<unknown[]> => (await list()).map(({ name }) => name)
  return { database, instance, put, remove, list, names }
}

void t.test('citizens: a new database has the five, in their order, and every role reads them', async (t) => {
  const { instance, list } = await open(t)
  for (const bearer of [alice, rafael, admin]) {
    const found = await list(bearer)
    t.strictSame(
      found.map(({ name, title }) => [name, title]),
      seeded,
    )
    isForm(
      t,
      found[2],
      { name: 'rafael', title: 'Code', about: null, position: 3, listening: false, last_seen: null },
      'the form of a citizen',
    )
  }
  refused(t, await instance.request('GET', '/api/citizens'), 401, 'unauthorized')
})

void t.test('citizens: put registers (201) or replaces (200) a citizen, and delete keeps its chats', async (t) => {
  const { instance, put, remove, list, names } = await open(t)
  const added = await put('zoe', { title: 'Research', about: 'Ask her what others have built.', position: 3 })
  t.equal(added.status, 201)
  const zoe = { name: 'zoe', title: 'Research', about: 'Ask her what others have built.', position: 3 }
  t.strictSame(added.json, { ...zoe, listening: false, last_seen: null })
  t.strictSame(await names(), ['emma', 'inna', 'rafael', 'zoe', 'sofia', 'maya'], 'by position, then by name')
  const changed = await put('zoe', { title: 'Books' })
  t.match(changed, { status: 200, json: { name: 'zoe', title: 'Books', about: null, position: 6 } })
  t.match(await put('zoe', { title: 'Books' }), { status: 200, json: { position: 6 } }, 'the last stays the last')
  t.match(await put('emma', { title: 'Scope' }), { status: 200, json: { position: 7 } }, 'without a position: last')
  t.match(await put('inna', { title: 'S', about: null, position: -5 }), { status: 200, json: { position: -5 } })
  t.strictSame(await names(), ['inna', 'rafael', 'sofia', 'maya', 'zoe', 'emma'])

  const { id } = await makeMission(instance)
  const chat = `/api/missions/${id}/chat/zoe`
  await instance.request('POST', chat, alice, { message: 'hello' })
  t.equal((await remove('zoe')).status, 204)
  t.notOk((await names()).includes('zoe'))
  refused(t, await remove('zoe'), 404, 'not_found', 'deleted before')
  t.match((await instance.request('GET', chat, alice)).json, { last_seq: 1, messages: [{ message: 'hello' }] })
  t.equal((await instance.request('POST', chat, alice, { message: 'again' })).status, 201, 'a chat without a citizen')
  t.equal((await put('zoe', { title: 'Research' })).status, 201, 'registered again')
  t.match(await list(), { length: 6 })
})

void t.test('citizens: bad names, titles and types are refused, as are other roles, and change nothing', async (t) => {
  const { instance, put, remove, list, database } = await open(t)
  const before = await list()
  for (const bearer of [alice, rafael]) {
    refused(t, await put('zoe', { title: 'x' }, bearer), 403, 'forbidden', 'put')
    refused(t, await put('rafael', { title: 'x' }, bearer), 403, 'forbidden', 'its own name too')
    refused(t, await remove('emma', bearer), 403, 'forbidden', 'delete')
  }
  for (const name of ['Zoe', '1a', '-a', 'a.b', 'a'.repeat(33), '%C3%A9', 'a%2Fb', 'a%20']) {
    refused(t, await put(name, { title: 'x' }), 400, 'bad_request', `put ${name}`)
    refused(t, await remove(name), 400, 'bad_request', `delete ${name}`)
  }
  const bodies: unknown[] = [
    undefined,
    {},
    [],
    ...[null, 5, '', 'x'.repeat(201), ['x'], 'a\0b', 'a\ud800'].map((title) => ({ title })),
    ...[5, '', 'x'.repeat(2001), {}, '\0'].map((about) => ({ title: 'x', about })),
    ...[null, '1', 1.5, 2 ** 31, -(2 ** 31) - 1, 1e300, []].map((position) => ({ title: 'x', position })),
  ]
  for (const body of bodies) refused(t, await put('zoe', body), 400, 'bad_request', JSON.stringify(body))
  const plain = await instance.request('PUT', '/api/citizens/zoe', admin, 'x', { 'content-type': 'text/plain' })
  t.match(plain, { status: 415, json: { code: 'bad_request' } })
  refused(t, await remove('nobody'), 404, 'not_found')
  t.strictSame(await list(), before)
  t.strictSame(await database.query(`select from deck.audit where action like 'citizen.%'`), [])
  const widest = { title: '😀'.repeat(200), about: '😀'.repeat(2000), position: 2 ** 31 - 1 }
  t.match(await put('a'.padEnd(32, '-'), widest), { status: 201, json: widest }, 'lengths are in code points')
  refused(t, await put('zoe', { title: 'x' }), 409, 'conflict', 'no position is left')
  t.equal((await put('a'.padEnd(32, '-'), { title: 'x' })).json['position'], 6, 'its own position does not count')
})

void t.test('citizens: each change is in the audit, with the admin and the new values', async (t) => {
  const { put, remove, database } = await open(t)
  await put('zoe', { title: 'Research', about: 'Books' })
  await put('zoe', { title: 'Reading', position: 1 })
  await remove('zoe')
  t.strictSame(await database.query(`select action, actor, mission_id, detail from deck.audit order by id`), [
    {
      action: 'citizen.put',
      actor: 'root',
      mission_id: null,
      detail: { name: 'zoe', title: 'Research', about: 'Books', position: 6 },
    },
    {
      action: 'citizen.put',
      actor: 'root',
      mission_id: null,
      detail: { name: 'zoe', title: 'Reading', about: null, position: 1 },
    },
    { action: 'citizen.delete', actor: 'root', mission_id: null, detail: { name: 'zoe' } },
  ])
})

void t.test('citizens: the registry has limits, also under concurrent puts, and its answer has 4 MiB', async (t) => {
  const { database, instance, put, list } = await open(t)
  t.match((await instance.request('GET', '/api/limits', alice)).json, { citizens: 1000, citizens_bytes: 2 ** 20 })
  await database.query(
    `insert into deck.citizens (name, title, position) select 'c' || n, 'x', 10 + n from generate_series(1, 993) n`,
  )
  const puts = await Promise.all([1, 2, 3, 4, 5].map((n) => put(`new${n}`, { title: 'x' })))
  t.strictSame(puts.map(({ status }) => status).sort(), [201, 201, 409, 409, 409])
  const made = puts.filter(({ status }) => status === 201).map(({ json }) => json['position'])
  t.strictSame(made.sort(), [1004, 1005], 'no two are last')
  t.equal((await list()).length, 1000)
  t.equal((await put('c1', { title: 'y' })).status, 200, 'a full registry can be changed')
  await database.query(`update deck.citizens set about = repeat('x', 1053) where name like 'c%'`)
  t.equal((await put('emma', { title: 'x' })).status, 200)
  refused(t, await put('emma', { title: 'x', about: 'y'.repeat(2000) }), 409, 'conflict', '1 MiB of text')
  await database.query(`update deck.citizens set about = repeat(chr(1), 2000)`)
  const answer = await instance.request('GET', '/api/citizens', alice)
  t.ok(Buffer.byteLength(answer.text) <= 4 * 1024 * 1024, 'by SQL too')
  t.ok((answer.json['citizens'] as Json[]).length > 300)
})

void t.test('citizens: are listening by use on any instance, until 60 s after the last sign of it', async (t) => {
  const { database, instance, list } = await open(t)
  const other = await startInstance(t, database.url)
  const shown = async (): Promise<Json[]> => {
    const [one, two] = [await list(alice), await list(alice, other)]
    t.strictSame(one, two, 'the same on both instances')
    return one.filter(({ name }) => name === 'rafael')
  }
  const seen = (ago: string) =>
    database.query(`update deck.inboxes set seen = clock_timestamp() - $1::interval where citizen = 'rafael'`, [ago])
  await database.query(`insert into deck.inboxes (citizen) values ('rafael'), ('unregistered')`)
  t.match(await shown(), [{ listening: false, last_seen: null }], 'an inbox without a sign of use')
  await seen('55 seconds')
  t.match(await shown(), [{ listening: true, last_seen: time }])
  await seen('61 seconds')
  const [late] = await shown()
  t.match(late, { listening: false, last_seen: time }, 'still says when it was')
  const ago = Date.now() - Date.parse(String(late?.['last_seen']))
  t.ok(ago > 60_000 && ago < 120_000, `last_seen is right: ${ago} ms ago`)
  // A lease that is held counts; one that has run out, or whose task has ended, does not.
  const { id } = await makeMission(instance)
  await database.query(
    `insert into deck.tasks (id, citizen, mission_id, seq, at, attempt, lease_until)
     values (gen_random_uuid(), 'rafael', $1, 1, now(), 1, clock_timestamp() + interval '1 hour')`,
    [id],
  )
  t.match(await shown(), [{ listening: true }])
  await database.query(`update deck.tasks set ended = now(), lease_until = null`)
  t.match(await shown(), [{ listening: false }])
  await database.query(`update deck.tasks set ended = null, lease_until = clock_timestamp()`)
  t.match(await shown(), [{ listening: false }])
  t.match(await list(), { length: 5 }, 'an inbox registers nobody')
})
