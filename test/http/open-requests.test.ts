// The open requests of all visible missions: GET /api/requests, and their numbers in GET /api/missions?chats=true. Compared with SQL.
import t from 'tap'
import { refused } from '../support/forms.ts'
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

const ask = async (mission: string, citizen: string, expires_in = 600): Promise<string> => {
  const body = { citizen, kind: 'approve', title: 'Deploy?', expires_in }
  const { status, json, text } = await request('POST', `/api/missions/${mission}/requests`, admin, body)
  if (status !== 201) throw new Error(text)
  return String(json['id'])
}
/** All open requests that a token sees, page by page. */
const listed = async (bearer: string, limit = 50): Promise<Json[]> => {
  const found: Json[] = []
  let cursor = ''
  do {
    const { status, json, text } = await other.request(
      'GET',
      `/api/requests?state=open&limit=${limit}${cursor}`,
      bearer,
    )
    if (status !== 200) throw new Error(text)
    found.push(...(json['requests'] as Json[]))
    cursor = json['next'] === null ? '' : `&cursor=${json['next'] as string}`
  } while (cursor)
  return found
}
const idsOf = (rows: Json[]): unknown[] => rows.map(({ id }) => id)
/** The numbers of open requests in the list of missions, by mission. */
const counted = async (bearer: string): Promise<Map<unknown, Json>> => {
  const { json } = await request('GET', '/api/missions?chats=true&limit=500', bearer)
  return new Map((json['missions'] as Json[]).map(({ id, requests }) => [id, requests as Json]))
}

void t.test('open requests: of visible missions only, the first to expire first, in pages of any size', async (t) => {
  const mine = await makeMission(instance)
  const second = await makeMission(instance)
  const theirs = await makeMission(instance, { assigned_to: 'carol' })
  const ids: string[] = []
  for (const [n, mission] of [mine, second, theirs, mine, second, mine].entries())
    ids.push(await ask(mission.id, n % 2 ? 'sofia' : 'rafael', 600 - 60 * n))
  const ended = await ask(mine.id, 'emma')
  await request('POST', `/api/missions/${mine.id}/requests/${ended}/answer`, alice, { answer: true })
  const all = ids.toReversed()
  const ofAlice = all.filter((id) => id !== ids[2])
  for (const limit of [1, 2, 5, 500]) {
    t.strictSame(idsOf(await listed(alice, limit)), ofAlice, `alice, ${limit} a page`)
    t.strictSame(idsOf(await listed(admin, limit)), all, `an admin, ${limit} a page`)
    t.strictSame(idsOf(await listed(rafael, limit)), all, `a citizen, ${limit} a page`)
  }
  t.strictSame(await listed(bob), [])
  const guest = await token({ sub: 'bob', role: 'user', missions: [theirs.number] })
  t.strictSame(idsOf(await listed(guest)), [ids[2]])
  const both = await token({ sub: 'alice', role: 'user', missions: [theirs.id, mine.id] })
  t.strictSame(idsOf(await listed(both)), all, 'each once, though two rights lead to it')
  const narrow = await token({ sub: 'emma', role: 'citizen', missions: [second.id] })
  t.strictSame(idsOf(await listed(narrow)), [ids[4], ids[1]])
  const [one] = await listed(guest)
  t.strictSame(one, (await request('GET', `/api/missions/${theirs.id}/requests/${ids[2]}`, admin)).json)
})

void t.test('open requests: bad queries are refused', async (t) => {
  for (const query of ['state=answered', 'state=', 'limit=0', 'limit=501', 'limit=x', 'cursor=x', 'cursor='])
    refused(t, await request('GET', `/api/requests?${query}`, alice), 400, 'bad_request', query)
  refused(t, await request('GET', '/api/requests'), 401, 'unauthorized')
})

void t.test('open requests: a page ends by bytes, and the next one continues after it', async (t) => {
  const { id } = await makeMission(instance, { assigned_to: 'dora' })
  const dora = await token({ sub: 'dora', role: 'user' })
  await database.query(
    `insert into deck.requests (mission_id, citizen, kind, title, body, expires_at)
     select $1, 'rafael', 'text', n::text, repeat(chr(1), 10000), now() at time zone 'utc' + interval '1 hour' + n % 7 * interval '1 s'
     from generate_series(1, 200) n`,
    [id],
  )
  const { text } = await request('GET', '/api/requests?limit=500', dora)
  t.ok(Buffer.byteLength(text) <= 4 * 1024 * 1024, `${Buffer.byteLength(text)} bytes`)
  const rows = await database.query(`select id from deck.requests where mission_id = $1 order by expires_at, id`, [id])
  t.strictSame(idsOf(await listed(dora, 500)), idsOf(rows))
})

void t.test(
  "open requests: the numbers by citizen in the list of missions equal SQL's, with the seq that they hold at",
  async (t) => {
    const { id } = await makeMission(instance, { assigned_to: 'erin' })
    const empty = await makeMission(instance, { assigned_to: 'erin' })
    const erin = await token({ sub: 'erin', role: 'user' })
    const ids: string[] = []
    for (const citizen of ['rafael', 'sofia', 'rafael', 'zoe']) ids.push(await ask(id, citizen))
    const counts = await counted(erin)
    t.strictSame([...counts.keys()], [id, empty.id])
    t.strictSame(counts.get(empty.id), { last_seq: 0, open: [] })
    t.strictSame(counts.get(id), {
      last_seq: 4,
      open: [
        { citizen: 'rafael', count: 2 },
        { citizen: 'sofia', count: 1 },
        { citizen: 'zoe', count: 1 },
      ],
    })
    await request('POST', `/api/missions/${id}/requests/${ids[0]}/answer`, erin, { answer: true })
    await request('POST', `/api/missions/${id}/requests/${ids[1]}/withdraw`, admin)
    await database.query(`select deck.ask($1, 'zoe', 'text', 'Name?', expires_in => 1)`, [id])
    await until(async () => (await counted(erin)).get(id)?.['last_seq'] === 8, 'the expiry')
    t.strictSame((await counted(erin)).get(id)?.['open'], [
      { citizen: 'rafael', count: 1 },
      { citizen: 'zoe', count: 1 },
    ])
    await database.query(
      `insert into deck.requests (mission_id, citizen, kind, title, expires_at)
     select $1, 'c' || n % 50, 'approve', 'x', now() at time zone 'utc' + interval '1 hour' from generate_series(1, 3000) n`,
      [id],
    )
    const open = ((await counted(erin)).get(id)?.['open'] ?? []) as { citizen: string; count: number }[]
    t.equal(open.length, 40)
    t.ok(open.reduce((sum, { count }) => sum + count, 0) <= 1000)
    for (const query of ['', '?chats=false']) {
      const { json } = await request('GET', `/api/missions${query}`, erin)
      t.notOk(
        (json['missions'] as Json[]).some((mission) => 'requests' in mission),
        `without chats=true (${query})`,
      )
    }
  },
)
