// The states of questions as signals, on two instances of one database, and cancels that reach the holder of a task.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { makeNats, noNats } from '../support/nats-server.ts'
import {
  admin,
  alice,
  makeMission,
  startDeck,
  startInstance,
  token,
  until,
  type Answer,
  type Client,
  type Instance,
  type Json,
} from '../support/server.ts'

const { instance: one, database } = await startDeck(t, { limits: { renewEvery: 200 } })
const two = await startInstance(t, database.url)
const both = [one, two]

let citizens = 0
const makeChat = async () => {
  const name = `asked${citizens++}`
  const { id } = await makeMission(one)
  const bearer = await token({ sub: name, role: 'citizen' })
  return { name, bearer, mission: id, topic: `missions/${id}/chat/${name}` }
}
type Chat = Awaited<ReturnType<typeof makeChat>>
const follow = async (
  on: Instance,
  { topic }: Chat,
  more: Json = { questions: true },
  who = alice,
): Promise<Client> => {
  const client = await on.connect(who)
  t.match(await client.ask({ type: 'subscribe', topic, ...more }), { type: 'ok' })
  return client
}
const followers = (chat: Chat): Promise<Client[]> => Promise.all(both.map((on) => follow(on, chat)))
const of = (client: Client, type: string): Json[] => client.frames.filter((frame) => frame['type'] === type)
/** Waits until each client has received a state. */
const seen = async (clients: Client[], want: Json, what: string): Promise<void> => {
  const names = Object.keys(want)
  const fits = (frame: Json): boolean =>
    names.every((name) => JSON.stringify(frame[name]) === JSON.stringify(want[name]))
  for (const client of clients)
    await until(() => of(client, 'question').some(fits), what).catch(() =>
      t.fail(what, { want, got: of(client, 'question') }),
    )
  t.pass(what)
}
const ask = async ({ topic }: Chat, message = 'q'): Promise<string> =>
  String((await one.request('POST', `/api/${topic}`, alice, { message })).json['id'])
const work = async (on: Instance, { bearer }: Chat, credit = 1): Promise<Client> => {
  const client = await on.connect(bearer)
  t.match(await client.ask({ type: 'work', credit }), { type: 'ok' })
  return client
}
const taskOf = (client: Client, task: string, attempt = 1): Promise<Json> =>
  client.frame((f) => f['type'] === 'task' && f['task'] === task && f['attempt'] === attempt, `task ${task}`)
const change = (on: Instance, { topic }: Chat, id: string, what: 'retry' | 'cancel', who = alice): Promise<Answer> =>
  on.request('POST', `/api/${topic}/questions/${id}/${what}`, who)

void t.test('question frames: each change reaches the subscribers on both instances, as reads show it', async (t) => {
  const chat = await makeChat()
  const clients = await followers(chat)
  const id = await ask(chat)
  await seen(clients, { id, seq: 1, state: 'waiting', attempt: 0, until: null, answer: null, listening: false }, 'new')
  const { json } = await two.request('GET', `/api/${chat.topic}/questions`, alice)
  t.strictSame(
    of(clients[0] as Client, 'question'),
    [{ type: 'question', topic: chat.topic, listening: false, ...(json['questions'] as Json[])[0] }],
    'once, as reads show it',
  )
  const worker = await work(one, chat)
  const { lease_until } = await taskOf(worker, id)
  await seen(clients, { id, state: 'working', attempt: 1, listening: true }, 'a claim')
  const renewed = (frame: Json): boolean =>
    frame['state'] === 'working' && String(frame['until']) > String(lease_until).slice(0, 22) + '9'
  for (const client of clients) await until(() => of(client, 'question').some(renewed), 'a renewal')
  t.match(await worker.ask({ type: 'work', credit: 0 }), { type: 'ok' })
  t.match(await worker.ask({ type: 'release', task: id }), { type: 'ok' })
  await seen(clients, { id, state: 'waiting', attempt: 1, until: null }, 'a release')
  for (let attempt = 2; attempt <= 5; attempt++) {
    t.match(await worker.ask({ type: 'work', credit: 1 }), { type: 'ok' })
    await taskOf(worker, id, attempt)
    await seen(clients, { id, state: 'working', attempt }, `claim ${attempt}`)
    t.match(await worker.ask({ type: 'work', credit: 0 }), { type: 'ok' })
    t.match(await worker.ask({ type: 'release', task: id }), { type: 'ok' })
  }
  await seen(clients, { id, state: 'failed', attempt: 5 }, 'the fifth attempt')
  t.equal((await change(two, chat, id, 'retry')).status, 200)
  await seen(clients, { id, state: 'waiting', attempt: 0 }, 'a retry')
  const other = await ask(chat, 'other')
  t.equal((await change(two, chat, other, 'cancel')).status, 200)
  await seen(clients, { id: other, state: 'closed', attempt: 0 }, 'a cancel')
  t.match(await worker.ask({ type: 'work', credit: 1 }), { type: 'ok' })
  await until(
    () => of(worker, 'task').filter((f) => f['task'] === id && f['attempt'] === 1).length === 2,
    'the task again',
  )
  const sent = await worker.ask({ type: 'send', topic: chat.topic, message: 'a', task: id })
  const { id: answer, seq } = sent['message'] as Json
  await seen(clients, { id, state: 'answered', answer: { id: answer, seq } }, 'a reply')
  const third = await ask(chat, 'third')
  await taskOf(worker, third)
  t.match(await worker.ask({ type: 'done', task: third }), { type: 'ok' })
  await seen(clients, { id: third, state: 'closed', attempt: 1, answer: null }, 'done')
})

void t.test('question frames: the fifth attempt that a worker notices, and questions and replies by SQL', async (t) => {
  const chat = await makeChat()
  const clients = await followers(chat)
  const insert = async (sender: string, reply: unknown = null): Promise<string> => {
    const [row] = await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message, in_reply_to) values ($1, $2, $3, 'by SQL', $4) returning id`,
      [chat.mission, chat.name, sender, reply],
    )
    return String(row?.['id'])
  }
  const id = await insert('user')
  await seen(clients, { id, seq: 1, state: 'waiting', attempt: 0 }, 'a question by SQL')
  const answer = await insert('citizen', id)
  await seen(clients, { id, state: 'answered', answer: { id: answer, seq: 2 } }, 'a reply by SQL')
  const [batch] = await database.query(
    `with rows as (insert into chat_messages (mission_id, citizen, sender, message)
       select $1, $2, 'user', n::text from generate_series(1, 300) n returning id)
     select array_agg(id::text) as ids from rows`,
    [chat.mission, chat.name],
  )
  for (const client of clients)
    await until(
      () => new Set(of(client, 'question').map((f) => f['id'])).size === 301,
      '300 questions of one statement',
    )
  t.equal((batch?.['ids'] as string[]).length, 300)
  await database.query('select deck.open_inbox($1), deck.find_tasks($1, null, 1000)', [chat.name])
  const lapsed = (batch?.['ids'] as string[])[0] ?? ''
  await database.query(`update deck.tasks set ended = now() where citizen = $1 and ended is null and id <> $2`, [
    chat.name,
    lapsed,
  ])
  await database.query(`update deck.tasks set attempt = 5, lease_until = now() - interval '1 s' where id = $1`, [
    lapsed,
  ])
  for (const client of clients) client.frames.length = 0
  await work(two, chat)
  await seen(clients, { id: lapsed, state: 'failed', attempt: 5 }, 'noticed by a worker')
})

void t.test(
  'question frames: only for subscriptions that ask, of this chat, until they end or are replaced',
  async (t) => {
    const [chat, other] = [await makeChat(), await makeChat()]
    const asked = await follow(two, chat)
    const silent = [
      await follow(two, chat, {}),
      await follow(two, chat, { questions: false }),
      await follow(two, other),
      await follow(two, chat),
      await follow(two, chat),
    ] as const
    t.match(await silent[3].ask({ type: 'unsubscribe', topic: chat.topic }), { type: 'ok' })
    t.match(await silent[4].ask({ type: 'subscribe', topic: chat.topic }), { type: 'ok' })
    const again = await follow(two, chat, {})
    t.match(await again.ask({ type: 'subscribe', topic: chat.topic, questions: true }), { type: 'ok' })
    const dod = await two.connect(alice)
    t.match(await dod.ask({ type: 'subscribe', topic: `missions/${chat.mission}/dod`, questions: true }), {
      type: 'ok',
    })
    t.match(await dod.ask({ type: 'subscribe', topic: chat.topic, questions: 'yes' }), { code: 'bad_request' })
    const id = await ask(chat)
    await seen([asked, again], { id, state: 'waiting' }, 'those that asked')
    t.equal((await change(one, chat, id, 'cancel')).status, 200)
    await seen([asked, again], { id, state: 'closed' }, 'those that asked')
    t.strictSame(
      [...silent, dod].map((client) => of(client, 'question')),
      [[], [], [], [], [], []],
    )
  },
)

void t.test('question frames: nothing that commits after the mission was reassigned is delivered', async (t) => {
  const chat = await makeChat()
  const loser = await follow(two, chat)
  const witness = await follow(two, chat, { questions: true }, admin)
  await database.query(`with x as (update missions set assigned_to = 'bob' where id = $1) select 1`, [chat.mission])
  const id = await one.request('POST', `/api/${chat.topic}`, admin, { message: 'q' })
  await seen([witness], { id: id.json['id'], state: 'waiting' }, 'the admin')
  await loser.frame((f) => f['type'] === 'error' && f['code'] === 'not_found', 'the end of the subscription')
  t.strictSame(of(loser, 'question'), [])
})

void t.test('question frames: forged notifications are harmless, and cause frames of true states only', async (t) => {
  const [chat, other] = [await makeChat(), await makeChat()]
  const [client] = (await followers(chat)) as [Client, Client]
  const id = await ask(chat)
  const foreign = await ask(other)
  await seen([client], { id, state: 'waiting' }, 'new')
  const before = of(client, 'question').length
  const uuids = Array.from({ length: 100 }, () => randomUUID())
  const [channel] = await database.query('select deck.hint_channel($1) as name', [chat.topic])
  for (const payload of [
    '?',
    '? ',
    '? x y',
    `? ${id}`,
    `? ${id} missions/x/chat/y`,
    `? ${id}, ${chat.topic}`,
    `? ${'x'.repeat(7900)}`,
    `? ${uuids.join(',')} ${chat.topic}`,
    `? ${[...uuids, ...uuids].join(',').slice(0, 7000)} ${chat.topic}`,
    `? ${foreign} ${chat.topic}`,
    `? ${id} ${chat.topic}\n`,
    '^',
    '^x',
    `^${'x'.repeat(7000)}`,
  ])
    await database.query('select pg_notify($1, $2)', [channel?.['name'], payload])
  for (let n = 0; n < 500; n++)
    await database.query('select pg_notify($1, $2)', [channel?.['name'], `? ${uuids.join(',')} ${chat.topic}`])
  await database.query('select pg_notify($1, $2)', [channel?.['name'], `? ${id} ${chat.topic}`])
  await until(() => of(client, 'question').length > before, 'the frame of a real question')
  for (const frame of of(client, 'question')) t.match(frame, { id, state: 'waiting' })
  const next = await ask(chat, 'next')
  await seen([client], { id: next, state: 'waiting' }, 'it goes on')
})

void t.test('question frames: after LISTEN was interrupted, the newest questions of each chat are sent', async (t) => {
  const chat = await makeChat()
  const third = await startInstance(t, database.url)
  const client = await follow(third, chat)
  const id = await ask(chat)
  await seen([client], { id, state: 'waiting' }, 'new')
  client.frames.length = 0
  await database.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'mission-deck session'`,
  )
  await seen([client], { id, state: 'waiting' }, 'sent again')
})

void t.test(
  'question frames: arrive with NATS too, on the instance of the change and on another',
  { skip: noNats },
  async (t) => {
    const nats = await makeNats(t)
    await nats.start()
    const pair = [
      await startInstance(t, database.url, { hintsUrl: nats.url }),
      await startInstance(t, database.url, { hintsUrl: nats.url }),
    ] as const
    for (const on of pair)
      await until(
        async () => (await on.request('GET', '/metrics')).text.includes('\ndeck_bus_connected 1\n'),
        'NATS to be connected',
      )
    const chat = await makeChat()
    const clients = await Promise.all(pair.map((on) => follow(on, chat)))
    const { json } = await pair[0].request('POST', `/api/${chat.topic}`, alice, { message: 'q' })
    const id = String(json['id'])
    await seen(clients, { id, state: 'waiting' }, 'new')
    const worker = await work(pair[1], chat)
    await taskOf(worker, id)
    await seen(clients, { id, state: 'working' }, 'claimed')
    t.equal((await change(pair[0], chat, id, 'cancel')).status, 200)
    t.strictSame(await worker.frame((f) => f['type'] === 'cancel'), {
      type: 'cancel',
      topic: chat.topic,
      task: id,
      key: null,
      by: 'alice',
    })
    t.match(await worker.ask({ type: 'done', task: id }), { type: 'ok' })
    await seen(clients, { id, state: 'closed' }, 'done')
  },
)

void t.test(
  'cancel: of a working question reaches its holder on either instance, with the key of its draft',
  async (t) => {
    for (const on of both) {
      const chat = await makeChat()
      const { topic } = chat
      const holder = await work(on, chat, 3)
      const idle = await work(on, chat, 0)
      const ids = [await ask(chat, 'a'), await ask(chat, 'b'), await ask(chat, 'c')]
      const [a = '', b = '', c = ''] = ids
      for (const id of ids) await taskOf(holder, id)
      const cancels = async (n: number): Promise<Json[]> => {
        await until(() => of(holder, 'cancel').length >= n, `${n} cancels`)
        return of(holder, 'cancel')
      }
      t.match((await change(one, chat, a, 'cancel')).json, { state: 'working' })
      t.strictSame((await cancels(1)).at(-1), { type: 'cancel', topic, task: a, key: null, by: 'alice' }, 'no draft')
      t.match(await holder.ask({ type: 'stream', topic, key: 'r1', delta: 'x' }), { type: 'ok' })
      t.equal((await change(one, chat, a, 'cancel', admin)).status, 200)
      t.strictSame((await cancels(2)).at(-1), { type: 'cancel', topic, task: a, key: 'r1', by: 'root' }, 'one draft')
      t.match(await holder.ask({ type: 'stream', topic, key: `task:${b}`, delta: 'x' }), { type: 'ok' })
      t.equal((await change(one, chat, b, 'cancel')).status, 200)
      t.match((await cancels(3)).at(-1), { task: b, key: `task:${b}` }, 'the draft that is named after the task')
      t.match(await holder.ask({ type: 'stream', topic, key: 'r2', delta: 'x' }), { type: 'ok' })
      t.equal((await change(one, chat, c, 'cancel')).status, 200)
      t.match((await cancels(4)).at(-1), { task: c, key: null }, 'which of two drafts it is, is unknown')
      const user = await one.connect(alice)
      t.match(await user.ask({ type: 'cancel', topic, key: 'r1' }), { type: 'ok' })
      t.strictSame(
        (await cancels(5)).at(-1),
        { type: 'cancel', topic, key: 'r1', by: 'alice' },
        'of a draft, as before',
      )
      t.match(await holder.ask({ type: 'stream', topic, key: 'r1', done: true, task: a }), { type: 'ok' })
      t.equal((await change(one, chat, a, 'cancel')).json['code'], 'conflict')
      t.strictSame(of(idle, 'cancel'), [])
    }
  },
)
