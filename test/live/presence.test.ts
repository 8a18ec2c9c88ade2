// Presence: the users who follow a topic on any instance. Only subscribers that ask receive it. It is never stored.
import t from 'tap'
import {
  alice,
  bob,
  door,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  token,
  until,
  type Client,
  type Instance,
  type Json,
} from '../support/server.ts'
import { spawnServer } from '../support/processes.ts'

const { instance: one, database } = await startDeck(t, { limits: { presenceLife: 3000 } })
const two = await startInstance(t, database.url)

type Present = { sub: string; role: string; sockets: number }
type Presence = { topic: string; subs?: Present[]; joined: Present[]; left: Present[] }
const presences = (client: Client): Presence[] => client.frames.filter(({ type }) => type === 'presence') as never
const names = (people: Present[] = []): string[] => people.map(({ sub, sockets }) => `${sub} ${sockets}`).sort()
const sees = async (client: Client, ...people: string[]): Promise<void> => {
  const seen = (): string => names(presences(client).at(-1)?.subs).join()
  await until(() => seen() === people.join(), `to see ${people.join()}`).catch((error: Error) => {
    throw new Error(`${error.message}; seen: ${seen()}`)
  })
}
const follow = async (
  on: Pick<Instance, 'connect'>,
  bearer: string,
  topic: string,
  more: Json = {},
): Promise<Client> => {
  const client = await on.connect(bearer)
  t.match(await client.ask({ type: 'subscribe', topic, ...more }), { type: 'ok' })
  return client
}
const makeTopic = async (): Promise<string> => `missions/${(await makeMission(one)).id}/chat/rafael`
const presence = { presence: true }

void t.test('presence: a subscriber that asks receives the whole list, then each join and leave', async (t) => {
  const topic = await makeTopic()
  await follow(one, rafael, topic)
  await follow(two, rafael, topic)
  const watcher = await follow(one, alice, topic, presence)
  await until(() => presences(watcher).length > 0, 'the list')
  t.strictSame(presences(watcher)[0]?.joined, [])
  t.strictSame(
    presences(watcher)[0]?.subs?.toSorted((a, b) => (a.sub < b.sub ? -1 : 1)),
    [
      { sub: 'alice', role: 'user', sockets: 1 },
      { sub: 'rafael', role: 'citizen', sockets: 2 },
    ],
    'the first list is complete',
  )
  const emma = await token({ sub: 'emma', role: 'citizen' })
  const comes = await follow(two, emma, topic)
  await sees(watcher, 'alice 1', 'emma 1', 'rafael 2')
  t.strictSame(presences(watcher).at(-1)?.joined, [{ sub: 'emma', role: 'citizen', sockets: 1 }])
  const again = await follow(one, emma, topic)
  await sees(watcher, 'alice 1', 'emma 2', 'rafael 2')
  comes.close()
  await sees(watcher, 'alice 1', 'emma 1', 'rafael 2')
  t.strictSame(presences(watcher).at(-1)?.left, [], 'one of the user’s two sockets closed')
  t.match(await again.ask({ type: 'unsubscribe', topic }), { type: 'ok' })
  await sees(watcher, 'alice 1', 'rafael 2')
  t.match(presences(watcher).at(-1)?.left, [{ sub: 'emma', role: 'citizen' }])
  t.strictSame(presences(again), [], 'a subscriber that did not ask for presence receives none')
  const late = await follow(two, rafael, topic, presence)
  await sees(late, 'alice 1', 'rafael 3')
  await sees(watcher, 'alice 1', 'rafael 3')
})

void t.test(
  'presence: stops when a client subscribes again without it; a subscribe with it returns the list again',
  async (t) => {
    const topic = await makeTopic()
    const client = await follow(one, alice, topic, presence)
    await sees(client, 'alice 1')
    t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
    const before = presences(client).length
    const other = await follow(two, rafael, topic, presence)
    await sees(other, 'alice 1', 'rafael 1')
    t.equal(presences(client).length, before)
    t.match(await client.ask({ type: 'subscribe', topic, ...presence }), { type: 'ok' })
    await until(() => presences(client).length > before, 'the list')
    t.strictSame(names(presences(client)[before]?.subs), ['alice 1', 'rafael 1'])
  },
)

void t.test('presence: a user who lost access to the mission leaves the list', async (t) => {
  const { id } = await makeMission(one)
  const topic = `missions/${id}/chat/rafael`
  const watcher = await follow(two, rafael, topic, presence)
  const user = await follow(one, alice, topic)
  await sees(watcher, 'alice 1', 'rafael 1')
  await database.query(`update missions set assigned_to = 'bob' where id = $1`, [id])
  await sees(watcher, 'rafael 1')
  t.match(await user.frame(({ type }) => type === 'error'), { code: 'not_found' })
  await follow(one, bob, topic)
  await sees(watcher, 'bob 1', 'rafael 1')
})

void t.test('presence: the users of a killed instance leave the list once its heartbeats stop', async (t) => {
  const topic = await makeTopic()
  const killed = await spawnServer(t, { DATABASE_URL: database.url })
  const watcher = await follow(one, alice, topic, presence)
  await follow(door(t, killed.url), rafael, topic)
  await sees(watcher, 'alice 1', 'rafael 1')
  killed.process.kill('SIGKILL')
  await sees(watcher, 'alice 1')
})

void t.test('presence: an instance that stops reports that its users have left', async (t) => {
  // Too long for the heartbeat limit to be the reason.
  const limits = { presenceLife: 600_000 }
  const { instance: stays, database: own } = await startDeck(t, { limits })
  const stops = await startInstance(t, own.url, { limits })
  const topic = `missions/${(await makeMission(stays)).id}/chat/rafael`
  const watcher = await follow(stays, alice, topic, presence)
  await follow(stops, rafael, topic)
  await sees(watcher, 'alice 1', 'rafael 1')
  await stops.close()
  await sees(watcher, 'alice 1')
})

void t.test('presence: sends changes, not the whole list each time, when many clients subscribe', async (t) => {
  const topic = await makeTopic()
  const watcher = await follow(one, alice, topic, presence)
  await sees(watcher, 'alice 1')
  // The names are so long that one notification does not hold them.
  const crowd = Array.from({ length: 110 }, (_, n) => `someone${n}-${'x'.repeat(200)}`)
  const clients = await Promise.all(crowd.map(async (sub) => follow(two, await token({ sub, role: 'citizen' }), topic)))
  const people = new Map<string, Present>()
  const hold = (): number => {
    people.clear()
    for (const { subs, joined, left } of presences(watcher)) {
      if (subs) people.clear()
      for (const present of subs ?? joined) people.set(present.sub, present)
      for (const { sub } of left) people.delete(sub)
    }
    return people.size
  }
  await until(() => hold() === 111, 'all names')
  t.ok(presences(watcher).at(-1)?.subs === undefined, 'the last frame is a change, not the whole list')
  const late = await follow(one, rafael, topic, presence)
  await until(() => presences(late).length > 0, 'the list')
  t.equal(presences(late)[0]?.subs?.length, 112, 'a new subscriber receives the whole list')
  for (const client of clients.slice(0, 60)) client.close()
  await until(() => hold() === 52, 'half of the names')
  await sees(late, ...[...people.keys()].map((sub) => `${sub} 1`).sort())
})
