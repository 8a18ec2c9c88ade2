// State at a past time: the mission, its checklist, its test runs and its chats, as a client saw them then.
import t, { type Test } from 'tap'
import { refused } from '../support/forms.ts'
import { admin, alice, bob, makeMission, rafael, startDeck, type Json } from '../support/server.ts'
import { insertMission } from '../support/database.ts'

const { instance, database } = await startDeck(t)
const { request } = instance

/** Reads everything that has a state at a time, now or at `at`. */
const stateOf = async (id: string, at = '', run?: string): Promise<Json[]> => {
  const paths = ['', '/dod', '/tests', ...(run === undefined ? [] : ['/tests/latest', `/tests/${run}`])]
  const answers = await Promise.all(
    paths.map((path) => request('GET', `/api/missions/${id}${path}${at && `?at=${at}`}`, alice)),
  )
  return answers.map(({ json }) => json)
}
/** The database's clock. */
const now = async (): Promise<string> =>
  String(
    (
      await database.query(
        `select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as now`,
      )
    )[0]?.['now'],
  )

void t.test('state at a time: every earlier state is returned for its time', async (t) => {
  const { id } = await makeMission(instance)
  const at = `/api/missions/${id}`
  const add = async (text: string) =>
    (await request('POST', `${at}/dod`, rafael, { text, category: 'tests' })).json['id']
  const states: { time: string; state: Json[]; what: string }[] = []
  const note = async (what: string, run?: string) =>
    states.push({ time: await now(), state: await stateOf(id, '', run), what })
  await note('new')
  const one = await add('one')
  await note('an item')
  const two = await add('two')
  await request('PATCH', `${at}/dod/${String(one)}`, alice, { completed: true })
  await note('ticked')
  const run = String((await request('POST', `${at}/tests`, rafael, {})).json['id'])
  await note('a run', run)
  await request('PATCH', `${at}/tests/${run}`, rafael, { status: 'failed', results: [{ name: 'x' }] })
  const other = (await request('POST', `${at}/tests`, rafael, { status: 'passed' })).json['id']
  await note('two runs', run)
  await request('DELETE', `${at}/dod/${String(one)}`, admin)
  await note('an item less', run)
  await request('PATCH', at, admin, { title: 'New' })
  await note('another title', run)
  await request('POST', `${at}/dod/complete`, alice)
  await note('all done', run)
  await database.query(`update missions set status = 'complete' where id = $1`, [id])
  await database.query('delete from test_runs where id = $1', [other])
  await database.query(
    `insert into dod_items (mission_id, text, category) values ($1, 'a', 'tests'), ($1, 'b', 'tests')`,
    [id],
  )
  await note('by SQL', run)
  await database.query('delete from dod_items where id = $1', [two])
  await note('deleted by SQL', run)
  for (const { time, state, what } of states) {
    const then = await stateOf(id, time, state.length > 3 ? run : undefined)
    t.strictSame(then, state, what)
  }
  t.strictSame(
    await stateOf(id, '2999-01-01T00:00:00Z', run),
    await stateOf(id, '', run),
    'a future time gives the current state',
  )
  const missing = await request('GET', `${at}/tests/${run}?at=${states[1]?.time}`, alice)
  refused(t, missing, 404, 'not_found', 'a run that did not exist yet')
  const before = '2000-01-01T00:00:00Z'
  for (const path of ['', '/dod', '/tests', '/tests/latest'])
    refused(
      t,
      await request('GET', `${at}${path}?at=${before}`, alice),
      404,
      'not_found',
      `${path} before the mission was created`,
    )
  for (const path of ['', '/dod', '/tests']) {
    refused(t, await request('GET', `${at}${path}?at=2000-01-01`, alice), 400, 'bad_request', `${path}, not a time`)
    refused(
      t,
      await request('GET', `${at}${path}?at=${states[3]?.time}`, bob),
      404,
      'not_found',
      `${path}, without access`,
    )
  }
})

void t.test('state at a time: includes an event at its exact time, and not one microsecond earlier', async (t) => {
  const { id, number } = await makeMission(instance)
  await request('PATCH', `/api/missions/${id}`, admin, { title: 'New' })
  const [row] = await database.query(
    `select to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, to_char(at - interval '1 us', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as before
     from deck.events where topic = $1`,
    [`missions/${id}`],
  )
  const title = async (at: unknown) =>
    (await request('GET', `/api/missions/${number}?at=${String(at)}`, alice)).json['title']
  t.equal(await title(row?.['at']), 'New')
  t.equal(await title(row?.['before']), 'Telegram Notifier')
  t.equal(await title(String(row?.['before']).replace('Z', '999Z')), 'Telegram Notifier', 'digits below a microsecond')
})

void t.test(
  'state at a time: a chat has the messages up to that time in the timeline, whatever their created_at',
  async (t) => {
    const { id } = await makeMission(instance)
    const chat = `/api/missions/${id}/chat/rafael`
    const say = async (message: string) => (await request('POST', chat, alice, { message })).json['seq']
    const read = async (query: string) => {
      const { json } = await request('GET', `${chat}?${query}`, alice)
      return [(json['messages'] as Json[]).map(({ message }) => message), json['last_seq'], json['has_more']]
    }
    const first = await now()
    await say('one')
    const second = await now()
    // Its created_at is old, but it is inserted now.
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message, created_at) values ($1, 'rafael', 'user', 'old', '2020-01-01')`,
      [id],
    )
    const third = await now()
    await say('three')
    t.strictSame(await read(`at=${first}`), [[], 0, false])
    t.strictSame(await read(`at=${second}`), [['one'], 1, false])
    t.strictSame(await read(`at=${third}`), [['one', 'old'], 2, false])
    t.strictSame(await read(`at=${third}&limit=1`), [['old'], 2, true])
    t.strictSame(await read(`at=${third}&before=2`), [['one'], 2, false])
    t.strictSame(await read(`at=${third}&q=three`), [[], 2, false])
    t.strictSame(await read(`at=${third}&q=one`), [['one'], 2, false])
    t.strictSame(await read('at=2999-01-01T00:00:00Z'), [['one', 'old', 'three'], 3, false])
    await request('DELETE', chat, admin)
    const cleared = await now()
    await say('after')
    t.strictSame(await read(`at=${third}`), [[], 0, false], 'cleared messages are also missing from past states')
    t.strictSame(await read(`at=${cleared}`), [[], 4, false])
    refused(
      t,
      await request('GET', `${chat}?at=2000-01-01T00:00:00Z`, alice),
      404,
      'not_found',
      'before the mission was created',
    )
    refused(t, await request('GET', `${chat}?at=${third}`, bob), 404, 'not_found', 'without access')
    refused(t, await request('GET', `${chat}?at=yesterday`, alice), 400, 'bad_request', 'no time')
    for (const accept of ['application/x-ndjson', 'text/event-stream'])
      refused(t, await request('GET', `${chat}?at=${third}`, alice, undefined, { accept }), 400, 'bad_request', accept)
  },
)

void t.test('state at a time: test runs are paged, newest first', async (t) => {
  const { id } = await makeMission(instance)
  const tests = `/api/missions/${id}/tests`
  const made: unknown[] = []
  for (let n = 0; n < 5; n++) made.unshift((await request('POST', tests, rafael, {})).json['id'])
  const at = await now()
  await request('POST', tests, rafael, {})
  await database.query('delete from test_runs where id = $1', [made[2]])
  const found: unknown[] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const { json } = await request('GET', `${tests}?at=${at}&limit=2${cursor && `&cursor=${cursor}`}`, alice)
    found.push(...(json['test_runs'] as Json[]).map((run) => run['id']))
    cursor = json['next'] as string | null
  }
  t.strictSame(found, made)
  t.equal((await request('GET', `${tests}/latest?at=${at}`, alice)).json['id'], made[0])
})

void t.test('state at a time: a mission that one transaction inserts and changes begins as inserted', async (t) => {
  const client = await database.connect()
  await client.query('begin')
  const { rows } = await client.query<{ id: string }>(
    `insert into missions (title, client, budget, deadline, status, assigned_to) values ('A', 'Acme', 1, '2030-01-01', 'active', 'alice') returning id`,
  )
  const id = rows[0]?.id ?? ''
  await client.query(`update missions set title = 'B' where id = $1`, [id])
  const between = await now()
  await client.query('commit')
  t.match((await stateOf(id, between))[0], { title: 'A', seq: 0 })
  t.match((await stateOf(id))[0], { title: 'B', seq: 1 })
  const same = await insertMission(database)
  await database.query(`update missions set title = title where id = $1`, [same])
  const { status } = await request('GET', `/api/missions/${same}?at=${await now()}`, admin)
  t.equal(status, 200)
  await database.query('delete from missions where id = any ($1)', [[id, same]])
  t.same(await database.query('select from deck.beginnings where mission_id = any ($1)', [[id, same]]), [])
})

void t.test('state at a time: no past state is invented when a mission’s beginning is not stored', async (t: Test) => {
  const { id } = await makeMission(instance)
  const before = await now()
  await request('PATCH', `/api/missions/${id}`, admin, { title: 'New' })
  await database.query('delete from deck.beginnings where mission_id = $1', [id])
  refused(t, await request('GET', `/api/missions/${id}?at=${before}`, alice), 404, 'not_found')
  t.match((await stateOf(id, await now()))[0], { title: 'New' })
})
