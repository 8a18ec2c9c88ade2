// Questions of a chat: their states, pages and counts, retry and cancel.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import {
  admin,
  alice,
  bob,
  makeMission,
  startDeck,
  token,
  until,
  type Answer,
  type Client,
  type Json,
} from '../support/server.ts'

const { instance, database } = await startDeck(t)
const { request } = instance

let citizens = 0
const makeChat = async () => {
  const name = `worker${citizens++}`
  const { id, number } = await makeMission(instance)
  const bearer = await token({ sub: name, role: 'citizen' })
  return {
    name,
    bearer,
    mission: id,
    number,
    chat: `/api/missions/${id}/chat/${name}`,
    topic: `missions/${id}/chat/${name}`,
  }
}
type Chat = Awaited<ReturnType<typeof makeChat>>
const ask = async ({ chat }: Chat, message = 'q'): Promise<string> =>
  String((await request('POST', chat, alice, { message })).json['id'])
const page = async ({ chat }: Chat, query = '', bearer = alice): Promise<Json & { questions: Json[] }> => {
  const { status, text, json } = await request('GET', `${chat}/questions${query}`, bearer)
  if (status !== 200) throw new Error(text)
  return json as never
}
const states = async (chat: Chat): Promise<unknown[]> => (await page(chat)).questions.map(({ state }) => state)
const change = ({ chat }: Chat, id: string, what: 'retry' | 'cancel', bearer = alice): Promise<Answer> =>
  request('POST', `${chat}/questions/${id}/${what}`, bearer)
const work = async ({ bearer }: Chat, credit = 1): Promise<Client> => {
  const client = await instance.connect(bearer)
  t.match(await client.ask({ type: 'work', credit }), { type: 'ok' })
  return client
}
const taskOf = (client: Client, task: string, attempt = 1): Promise<Json> =>
  client.frame((f) => f['type'] === 'task' && f['task'] === task && f['attempt'] === attempt, `task ${task}`)
const counts = async ({ mission, name }: Chat): Promise<Json> => {
  const { json } = await request('GET', `/api/missions/${mission}/chat`, alice)
  const found = (json['channels'] as Json[]).find(({ citizen }) => citizen === name) ?? {}
  const { listening, waiting, working, failed } = found
  return { listening, waiting, working, failed }
}

void t.test('questions: a message waits, is worked on, and is answered by the reply that names its task', async (t) => {
  const chat = await makeChat()
  const first = await ask(chat, 'first')
  const asked = (await page(chat)).questions[0] ?? {}
  const [row] = await database.query('select deck.iso(created_at) as since from chat_messages where id = $1', [first])
  t.strictSame(await page(chat), {
    questions: [
      {
        id: first,
        seq: 1,
        state: 'waiting',
        attempt: 0,
        since: row?.['since'],
        until: null,
        answer: null,
      },
    ],
    listening: false,
    has_more: false,
  })
  const worker = await work(chat)
  const { lease_until } = await taskOf(worker, first)
  const working = (await page(chat)).questions[0] ?? {}
  t.match(working, { id: first, state: 'working', attempt: 1, answer: null })
  t.ok(String(working['since']) > String(asked['since']))
  t.equal(String(working['until']).slice(0, 22), String(lease_until).slice(0, 22))
  t.equal((await page(chat))['listening'], true, 'it holds a lease')
  t.strictSame(await counts(chat), { listening: true, waiting: 0, working: 1, failed: 0 })
  const sent = await worker.ask({ type: 'send', topic: chat.topic, message: 'a', task: first })
  const { id } = sent['message'] as Json
  t.match((await page(chat)).questions, [
    { id: first, state: 'answered', attempt: 1, until: null, answer: { id, seq: 2 } },
  ])
  const second = await ask(chat, 'second')
  await taskOf(worker, second)
  t.match(await worker.ask({ type: 'done', task: second }), { type: 'ok' })
  t.strictSame(await states(chat), ['answered', 'closed'])
  t.strictSame(
    (await page(chat, '?state=closed')).questions.map((q) => q['id']),
    [second],
  )
})

void t.test(
  'questions: without an inbox, the messages behind the last reply wait; older than seven days they are none',
  async (t) => {
    const chat = await makeChat()
    await ask(chat, 'before a reply')
    t.match(await request('POST', chat.chat, chat.bearer, { message: 'a reply that names nothing' }), { status: 201 })
    t.strictSame(await states(chat), [])
    const insert = (created: string) =>
      database.query(
        `insert into chat_messages (mission_id, citizen, sender, message, created_at)
       values ($1, $2, 'user', 'by SQL', now() at time zone 'utc' - $3::interval) returning id`,
        [chat.mission, chat.name, created],
      )
    await insert('8 days')
    const [recent] = await insert('6 days')
    t.strictSame(
      (await page(chat)).questions.map((q) => q['id']),
      [recent?.['id']],
    )
    t.strictSame(await counts(chat), { listening: false, waiting: 1, working: 0, failed: 0 })
  },
)

void t.test('questions: a reply that names a message without a task answers it; a user’s does not', async (t) => {
  const chat = await makeChat()
  const [first, second] = [await ask(chat, 'first'), await ask(chat, 'second')]
  t.match(await request('POST', chat.chat, alice, { message: 'me too', reply_to: first }), { status: 201 })
  t.strictSame(await states(chat), ['waiting', 'waiting', 'waiting'])
  const reply = (await request('POST', chat.chat, chat.bearer, { message: 'a', reply_to: first })).json
  await request('POST', chat.chat, chat.bearer, { message: 'more', reply_to: first })
  t.match((await page(chat)).questions, [{ id: first, state: 'answered', answer: { id: reply['id'], seq: 4 } }])
  t.equal((await change(chat, second, 'cancel')).status, 404, 'it stands before the last reply, so it is no question')
})

void t.test('questions: pages of every state are newest last, bounded by before and limit', async (t) => {
  const chat = await makeChat()
  const ids: string[] = []
  for (let n = 0; n < 12; n++) ids.push(await ask(chat, `${n}`))
  for (const query of ['', '?limit=500', '?state=waiting', '?before=13'])
    t.strictSame(
      (await page(chat, query)).questions.map((q) => q['id']),
      ids,
      query,
    )
  t.match(await page(chat, '?limit=5'), { has_more: true, questions: ids.slice(7).map((id) => ({ id })) })
  t.match(await page(chat, '?limit=5&before=8'), { has_more: true, questions: ids.slice(2, 7).map((id) => ({ id })) })
  t.match(await page(chat, '?limit=2&before=3'), { has_more: false, questions: ids.slice(0, 2).map((id) => ({ id })) })
  t.strictSame(await page(chat, '?before=0'), { questions: [], listening: false, has_more: false })
  // Tasks of every state, with messages that the inbox has not read behind them.
  await database.query('select deck.open_inbox($1)', [chat.name])
  await database.query('select deck.find_tasks($1, null, 100)', [chat.name])
  const set = (n: number, columns: string) => database.query(`update deck.tasks set ${columns} where id = $1`, [ids[n]])
  await set(0, 'ended = now(), answered = true')
  await set(1, 'ended = now()')
  await set(2, `attempt = 2, holder = gen_random_uuid(), lease_until = now() + interval '1 hour'`)
  await set(3, 'attempt = 5, dead = true')
  await set(4, `attempt = 5, holder = gen_random_uuid(), lease_until = now() - interval '1 s'`)
  await set(5, `attempt = 1, holder = gen_random_uuid(), lease_until = now() - interval '1 s'`)
  const last = await ask(chat, 'not read by the inbox')
  const wanted = ['answered', 'closed', 'working', 'failed', 'failed', ...Array<string>(8).fill('waiting')]
  const all = [...ids, last]
  t.strictSame(await states(chat), wanted)
  for (const state of ['answered', 'closed', 'working', 'failed', 'waiting'])
    for (const limit of [1, 2, 50]) {
      const fit = all.filter((_, n) => wanted[n] === state)
      const { questions, has_more } = await page(chat, `?state=${state}&limit=${limit}`)
      t.strictSame(
        questions.map((q) => q['id']),
        fit.slice(-limit),
        `${state}, ${limit}`,
      )
      t.ok(questions.every((q) => q['state'] === state))
      t.equal(has_more, fit.length > limit)
    }
  t.match((await page(chat)).questions[5], { state: 'waiting', attempt: 1, until: null })
  t.strictSame(await counts(chat), { listening: true, waiting: 8, working: 1, failed: 2 })
})

void t.test('questions: without an inbox, pages and counts of random chats agree with the rule', async (t) => {
  for (let round = 0; round < 12; round++) {
    const chat = await makeChat()
    // Mostly messages of users, some of them old, and few of the citizen; some were closed.
    const kinds = Array.from(
      { length: 40 },
      () =>
        ['user', 'user', 'user', 'user', 'old', 'closed', 'citizen'][Math.floor(Math.random() * (round % 2 ? 6.1 : 7))],
    )
    const rows = await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message, created_at)
       select $1, $2, case k when 'citizen' then 'citizen' else 'user' end, k,
         now() at time zone 'utc' - case k when 'old' then interval '8 days' else interval '1 day' end
       from unnest($3::text[]) with ordinality as x (k, n) order by n returning id`,
      [chat.mission, chat.name, kinds],
    )
    await database.query(
      `insert into deck.tasks (id, citizen, mission_id, seq, at, ended)
       select id, citizen, mission_id, seq, at, now() from chat_messages where mission_id = $1 and message = 'closed'`,
      [chat.mission],
    )
    const last = kinds.lastIndexOf('citizen')
    const wanted = kinds.flatMap((kind, n) =>
      kind === 'closed' ? [`closed ${n + 1}`] : kind === 'user' && n > last ? [`waiting ${n + 1}`] : [],
    )
    t.equal(rows.length, 40)
    for (const limit of [1, 2, 3, 7, 500]) {
      const found: string[] = []
      for (let before = 1000, more = true; more;) {
        const { questions, has_more } = await page(chat, `?limit=${limit}&before=${before}`)
        found.unshift(...questions.map(({ state, seq }) => `${String(state)} ${String(seq)}`))
        before = Number(questions[0]?.['seq'] ?? 0)
        more = has_more === true
      }
      t.strictSame(found, wanted, `${limit} a page: ${kinds.join(' ')}`)
    }
    t.match(await counts(chat), { waiting: wanted.filter((one) => one.startsWith('waiting')).length })
  }
})

void t.test('questions: counts end at 1,000 for each state separately', async (t) => {
  const chat = await makeChat()
  await database.query('select deck.open_inbox($1)', [chat.name])
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) select $1, $2, 'user', n::text from generate_series(1, 3500) n`,
    [chat.mission, chat.name],
  )
  t.match(await counts(chat), { waiting: 1000, working: 0, failed: 0 })
  await database.query('select deck.find_tasks($1, null, 10000)', [chat.name])
  await database.query(
    `update deck.tasks set attempt = 1, lease_until = now() + interval '1 hour', holder = gen_random_uuid() where citizen = $1 and seq > 3498`,
    [chat.name],
  )
  await database.query(
    'update deck.tasks set attempt = 5, dead = true where citizen = $1 and seq between 3000 and 3002',
    [chat.name],
  )
  t.match(await counts(chat), { waiting: 1000, working: 2, failed: 3 })
})

void t.test('retry: a failed question waits again, from attempt 0, and a worker gets it', async (t) => {
  const chat = await makeChat()
  const worker = await work(chat)
  const id = await ask(chat)
  for (let attempt = 1; attempt <= 5; attempt++) {
    await taskOf(worker, id, attempt)
    if (attempt === 5) t.match(await worker.ask({ type: 'work', credit: 0 }), { type: 'ok' })
    t.match(await worker.ask({ type: 'release', task: id }), { type: 'ok' })
  }
  t.match((await page(chat)).questions, [{ id, state: 'failed', attempt: 5, until: null }])
  t.match(await counts(chat), { waiting: 0, failed: 1 })
  t.equal((await change(chat, id, 'cancel')).json['code'], 'conflict')
  const retried = await change(chat, id.toUpperCase(), 'retry')
  t.match(
    [retried.status, retried.json],
    [200, { id, seq: 1, state: 'waiting', attempt: 0, until: null, answer: null }],
  )
  t.strictSame((await page(chat)).questions, [retried.json])
  t.equal((await change(chat, id, 'retry')).json['code'], 'conflict', 'it waits already')
  const before = worker.frames.length
  t.match(await worker.ask({ type: 'work', credit: 1 }), { type: 'ok' })
  await until(() => worker.frames.slice(before).some((f) => f['task'] === id && f['attempt'] === 1), 'the task again')
  t.match(await worker.ask({ type: 'send', topic: chat.topic, message: 'a', task: id }), { type: 'ok' })
  t.strictSame(await states(chat), ['answered'])
})

void t.test('cancel: a waiting question is closed, with and without a task; no worker gets it', async (t) => {
  const chat = await makeChat()
  const [first, second] = [await ask(chat, 'first'), await ask(chat, 'second')]
  const closed = await change(chat, first, 'cancel', admin)
  t.match(
    [closed.status, closed.json],
    [200, { id: first, seq: 1, state: 'closed', attempt: 0, until: null, answer: null }],
  )
  t.equal((await change(chat, first, 'cancel')).json['code'], 'conflict')
  t.equal((await change(chat, first, 'retry')).json['code'], 'conflict')
  t.strictSame(await states(chat), ['closed', 'waiting'])
  const worker = await work(chat)
  await taskOf(worker, second)
  t.match(await worker.ask({ type: 'release', task: second, after: 3600 }), { type: 'ok' })
  t.match((await change(chat, second, 'cancel')).json, { state: 'closed', attempt: 1 })
  const third = await ask(chat, 'third')
  await taskOf(worker, third)
  t.strictSame(
    worker.frames.filter((f) => f['type'] === 'task').map((f) => f['task']),
    [second, third],
  )
  t.match(await worker.ask({ type: 'send', topic: chat.topic, message: 'late', task: second }), { code: 'conflict' })
})

void t.test('cancel: a working question stays so until its holder ends it, and can be cancelled again', async (t) => {
  const chat = await makeChat()
  const worker = await work(chat)
  const id = await ask(chat)
  await taskOf(worker, id)
  for (const n of [1, 2]) {
    const { status, json } = await change(chat, id, 'cancel')
    t.match([status, json], [200, { id, state: 'working', attempt: 1 }], `${n}`)
  }
  t.match(await database.query('select cancelled from deck.tasks where id = $1', [id]), [{ cancelled: true }])
  t.equal((await change(chat, id, 'retry')).json['code'], 'conflict')
  t.match(await worker.ask({ type: 'done', task: id }), { type: 'ok' })
  t.strictSame(await states(chat), ['closed'])
  t.equal((await change(chat, id, 'cancel')).json['code'], 'conflict')
})

void t.test(
  'questions: an unknown id, another chat’s or no question is not_found; bad input is bad_request; nothing changes',
  async (t) => {
    const chat = await makeChat()
    const other = await makeChat()
    const id = await ask(chat)
    const foreign = await ask(other)
    const reply = String((await request('POST', other.chat, other.bearer, { message: 'a' })).json['id'])
    await ask(chat, 'second')
    const before = await page(chat)
    for (const what of ['retry', 'cancel'] as const) {
      for (const given of [randomUUID(), foreign, reply])
        t.match((await change(chat, given, what)).json, { code: 'not_found' }, `${what} ${given}`)
      for (const given of ['1', 'x', `${id}0`, '%00'])
        t.match((await change(chat, given, what)).json, { code: 'bad_request' }, `${what} ${given}`)
      t.match(await change(chat, id, what, bob), { status: 404 }, 'a mission that the user may not see')
      t.match(await change(chat, id, what, chat.bearer), { status: 403, json: { code: 'forbidden' } }, 'the citizen')
      t.equal((await request('POST', `${chat.chat}/questions/${id}/${what}`)).status, 401)
    }
    for (const query of [
      'state=open',
      'state=',
      'limit=0',
      'limit=501',
      'limit=x',
      'before=-1',
      'before=1.5',
      'state=a&state=b',
    ])
      t.match(
        await request('GET', `${chat.chat}/questions?${query}`, alice),
        { status: 400, json: { code: 'bad_request' } },
        query,
      )
    t.equal((await request('GET', `/api/missions/${chat.mission}/chat/Not-a-name/questions`, alice)).status, 400)
    t.equal((await request('GET', `${chat.chat}/questions`, bob)).status, 404)
    t.equal((await request('GET', `/api/missions/${randomUUID()}/chat/rafael/questions`, admin)).status, 404)
    t.strictSame(await page(chat), before)
    t.match(await page(chat, '', chat.bearer), before, 'the citizen reads them')
    t.match((await request('GET', `/api/missions/${chat.number}/chat/${chat.name}/questions`, alice)).json, before)
  },
)

void t.test('questions: those of a cleared chat, or whose message SQL deleted, are gone', async (t) => {
  const chat = await makeChat()
  const worker = await work(chat)
  const [first] = [await ask(chat, 'first'), await ask(chat, 'second')]
  await taskOf(worker, first ?? '')
  await database.query('delete from chat_messages where id = $1', [first])
  t.match((await page(chat)).questions, [{ seq: 2, state: 'waiting' }])
  t.equal((await change(chat, first ?? '', 'cancel')).status, 404)
  t.equal((await request('DELETE', chat.chat, admin)).status, 204)
  t.strictSame((await page(chat)).questions, [])
  t.match(await counts(chat), { waiting: 0, working: 0, failed: 0 })
})

void t.test('questions: many cancels and claims of the same questions at once end each question once', async (t) => {
  const chat = await makeChat()
  const worker = await work(chat, 100)
  const ids = await Promise.all(Array.from({ length: 40 }, (_, n) => ask(chat, `${n}`)))
  const answers = await Promise.all(
    ids.flatMap((id) => [change(chat, id, 'cancel'), change(chat, id, 'cancel', admin)]),
  )
  t.ok(answers.every(({ status }) => status === 200 || status === 409))
  for (const frame of worker.frames.filter((f) => f['type'] === 'task'))
    t.match(await worker.ask({ type: 'done', task: frame['task'] }), { type: 'ok' })
  await until(async () => (await states(chat)).every((state) => state === 'closed'), 'all to be closed')
})

void t.test('retry: counts as a message of the user', async (t) => {
  const slow = await startDeck(t, { limits: { userMessagesPerSecond: 0.001, userMessagesBurst: 2 } })
  const { id } = await makeMission(slow.instance)
  const chat = `/api/missions/${id}/chat/rafael`
  const { json } = await slow.instance.request('POST', chat, alice, { message: 'q' })
  await slow.database.query(`select deck.open_inbox('rafael'), deck.find_tasks('rafael', null, 10)`)
  await slow.database.query('update deck.tasks set attempt = 5')
  const path = `${chat}/questions/${String(json['id'])}/retry`
  t.equal((await slow.instance.request('POST', path, alice)).status, 200)
  await slow.database.query('update deck.tasks set attempt = 5')
  t.match(await slow.instance.request('POST', path, alice), { status: 429, json: { code: 'rate_limited' } })
  t.match(await slow.database.query('select attempt from deck.tasks'), [{ attempt: 5 }])
  t.equal((await slow.instance.request('POST', path, admin)).status, 200)
})
