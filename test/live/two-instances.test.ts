// Two instances on one database give the same results, whichever instance a client sends to, follows or reconnects to.
// Broken connections to Postgres do not change that. faults/walk.test.ts runs random sequences of these faults.
import t from 'tap'
import {
  admin,
  alice,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  until,
  type Client,
  type Instance,
  type Json,
} from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)
const both = [one, two]

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const seqs = (client: Client, topic: string) => client.events(topic).map(({ seq }) => seq)
const follow = async (on: Instance, topic: string, more: Json = {}): Promise<Client> => {
  const client = await on.connect(alice)
  const answer = await client.ask({ type: 'subscribe', topic, ...more })
  if (answer['type'] !== 'ok') throw new Error(JSON.stringify(answer))
  return client
}
const reached = (clients: Client[], topic: string, seq: number) =>
  until(() => clients.every((client) => seqs(client, topic).at(-1) === seq), `${topic} at ${seq}`)
const insert = (mission: string, from: number, to: number) =>
  database.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     select $1, 'rafael', 'user', n::text from generate_series($2::int, $3) n`,
    [mission, from, to],
  )
/** Cuts connections of both instances by their application name. Returns how many. */
const cut = async (name: string): Promise<number> => {
  const rows = await database.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and application_name = $1`,
    [`mission-deck ${name}`],
  )
  return rows.length
}

await t.test('two instances: followers on both receive API and SQL messages in the same order', async (t) => {
  const { id, number } = await makeMission(one)
  const topic = `missions/${id}/chat/rafael`
  const readers = await Promise.all(both.map((on) => follow(on, topic)))
  const writers = await Promise.all(both.map((on) => on.connect(alice)))
  await Promise.all([
    ...writers.flatMap((client) =>
      range(1, 100).map((n) => client.ask({ type: 'send', topic: `missions/${number}/chat/rafael`, message: `s${n}` })),
    ),
    ...range(1, 50).map((n) =>
      (both[n % 2] ?? one).request('POST', `/api/missions/${number}/chat/rafael`, rafael, { message: `p${n}` }),
    ),
    ...range(1, 20).map(() => insert(id, 1, 10)),
  ])
  await reached(readers, topic, 450)
  t.strictSame(readers[0]?.events(topic), readers[1]?.events(topic))
  t.strictSame(seqs(readers[0] as Client, topic), range(1, 450))
  const late = await follow(two, topic, { after: 0 })
  await reached([late], topic, 450)
  t.strictSame(late.events(topic), readers[0]?.events(topic), 'a later subscriber receives the same')
})

await t.test('two instances: a thousand rows of one statement reach followers on both, in order', async (t) => {
  const { id } = await makeMission(one)
  const base = `missions/${id}`
  const topics = [`${base}/chat/rafael`, `${base}/dod`, `${base}/tests`]
  const readers = await Promise.all(both.flatMap((on) => topics.map((topic) => follow(on, topic))))
  await insert(id, 1, 1000)
  await database.query(
    `insert into dod_items (mission_id, text, category) select $1, n::text, 'tests' from generate_series(1, 1000) n`,
    [id],
  )
  await database.query(
    `insert into test_runs (mission_id, status, summary)
     select $1, 'running', jsonb_build_object('n', n) from generate_series(1, 1000) n`,
    [id],
  )
  await database.query('update dod_items set completed = true where mission_id = $1', [id])
  await database.query('delete from dod_items where mission_id = $1', [id])
  const ends = [1000, 3000, 1000]
  for (const [i, reader] of readers.entries()) {
    const topic = String(topics[i % 3])
    await reached([reader], topic, Number(ends[i % 3]))
    t.strictSame(seqs(reader, topic), range(1, Number(ends[i % 3])), topic)
  }
  const [chat, dod, tests] = readers as [Client, Client, Client]
  const numbers = range(1, 1000)
  t.strictSame(
    chat.events(topics[0] ?? '').map(({ data }) => Number(data['message'])),
    numbers,
  )
  t.strictSame(
    tests.events(topics[2] ?? '').map(({ data }) => (data['summary'] as Json)['n']),
    numbers,
  )
  t.strictSame(
    dod.events(topics[1] ?? '').map(({ event, data }) => [event, Number(data['text'])]),
    ['created', 'updated', 'deleted'].flatMap((what) => numbers.map((n) => [`dod_item.${what}`, n])),
  )
})

await t.test('idempotency key: sent to both instances at once, it creates one message for all', async (t) => {
  const { id } = await makeMission(one)
  const topic = `missions/${id}/chat/rafael`
  const clients = await Promise.all([one, two, two].map((on) => on.connect(alice)))
  const rounds = 300
  const answers = await Promise.all(
    range(1, rounds).map((n) =>
      Promise.all(
        clients.map((client, i) => client.ask({ type: 'send', topic, key: `key ${n}`, message: `${n} of ${i}` })),
      ),
    ),
  )
  for (const [n, same] of answers.entries()) {
    const bodies = new Set(same.map((answer) => JSON.stringify({ ...answer, id: 0 })))
    if (bodies.size > 1 || same[0]?.['type'] !== 'ok') t.fail(`key ${n + 1}`, { found: [...bodies] })
  }
  const rows = await database.query(
    'select count(*)::int as n, max(seq)::int as seq from chat_messages where mission_id = $1',
    [id],
  )
  t.strictSame(rows, [{ n: rounds, seq: rounds }])
  const posts = await Promise.all(
    range(1, 20).map((n) =>
      (both[n % 2] ?? one).request('POST', `/api/${topic}`, alice, { message: `${n}`, key: 'posted' }),
    ),
  )
  t.strictSame(posts.map(({ status }) => status).sort(), [...Array<number>(19).fill(200), 201])
  t.equal(new Set(posts.map(({ text }) => text)).size, 1)
})

await t.test(
  'access: a mission reassigned by SQL ends the subscriptions on both instances, and nothing later is delivered',
  async (t) => {
    const { id } = await makeMission(one)
    const topics = ['/chat/rafael', '/dod', '/tests'].map((kind) => `missions/${id}${kind}`)
    const losers = await Promise.all(both.map((on) => on.connect(alice)))
    for (const client of losers) for (const topic of topics) await client.ask({ type: 'subscribe', topic })
    await insert(id, 1, 5)
    await reached(losers, String(topics[0]), 5)
    await database.query(`update missions set assigned_to = 'bob' where id = $1`, [id])
    const begun = performance.now()
    await insert(id, 6, 50)
    for (const client of losers)
      for (const topic of topics)
        await client.frame((f) => f['type'] === 'error' && f['topic'] === topic && f['code'] === 'not_found', topic)
    t.ok(performance.now() - begun < 2000)
    await insert(id, 51, 60)
    const witness = await two.connect(admin)
    await witness.ask({ type: 'subscribe', topic: topics[0], after: 0 })
    await reached([witness], String(topics[0]), 60)
    for (const client of losers) t.equal(client.events(String(topics[0])).length, 5)
  },
)

await t.test('two instances: delivery recovers when LISTEN, or every connection, is cut', async (t) => {
  const { id } = await makeMission(one)
  const topic = `missions/${id}/chat/rafael`
  const readers = await Promise.all(both.map((on) => follow(on, topic)))
  let last = 0
  for (const name of ['session', 'server', 'session', 'server']) {
    await insert(id, last + 1, last + 10)
    t.ok((await cut(name)) >= 2, `${name} connections`)
    await insert(id, last + 11, last + 20)
    last += 20
    await reached(readers, topic, last)
  }
  for (const on of both)
    await until(async () => (await on.request('GET', '/readyz')).status === 200, 'ready again', 20_000)
  await insert(id, last + 1, last + 1)
  await reached(readers, topic, last + 1)
  for (const reader of readers) t.strictSame(seqs(reader, topic), range(1, last + 1))
})

await t.test('two instances: clients of a stopped instance reconnect to the other, missing nothing', async (t) => {
  const third = await startInstance(t, database.url)
  const { id } = await makeMission(one)
  const topic = `missions/${id}/chat/rafael`
  const away = await follow(third, topic)
  let stop = false
  const writing = (async () => {
    for (let n = 1; !stop; n += 5) await insert(id, n, n + 4)
  })()
  await until(() => seqs(away, topic).length > 20, 'some')
  await third.close()
  await until(() => away.closed !== undefined, 'the close')
  const seen = seqs(away, topic).length
  t.strictSame(seqs(away, topic), range(1, seen))
  const back = await follow(two, topic, { after: seen })
  await until(() => seqs(back, topic).length > 20, 'some more')
  stop = true
  await writing
  const { json } = await one.request('GET', `/api/${topic}`, alice)
  await reached([back], topic, Number(json['last_seq']))
  t.strictSame(seqs(back, topic), range(seen + 1, Number(json['last_seq'])))
})
