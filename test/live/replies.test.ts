// Replies: a message names the message of the same chat that it answers. By each door, by SQL, by imports, and once the answered message is gone.
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { refused } from '../support/forms.ts'
import {
  admin,
  alice,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  until,
  type Client,
  type Json,
} from '../support/server.ts'

const { database, instance } = await startDeck(t)
const other = await startInstance(t, database.url)
const { request } = instance

const begin = async () => {
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  const path = `/api/${topic}`
  const post = async (body: Json, bearer = alice, to = path): Promise<Json> => {
    const answer = await request('POST', to, bearer, body)
    if (answer.status > 201) throw new Error(answer.text)
    return answer.json
  }
  const question = String((await post({ message: 'Does it run?' }))['id'])
  return { id, topic, path, post, question }
}
const follow = async (topic: string, door = other): Promise<Client> => {
  const client = await door.connect(alice)
  await client.ask({ type: 'subscribe', topic, after: 0 })
  return client
}
const history = async (path: string, query = ''): Promise<Json[]> =>
  (await other.request('GET', `${path}?after=0${query}`, alice)).json['messages'] as Json[]

void t.test('replies: POST, send and stream set in_reply_to, live and in every read, on two instances', async (t) => {
  const { id, topic, path, post, question } = await begin()
  const [near, far] = [await follow(topic, instance), await follow(topic)]
  const posted = await post({ message: 'by POST', reply_to: question.toUpperCase() }, rafael)
  const socket = await instance.connect(rafael)
  const sent = await socket.ask({ type: 'send', topic, message: 'by send', reply_to: question, key: 's' })
  await socket.ask({ type: 'stream', topic, key: 'd', delta: 'by ' })
  const streamed = await socket.ask({
    type: 'stream',
    topic,
    key: 'd',
    delta: 'stream',
    done: true,
    reply_to: question,
  })
  for (const message of [posted, sent['message'], streamed['message']]) t.match(message, { in_reply_to: question })
  const names = [null, question, question, question]
  for (const client of [near, far]) {
    await until(() => client.events(topic).length === 4, 'the events')
    t.strictSame(
      client.events(topic).map(({ data }) => data['in_reply_to']),
      names,
    )
  }
  t.strictSame(
    (await history(path)).map((row) => row['in_reply_to']),
    names,
  )
  const lines = await request('GET', path, alice, undefined, { accept: 'application/x-ndjson' })
  t.strictSame(
    lines.text
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as Json)['in_reply_to']),
    names,
  )
  const { channels } = (await request('GET', `/api/missions/${id}/chat`, alice)).json as { channels: Json[] }
  t.match(channels[0]?.['last_message'], { in_reply_to: question })
  const hits = (await request('GET', `/api/missions/${id}/search?q=send`, alice)).json['hits'] as Json[]
  t.match(hits, [{ kind: 'message', in_reply_to: question }])
  await until(async () => {
    const { events } = (await request('GET', `/api/missions/${id}/timeline`, alice)).json as { events: Json[] }
    return events.filter(({ data }) => (data as Json)['in_reply_to'] === question).length === 3
  }, 'the timeline')
})

void t.test('replies: a name of no message of this chat is refused and saves nothing; a used key wins', async (t) => {
  const { topic, path, post, question } = await begin()
  const elsewhere = await begin()
  const sofia = await post({ message: 'to another citizen' }, alice, path.replace('rafael', 'sofia'))
  const bad = [randomUUID(), elsewhere.question, sofia['id'], 'x', '', 1, {}]
  const socket = await other.connect(rafael)
  for (const reply_to of bad) {
    refused(t, await request('POST', path, alice, { message: 'x', reply_to }), 400, 'bad_request', String(reply_to))
    t.match(await socket.ask({ type: 'send', topic, message: 'x', reply_to }), { type: 'error', code: 'bad_request' })
    const whole = { type: 'stream', topic, key: randomUUID(), message: 'x', done: true, reply_to }
    t.match(await socket.ask(whole), { type: 'error', code: 'bad_request' })
  }
  const early = { type: 'stream', topic, key: 'early', delta: 'x', reply_to: question }
  t.match(await socket.ask(early), { type: 'error', code: 'bad_request' }, 'only with done')
  t.equal((await history(path)).length, 1)
  await post({ message: 'first', key: 'k', reply_to: question })
  const again = await request('POST', path, alice, { message: 'second', key: 'k', reply_to: randomUUID() })
  t.match([again.status, again.json], [200, { message: 'first', in_reply_to: question }])
  t.match(await post({ message: 'x', reply_to: null }), { in_reply_to: null })
})

void t.test('replies: name null once the answered message is gone, or was in another chat', async (t) => {
  const { id, topic, path, post, question } = await begin()
  const elsewhere = await begin()
  await post({ message: 'answer', reply_to: question }, rafael)
  const insert = (reply: string): Promise<unknown> =>
    database.query(
      `insert into chat_messages (mission_id, citizen, sender, message, in_reply_to) values ($1, 'rafael', 'citizen', 'by SQL', $2)`,
      [id, reply],
    )
  const client = await follow(topic)
  for (const name of [elsewhere.question, randomUUID(), question]) await insert(name)
  await until(() => client.events(topic).length === 5, 'the events')
  const names = (): unknown[] => client.events(topic).map(({ data }) => data['in_reply_to'])
  t.strictSame(names(), [null, question, null, null, question])
  await database.query('delete from chat_messages where id = $1', [question])
  t.strictSame(
    (await history(path)).map((row) => row['in_reply_to']),
    [null, null, null, null],
  )
})

void t.test('SQL: a citizen’s reply answers its question, a user’s does not, and a trigger may set it', async (t) => {
  const { id, path, post, question } = await begin()
  const state = async (): Promise<Json | undefined> =>
    ((await request('GET', `${path}/questions`, alice)).json['questions'] as Json[]).find((q) => q['id'] === question)
  const insert = (sender: string): Promise<Record<string, unknown>[]> =>
    database.query(
      `insert into chat_messages (mission_id, citizen, sender, message, in_reply_to) values ($1, 'rafael', $2, 'by SQL', $3) returning id`,
      [id, sender, question],
    )
  await insert('user')
  t.match(await state(), { state: 'waiting', answer: null })
  const [first] = await insert('citizen')
  await insert('citizen')
  t.match(await state(), { state: 'answered', answer: { id: first?.['id'], seq: 3 } })

  const next = String((await post({ message: 'And now?' }))['id'])
  await database.query(`
    create function public.name_it() returns trigger language plpgsql as $$
      begin new.in_reply_to := '${next}'; return new; end $$;
    create trigger name_it before insert on chat_messages for each row when (new.message = 'named by a trigger') execute function public.name_it()`)
  t.teardown(() => database.query('drop trigger name_it on chat_messages; drop function public.name_it()'))
  t.match(await post({ message: 'named by a trigger' }, rafael), { in_reply_to: next })
  const { questions } = (await request('GET', `${path}/questions`, alice)).json as { questions: Json[] }
  t.match(questions.at(-1), { id: next, state: 'answered' })
})

void t.test(
  'replies: those of SQL, a worker and the API at once end in one answer without a deadlock',
  async (t: Test) => {
    const { id, topic, path } = await begin()
    const worker = await other.connect(rafael)
    await worker.ask({ type: 'work', credit: 100 })
    for (let round = 0; round < 15; round++) {
      const asked = await request('POST', path, alice, { message: `question ${round}` })
      const question = String(asked.json['id'])
      const task = await worker.frame((frame) => frame['type'] === 'task' && frame['task'] === question, 'the task')
      const reply = { message: 'answer', reply_to: question }
      const [api, sql, ended] = await Promise.all([
        request('POST', path, rafael, reply),
        database.query(
          `insert into chat_messages (mission_id, citizen, sender, message, in_reply_to) values ($1, 'rafael', 'citizen', 'by SQL', $2)`,
          [id, question],
        ),
        worker.ask({ type: 'send', topic, message: 'by the worker', task: task['task'] }),
      ])
      t.equal(api.status, 201)
      t.strictSame(sql, [])
      t.match(ended, { type: 'ok', message: { in_reply_to: question } })
      const page = (await request('GET', `${path}/questions?limit=1`, alice)).json['questions'] as Json[]
      t.match(page, [{ id: question, state: 'answered', answer: { seq: Number } }])
    }
    t.strictSame(
      await database.query(`select deadlocks::integer as n from pg_stat_database where datname = current_database()`),
      [{ n: 0 }],
    )
    await request('DELETE', `/api/missions/${id}`, admin)
  },
)
