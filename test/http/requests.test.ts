// Requests to people over HTTP, SQL and the socket, on two instances: made, answered once, withdrawn, expired, waited for.
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import t from 'tap'
import { isForm, refused, time, uuid } from '../support/forms.ts'
import {
  admin,
  alice,
  bob,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  token,
  until,
  type Json,
} from '../support/server.ts'

const { database, instance } = await startDeck(t)
const other = await startInstance(t, database.url)
const { request } = instance
const sofia = await token({ sub: 'sofia', role: 'citizen' })

const form = (more: Json): Json => ({
  id: uuid,
  mission_id: uuid,
  citizen: 'rafael',
  kind: 'approve',
  title: 'Deploy?',
  body: null,
  options: null,
  task: null,
  expires_at: time,
  state: 'open',
  answer: null,
  answered_by: null,
  answered_at: null,
  created_at: time,
  seq: 1,
  ...more,
})
const begin = async () => {
  const { id } = await makeMission(instance)
  const path = `/api/missions/${id}/requests`
  const make = async (more: Json = {}): Promise<string> => {
    const made = await request('POST', path, rafael, { kind: 'approve', title: 'Deploy?', ...more })
    if (made.status !== 201) throw new Error(made.text)
    return String(made.json['id'])
  }
  return { id, path, topic: `missions/${id}/requests`, make }
}

void t.test('requests: are made by citizens, listed, and answered by people', async (t) => {
  const { id, path, topic } = await begin()
  const client = await other.connect(alice)
  await client.ask({ type: 'subscribe', topic, after: 0 })
  const made = await request('POST', path, rafael, { kind: 'approve', title: 'Deploy?' })
  t.equal(made.status, 201)
  isForm(t, made.json, form({ mission_id: id }), 'Request')
  const span = Date.parse(String(made.json['expires_at'])) - Date.parse(String(made.json['created_at']))
  t.equal(Math.round(span / 1000), 86_400, 'a day if expires_in is left out')
  const one = `${path}/${made.json['id']}`
  t.strictSame((await other.request('GET', one, alice)).json, made.json)
  t.strictSame((await other.request('GET', path, alice)).json, { requests: [made.json], next: null })

  const answered = await other.request('POST', `${one}/answer`, alice, { answer: false })
  t.equal(answered.status, 200)
  const after = { mission_id: id, state: 'answered', answer: false, answered_by: 'alice', answered_at: time, seq: 2 }
  isForm(t, answered.json, form(after), 'answered')
  refused(t, await request('POST', `${one}/answer`, admin, { answer: true }), 409, 'conflict', 'a second answer')
  refused(t, await request('POST', `${one}/withdraw`, rafael), 409, 'conflict', 'a withdrawal after the answer')
  t.strictSame((await request('GET', one, rafael)).json, answered.json)
  await until(() => client.events(topic).length === 2, 'both events')
  t.strictSame(
    client.events(topic).map(({ seq, event, data }) => ({ seq, event, data })),
    [
      { seq: 1, event: 'request.created', data: made.json },
      { seq: 2, event: 'request.answered', data: answered.json },
    ],
  )
})

void t.test('requests: each kind takes its own answers', async (t) => {
  const { path, make } = await begin()
  const answers: [Json, unknown[], unknown[]][] = [
    [{ kind: 'approve' }, [true], ['yes', '', 1, null]],
    [{ kind: 'choose', options: ['red', 'blue ☕'] }, ['blue ☕'], [true, 'green', '', null]],
    [{ kind: 'text' }, ['as you like'], [true, '', 'x'.repeat(10_001), 1, null]],
  ]
  for (const [more, good, bad] of answers) {
    const one = `${path}/${await make(more)}`
    for (const answer of bad)
      refused(t, await request('POST', `${one}/answer`, alice, { answer }), 400, 'bad_request', JSON.stringify(answer))
    t.equal((await request('GET', one, alice)).json['state'], 'open')
    for (const answer of good)
      t.match((await request('POST', `${one}/answer`, alice, { answer })).json, { state: 'answered', answer })
  }
})

void t.test('requests: bad input is refused and changes nothing', async (t) => {
  const { path } = await begin()
  const bad: Json[] = [
    {},
    { kind: 'vote' },
    { title: '' },
    { title: 'x'.repeat(201) },
    { body: '' },
    { body: 'x'.repeat(10_001) },
    { options: ['a'] },
    { kind: 'choose' },
    { kind: 'choose', options: [] },
    { kind: 'choose', options: ['a', 'a'] },
    { kind: 'choose', options: ['a', ''] },
    { kind: 'choose', options: [1] },
    { kind: 'choose', options: Array.from({ length: 51 }, (_, i) => `${i}`) },
    { expires_in: 0 },
    { expires_in: 2_592_001 },
    { expires_in: 1.5 },
    { expires_in: '60' },
    { task: 'x' },
    { citizen: 'Rafael' },
  ]
  for (const [i, more] of bad.entries()) {
    const body = i === 0 ? {} : { kind: 'approve', title: 'Deploy?', ...more }
    refused(
      t,
      await request('POST', path, admin, { citizen: 'rafael', ...body }),
      400,
      'bad_request',
      JSON.stringify(body),
    )
  }
  refused(t, await request('POST', path, admin, { kind: 'text', title: 'Name?' }), 400, 'bad_request', 'no citizen')
  for (const query of ['state=done', 'limit=0', 'limit=501', 'cursor=x'])
    refused(t, await request('GET', `${path}?${query}`, alice), 400, 'bad_request', query)
  for (const wait of ['51', '-1', 'x', '1.5'])
    refused(t, await request('GET', `${path}/${randomUUID()}?wait=${wait}`, alice), 400, 'bad_request', `wait=${wait}`)
  t.strictSame((await request('GET', path, alice)).json, { requests: [], next: null })
})

void t.test('requests: rights follow the role, the citizen and the mission', async (t) => {
  const { path, make } = await begin()
  const one = `${path}/${await make()}`
  const body = { kind: 'approve', title: 'Deploy?' }
  refused(t, await request('POST', path, alice, body), 403, 'forbidden', 'a user makes none')
  refused(t, await request('POST', path, sofia, { ...body, citizen: 'rafael' }), 403, 'forbidden', "in another's name")
  refused(
    t,
    await request('POST', `${one}/answer`, rafael, { answer: true }),
    403,
    'forbidden',
    'a citizen answers none',
  )
  refused(t, await request('POST', `${one}/withdraw`, sofia), 403, 'forbidden', 'the request of another citizen')
  refused(t, await request('POST', `${one}/withdraw`, alice), 403, 'forbidden', 'a user withdraws none')
  for (const [method, route, sent] of [
    ['GET', path],
    ['GET', one],
    ['GET', `${one}?wait=1`],
    ['POST', path, body],
    ['POST', `${one}/answer`, { answer: true }],
    ['POST', `${one}/withdraw`],
  ] as const)
    refused(t, await request(method, route, bob, sent), 404, 'not_found', `${method} ${route} of a hidden mission`)
  const elsewhere = (await begin()).path
  for (const unknown of [`${path}/${randomUUID()}`, `${elsewhere}/${one.slice(-36)}`]) {
    refused(t, await request('GET', unknown, alice), 404, 'not_found')
    refused(t, await request('POST', `${unknown}/answer`, alice, { answer: true }), 404, 'not_found')
    refused(t, await request('POST', `${unknown}/withdraw`, admin), 404, 'not_found')
  }
  const withdrawn = await request('POST', `${one}/withdraw`, rafael)
  t.match([withdrawn.status, withdrawn.json], [200, { state: 'withdrawn', answer: null, answered_by: null, seq: 2 }])
  refused(t, await request('POST', `${one}/answer`, alice, { answer: true }), 409, 'conflict', 'after its withdrawal')
})

void t.test('requests: the first of two simultaneous answers on two instances counts', async (t) => {
  const { path, make } = await begin()
  for (let round = 0; round < 25; round++) {
    const one = `${path}/${await make()}`
    const answers = await Promise.all(
      [instance, other].map((door, i) => door.request('POST', `${one}/answer`, alice, { answer: i === 0 })),
    )
    t.strictSame(answers.map(({ status }) => status).sort(), [200, 409])
    const won = answers.findIndex(({ status }) => status === 200)
    t.equal((await request('GET', one, alice)).json['answer'], won === 0)
  }
})

void t.test('requests: a wait ends with the answer on another instance, an expiry, or its time', async (t) => {
  const { path, make } = await begin()
  const one = `${path}/${await make()}`
  const waiting = request('GET', `${one}?wait=50`, rafael)
  const neighbour = await make()
  await other.request('POST', `${path}/${neighbour}/answer`, alice, { answer: true })
  t.equal((await other.request('POST', `${one}/answer`, alice, { answer: true })).status, 200)
  t.match((await waiting).json, { state: 'answered', answer: true })
  const short = `${path}/${await make({ expires_in: 1 })}`
  t.match((await request('GET', `${short}?wait=50`, alice)).json, { state: 'expired', answer: null })
  const open = `${path}/${await make()}`
  t.match((await request('GET', `${open}?wait=1`, alice)).json, { state: 'open' }, 'the time of the wait is over')
})

void t.test('requests: 200 waits hold no connection of the pool', async (t) => {
  const { path, make } = await begin()
  const one = `${path}/${await make()}`
  const waits = Array.from({ length: 200 }, () => request('GET', `${one}?wait=50`, alice))
  const answered = other.request('GET', one, alice)
  t.equal((await answered).status, 200)
  await until(async () => {
    const rows = await database.query(
      `select count(*)::integer as busy from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle' and application_name like 'mission-deck%'`,
    )
    return rows[0]?.busy === 0
  }, 'no busy connection')
  await other.request('POST', `${one}/answer`, alice, { answer: true })
  for (const { json } of await Promise.all(waits)) t.equal(json['state'], 'answered')
})

void t.test('requests: pages by state, newest first', async (t) => {
  const { path, make } = await begin()
  const made: string[] = []
  for (let n = 0; n < 5; n++) made.unshift(await make({ title: `${n}` }))
  await request('POST', `${path}/${made[1]}/withdraw`, rafael)
  const read = async (query: string): Promise<{ ids: unknown[]; next: unknown }> => {
    const { requests, next } = (await request('GET', `${path}?${query}`, alice)).json as {
      requests: Json[]
      next: unknown
    }
    return { ids: requests.map((row) => row['id']), next }
  }
  const first = await read('limit=2&state=open')
  t.strictSame(first.ids, [made[0], made[2]])
  const second = await read(`limit=2&state=open&cursor=${String(first.next)}`)
  t.strictSame([second.ids, second.next], [[made[3], made[4]], null])
  t.strictSame((await read('state=withdrawn')).ids, [made[1]])
})

void t.test('SQL: asks and answers by function, live and in the timeline', async (t) => {
  const { id, path, topic } = await begin()
  const client = await instance.connect(alice)
  await client.ask({ type: 'subscribe', topic, after: 0 })
  const rows = await database.query(
    `select deck.ask(mission => $1, citizen => 'sofia', kind => 'choose', title => 'Which?', options => '{a,b}') as id`,
    [id],
  )
  const one = String(rows[0]?.id)
  await t.rejects(database.query(`select deck.answer($1, '"c"')`, [one]), { code: '23514' })
  await t.rejects(database.query(`select deck.answer($1, '"a"')`, [randomUUID()]), { code: 'P0002' })
  await database.query(`select deck.answer($1, '"a"')`, [one])
  await t.rejects(database.query(`select deck.answer($1, '"b"')`, [one]), { code: 'DK004' })
  await t.rejects(database.query(`select deck.ask($1, 'sofia', 'choose', 'Which?')`, [id]), { code: '23514' })
  await t.rejects(database.query(`select deck.ask($1, 'sofia', 'vote', 'Which?')`, [id]), { code: '23514' })
  const login = new URL(database.url).username
  await until(() => client.events(topic).length === 2, 'both events')
  t.match(client.events(topic)[1]?.data, { id: one, state: 'answered', answer: 'a', answered_by: login, seq: 2 })
  await until(async () => {
    const { events: items } = (await request('GET', `/api/missions/${id}/timeline`, alice)).json as { events: Json[] }
    const events = items.map((item) => item['event'])
    return events.includes('request.created') && events.includes('request.answered')
  }, 'the timeline')
  t.equal((await request('GET', `${path}/${one}`, alice)).json['seq'], 2)
})

const superuser = new pg.Client({ connectionString: database.adminUrl })
await superuser.connect()
t.teardown(() => superuser.end())
const isSuperuser =
  (await superuser.query<{ on: string }>(`select current_setting('is_superuser') as on`)).rows[0]?.on === 'on'
void t.test(
  'SQL: a role needs only usage of the schema to ask and to answer',
  { skip: isSuperuser ? false : 'needs a superuser' },
  async (t) => {
    const { id, path } = await begin()
    const role = `deck_test_asker_${randomUUID().slice(0, 8)}`
    await superuser.query(`create role ${role}; grant usage on schema deck to ${role}; set role ${role}`)
    const { rows } = await superuser.query<{ id: string }>(
      `select deck.ask($1, 'rafael', 'text', 'Name?', null, null, null, 60) as id`,
      [id],
    )
    const one = String(rows[0]?.id)
    await superuser.query(`select deck.answer($1, '"deck"')`, [one])
    await t.rejects(superuser.query('select from deck.requests'), { code: '42501' })
    await superuser.query(`reset role; drop owned by ${role}; drop role ${role}`)
    t.match((await request('GET', `${path}/${one}`, alice)).json, { state: 'answered', answer: 'deck' })
  },
)

void t.test('requests: the state at a past time', async (t) => {
  const { id, path, make } = await begin()
  const one = await make()
  const before = (await request('GET', `${path}/${one}`, alice)).json
  const rows = await database.query(`select deck.iso(at) as at from deck.events where topic = $1`, [
    `missions/${id}/requests`,
  ])
  const at = String(rows[0]?.['at'])
  await request('POST', `${path}/${one}/answer`, alice, { answer: true })
  await make()
  t.strictSame((await request('GET', `${path}?at=${at}`, alice)).json, { requests: [before], next: null })
  t.strictSame((await request('GET', `${path}?at=${at}&state=answered`, alice)).json, { requests: [], next: null })
  t.strictSame((await request('GET', `${path}/${one}?at=${at}`, alice)).json, before)
  refused(t, await request('GET', `${path}/${one}?at=${at}&wait=1`, alice), 400, 'bad_request')
})

void t.test('requests: expire while no instance is up', async (t) => {
  const { id } = await begin()
  const lonely = await startDeck(t)
  const mission = await makeMission(lonely.instance)
  await lonely.instance.close()
  await lonely.database.query(`select deck.ask($1, 'rafael', 'approve', 'Deploy?', expires_in => 1)`, [mission.id])
  await until(async () => {
    const rows = await lonely.database.query(`select expires_at < now() at time zone 'utc' as due from deck.requests`)
    return rows[0]?.due === true
  }, 'its time')
  const again = await startInstance(t, lonely.database.url)
  const path = `/api/missions/${mission.id}/requests?state=expired`
  await until(
    async () => ((await again.request('GET', path, alice)).json['requests'] as Json[]).length === 1,
    'the expiry',
  )
  t.ok(id)
})

void t.test('requests: a read that waits does not hold up other reads of its subject', async (t) => {
  const { path } = await begin()
  const made = await Promise.all(['one', 'two'].map((title) => request('POST', path, rafael, { kind: 'text', title })))
  const [one = '', two = ''] = made.map(({ json }) => `${path}/${String(json['id'])}`)
  let over = 0
  const waiting = [one, two].map((request) =>
    instance.request('GET', `${request}?wait=50`, rafael).then(({ json }) => {
      over++
      return json['answer']
    }),
  )
  await until(async () => (await request('GET', path, rafael)).status === 200, 'the list')
  t.equal(over, 0, 'both still wait')
  for (const [url, answer] of [
    [two, 'b'],
    [one, 'a'],
  ])
    t.equal((await request('POST', `${url}/answer`, alice, { answer })).status, 200)
  t.strictSame(await Promise.all(waiting), ['a', 'b'])
})
