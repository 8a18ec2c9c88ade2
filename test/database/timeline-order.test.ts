// A page of a timeline never changes. The pages of a client that polls form the whole timeline, however writers interleave:
// batches of the API, SQL transactions that commit in any order, and transactions that are numbered early and stay open.
import fc from 'fast-check'
import type pg from 'pg'
import t from 'tap'
import { admin, alice, makeMission, startDeck, startInstance, until, type Json } from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)
const citizens = ['rafael', 'sofia', 'emma']

type Page = { events: Json[]; next: string | null; cursor: string; horizon: string }
const page = async (id: string, query: string, from = one): Promise<Page> => {
  const { status, text, json } = await from.request('GET', `/api/missions/${id}/timeline?${query}`, alice)
  if (status !== 200) throw new Error(text)
  return json as Page
}
const pages = async (id: string, limit: number, after = '', from = one) => {
  const found: { query: string; events: Json[] }[] = []
  for (let cursor = after; ;) {
    const query = `limit=${limit}${cursor && `&cursor=${cursor}`}`
    const { events, next, cursor: here } = await page(id, query, from)
    if (next !== null) found.push({ query, events })
    cursor = here
    if (next === null) return { found, cursor, last: events }
  }
}
const whole = async (id: string): Promise<Json[]> => {
  const { found, last } = await pages(id, 500)
  return [...found.flatMap(({ events }) => events), ...last]
}

/** An SQL writer: it runs its steps in order, concurrently with other writers. */
const makeWriter = (client: pg.Client, id: string) => {
  let last: Promise<unknown> = Promise.resolve()
  let open = false
  const then = (work: () => Promise<unknown>): void => {
    last = last.then(work).catch(async () => {
      open = false
      await client.query('rollback')
    })
  }
  const begin = async (): Promise<void> => {
    if (!open) await client.query('begin')
    open = true
  }
  const end = (how: 'commit' | 'rollback') => () => {
    const was = open
    open = false
    return was ? client.query(how) : Promise.resolve()
  }
  return {
    say: (citizen: string) =>
      then(async () => {
        await begin()
        await client.query(
          `insert into chat_messages (mission_id, citizen, sender, message) values ($1, $2, 'user', 'sql')`,
          [id, citizen],
        )
      }),
    add: () =>
      then(async () => {
        await begin()
        await client.query(`insert into dod_items (mission_id, text, category) values ($1, 'x', 'tests')`, [id])
      }),
    number: () => then(() => (open ? client.query('set constraints all immediate') : Promise.resolve())),
    commit: () => then(end('commit')),
    rollback: () => then(end('rollback')),
    idle: () => last,
  }
}

const clients = await Promise.all([1, 2, 3].map(() => database.connect()))
const writer = fc.nat({ max: clients.length - 1 })
const citizen = fc.constantFrom(...citizens)
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('say' as const), writer, citizen }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('add' as const), writer }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('number' as const), writer }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('commit' as const), writer }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('rollback' as const), writer }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('post' as const), citizen }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('clock' as const) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('poll' as const), limit: fc.integer({ min: 1, max: 5 }) }) },
  ),
  { minLength: 10, maxLength: 40 },
)

void t.test('timeline: a polling client receives all of it in order, whatever writers do', async (t) => {
  let polled = 0
  await fc.assert(
    fc.asyncProperty(steps, async (steps) => {
      const { id } = await makeMission(one)
      const writers = clients.map((client) => makeWriter(client, id))
      const posts: Promise<unknown>[] = []
      const given: Json[] = []
      const kept: { query: string; events: Json[] }[] = []
      let cursor = ''
      const poll = async (limit: number): Promise<void> => {
        const { found, last, cursor: here } = await pages(id, limit, cursor, polled++ % 2 ? one : two)
        cursor = here
        kept.push(...found)
        given.push(...found.flatMap(({ events }) => events), ...last)
      }
      for (const step of steps) {
        if (step.do === 'poll') await poll(step.limit)
        else if (step.do === 'clock') await new Promise((resolve) => setTimeout(resolve, 300))
        else if (step.do === 'post')
          posts.push(two.request('POST', `/api/missions/${id}/chat/${step.citizen}`, admin, { message: 'api' }))
        else if (step.do === 'say') writers[step.writer]?.say(step.citizen)
        else writers[step.writer]?.[step.do]()
      }
      for (const each of writers) each.commit()
      await Promise.all([...writers.map((each) => each.idle()), ...posts])
      const [count] = await database.query(
        `select (select count(*) from chat_messages where mission_id = $1) + (select count(*) from deck.events where topic like 'missions/' || $1::uuid || '/%') as n`,
        [id],
      )
      await until(async () => (await whole(id)).length === Number(count?.['n']), 'the horizon to be after all events')
      await poll(3)
      const all = await whole(id)
      t.strictSame(given, all)
      for (const { query, events } of kept)
        t.strictSame((await page(id, query)).events, events, 'the page is unchanged')
    }),
    { numRuns: 25 },
  )
})

void t.test('timeline: only an open transaction that is already numbered holds back newer events', async (t) => {
  const { id } = await makeMission(one)
  const other = await makeMission(one)
  const post = (citizen: string) => one.request('POST', `/api/missions/${id}/chat/${citizen}`, admin, { message: 'x' })
  const chats = async () => (await whole(id)).map(({ topic }) => String(topic).slice(51))
  const [open, idle, rogue] = clients as [pg.Client, pg.Client, pg.Client]
  await post('rafael')
  t.same(await chats(), ['rafael'], 'committed events are readable at once')
  // An open transaction that is not numbered yet delays nothing.
  await idle.query('begin')
  await idle.query(`insert into chat_messages (mission_id, sender, message) values ($1, 'user', 'late')`, [id])
  // A session that holds a numbering lock and numbers nothing.
  await rogue.query(`select pg_advisory_lock_shared(47470016, 1)`)
  await post('sofia')
  t.same(await chats(), ['rafael', 'sofia'])
  await open.query('begin')
  await open.query(`insert into chat_messages (mission_id, sender, message) values ($1, 'user', 'x')`, [other.id])
  await open.query('set constraints all immediate')
  const { horizon } = await page(id, '')
  await until(async () => {
    await post('emma')
    return (await chats()).length < 3
  }, 'newer events to be held back')
  t.equal((await page(id, '')).horizon, horizon)
  await open.query('rollback')
  const [count] = await database.query('select count(*)::integer as n from chat_messages where mission_id = $1', [id])
  await until(async () => (await chats()).length === count?.['n'], 'all events')
  // A session that holds the numbering locks exclusively does not block writers.
  const now = Math.floor(Date.now() / 1000) - 1577836800
  for (let n = 0; n < 60; n++) await rogue.query('select pg_advisory_lock(47470016, $1)', [now + n])
  t.equal((await post('rafael')).status, 201)
  await idle.query('commit')
  await rogue.query('select pg_advisory_unlock_all()')
  t.equal((await whole(id)).length, Number(count?.['n']) + 2)
})

void t.test(
  'timeline: when the clock is set back, no event gets a time before a reported horizon, and all are readable',
  async (t) => {
    const { id } = await makeMission(one)
    const read: Json[] = []
    let cursor = ''
    const poll = async (from = one): Promise<void> => {
      const { found, cursor: here, last } = await pages(id, 7, cursor, from)
      read.push(...found.flatMap(({ events }) => events), ...last)
      cursor = here
    }
    const say = (citizen: string, from = one): Promise<unknown> =>
      from.request('POST', `/api/missions/${id}/chat/${citizen}`, admin, { message: 'hi' })
    const has = (count: number) => until(async () => (await poll(), read.length >= count), `${String(count)} events`)

    await Promise.all(citizens.map((citizen) => say(citizen)))
    await has(3)
    // As if the clock had been ahead when the horizon was read, by more than the duration of this test.
    await database.query(
      `select setval('deck.settled', ((extract(epoch from clock_timestamp() at time zone 'utc' - timestamp '2020-01-01') + 600) * 1000000)::bigint)`,
    )
    await poll()
    await poll(two)
    const sql = await database.connect()
    for (let round = 1; round <= 5; round++) {
      await Promise.all([
        ...citizens.map((citizen) => say(citizen, round % 2 === 0 ? one : two)),
        sql.query(
          `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'emma', 'user', 'sql')`,
          [id],
        ),
        sql.query(`insert into dod_items (mission_id, category, text) values ($1, 'tests', 'sql')`, [id]),
        poll(),
      ])
      await has(3 + 5 * round)
      await poll(two)
    }
    t.strictSame(read, await whole(id), 'the polled events are the whole timeline, in order')
  },
)
