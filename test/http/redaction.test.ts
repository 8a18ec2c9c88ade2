// What was said in error: messages and run logs are taken back on two instances, and their words are found nowhere.
import { randomUUID } from 'node:crypto'
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
  type Answer,
  type Client,
  type Instance,
  type Json,
} from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)

const secret = 'hunter2zebra'
const begin = async () => {
  const { id, number } = await makeMission(one)
  const path = `/api/missions/${id}`
  const say = async (message: string, bearer = alice, more: Json = {}, citizen = 'rafael'): Promise<Json> => {
    const { status, json, text } = await one.request('POST', `${path}/chat/${citizen}`, bearer, { message, ...more })
    if (status !== 201) throw new Error(text)
    return json
  }
  const redact = (message: unknown, bearer: string, body?: unknown, on: Instance = two): Promise<Answer> =>
    on.request('POST', `${path}/chat/rafael/messages/${String(message)}/redact`, bearer, body)
  const history = async (): Promise<Json[]> =>
    (await two.request('GET', `${path}/chat/rafael?limit=500`, alice)).json['messages'] as Json[]
  return { id, number, path, topic: `missions/${id}/chat/rafael`, say, redact, history }
}
const ofEvent = (client: Client, topic: string, event: string): Json[] =>
  client.events(topic).flatMap((one) => (one.event === event ? [{ seq: one.seq, ...one.data, at_seq: one.seq }] : []))

void t.test(
  'redaction: a message stays without its words; followers and readers see who took it back, and when',
  async (t) => {
    const { topic, say, redact, history, path } = await begin()
    const viewer = await one.connect(alice)
    t.match(await viewer.ask({ type: 'subscribe', topic, after: 0 }), { type: 'ok' })
    await say('before')
    const said = await say(`my password is ${secret}`, alice, {
      code_blocks: [{ language: 'sh', code: secret }],
      key: 'k1',
    })
    await say('after')
    const redacted = await redact(said['id'], alice, { reason: 'a password' })
    t.equal(redacted.status, 200)
    const { redacted: mark, ...rest } = redacted.json
    t.strictSame(rest, { ...said, message: '', code_blocks: null })
    isForm(t, mark, { by: 'alice', at: time }, 'who redacted it')
    await until(() => ofEvent(viewer, topic, 'message.redacted').length === 1, 'the event')
    const event = viewer.events(topic).find((one) => one.event === 'message.redacted')
    t.equal(event?.seq, 4)
    isForm(t, event?.data, { id: said['id'], seq: 2, by: 'alice', at: time, reason: 'a password' }, 'the event')
    t.strictSame(
      (await history()).map(({ message, seq }) => [seq, message]),
      [
        [1, 'before'],
        [2, ''],
        [3, 'after'],
      ],
    )
    const late = await two.connect(alice)
    t.match(await late.ask({ type: 'subscribe', topic, after: 0 }), { type: 'ok' })
    await until(() => late.events(topic).length === 4, 'the whole chat')
    t.strictSame(
      late.events(topic).map(({ event, seq }) => [seq, event]),
      [
        [1, 'message.created'],
        [2, 'message.created'],
        [3, 'message.created'],
        [4, 'message.redacted'],
      ],
    )
    t.match(late.events(topic)[1]?.data, { message: '', redacted: { by: 'alice' } })
    t.notOk(JSON.stringify(late.frames).includes(secret))

    // Again: the same answer, and no second event.
    const again = await redact(said['id'], admin, undefined, one)
    t.equal(again.status, 200)
    t.strictSame(again.json, redacted.json)
    // A key used again answers with the redacted row.
    const repeated = await two.request('POST', `${path}/chat/rafael`, alice, { message: 'another text', key: 'k1' })
    t.equal(repeated.status, 200)
    t.strictSame(repeated.json, redacted.json)
    await say('later')
    await until(() => viewer.events(topic).length === 5, 'the later message')
    t.equal(ofEvent(viewer, topic, 'message.redacted').length, 1)
    t.strictSame(
      await database.query(`select actor, detail from deck.audit where action = 'message.redact' and actor = 'alice'`),
      [{ actor: 'alice', detail: { citizen: 'rafael', id: said['id'], seq: 2, reason: 'a password' } }],
    )
  },
)

void t.test('redaction: the words are found in no table, no answer, no search, no past and no export', async (t) => {
  const { id, path, say, redact, topic } = await begin()
  // Enough for complete search blocks and parts of one.
  for (let n = 0; n < 3; n++)
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, author, message)
       select $1, 'rafael', 'user', 'alice', 'message ' || n || ' and so on' from generate_series(1, 300) n`,
      [id],
    )
  const early = (await one.request('GET', `${path}/chat/rafael?after=99&limit=1`, alice)).json['messages'] as Json[]
  await database.query('update chat_messages set message = $2 where id = $1', [early[0]?.['id'], `early ${secret}`])
  const last = await say(`the last one: ${secret}`)
  const asked = await say('what is it?')
  const answer = await say(`it is ${secret}`, rafael, { reply_to: asked['id'] })
  const found = async (): Promise<unknown[]> =>
    (await one.request('GET', `${path}/search?q=${secret}`, alice)).json['hits'] as unknown[]
  await database.query('select deck.search_index($1, $2, 10)', [id, 'rafael'])
  await database.query('select deck.search_slice($1, $2, 50)', [id, 'rafael'])
  t.equal((await found()).length, 3)
  const before = new Date().toISOString()
  for (const message of [early[0], last, answer]) t.equal((await redact(message?.['id'], admin)).status, 200)
  t.strictSame(await found(), [])
  t.equal((await one.request('GET', `${path}/chat/rafael?q=${secret}`, alice)).json['messages'] instanceof Array, true)
  for (const url of [
    `${path}/chat`,
    `${path}/chat/rafael?after=0&limit=500`,
    `${path}/chat/rafael?before=2000&limit=500`,
    `${path}/chat/rafael?limit=500&q=${secret}`,
    `${path}/timeline?limit=500&order=desc`,
    `${path}/timeline?limit=500`,
    `${path}/chat/rafael/messages/${String(last['id'])}`,
    `${path}/chat/rafael?limit=500&at=${before}`,
    `/api/missions?chats=true`,
  ])
    t.notOk((await two.request('GET', url, admin)).text.replace(`q=${secret}`, '').includes(secret), url)
  const tables = await database.query(
    `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'r' and n.nspname in ('public', 'deck')`,
  )
  for (const { name } of tables) {
    const rows = await database.query(`select x::text as row from ${String(name)} x where x::text like '%${secret}%'`)
    t.strictSame(rows, [], String(name))
  }
  const fresh = await two.connect(alice)
  await fresh.ask({ type: 'subscribe', topic, after: 890 })
  await until(() => fresh.events(topic).some(({ event }) => event === 'message.redacted'), 'the events')
  t.notOk(JSON.stringify(fresh.frames).includes(secret))
})

void t.test(
  'redaction: an author, a user for replies to its own questions, and an admin may; others are refused',
  async (t) => {
    const { id, number, say, redact, history } = await begin()
    const carol = await token({ sub: 'carol', role: 'user', missions: [id] })
    const sofia = await token({ sub: 'sofia', role: 'citizen' })
    const namesake = await token({ sub: 'rafael', role: 'user', missions: [number] })
    const own = await say('by alice')
    const asked = await say('a question')
    const reply = await say('a reply', rafael, { reply_to: asked['id'] })
    const loose = await say('not a reply', rafael)
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'by SQL')`,
      [id],
    )
    const bySql = (await history()).find(({ message }) => message === 'by SQL')
    const before = JSON.stringify(await history())
    for (const [message, bearers] of [
      [own, [carol, rafael, sofia, namesake]],
      [reply, [carol, sofia, namesake]],
      [loose, [alice, carol, sofia, namesake]],
      [bySql, [alice, carol, rafael]],
    ] as const)
      for (const bearer of bearers) refused(t, await redact(message?.['id'], bearer), 403, 'forbidden')
    refused(t, await redact(own['id'], bob), 404, 'not_found')
    refused(t, await redact(own['id'], ''), 401, 'unauthorized')
    refused(t, await redact(randomUUID(), admin), 404, 'not_found')
    refused(t, await redact('x', admin), 400, 'bad_request')
    for (const reason of ['', 'x'.repeat(1001), 1])
      refused(t, await redact(own['id'], alice, { reason }), 400, 'bad_request')
    const elsewhere = await begin()
    refused(t, await elsewhere.redact(own['id'], admin), 404, 'not_found')
    t.equal(JSON.stringify(await history()), before, 'nothing has changed')
    for (const [message, bearer] of [
      [own, alice],
      [reply, alice],
      [loose, rafael],
      [bySql, admin],
    ] as const)
      t.equal((await redact(message?.['id'], bearer)).status, 200)
  },
)

void t.test('redaction: a waiting question is closed, and a worker never gets it', async (t) => {
  const { id, path } = await begin()
  const citizen = 'quiet'
  const asked = await one.request('POST', `${path}/chat/${citizen}`, alice, { message: secret })
  const url = `${path}/chat/${citizen}/messages/${String(asked.json['id'])}/redact`
  t.equal((await two.request('POST', url, alice)).status, 200)
  const { json } = await one.request('GET', `${path}/chat/${citizen}/questions`, alice)
  t.match(json['questions'], [{ id: asked.json['id'], state: 'closed' }])
  const worker = await one.connect(await token({ sub: citizen, role: 'citizen' }))
  t.match(await worker.ask({ type: 'work', credit: 1 }), { type: 'ok' })
  const next = await one.request('POST', `${path}/chat/${citizen}`, alice, { message: 'fine' })
  const task = await worker.frame(({ type }) => type === 'task', 'a task')
  t.equal(task['task'], next.json['id'])
  t.ok(uuid.test(id))
})

void t.test('redaction in SQL: deck.redact is for the owner, and does the same', async (t) => {
  const { say, history, topic } = await begin()
  const viewer = await two.connect(alice)
  await viewer.ask({ type: 'subscribe', topic })
  const said = await say(secret)
  t.strictSame(await database.query('select deck.redact($1, $2) as done', [said['id'], 'by an operator']), [
    { done: true },
  ])
  t.strictSame(await database.query('select deck.redact($1) as done', [said['id']]), [{ done: false }])
  await until(() => ofEvent(viewer, topic, 'message.redacted').length === 1, 'the event')
  t.match(await history(), [{ message: '', redacted: {} }])
  await t.rejects(database.query('select deck.redact($1)', [randomUUID()]), /no such message/)
  await t.rejects(database.query('select deck.redact($1, $2)', [said['id'], '']), /reason/)
  const allowed = await database.query(
    `select has_function_privilege('pg_read_all_data', 'deck.redact(uuid, text)', 'execute') as others`,
  )
  t.strictSame(allowed, [{ others: false }])
})

void t.test("redaction: a run's log is emptied for readers, followers, the past and SQL", async (t) => {
  const { id, path } = await begin()
  const { json: run } = await one.request('POST', `${path}/tests`, rafael, { logs: `start ${secret}\n` })
  const logs = `${path}/tests/${String(run['id'])}/logs`
  const topic = `missions/${id}/tests/${String(run['id'])}/logs`
  for (let n = 0; n < 5; n++)
    t.equal(
      (await one.request('POST', logs, rafael, `line ${n} ${secret}\n`, { 'content-type': 'text/plain' })).status,
      200,
    )
  const viewer = await two.connect(alice)
  await viewer.ask({ type: 'subscribe', topic, after: 0 })
  await until(() => viewer.events(topic).length === 6, 'the log')
  for (const bearer of [alice, rafael])
    refused(t, await two.request('POST', `${logs}/redact`, bearer), 403, 'forbidden')
  const done = await two.request('POST', `${logs}/redact`, admin, { reason: 'a key' })
  t.match(done, { status: 200, json: { id: run['id'] } })
  await until(() => viewer.events(topic).length === 7, 'the event')
  t.match(viewer.events(topic)[6], {
    event: 'log.replaced',
    data: { chunk: '', redacted: { by: 'root', reason: 'a key' } },
  })
  t.equal((await one.request('GET', logs, alice)).text, '')
  t.equal((await two.request('POST', `${logs}/redact`, admin)).status, 200)
  t.equal((await one.request('POST', logs, rafael, 'it goes on\n', { 'content-type': 'text/plain' })).status, 200)
  await until(() => viewer.events(topic).length === 8, 'one event more')
  t.equal((await one.request('GET', logs, alice)).text, 'it goes on\n')
  const late = await one.connect(alice)
  await late.ask({ type: 'subscribe', topic, after: 0 })
  await until(() => late.events(topic).length === 2, 'the rest of the log')
  t.notOk(JSON.stringify(late.frames).includes(secret))
  t.strictSame(
    await database.query('select logs from test_runs where id = $1 and logs like $2', [run['id'], `%${secret}%`]),
    [],
  )
  t.strictSame(await database.query('select from deck.events where data::text like $1', [`%${secret}%`]), [])
  refused(t, await two.request('POST', `${path}/tests/${randomUUID()}/logs/redact`, admin), 404, 'not_found')
})
