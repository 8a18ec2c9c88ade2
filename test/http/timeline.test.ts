// The timeline of a mission: all events in one order, in pages that never change, as NDJSON, and with `from` and `to`.
import t from 'tap'
import { admin, alice, makeMission, rafael, startDeck, type Json } from '../support/server.ts'

const { instance, database } = await startDeck(t)
const { request } = instance

type Item = { type: string; topic: string; seq: number; event: string; data: Json; at: string }
type Page = { events: Item[]; next: string | null; cursor: string; horizon: string; epoch: string }
const page = async (id: string, query = ''): Promise<Page> => {
  const { status, json, text } = await request('GET', `/api/missions/${id}/timeline${query}`, alice)
  if (status !== 200) throw new Error(text)
  return json as Page
}
const all = async (id: string, limit: number, query = ''): Promise<Item[]> => {
  const found: Item[] = []
  for (let cursor = ''; ;) {
    const { events, next } = await page(id, `?limit=${limit}${cursor && `&cursor=${cursor}`}${query}`)
    found.push(...events)
    if (next === null) return found
    cursor = next
  }
}
const names = (items: Item[]): string[] => items.map(({ topic, seq }) => `${topic.slice(45)} ${seq}`)

void t.test('timeline: lists all events in one order, each as a socket receives it', async (t) => {
  const { id } = await makeMission(instance)
  const at = `/api/missions/${id}`
  const client = await instance.connect(alice)
  for (const topic of ['', '/dod', '/tests', '/chat/rafael', '/chat/sofia'])
    await client.ask({ type: 'subscribe', topic: `missions/${id}${topic}`, after: 0 })
  await request('POST', `${at}/chat/rafael`, alice, { message: 'one' })
  await request('POST', `${at}/dod`, rafael, { text: 'x', category: 'tests' })
  await request('POST', `${at}/chat/sofia`, alice, { message: 'two ```js\n1\n```' })
  const run = (await request('POST', `${at}/tests`, rafael, { logs: 'log' })).json
  await request('PATCH', `${at}/tests/${run['id']}`, rafael, { status: 'passed' })
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'sql')`,
    [id],
  )
  await request('PATCH', at, admin, { title: 'New' })
  const live = async () => {
    await client.frame((frame) => frame['event'] === 'mission.updated')
    return client.frames.filter(({ type }) => type === 'event')
  }
  const found = await page(id)
  t.same(names(found.events), [
    '/chat/rafael 1',
    '/dod 1',
    '/chat/sofia 1',
    '/tests 1',
    '/tests 2',
    '/chat/rafael 2',
    ' 1',
  ])
  const frames = await live()
  for (const item of found.events) {
    const frame = frames.find(({ topic, seq }) => topic === item.topic && seq === item.seq)
    t.strictSame(item, { ...frame, at: item.at })
  }
  t.equal(found.next, null)
  const logs = await page(id, '?logs=true')
  t.same(
    names(logs.events).filter((name) => name.includes('logs')),
    [`/tests/${run['id']}/logs 1`],
  )
  for (const limit of [1, 2, 3, 50]) {
    t.same(await all(id, limit), found.events)
    t.same(await all(id, limit, '&order=desc'), found.events.toReversed(), `${limit} newest first`)
  }
  const lines = await request('GET', `${at}/timeline`, alice, undefined, { accept: 'application/x-ndjson' })
  t.same(
    lines.text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Item),
    found.events,
  )
  for (const [i, { at }] of found.events.entries()) {
    t.same(await all(id, 2, `&to=${at}`), found.events.slice(0, i))
    t.same(await all(id, 2, `&from=${at}`), found.events.slice(i))
    t.same(await all(id, 2, `&from=${at}&order=desc`), found.events.slice(i).toReversed())
  }
})
