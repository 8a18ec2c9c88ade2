// Typing, read markers and the list of missions, on two instances of one database.
import t from 'tap'
import {
  admin,
  alice,
  bob,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  until,
  type Client,
  type Json,
} from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)

const makeChat = async () => {
  const { id } = await makeMission(one)
  return { id, topic: `missions/${id}/chat/rafael` }
}
const follow = async (on: typeof one, bearer: string, topic: string): Promise<Client> => {
  const client = await on.connect(bearer)
  t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
  return client
}
const of = (client: Client, type: string): Json[] => client.frames.filter((frame) => frame['type'] === type)
const say = async (topic: string, n: number): Promise<void> => {
  for (let i = 0; i < n; i++)
    t.match(await one.request('POST', `/api/${topic}`, admin, { message: `${i}` }), { status: 201 })
}
const channel = async (id: string, bearer: string): Promise<Json> => {
  const { json } = await two.request('GET', `/api/missions/${id}/chat`, bearer)
  return (json['channels'] as Json[])[0] ?? {}
}

void t.test('typing: reaches every follower of the chat on each instance, except the sender', async (t) => {
  const { id, topic } = await makeChat()
  const typist = await follow(one, alice, topic)
  const same = await follow(one, rafael, topic)
  const across = await follow(two, rafael, topic)
  const elsewhere = await follow(two, rafael, `missions/${id}/chat/sofia`)
  t.match(await typist.ask({ type: 'typing', topic, on: true }), { type: 'ok' })
  const typing = { type: 'typing', topic, sub: 'alice', role: 'user', on: true }
  for (const client of [same, across]) {
    await until(() => of(client, 'typing').length === 1, 'typing')
    t.strictSame(of(client, 'typing'), [typing])
  }
  t.match(await typist.ask({ type: 'typing', topic, on: false }), { type: 'ok' })
  for (const client of [same, across]) {
    await until(() => of(client, 'typing').length === 2, 'typing ends')
    t.strictSame(of(client, 'typing')[1], { ...typing, on: false })
  }
  t.strictSame([...of(typist, 'typing'), ...of(elsewhere, 'typing')], [])
  t.equal((await one.request('GET', `/api/${topic}`, alice)).json['last_seq'], 0, 'nothing is stored')
})

void t.test('typing: ends when the socket of the user who types closes', async (t) => {
  const { topic } = await makeChat()
  const watcher = await follow(two, rafael, topic)
  const typist = await one.connect(alice)
  await typist.ask({ type: 'typing', topic, on: true })
  await until(() => of(watcher, 'typing').length === 1, 'typing')
  typist.socket.terminate()
  await until(() => of(watcher, 'typing').length === 2, 'typing ends')
  t.match(of(watcher, 'typing')[1], { sub: 'alice', on: false })
})

void t.test('typing: refused outside chat topics, and without a boolean `on`', async (t) => {
  const { id, topic } = await makeChat()
  const client = await one.connect(alice)
  for (const frame of [
    { topic: `missions/${id}/dod`, on: true },
    { topic: `missions/${id}`, on: true },
    { topic, on: 'yes' },
    { topic },
  ])
    t.match(await client.ask({ type: 'typing', ...frame }), { type: 'error', code: 'bad_request' })
  t.match(await client.ask({ type: 'ping' }), { type: 'ok' })
})

void t.test('read markers: the greatest seq counts, up to the latest seq, for each user ID separately', async (t) => {
  const { id, topic } = await makeChat()
  await say(topic, 5)
  t.match(await channel(id, alice), { last_seq: 5, read_seq: 0, unread: 5 })
  const a = await one.connect(alice)
  const b = await two.connect(alice)
  t.match(await a.ask({ type: 'read', topic, seq: 3 }), { type: 'ok', topic, seq: 3 })
  t.match(await channel(id, alice), { read_seq: 3, unread: 2 })
  t.match(await b.ask({ type: 'read', topic, seq: 1 }), { type: 'ok', seq: 3 }, 'a smaller seq changes nothing')
  t.match(await channel(id, alice), { read_seq: 3, unread: 2 })
  t.match(await b.ask({ type: 'read', topic, seq: 99 }), { type: 'ok', seq: 5 }, 'limited to the latest seq')
  t.match(await channel(id, alice), { read_seq: 5, unread: 0 })
  t.match(await channel(id, admin), { read_seq: 0, unread: 5 }, 'a different user ID')
  await say(topic, 1)
  t.match(await channel(id, alice), { read_seq: 5, unread: 1 })
})

void t.test('read markers: many at once, through both instances, end at the greatest seq', async (t) => {
  const { id, topic } = await makeChat()
  await say(topic, 40)
  const [a, b] = [await one.connect(alice), await two.connect(alice)]
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, i) => (i % 2 ? a : b).ask({ type: 'read', topic, seq: ((i * 7) % 40) + 1 })),
  )
  for (const [i, answer] of answers.entries()) {
    t.match(answer, { type: 'ok' })
    t.ok(Number(answer['seq']) >= ((i * 7) % 40) + 1)
  }
  t.match(await channel(id, alice), { read_seq: 40, unread: 0 })
})

void t.test('read markers: sent to the other sockets of the same user, and to no other user', async (t) => {
  const { topic } = await makeChat()
  await say(topic, 3)
  const reader = await follow(one, alice, topic)
  const own = [await follow(one, alice, topic), await follow(two, alice, topic)]
  const others = [await follow(one, rafael, topic), await follow(two, admin, topic)]
  await reader.ask({ type: 'read', topic, seq: 2 })
  for (const client of own) {
    await until(() => of(client, 'read').length === 1, 'read')
    t.strictSame(of(client, 'read'), [{ type: 'read', topic, seq: 2 }])
  }
  await reader.ask({ type: 'read', topic, seq: 1 })
  await reader.ask({ type: 'read', topic, seq: 3 })
  for (const client of own) {
    await until(() => of(client, 'read').some(({ seq }) => seq === 3), 'read')
    t.equal(of(client, 'read').length, 2, 'an unchanged marker is not sent')
  }
  t.strictSame(
    [reader, ...others].flatMap((client) => of(client, 'read')),
    [],
  )
})

void t.test('read markers: deleted with their mission', async (t) => {
  const { id, topic } = await makeChat()
  await say(topic, 1)
  const client = await one.connect(alice)
  await client.ask({ type: 'read', topic, seq: 1 })
  t.equal((await database.query('select from deck.reads where mission_id = $1', [id])).length, 1)
  await one.request('DELETE', `/api/missions/${id}`, admin)
  t.equal((await database.query('select from deck.reads where mission_id = $1', [id])).length, 0)
  t.match(await client.ask({ type: 'read', topic, seq: 1 }), { type: 'error', code: 'not_found' })
  const stranger = await one.connect(bob)
  t.match(await stranger.ask({ type: 'read', topic, seq: 1 }), { type: 'error', code: 'not_found' })
})

void t.test('list of missions: users with access receive new, changed and removed missions', async (t) => {
  const user = await one.connect(alice)
  const across = await two.connect(alice)
  const boss = await two.connect(admin)
  const stranger = await two.connect(bob)
  const gone = await two.connect(alice)
  const clients = [user, across, boss, stranger, gone]
  for (const client of clients)
    t.match(await client.ask({ type: 'subscribe', topic: 'missions' }), { type: 'ok', topic: 'missions', seq: 0 })
  t.match(await gone.ask({ type: 'unsubscribe', topic: 'missions' }), { type: 'ok', topic: 'missions' })
  const changes = (client: Client, id: string): number =>
    of(client, 'missions.changed').filter(({ mission }) => mission === id).length
  const notified = async (id: string, n: number, seers = [user, across, boss]): Promise<void> => {
    for (const client of seers) await until(() => changes(client, id) === n, `change ${n}`)
  }
  const { id } = await makeMission(one)
  await notified(id, 1)
  await two.request('PATCH', `/api/missions/${id}`, admin, { status: 'qa' })
  await notified(id, 2)
  await database.query(`update missions set title = 'by SQL' where id = $1`, [id])
  await notified(id, 3)
  await database.query(`update missions set title = title where id = $1`, [id])
  await one.request('POST', `/api/missions/${id}/chat/rafael`, alice, { message: 'not a change of the mission' })
  t.equal(changes(stranger, id), 0)
  await database.query(`update missions set assigned_to = 'bob' where id = $1`, [id])
  await notified(id, 4)
  await notified(id, 1, [stranger])
  await one.request('DELETE', `/api/missions/${id}`, admin)
  await notified(id, 5, [boss])
  await notified(id, 2, [stranger])
  t.strictSame([changes(user, id), changes(across, id), changes(gone, id)], [4, 4, 0])
  t.strictSame(of(user, 'missions.changed')[0], { type: 'missions.changed', mission: id })
})

void t.test('list of missions: has no history: after above 0 or a different epoch is conflict', async (t) => {
  const client = await one.connect(alice)
  const { epoch } = await client.ask({ type: 'subscribe', topic: 'missions' })
  t.match(await client.ask({ type: 'subscribe', topic: 'missions', after: 0, epoch }), { type: 'ok', epoch })
  for (const more of [{ after: 1 }, { epoch: 'another' }])
    t.match(await client.ask({ type: 'subscribe', topic: 'missions', ...more }), { code: 'conflict', seq: 0, epoch })
  for (const type of ['send', 'typing', 'read'])
    t.match(await client.ask({ type, topic: 'missions', message: 'x', on: true, seq: 1 }), { code: 'bad_request' })
})
