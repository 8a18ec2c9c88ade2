// The client's questions, replies that name their question, and citizens, on two instances.
import t, { type Test } from 'tap'
import { connect, DeckError, type ConnectOptions, type Deck, type QuestionSignal } from '../../src/client/index.ts'
import { startFake } from '../support/fake-server.ts'
import { admin, alice, makeMission, rafael, startDeck, startInstance, token, until } from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)

const open = (t: Test, options: Partial<ConnectOptions> = {}): Deck => {
  const deck = connect({ url: one.url, token: alice, ...options })
  t.teardown(deck.close)
  return deck
}
let names = 0
/** A citizen of its own for each test, and a chat with it. */
const makeChat = async (t: Test) => {
  const citizen = `agent${names++}`
  const { id } = await makeMission(one)
  const chat = open(t).chat(id, citizen)
  const worker = (): Deck => {
    const deck = open(t, { url: two.url, token: () => token({ sub: citizen, role: 'citizen' }) })
    deck.on('error', () => {})
    return deck
  }
  return { citizen, id, chat, worker }
}
const code = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'resolved',
    (error: unknown) => (error instanceof DeckError ? error.code : error),
  )

void t.test('questions: their states are read and followed, from waiting to answered', async (t) => {
  const { citizen, chat, worker } = await makeChat(t)
  const stop = new AbortController()
  const feed = chat.follow({ questions: true, signal: stop.signal })
  await feed.ready
  const seen: QuestionSignal[] = []
  const events: string[] = []
  const heard: QuestionSignal[] = []
  chat.on('question', (signal) => heard.push(signal))
  const reading = (async () => {
    for await (const event of feed) {
      events.push(event.event)
      if (event.event === 'question') seen.push(event)
    }
  })()
  const question = await chat.send('Does it run?')
  const page = await chat.questions()
  t.match(page, {
    questions: [{ id: question.id, seq: 1, state: 'waiting', attempt: 0, until: null, answer: null }],
    listening: false,
    has_more: false,
  })
  await until(() => seen.some(({ state }) => state === 'waiting'), 'the new question')
  const deck = worker()
  const working = (): boolean => seen.some(({ state, until }) => state === 'working' && until !== null)
  const answering = deck.citizen(citizen).answer(
    async () => {
      await until(working, 'the lease is shown')
      return 'It does.'
    },
    { signal: stop.signal },
  )
  await until(() => seen.some(({ state, answer }) => state === 'answered' && answer !== null), 'the answer')
  const [answer] = (await chat.history({ after: 1 })).messages
  t.match(answer, { seq: 2, message: 'It does.', in_reply_to: question.id, key: `task:${question.id}` })
  t.match(seen.at(-1), { event: 'question', id: question.id, seq: 1, state: 'answered', attempt: 1 })
  t.match(
    seen.find(({ state }) => state === 'working'),
    { listening: true },
    'a held lease counts',
  )
  t.match(seen.at(-1)?.answer, { id: answer?.id, seq: 2 })
  await until(() => heard.length === seen.length, 'the listener has heard the same')
  t.match((await chat.questions({ state: 'answered', limit: 1 })).questions, [{ id: question.id }])
  t.strictSame((await chat.questions({ state: 'failed' })).questions, [])
  t.strictSame((await chat.questions({ before: 1 })).questions, [])
  t.ok(events.includes('message.created'))
  t.ok(
    events.every((event) => event === 'message.created' || event === 'question'),
    'no other signals',
  )
  t.match(await code(chat.questions({ limit: 501 })), 'bad_request')
  stop.abort()
  await Promise.all([reading, answering])
})

void t.test(
  'questions: signals reach only the followers that asked for them, though they share a subscription',
  async (t) => {
    const { chat } = await makeChat(t)
    const stop = new AbortController()
    const others: string[] = []
    const asked: string[] = []
    const collect = async (feed: AsyncIterable<{ event: string }>, into: string[]): Promise<void> => {
      for await (const { event } of feed) into.push(event)
    }
    const feeds = [chat.follow({ signals: true, signal: stop.signal }), chat.follow({ signal: stop.signal })]
    const asking = chat.follow({ questions: true, signal: stop.signal })
    const reading = [...feeds.map((feed) => collect(feed, others)), collect(asking, asked)]
    await asking.ready
    await chat.send('one')
    await until(() => asked.includes('question'), 'the signal')
    await chat.send('two')
    await until(() => others.filter((event) => event === 'message.created').length === 4, 'both messages, twice')
    t.notOk(others.includes('question'))
    stop.abort()
    await Promise.all(reading)
  },
)

void t.test(
  'questions: a waiting one is cancelled, a failed one waits again, and other states are conflict',
  async (t) => {
    const { chat } = await makeChat(t)
    const question = await chat.send('Does it run?')
    t.equal(await code(chat.retry(question.id)), 'conflict')
    t.match(await chat.cancelQuestion(question.id), { id: question.id, seq: 1, state: 'closed', answer: null })
    t.equal(await code(chat.cancelQuestion(question.id)), 'conflict')
    const failed = await chat.send('And now?')
    await database.query(
      `insert into deck.tasks (id, citizen, mission_id, seq, at, attempt, dead)
     select id, citizen, mission_id, seq, at, 5, true from chat_messages where id = $1
     on conflict (id) do update set attempt = 5, dead = true`,
      [failed.id],
    )
    t.match((await chat.questions({ state: 'failed' })).questions, [{ id: failed.id, attempt: 5 }])
    t.match(await chat.retry(failed.id), { id: failed.id, state: 'waiting', attempt: 0 })
    t.equal(await code(chat.retry('x')), 'bad_request')
    t.equal(await code(chat.retry('019a5912-4b60-7c1e-9d2b-5e8f1a7c3d40')), 'not_found')
  },
)

void t.test('questions: cancelling a working one aborts its reply, with a draft or without', async (t) => {
  for (const withDraft of [false, true]) {
    const { citizen, chat, worker } = await makeChat(t)
    const reasons: unknown[] = []
    let started = 0
    const stop = new AbortController()
    const answering = worker()
      .citizen(citizen)
      .answer(
        async (_message, reply) => {
          if (withDraft) reply.write('It ')
          started++
          await new Promise<void>((resolve) => reply.signal.addEventListener('abort', () => resolve()))
          reasons.push(reply.signal.reason)
        },
        { signal: stop.signal },
      )
    const feed = chat.follow({ signals: true, signal: stop.signal })
    let drafts = 0
    const reading = (async () => {
      for await (const { event } of feed) if (event === 'draft') drafts++
    })()
    await feed.ready
    const question = await chat.send('Does it run?')
    await until(() => started === 1 && (!withDraft || drafts > 0), 'the worker has the task')
    t.match(await chat.cancelQuestion(question.id), { state: 'working' })
    await until(() => reasons.length === 1, 'the signal is aborted')
    t.match(reasons, [{ code: 'cancelled' }])
    const state = async (): Promise<unknown> => (await chat.questions()).questions[0]?.state
    // What was written so far is the reply.
    await until(async () => (await state()) === (withDraft ? 'answered' : 'closed'), 'the question has ended')
    stop.abort()
    await Promise.all([answering, reading])
  }
})

void t.test('cancel: a frame for a task without a draft aborts the signal of that task only', async (t) => {
  const message = (task: string) => ({ id: task, message: 'x', mission_id: 'm', citizen: 'rafael' })
  const topic = 'missions/m/chat/rafael'
  const fake = await startFake(t, {
    answer: ({ type }) => (type === 'work' ? { credit: 4, tasks: [] } : {}),
  })
  const deck = open(t, { url: fake.url, token: rafael })
  const aborted: string[] = []
  void deck
    .citizen('rafael')
    .answer(async ({ id }, reply) => {
      await new Promise<void>((resolve) => reply.signal.addEventListener('abort', () => resolve()))
      aborted.push(id)
    })
    .catch(() => {})
  const visit = await fake.visit(0)
  await visit.frame('work')
  for (const task of ['a', 'b'])
    visit.say({ type: 'task', task, topic, kind: 'message', attempt: 1, message: message(task) })
  visit.say({ type: 'cancel', topic, task: 'c', key: null, by: 'alice' })
  visit.say({ type: 'cancel', topic, task: 'b', key: null, by: 'alice' })
  const done = await visit.frame('done')
  t.strictSame([aborted, done['task']], [['b'], 'b'])
})

void t.test('replyTo: a message and a streamed reply name the message that they answer', async (t) => {
  const { id, chat, citizen, worker } = await makeChat(t)
  const question = await chat.send('Does it run?')
  const theirs = worker().chat(id, citizen)
  t.match(await theirs.send('It does.', { replyTo: question.id }), { in_reply_to: question.id })
  const reply = theirs.stream()
  reply.write('And it is fast.')
  t.match(await reply.done({ replyTo: question.id }), { message: 'And it is fast.', in_reply_to: question.id })
  const large = await theirs.send('x', {
    replyTo: question.id,
    code_blocks: [{ language: null, code: '\u0001'.repeat(100_000) }],
  })
  t.match(large, { in_reply_to: question.id }, 'also by HTTP, where a frame is too small')
  t.match(await chat.send('x', {}), { in_reply_to: null })
  t.equal(await code(theirs.send('x', { replyTo: 'x' })), 'bad_request')
  t.match((await chat.questions()).questions[0], { id: question.id, state: 'answered', answer: { seq: 2 } })
})

void t.test('citizens: the registry is read by all and changed by an admin', async (t) => {
  const deck = open(t)
  t.strictSame(
    (await deck.citizens()).map(({ name, title }) => `${name}: ${title}`),
    ['emma: Scope', 'inna: Specification', 'rafael: Code', 'sofia: Quality', 'maya: Delivery'],
  )
  const root = open(t, { token: admin })
  const entry = root.citizen('zoe')
  t.match(await entry.put({ title: 'Research', position: 0 }), { name: 'zoe', title: 'Research', listening: false })
  t.match(await deck.citizens(), [{ name: 'zoe', about: null, last_seen: null }])
  t.equal(await code(deck.citizen('zoe').put({ title: 'x' })), 'forbidden')
  t.equal(await code(deck.citizen('zoe').remove()), 'forbidden')
  await entry.remove()
  t.equal((await deck.citizens()).length, 5)
  t.equal(await code(entry.remove()), 'not_found')
})
