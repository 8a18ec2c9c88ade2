// Unread counts of all missions in one answer: GET /api/missions?chats=true, compared with SQL.
import t from 'tap'
import { admin, alice, bob, makeMission, rafael, startDeck, token, until, type Json } from '../support/server.ts'
import { refused } from '../support/forms.ts'

const { instance, database } = await startDeck(t)
const { request } = instance

type Chat = { citizen: string; last_seq: number; read_seq: number; unread: number; first_unread: number | null }
const unreadOf = ({ citizen, last_seq, read_seq, unread, first_unread }: Chat): Chat => ({
  citizen,
  last_seq,
  read_seq,
  unread,
  first_unread,
})
const listed = async (bearer: string, query = ''): Promise<Map<string, Chat[]>> => {
  const found = new Map<string, Chat[]>()
  let cursor = ''
  do {
    const { status, json, text } = await request('GET', `/api/missions?chats=true&limit=25${query}${cursor}`, bearer)
    if (status !== 200) throw new Error(text)
    for (const { id, chats } of json['missions'] as Json[]) found.set(String(id), chats as Chat[])
    cursor = json['next'] === null ? '' : `&cursor=${json['next'] as string}`
  } while (cursor)
  return found
}
/** The expected counts, by a statement that reads every message. */
const counted = async (sub: string): Promise<Map<string, Chat[]>> => {
  const rows = await database.query(
    `select m.id, coalesce(json_agg(json_build_object('citizen', c.citizen, 'last_seq', c.last, 'read_seq', c.read,
       'unread', c.unread, 'first_unread', c.first) order by c.citizen) filter (where c.citizen is not null), '[]') as chats
     from missions m
     left join lateral (
       select x.citizen, max(x.seq) as last, coalesce(max(r.seq), 0) as read,
         count(*) filter (where x.seq > coalesce(r.seq, 0) and coalesce(x.author <> $1, true)) as unread,
         min(x.seq) filter (where x.seq > coalesce(r.seq, 0) and coalesce(x.author <> $1, true)) as first
       from chat_messages x
       left join deck.reads r on r.mission_id = x.mission_id and r.citizen = x.citizen and r.sub = $1
       where x.mission_id = m.id group by x.citizen) c on true
     group by m.id`,
    [sub],
  )
  return new Map(rows.map((row) => [String(row['id']), row['chats'] as Chat[]]))
}

void t.test("unread: the counts of 60 missions equal SQL's, without the subject's own messages", async (t) => {
  const missions = await Promise.all(Array.from({ length: 60 }, () => makeMission(instance)))
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, author, message)
     select m.id, (array['emma', 'inna', 'rafael', 'sofia', 'zoe'])[1 + (n * k) % 5], case n % 3 when 0 then 'citizen' else 'user' end,
       (array['alice', 'root', null, 'rafael'])[1 + (n + k) % 4], 'message ' || n
     from unnest($1::uuid[]) with ordinality as m (id, k), generate_series(1, 80) n where k % 7 <> 0`,
    [missions.map(({ id }) => id)],
  )
  await until(async () => {
    const [row] = await database.query('select count(*)::integer as n from chat_messages where seq is null')
    return row?.['n'] === 0
  }, 'all to be numbered')
  await database.query(
    `insert into deck.reads (mission_id, citizen, sub, seq)
     select m.id, c.citizen, s.sub, (k * 3) % 17
     from unnest($1::uuid[]) with ordinality as m (id, k), unnest(array['emma', 'rafael', 'zoe']) c (citizen),
       unnest(array['alice', 'root']) s (sub) where k % 2 = 0`,
    [missions.map(({ id }) => id)],
  )
  for (const [sub, bearer] of [
    ['alice', alice],
    ['root', admin],
    ['rafael', rafael],
  ] as const) {
    const [found, expected] = [await listed(bearer), await counted(sub)]
    t.equal(found.size, 60, sub)
    for (const [id, chats] of found) t.strictSame(chats.map(unreadOf), expected.get(id), `${sub}: ${id}`)
  }
  // A new read position counts at once.
  const socket = await instance.connect(alice)
  const [{ id } = { id: '' }] = missions
  await socket.ask({ type: 'read', topic: `missions/${id}/chat/rafael`, seq: 1e6 })
  t.match(
    (await listed(alice)).get(id)?.find(({ citizen }) => citizen === 'rafael'),
    { unread: 0, first_unread: null },
  )
})

void t.test('unread: only chats of visible missions are listed, and only with chats=true', async (t) => {
  const mine = await makeMission(instance)
  const theirs = await makeMission(instance, { assigned_to: 'carol' })
  for (const { id } of [mine, theirs]) await request('POST', `/api/missions/${id}/chat/emma`, admin, { message: 'x' })
  t.ok((await listed(alice)).has(mine.id))
  t.notOk((await listed(alice)).has(theirs.id))
  t.strictSame([...(await listed(bob)).keys()], [])
  const guest = await token({ sub: 'bob', role: 'user', missions: [theirs.number] })
  t.strictSame([...(await listed(guest)).keys()], [theirs.id])
  const narrow = await token({ sub: 'emma', role: 'citizen', missions: [mine.id] })
  t.strictSame([...(await listed(narrow)).keys()], [mine.id])
  t.ok((await listed(admin, '&assigned_to=carol')).has(theirs.id))
  for (const query of ['', '?chats=false']) {
    const { json } = await request('GET', `/api/missions${query}`, alice)
    t.notOk(
      (json['missions'] as Json[]).some((mission) => 'chats' in mission),
      query,
    )
  }
  for (const query of ['chats=yes', 'chats=1', 'chats='])
    refused(t, await request('GET', `/api/missions?${query}`, alice), 400, 'bad_request', query)
})

void t.test('unread: counts end at 1,000, and a mission lists 40 chats, unread ones first', async (t) => {
  const { id } = await makeMission(instance)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     select $1, case when n > 60 then 'zz' else 'c' || lpad(n::text, 2, '0') end, 'user', 'n' from generate_series(1, 1260) n`,
    [id],
  )
  const socket = await instance.connect(alice)
  for (let n = 1; n <= 30; n++)
    await socket.ask({ type: 'read', topic: `missions/${id}/chat/c${String(n).padStart(2, '0')}`, seq: 1 })
  const chats = (await listed(alice)).get(id) ?? []
  t.equal(chats.length, 40)
  t.equal(chats.filter(({ unread }) => unread > 0).length, 31)
  t.strictSame(chats.filter(({ citizen }) => citizen === 'zz').map(unreadOf)[0], {
    citizen: 'zz',
    last_seq: 1200,
    read_seq: 0,
    unread: 1000,
    first_unread: 1,
  })
  // A cleared chat has nothing to read; its seq continues.
  const other = await makeMission(instance)
  for (const message of ['a', 'b']) await request('POST', `/api/missions/${other.id}/chat/emma`, admin, { message })
  await request('DELETE', `/api/missions/${other.id}/chat/emma`, admin)
  t.strictSame((await listed(alice)).get(other.id)?.map(unreadOf), [
    { citizen: 'emma', last_seq: 3, read_seq: 0, unread: 0, first_unread: null },
  ])
})

void t.test(
  'missions list: with chats: true it reports new chats, by API and SQL, of visible missions only',
  async (t) => {
    const { id } = await makeMission(instance)
    const other = await makeMission(instance, { assigned_to: 'carol' })
    const [wants, plain, stranger] = [
      await instance.connect(alice),
      await instance.connect(alice),
      await instance.connect(bob),
    ]
    for (const [client, chats] of [
      [wants, true],
      [plain, false],
      [stranger, true],
    ] as const)
      t.match(await client.ask({ type: 'subscribe', topic: 'missions', chats }), { type: 'ok', topic: 'missions' })
    await wants.ask({ type: 'subscribe', topic: `missions/${id}/chat/rafael` })
    const reported = (client: typeof wants): string[] =>
      client.frames.filter(({ type }) => type === 'missions.changed').map(({ mission }) => mission as string)
    await request('POST', `/api/missions/${other.id}/chat/zoe`, admin, { message: 'not visible' })
    await request('POST', `/api/missions/${id}/chat/zoe`, admin, { message: 'the first' })
    await until(() => reported(wants).length === 1, 'the first message by the API')
    await request('POST', `/api/missions/${id}/chat/zoe`, admin, { message: 'the second' })
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'yan', 'user', 'x')`,
      [id],
    )
    await until(() => reported(wants).length === 2, 'the first message by SQL')
    // A change of the mission is reported to all subscribers, after every earlier report.
    await request('PATCH', `/api/missions/${id}`, admin, { title: 'Changed' })
    await until(() => reported(plain).length === 1 && reported(wants).length === 3, 'the change')
    t.strictSame([new Set(reported(wants)), reported(stranger)], [new Set([id]), []])
    t.match(await wants.ask({ type: 'subscribe', topic: 'missions', chats: 'yes' }), {
      type: 'error',
      code: 'bad_request',
    })
  },
)

void t.test(
  'unread: each chat has the numbers of its questions by state, and whether its citizen is listening',
  async (t) => {
    const missions = await Promise.all(Array.from({ length: 3 }, () => makeMission(instance)))
    const ids = missions.map(({ id }) => id)
    // nobody works for maya; sofia has an inbox that nothing has used for a minute; rafael is at work
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, author, message)
     select m, c, 'user', 'alice', 'question ' || n
     from unnest($1::uuid[]) m, unnest(array['maya', 'sofia', 'rafael']) c, generate_series(1, 12) n`,
      [ids],
    )
    for (const sub of ['sofia', 'rafael']) {
      const socket = await instance.connect(await token({ sub, role: 'citizen' }))
      await socket.ask({ type: 'work', credit: 3 })
      await until(
        async () =>
          (await database.query('select 1 from deck.tasks where citizen = $1 and lease_until is not null', [sub]))
            .length === 3,
        `${sub} to have three tasks`,
      )
      if (sub === 'sofia') socket.socket.close()
    }
    await database.query(
      `update deck.tasks set attempt = 5, lease_until = now() - interval '1 second' where citizen = 'sofia' and seq = any ('{2, 5}')`,
    )
    await database.query(`update deck.tasks set ended = now(), lease_until = null where citizen = 'sofia' and seq = 7`)
    await database.query(
      `update deck.tasks set lease_until = now() - interval '1 second' where citizen = 'sofia' and lease_until > now()`,
    )
    await database.query(`update deck.inboxes set seen = now() - interval '61 seconds' where citizen = 'sofia'`)
    await database.query(`update deck.inboxes set seen = now() where citizen = 'rafael'`)
    for (const [id, chats] of await listed(alice)) {
      if (!ids.includes(id)) continue
      t.equal(chats.length, 3)
      for (const { citizen, ...chat } of chats as (Chat & Json)[]) {
        const rows = await database.query(
          'select state, count(*)::integer as n from deck.questions($1, $2, null, 1000000, 500) group by state',
          [id, citizen],
        )
        const states = Object.fromEntries(rows.map(({ state, n }) => [String(state), n]))
        const { waiting, working, failed, listening } = chat
        t.strictSame(
          { waiting, working, failed, listening },
          {
            waiting: states['waiting'] ?? 0,
            working: states['working'] ?? 0,
            failed: states['failed'] ?? 0,
            listening: citizen === 'rafael',
          },
          `${id} ${citizen}`,
        )
        if (citizen === 'maya') t.equal(waiting, 12, 'questions without a task count, too')
        if (citizen === 'sofia') t.match({ working, failed }, { working: 0, failed: 2 })
      }
    }
  },
)
