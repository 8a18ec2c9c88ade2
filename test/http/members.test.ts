// Members of missions on two instances: they see what the assignee sees, in lists, topics and writes, and lose it within 2 s.
import t, { type Test } from 'tap'
import { isForm, refused, time } from '../support/forms.ts'
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
  type Instance,
  type Json,
} from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)

const begin = async () => {
  const { id, number } = await makeMission(one)
  const path = `/api/missions/${id}`
  const put = (sub: string, on: Instance = one) =>
    on.request('PUT', `${path}/members/${encodeURIComponent(sub)}`, admin)
  const remove = (sub: string, on: Instance = one) =>
    on.request('DELETE', `${path}/members/${encodeURIComponent(sub)}`, admin)
  const members = async (bearer = admin): Promise<Json[]> =>
    (await two.request('GET', `${path}/members`, bearer)).json['members'] as Json[]
  const listed = async (bearer: string): Promise<boolean> =>
    ((await two.request('GET', '/api/missions?limit=500', bearer)).json['missions'] as Json[]).some(
      (mission) => mission['id'] === id,
    )
  return { id, number, path, put, remove, members, listed }
}

void t.test(
  'members: an admin adds and removes them, again too, and those who see the mission read them',
  async (t) => {
    const { path, put, remove, members } = await begin()
    t.strictSame(await members(), [])
    for (const sub of ['bob', 'anna@example.com', 'ö/1 %', 'bob']) t.equal((await put(sub)).status, 204)
    const found = await members(alice)
    t.strictSame(
      found.map(({ sub }) => sub),
      ['anna@example.com', 'bob', 'ö/1 %'],
    )
    isForm(t, found[0], { sub: 'anna@example.com', since: time }, 'a member')
    t.strictSame(await members(bob), found)
    t.strictSame(await members(rafael), found)
    for (const sub of ['bob', 'nobody']) t.equal((await remove(sub)).status, 204)
    t.equal((await members()).length, 2)
    const audited = await database.query(
      `select action, actor, detail ->> 'sub' as sub from deck.audit where mission_id = $1 order by at, id`,
      [path.split('/').at(-1)],
    )
    t.strictSame(
      audited.map(({ action, actor, sub }) => [action, actor, sub]),
      [
        ['member.put', 'root', 'bob'],
        ['member.put', 'root', 'anna@example.com'],
        ['member.put', 'root', 'ö/1 %'],
        ['member.delete', 'root', 'bob'],
      ],
      'each change is audited once',
    )
  },
)

void t.test('members: a member sees and does on the mission what its assignee does, nothing more', async (t) => {
  const { id, path, put, listed } = await begin()
  const { request } = one
  refused(t, await request('GET', path, bob), 404, 'not_found')
  t.notOk(await listed(bob))
  await put('bob', two)
  t.ok(await listed(bob))
  for (const on of [one, two]) {
    t.equal((await on.request('GET', path, bob)).status, 200)
    const posted = await on.request('POST', `${path}/chat/rafael`, bob, { message: 'from a member' })
    t.match(posted, { status: 201, json: { author: 'bob', sender: 'user' } })
    const socket = await on.connect(bob)
    const topic = `missions/${id}/chat/rafael`
    t.match(await socket.ask({ type: 'subscribe', topic }), { type: 'ok' })
    t.match(await socket.ask({ type: 'send', topic, message: 'by socket' }), { type: 'ok' })
    t.match(await socket.ask({ type: 'stream', topic, key: `k${on === one}`, delta: 'x', done: true }), { type: 'ok' })
  }
  // With others in one batch.
  const all = await Promise.all(
    [alice, bob, alice, bob].map((bearer) => request('POST', `${path}/chat/emma`, bearer, { message: 'at once' })),
  )
  t.strictSame(
    all.map(({ status }) => status),
    [201, 201, 201, 201],
  )
  refused(t, await request('DELETE', `${path}/chat/rafael`, bob), 403, 'forbidden')
  refused(t, await request('PUT', `${path}/members/zoe`, bob), 403, 'forbidden')
  const elsewhere = await begin()
  refused(t, await request('GET', elsewhere.path, bob), 404, 'not_found')
})

/** Subscribes a member on both instances to a chat, the checklist and the list of missions. */
const follow = async (t: Test, id: string) => {
  const topics = [`missions/${id}/chat/rafael`, `missions/${id}/dod`, 'missions']
  return Promise.all(
    [one, two].map(async (on) => {
      const socket = await on.connect(bob)
      for (const topic of topics) t.match(await socket.ask({ type: 'subscribe', topic }), { type: 'ok' })
      return socket
    }),
  )
}
const isGone = (topic: string) => (frame: Json) =>
  frame['type'] === 'error' && frame['topic'] === topic && frame['code'] === 'not_found'

void t.test(
  'members: a removed member loses its subscriptions on every instance, and reads nothing that is saved later',
  async (t) => {
    for (const how of ['API', 'SQL']) {
      const { id, path, put, remove, listed } = await begin()
      await put('bob')
      const sockets = await follow(t, id)
      if (how === 'API') t.equal((await remove('bob')).status, 204)
      else await database.query('delete from deck.members where mission_id = $1', [id])
      t.match(await one.request('POST', `${path}/chat/rafael`, alice, { message: 'secret' }), { status: 201 })
      for (const socket of sockets) {
        for (const topic of [`missions/${id}/chat/rafael`, `missions/${id}/dod`])
          await socket.frame(isGone(topic), topic)
        t.notOk(JSON.stringify(socket.frames).includes('secret'))
      }
      for (const on of [one, two]) {
        refused(t, await on.request('POST', `${path}/chat/rafael`, bob, { message: 'x' }), 404, 'not_found')
        refused(t, await on.request('GET', path, bob), 404, 'not_found')
      }
      t.notOk(await listed(bob))
      if (how === 'API')
        for (const socket of sockets)
          await socket.frame((frame) => frame['type'] === 'missions.changed' && frame['mission'] === id, 'the list')
    }
  },
)

void t.test(
  'members: lists of missions hear of a new membership, and open subscriptions survive that of others',
  async (t) => {
    const { id, put } = await begin()
    const socket = await two.connect(bob)
    await socket.ask({ type: 'subscribe', topic: 'missions' })
    await put('bob')
    await socket.frame((frame) => frame['type'] === 'missions.changed' && frame['mission'] === id, 'the new mission')
    const topic = `missions/${id}/chat/rafael`
    t.match(await socket.ask({ type: 'subscribe', topic }), { type: 'ok' })
    await put('zoe')
    await one.request('POST', `/api/${topic}`, alice, { message: 'still here' })
    await until(() => socket.events(topic).length === 1, 'the message')
    t.equal(socket.frames.filter(isGone(topic)).length, 0)
  },
)

void t.test('members: both rights count: the assignee stays a member when the mission is re-assigned', async (t) => {
  const { id, path, put } = await begin()
  await put('alice')
  const socket = await two.connect(alice)
  const topic = `missions/${id}/chat/rafael`
  await socket.ask({ type: 'subscribe', topic })
  t.match(await one.request('PATCH', path, admin, { assigned_to: 'someone' }), { status: 200 })
  t.match(await one.request('POST', `/api/${topic}`, alice, { message: 'as a member' }), { status: 201 })
  await until(() => socket.events(topic).length === 1, 'the message')
  t.equal(socket.frames.filter(isGone(topic)).length, 0)
})

void t.test('members: bad input changes nothing, and a mission has up to 200', async (t) => {
  const { id, path, members } = await begin()
  for (const sub of ['%00', 'x'.repeat(513)])
    refused(t, await one.request('PUT', `${path}/members/${sub}`, admin), 400, 'bad_request')
  refused(t, await one.request('PUT', `/api/missions/2147483647/members/bob`, admin), 404, 'not_found')
  refused(t, await one.request('GET', `/api/missions/2147483647/members`, admin), 404, 'not_found')
  t.equal((await one.request('PUT', `${path}/members/${encodeURIComponent('ö'.repeat(512))}`, admin)).status, 204)
  await database.query(
    `insert into deck.members (mission_id, sub) select $1, 'm' || n from generate_series(1, 199) n`,
    [id],
  )
  refused(t, await one.request('PUT', `${path}/members/one-too-many`, admin), 409, 'conflict')
  t.equal((await one.request('PUT', `${path}/members/m7`, admin)).status, 204, 'who is a member already')
  t.equal((await members()).length, 200)
  const reader = await token({ sub: 'm199', role: 'user' })
  t.equal((await two.request('GET', path, reader)).status, 200)
})

void t.test('members: of 20 that are added at the same time by API and SQL none is lost', async (t) => {
  const { id, put, members } = await begin()
  await Promise.all(
    Array.from({ length: 20 }, (_, n) =>
      n % 2
        ? put(`api${n}`, n % 4 === 1 ? one : two)
        : database.query('insert into deck.members (mission_id, sub) values ($1, $2)', [id, `sql${n}`]),
    ),
  )
  const [row] = await database.query('select cardinality(members) as count from missions where id = $1', [id])
  t.equal(row?.['count'], 20)
  t.equal((await members()).length, 20)
})
