// Delivery on one instance. A follower receives every event after its seq, once and in order, with the row at that seq.
// A client that unsubscribes or loses its access receives nothing more. two-instances.test.ts covers two instances.
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { makeHub } from '../../src/live/hub/hub.ts'
import type { Receiver } from '../../src/live/hub/subscription.ts'
import type { Page } from '../../src/protocol/rows.ts'
import {
  admin,
  alice,
  bob,
  makeMission,
  rafael,
  startDeck,
  token,
  textsOf,
  until,
  type Client,
  type Json,
} from '../support/server.ts'

const { instance, database } = await startDeck(t)

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const seqs = (client: Client, topic: string) => client.events(topic).map(({ seq }) => seq)
const post = async (topic: string, message = 'hi', bearer = admin): Promise<Json> => {
  const { status, json, text } = await instance.request('POST', `/api/${topic}`, bearer, { message })
  if (status !== 201) throw new Error(text)
  return json
}
const say = (mission: string, messages: string[], citizen = 'rafael') =>
  database.query(
    'insert into chat_messages (mission_id, citizen, sender, message) select $1, $2, $3, unnest($4::text[])',
    [mission, citizen, 'user', messages],
  )
const follow = async (t: Test, bearer: string, topic: string, more: Json = {}): Promise<Client> => {
  const client = await instance.connect(bearer)
  const answer = await client.ask({ type: 'subscribe', topic, ...more })
  t.match(answer, { type: 'ok' })
  return client
}
const ended = (client: Client, topic: string) =>
  client.frame(
    (f) => f['type'] === 'error' && f['topic'] === topic && f['code'] === 'not_found',
    `not_found for ${topic}`,
  )
/** Sends a message and waits for its event: then a follower of `topic` has received everything that committed before. */
const flush = async (client: Client, topic: string): Promise<void> => {
  const { seq } = await post(topic, 'flush')
  await until(() => seqs(client, topic).at(-1) === seq, `seq ${String(seq)}`)
}

await t.test('subscribe: the ok names the topic with the UUID, its latest seq and the epoch', async (t) => {
  const { id, number } = await makeMission(instance)
  const { json: run } = await instance.request('POST', `/api/missions/${id}/tests`, rafael, { logs: 'one\n' })
  await post(`missions/${id}/chat/rafael`)
  const client = await instance.connect(alice)
  const { json: history } = await instance.request('GET', `/api/missions/${id}/chat/rafael`, alice)
  const kinds = {
    '': 0,
    '/chat/rafael': 1,
    '/chat/nobody': 0,
    '/dod': 0,
    '/tests': 1,
    [`/tests/${String(run['id'])}/logs`]: 1,
  }
  for (const [kind, seq] of Object.entries(kinds))
    for (const name of [id, id.toUpperCase(), number]) {
      const answer = await client.ask({ type: 'subscribe', topic: `missions/${name}${kind}` })
      t.strictSame(answer, {
        type: 'ok',
        id: answer['id'],
        topic: `missions/${id}${kind}`,
        seq,
        epoch: history['epoch'],
      })
    }
  const upper = String(run['id']).toUpperCase()
  t.match(await client.ask({ type: 'subscribe', topic: `missions/${number}/tests/${upper}/logs` }), { seq: 1 })
  for (const topic of [`missions/${id}/tests/${randomUUID()}/logs`, `missions/${randomUUID()}/tests/${upper}/logs`])
    t.match(await client.ask({ type: 'subscribe', topic }), { type: 'error', code: 'not_found' })
})

await t.test(
  'events: followers of each kind of topic receive changes by HTTP and by SQL, with the rows in their JSON form',
  async (t) => {
    const mission = await makeMission(instance)
    const { id } = mission
    const base = `missions/${id}`
    const sql = (text: string, ...values: unknown[]) => database.query(text, values)
    const http = async (method: string, path: string, body?: unknown, bearer = admin) => {
      const answer = await instance.request(method, `/api/${base}${path}`, bearer, body)
      if (answer.status >= 300) throw new Error(answer.text)
      return answer.json
    }
    const run = await http('POST', '/tests', { logs: 'one\n' }, rafael)
    const logs = `${base}/tests/${String(run['id'])}/logs`
    const client = await instance.connect(alice)
    for (const topic of [base, `${base}/chat/rafael`, `${base}/dod`, `${base}/tests`, logs])
      await client.ask({ type: 'subscribe', topic: topic.replace(id, String(mission.number)) })
    const last = (topic: string) => client.events(topic).at(-1)

    const message = await http('POST', '/chat/rafael', { message: 'by HTTP', key: 'k' })
    await say(id, ['by SQL: ```js\n1\n```', 'and\n~~~ts x\n2\n~~~'])
    await until(() => client.events(`${base}/chat/rafael`).length === 3, 'messages')
    const [first, second, third] = client.events(`${base}/chat/rafael`)
    t.strictSame(first, {
      type: 'event',
      topic: `${base}/chat/rafael`,
      seq: 1,
      event: 'message.created',
      data: message,
    })
    const { json: history } = await instance.request('GET', `/api/${base}/chat/rafael`, alice)
    t.strictSame(
      [first, second, third].map((e) => e?.data),
      history['messages'],
    )
    t.match(third?.data, { sender: 'user', author: null, key: null, code_blocks: [{ language: 'ts', code: '2\n' }] })

    const item = await http('POST', '/dod', { text: 'By HTTP', category: 'tests' })
    await until(() => last(`${base}/dod`)?.seq === 1, 'an item')
    t.match(last(`${base}/dod`), { event: 'dod_item.created', data: item })
    await http('PATCH', `/dod/${String(item['id'])}`, { completed: true })
    await sql(
      `insert into dod_items (mission_id, text, category) values ($1, 'a', 'tests'), ($1, 'b', 'functional')`,
      id,
    )
    await sql('update dod_items set completed = not completed where mission_id = $1', id)
    await sql(`delete from dod_items where mission_id = $1 and text = 'a'`, id)
    await http('POST', '/dod/reset')
    await until(() => last(`${base}/dod`)?.seq === 9, 'the checklist')
    t.strictSame(
      client
        .events(`${base}/dod`)
        .map((e) => [e.seq, e.event.slice(9), e.data['text'], e.data['completed'], e.data['seq']]),
      [
        [1, 'created', 'By HTTP', false, 1],
        [2, 'updated', 'By HTTP', true, 2],
        [3, 'created', 'a', false, 3],
        [4, 'created', 'b', false, 4],
        [5, 'updated', 'By HTTP', false, 5],
        [6, 'updated', 'a', true, 6],
        [7, 'updated', 'b', true, 7],
        [8, 'deleted', 'a', true, 8],
        [9, 'updated', 'b', false, 9],
      ],
    )

    await http('PATCH', `/tests/${String(run['id'])}`, { status: 'failed', summary: { a: 1 } }, rafael)
    await sql(`update test_runs set status = 'passed', results = '[1]' where id = $1`, run['id'])
    await sql(`insert into test_runs (mission_id, status) values ($1, 'running')`, id)
    await until(() => last(`${base}/tests`)?.seq === 4, 'runs')
    t.match(client.events(`${base}/tests`), [
      { event: 'test_run.updated', data: { status: 'failed', summary: { a: 1 }, results: null, seq: 2 } },
      { event: 'test_run.updated', data: { status: 'passed', results: [1], seq: 3 } },
      { event: 'test_run.created', data: { status: 'running', seq: 4 } },
    ])
    t.notOk('logs' in (last(`${base}/tests`)?.data ?? {}))

    await instance.request('POST', `/api/${logs}`, rafael, 'two\n', { 'content-type': 'text/plain' })
    await sql(`update test_runs set logs = 'one\ntwo\nthree\n' where id = $1`, run['id'])
    await sql(`update test_runs set logs = 'anew\n' where id = $1`, run['id'])
    await until(() => last(logs)?.seq === 4, 'the log')
    t.match(
      client
        .events(logs)
        .map(({ event, data }) => [event, data['chunk']])
        .at(-1),
      ['log.replaced', 'anew\n'],
    )
    t.strictSame(last(logs)?.data, { run_id: run['id'], mission_id: id, chunk: 'anew\n', seq: 4 })
    t.equal(last(`${base}/tests`)?.seq, 4, 'a change of the log alone is not an event of the run')

    const changed = await http('PATCH', '', { title: 'By HTTP' })
    await sql(`update missions set status = 'qa' where id = $1`, id)
    await sql(`update missions set status = 'qa' where id = $1`, id)
    await until(() => last(base)?.seq === 2, 'the mission')
    t.strictSame(client.events(base)[0], {
      type: 'event',
      topic: base,
      seq: 1,
      event: 'mission.updated',
      data: changed,
    })
    t.match(last(base), { event: 'mission.updated', data: { status: 'qa', seq: 2 } })
  },
)

await t.test('resume: a client that was away receives exactly the events that it missed, then live ones', async (t) => {
  const { id, number } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  await say(id, range(1, 250).map(String))
  const clients = await Promise.all(
    [0, 1, 100, 199, 249, 250].map((after) => follow(t, alice, `missions/${number}/chat/rafael`, { after })),
  )
  await say(id, range(251, 260).map(String))
  await until(() => clients.every((client) => seqs(client, topic).at(-1) === 260), 'every client to reach the end')
  t.strictSame(
    clients.map((client) => seqs(client, topic)),
    [0, 1, 100, 199, 249, 250].map((after) => range(after + 1, 260)),
  )
  t.strictSame(
    clients[0]?.events(topic).map(({ data }) => data['message']),
    range(1, 260).map(String),
  )
})

await t.test('subscribe: joining at any seq while others write gives no gap and no duplicate', async (t) => {
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  await say(id, range(1, 150).map(String))
  let stop = false
  const sender = await instance.connect(alice)
  const writing = Promise.all([
    (async () => {
      while (!stop) await sender.ask({ type: 'send', topic, message: 'x' })
    })(),
    (async () => {
      while (!stop) await say(id, ['a', 'b', 'c'])
    })(),
  ])
  const readers: { client: Client; after: number }[] = []
  for (const n of range(0, 40)) {
    const client = await instance.connect(alice)
    const after = n % 4 === 0 ? undefined : n % 4 === 1 ? 0 : n * 3
    const { seq } = await client.ask({ type: 'subscribe', topic, ...(after === undefined ? {} : { after }) })
    readers.push({ client, after: after ?? Number(seq) })
  }
  stop = true
  await writing
  const { seq } = await post(topic, 'last')
  const end = Number(seq)
  await until(() => readers.every(({ client }) => seqs(client, topic).at(-1) === end), 'every client to reach the end')
  for (const { client, after } of readers) t.strictSame(seqs(client, topic), range(after + 1, end), `after ${after}`)
})

await t.test('resume: a cursor that does not match is conflict, with the latest seq and epoch', async (t) => {
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  await say(id, ['1', '2', '3'])
  const client = await instance.connect(alice)
  const { epoch } = await client.ask({ type: 'subscribe', topic, after: 3 })
  t.match(await client.ask({ type: 'subscribe', topic, after: 3, epoch }), { type: 'ok', seq: 3, epoch })
  const conflict = { type: 'error', code: 'conflict', seq: 3, epoch }
  t.match(await client.ask({ type: 'subscribe', topic, after: 4 }), conflict)
  t.match(await client.ask({ type: 'subscribe', topic, after: 0, epoch: 'another' }), conflict)
  t.match(await client.ask({ type: 'subscribe', topic, epoch: '' }), conflict)
  await flush(client, topic)
  t.strictSame(seqs(client, topic), [4], 'a refused subscribe does not replace the subscription')
})

await t.test('subscribe: a second subscribe replaces the subscription of the topic', async (t) => {
  const { id, number } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  await say(id, ['1', '2', '3'])
  const client = await follow(t, alice, topic, { after: 0 })
  await until(() => seqs(client, topic).length === 3, 'the first three')
  t.match(await client.ask({ type: 'subscribe', topic: `missions/${number}/chat/rafael`, after: 1 }), { topic, seq: 3 })
  await until(() => seqs(client, topic).length === 5, 'two of the events again')
  await client.ask({ type: 'subscribe', topic })
  await flush(client, topic)
  t.strictSame(seqs(client, topic), [1, 2, 3, 2, 3, 4])
})

await t.test('unsubscribe: no event of the topic arrives after its ok, by any name of the mission', async (t) => {
  const { id, number } = await makeMission(instance)
  const names = [id, id.toUpperCase(), String(number)]
  const witness = await follow(t, alice, `missions/${id}/chat/witness`)
  await say(id, range(1, 300).map(String))
  let stop = false
  const writing = (async () => {
    while (!stop) await say(id, ['x'])
  })()
  for (const [n, name] of names.entries())
    for (const after of [undefined, 0]) {
      const client = await instance.connect(alice)
      const topic = `missions/${names[(n + 1) % 3]}/chat/rafael`
      client.send({ type: 'subscribe', topic, ...(after === undefined ? {} : { after }) })
      await client.ask({ type: 'ping' })
      await client.frame(({ type }) => type === 'event', 'an event')
      const { id: asked } = await client.ask({ type: 'unsubscribe', topic: `missions/${name}/chat/rafael` })
      await post(`missions/${id}/chat/rafael`)
      await flush(witness, `missions/${id}/chat/witness`)
      await client.ask({ type: 'ping' })
      const at = client.frames.findIndex((f) => f['id'] === asked)
      t.strictSame(
        client.frames.slice(at + 1).filter(({ type }) => type !== 'ok'),
        [],
      )
    }
  stop = true
  await writing
  const client = await instance.connect(alice)
  t.match(await client.ask({ type: 'unsubscribe', topic: `missions/${id}/dod` }), { type: 'ok' }, 'not followed')
  const frames = range(1, 100).flatMap((n) => [
    client.ask({ type: n % 2 ? 'subscribe' : 'unsubscribe', topic: `missions/${names[n % 3]}/chat/rafael` }),
  ])
  await Promise.all(frames)
  const before = client.frames.length
  await post(`missions/${id}/chat/rafael`)
  await flush(witness, `missions/${id}/chat/witness`)
  t.equal(client.frames.length, before, 'pipelined: the last frame counts')
})

await t.test('send: messages of one socket to a topic get their seqs in the order sent', async (t) => {
  const { id, number } = await makeMission(instance)
  const client = await instance.connect(alice)
  const answers = await Promise.all(
    range(1, 600).map((n) =>
      client.ask({
        type: 'send',
        topic: `missions/${[id, number, id.toUpperCase()][n % 3]}/chat/${n % 7 ? 'rafael' : 'emma'}`,
        message: `${n}`,
        ...(n % 5 ? {} : { key: `${n}` }),
      }),
    ),
  )
  t.ok(answers.every(({ type }) => type === 'ok'))
  for (const citizen of ['rafael', 'emma']) {
    const reader = await follow(t, alice, `missions/${id}/chat/${citizen}`, { after: 0 })
    const sent = range(1, 600).filter((n) => (n % 7 ? 'rafael' : 'emma') === citizen)
    const topic = `missions/${id}/chat/${citizen}`
    await until(() => seqs(reader, topic).length === sent.length, citizen)
    t.strictSame(
      reader.events(topic).map(({ data }) => Number(data['message'])),
      sent,
    )
  }
})

await t.test('events: a rolled back transaction leaves no gap; an open one delays only its own rows', async (t) => {
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  const client = await follow(t, alice, topic)
  const open = await database.connect()
  const insert = 'insert into chat_messages (mission_id, sender, message) values ($1, $2, $3)'
  await open.query('begin')
  await open.query(insert, [id, 'user', 'undone'])
  await flush(client, topic)
  await open.query('rollback')
  await open.query('begin')
  await open.query(insert, [id, 'citizen', 'late'])
  await flush(client, topic)
  await open.query('commit')
  await until(() => seqs(client, topic).length === 3, 'the event of the late commit')
  t.strictSame(
    client.events(topic).map(({ seq, data }) => [seq, data['message']]),
    [
      [1, 'flush'],
      [2, 'flush'],
      [3, 'late'],
    ],
  )
})

await t.test('chat.cleared: followers receive it; a resume from an earlier seq begins with it', async (t) => {
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  await say(id, ['1', '2', '3'])
  const client = await follow(t, alice, topic, { after: 0 })
  t.equal((await instance.request('DELETE', `/api/${topic}`, admin)).status, 204)
  await post(topic, 'after it')
  await until(() => seqs(client, topic).at(-1) === 5, 'the message after')
  t.strictSame(seqs(client, topic), [1, 2, 3, 4, 5])
  t.strictSame(client.events(topic)[3], {
    type: 'event',
    topic,
    seq: 4,
    event: 'chat.cleared',
    data: { mission_id: id, citizen: 'rafael', by: 'root', seq: 4 },
  })
  for (const after of [0, 2, 3]) {
    const resumed = await follow(t, alice, topic, { after })
    await until(() => seqs(resumed, topic).at(-1) === 5, 'the end')
    t.strictSame(
      resumed.events(topic).map(({ seq, event }) => [seq, event]),
      [
        [4, 'chat.cleared'],
        [5, 'message.created'],
      ],
    )
  }
  await database.query('delete from chat_messages where mission_id = $1', [id])
  const resumed = await follow(t, alice, topic, { after: 0 })
  await flush(resumed, topic)
  t.strictSame(seqs(resumed, topic), [4, 6], 'rows that SQL deleted are skipped')
})

await t.test('mission.deleted: followers receive it, then not_found for every topic under the mission', async (t) => {
  for (const how of ['HTTP', 'SQL']) {
    const { id, number } = await makeMission(instance)
    await say(id, ['1'])
    const under = ['/chat/rafael', '/dod', '/tests'].map((kind) => `missions/${id}${kind}`)
    const client = await follow(t, alice, `missions/${id}`)
    const other = await instance.connect(alice)
    for (const topic of under) {
      await client.ask({ type: 'subscribe', topic })
      await other.ask({ type: 'subscribe', topic })
    }
    if (how === 'HTTP') await instance.request('DELETE', `/api/missions/${number}`, admin)
    else await database.query('delete from missions where id = $1', [id])
    for (const topic of under) {
      await ended(client, topic)
      await ended(other, topic)
    }
    const received = client.frames.filter((f) => f['type'] === 'event' || f['type'] === 'error')
    t.match(received[0], {
      type: 'event',
      topic: `missions/${id}`,
      seq: 1,
      event: 'mission.deleted',
      data: { id, number },
    })
    t.equal(received.filter(({ type }) => type === 'event').length, 1, 'no event of its rows')
    t.match(await client.ask({ type: 'subscribe', topic: `missions/${id}` }), { type: 'error', code: 'not_found' })
    t.match(await client.ask({ type: 'unsubscribe', topic: under[0] }), { type: 'ok' })
  }
})

await t.test('access: rows committed after access was lost are not delivered; the subscription ends', async (t) => {
  for (const how of ['HTTP', 'SQL', 'with a message']) {
    const { id, number } = await makeMission(instance)
    const topics = ['', '/chat/rafael', '/dod'].map((kind) => `missions/${id}${kind}`)
    const claimed = await token({ sub: 'alice', role: 'user', missions: [number] })
    const [loses, keeps, gains] = await Promise.all([alice, claimed, bob].map((bearer) => instance.connect(bearer)))
    if (!loses || !keeps || !gains) return
    for (const topic of topics)
      for (const client of [loses, keeps]) t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
    t.match(await gains.ask({ type: 'subscribe', topic: topics[0] }), { type: 'error', code: 'not_found' })
    if (how === 'HTTP') await instance.request('PATCH', `/api/missions/${id}`, admin, { assigned_to: 'bob' })
    else if (how === 'SQL') await database.query(`update missions set assigned_to = 'bob' where id = $1`, [id])
    else {
      const open = await database.connect()
      await open.query(`begin; update missions set assigned_to = 'bob' where id = '${id}';
        insert into chat_messages (mission_id, sender, message) values ('${id}', 'user', 'secret'); commit`)
    }
    const begun = performance.now()
    await post(String(topics[1]), 'secret')
    for (const topic of topics) await ended(loses, topic)
    t.ok(performance.now() - begun < 2000, 'within 2 s')
    await flush(keeps, String(topics[1]))
    t.strictSame(
      loses.frames.filter(({ type }) => type === 'event'),
      [],
      how,
    )
    t.match(keeps.events(String(topics[0]))[0], { event: 'mission.updated', data: { assigned_to: 'bob' } })
    t.match(await loses.ask({ type: 'send', topic: topics[1], message: 'x' }), { type: 'error', code: 'not_found' })
    t.match(
      await gains.ask({ type: 'send', topic: topics[1], message: 'x' }),
      { type: 'ok' },
      'the new assignee has access at once',
    )
    t.match(await gains.ask({ type: 'subscribe', topic: topics[1], after: 0 }), { type: 'ok' })
    await until(() => gains.events(String(topics[1])).length > 2, 'the whole chat')
  }
})

await t.test('locks: waiting changes delay no reader, no rights check and no other mission’s change', async (t) => {
  const [a, b] = [await makeMission(instance), await makeMission(instance)]
  const topic = `missions/${b.id}/chat/rafael`
  const client = await follow(t, alice, topic)
  const open = await database.connect()
  await open.query('begin')
  await open.query('delete from missions where id = $1', [a.id])
  const add = (mission: string) =>
    instance.request('POST', `/api/missions/${mission}/dod`, admin, { text: 'An item', category: 'tests' })
  let answered = 0
  const waiting = range(1, 12).map(() => add(a.id).finally(() => answered++))
  const elsewhere = await Promise.all([
    ...range(1, 5).map(() => add(b.id)),
    instance.request('GET', `/api/${topic}`, alice),
    instance.request('GET', '/readyz'),
    instance.request('POST', `/api/${topic}`, alice, { message: 'hi' }),
  ])
  t.strictSame(elsewhere.map(({ status }) => status).sort(), [200, 200, ...Array<number>(6).fill(201)])
  await database.query(`update missions set assigned_to = 'bob' where id = $1`, [b.id])
  const begun = performance.now()
  await ended(client, topic)
  t.ok(performance.now() - begun < 2000, 'the rights are checked')
  t.equal(answered, 0, 'the changes still wait')
  await open.query('rollback')
  t.strictSame(new Set((await Promise.all(waiting)).map(({ status }) => status)), new Set([201]))
})

await t.test('hub: never delivers newer rows under older rights when reads overtake each other', async (t) => {
  const id = randomUUID()
  const topic = `missions/${id}/chat/rafael`
  const rights = (assigned_to: string) => ({ id, number: 1, assigned_to })
  const page = (seq: number, assigned_to: string, asOf: number): Page => {
    const events = [{ seq, event: 'message.created', data: '{}' }]
    return { events, covered: seq, head: seq, mission: rights(assigned_to), asOf }
  }
  const setUp = () => {
    let cursor = 0
    const got: string[] = []
    const reads: Page[] = []
    const receiver: Receiver = {
      form: 'frames',
      actor: {
        sub: 'alice',
        role: 'user',
        missions: undefined,
        expires: Infinity,
        token: undefined,
        session: undefined,
      },
      send: (frames) => got.push(...textsOf(frames).map((text) => `seq ${(JSON.parse(text) as Json)['seq']}`)) >= 0,
      fits: () => true,
      drained: () => Promise.resolve(),
      ended: () => got.push('ended'),
    }
    const hub = makeHub({
      liveBytes: 1e6,
      pageBytes: 1e6,
      follow: (_topic, head) => (cursor = head),
      onSubscriptions: () => {},
      unfollow: () => undefined,
      cursor: () => cursor,
      page(_topic, _after, _limit, _bytes, begun) {
        begun()
        return Promise.resolve(reads.shift() ?? page(cursor, 'bob', 1e6))
      },
      onError: (error) => t.fail(String(error)),
    })
    const deliver = (from: number, next: Page): void => {
      cursor = next.covered
      hub.deliver(topic, from, next)
    }
    return { hub, receiver, got, reads, deliver }
  }

  const late = setUp()
  const keeper: Receiver = {
    ...late.receiver,
    actor: { sub: 'root', role: 'admin', missions: undefined, expires: Infinity, token: undefined, session: undefined },
  }
  late.hub.join(keeper, topic, { rights: rights('bob'), asOf: 20, head: 0 }, 0)
  late.hub.join(late.receiver, topic, { rights: rights('alice'), asOf: 10, head: 0 }, 0)
  t.strictSame(late.got, ['ended'], 'authorized before the rights were lost, subscribed after')

  const read = setUp()
  read.hub.join(read.receiver, topic, { rights: rights('alice'), asOf: 10, head: 0 }, 0)
  read.hub.setRights(id, rights('alice'), 30)
  read.deliver(0, page(1, 'bob', 20))
  await until(() => read.got.length > 0, 'the end')
  t.strictSame(read.got, ['ended'], 'the page shows lost rights, although its snapshot is older than the last check')

  const regained = setUp()
  regained.hub.join(regained.receiver, topic, { rights: rights('alice'), asOf: 10, head: 0 }, 0)
  regained.hub.setRights(id, rights('alice'), 30)
  regained.reads.push(page(1, 'bob', 25), page(1, 'alice', 40))
  regained.deliver(0, page(1, 'bob', 20))
  await until(() => regained.got.length > 0, 'the event')
  t.strictSame(regained.got, ['seq 1'], 'rows from before the rights were granted are read again')
})

await t.test('catch-up: a client with many large messages to catch up on is not closed', async (t) => {
  const { id } = await makeMission(instance)
  const citizens = ['a', 'b', 'c', 'd']
  // Each frame is about 100 kB: a text and a code block, 10,000 emoji each.
  for (const citizen of citizens)
    await say(
      id,
      range(1, 120).map(() => `~~~\n${'😀'.repeat(9000)}\n~~~`),
      citizen,
    )
  const client = await instance.connect(alice)
  const live = await instance.connect(alice)
  for (const citizen of citizens) {
    const topic = `missions/${id}/chat/${citizen}`
    t.match(await live.ask({ type: 'subscribe', topic }), { type: 'ok' })
    client.send({ type: 'subscribe', topic, after: 0 })
  }
  const whole = (reader: Client, n: number) =>
    citizens.every((citizen) => seqs(reader, `missions/${id}/chat/${citizen}`).length === n)
  await until(() => whole(client, 120), 'all messages', 20_000)
  await say(
    id,
    range(1, 100).map(() => `~~~\n${'😀'.repeat(9000)}\n~~~`),
    'a',
  )
  await until(() => seqs(live, `missions/${id}/chat/a`).length === 100, 'a large page live')
  await until(() => seqs(client, `missions/${id}/chat/a`).length === 220, 'a large page after')
  t.strictSame(seqs(client, `missions/${id}/chat/a`), range(1, 220))
  t.strictSame(seqs(live, `missions/${id}/chat/a`), range(121, 220))
  t.strictSame([client.closed, live.closed], [undefined, undefined])
})
