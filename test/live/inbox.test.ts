// A citizen's inbox on two instances. Each task is leased to one worker at a time and ends once, whether API or SQL wrote the message, and
// whether the worker is a socket or claims over HTTP. (What only HTTP has is in inbox-http.test.ts.)
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { doors, type Agent, type Task } from '../support/agents.ts'
import {
  admin,
  alice,
  makeMission,
  startDeck,
  startInstance,
  token,
  until,
  type Client,
  type Instance,
  type Json,
} from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)

let citizens = 0
/** A citizen that no other test uses, and two missions. */
const makeCitizen = async () => {
  const name = `worker${citizens++}`
  const bearer = await token({ sub: name, role: 'citizen' })
  const missions = [await makeMission(one), await makeMission(one)] as const
  const topic = `missions/${missions[0].id}/chat/${name}`
  return { name, bearer, missions, topic }
}
const work = async (instance: Instance, bearer: string, credit: number, more: Json = {}): Promise<Client> => {
  const client = await instance.connect(bearer)
  t.match(await client.ask({ type: 'work', credit, ...more }), { type: 'ok', credit })
  return client
}
const tasks = (client: Client): Task[] => client.frames.filter(({ type }) => type === 'task') as never
const texts = (client: Client): string[] => tasks(client).map(({ message }) => message.message)
const has = async (client: Client, n: number): Promise<Task[]> => {
  await until(() => tasks(client).length >= n, `${n} tasks`)
  return tasks(client)
}
const ask = async (topic: string, ...questions: string[]): Promise<void> => {
  for (const message of questions)
    t.match(await one.request('POST', `/api/${topic}`, alice, { message }), { status: 201 })
}
const chat = async (topic: string): Promise<Json[]> =>
  (await one.request('GET', `/api/${topic}?limit=500`, admin)).json['messages'] as Json[]
const stored = async (name: string): Promise<Json[]> =>
  database.query('select * from deck.tasks where citizen = $1 order by at, mission_id, seq', [name])
const runOut = (name: string) =>
  database.query(
    `update deck.tasks set lease_until = clock_timestamp() where citizen = $1 and lease_until is not null`,
    [name],
  )

const received = (agent: Agent): string[] => agent.tasks.map(({ message }) => message.message)
const gets = async (agent: Agent, n: number): Promise<Task[]> => {
  await until(() => agent.tasks.length >= n, `${n} tasks`)
  return agent.tasks
}

for (const [door, start] of doors) {
  void t.test(
    `tasks by ${door}: each question behind the citizen's last message, and each later one, oldest first, from API, socket or SQL`,
    async (t) => {
      const { name, bearer, missions, topic } = await makeCitizen()
      const other = `missions/${missions[1].id}/chat/${name}`
      await ask(topic, 'answered before')
      t.match(await one.request('POST', `/api/${topic}`, bearer, { message: 'an answer' }), { status: 201 })
      await ask(topic, 'before')
      for (const [message, age] of [
        ['old', '8 days'],
        ['not so old', '6 days'],
      ])
        await database.query(
          `insert into chat_messages (mission_id, citizen, sender, message, created_at)
           values ($1, $2, 'user', $3, now() at time zone 'utc' - $4::interval)`,
          [missions[1].id, name, message, age],
        )
      const agent = await start(t, two, bearer, name, 10)
      await gets(agent, 2)
      await ask(topic, 'by HTTP')
      const user = await one.connect(alice)
      t.match(await user.ask({ type: 'send', topic: other, message: 'by the socket' }), { type: 'ok' })
      await database.query(
        `insert into chat_messages (mission_id, citizen, sender, message) values ($1, $2, 'user', 'by SQL')`,
        [missions[1].id, name],
      )
      t.match(await one.request('POST', `/api/${topic}`, bearer, { message: 'no task' }), { status: 201 })
      await ask(`missions/${missions[0].id}/chat/sofia`, "another's")
      await ask(topic, 'last')
      const found = await gets(agent, 6)
      t.strictSame(received(agent), ['before', 'not so old', 'by HTTP', 'by the socket', 'by SQL', 'last'])
      const [message] = (await chat(topic)).slice(2)
      t.match(found[0], { topic, kind: 'message', attempt: 1, message })
      const left = Date.parse(found.at(-1)?.lease_until ?? '') - Date.now()
      t.ok(left > 10_000 && left < 61_000, `leased for ${left} ms`)
      t.equal((await stored(name)).length, 6)
    },
  )

  void t.test(
    `inbox by ${door}: tasks wait while no worker is there, and a worker gets no more than its credit`,
    async (t) => {
      const { name, bearer, topic } = await makeCitizen()
      const first = await start(t, one, bearer, name, 1)
      await first.vanish()
      await ask(topic, 'a', 'b', 'c')
      const later = await start(t, two, bearer, name, 2)
      const [a] = await gets(later, 2)
      t.strictSame(received(later), ['a', 'b'], 'no more than the credit')
      t.equal(await later.done(a as Task), 'ok')
      await gets(later, 3)
      t.strictSame(received(later), ['a', 'b', 'c'])
      t.strictSame(received(first), [])
    },
  )

  void t.test(`tasks by ${door}: a reply ends its task in the same transaction, whole or as a draft`, async (t) => {
    const { name, bearer, topic } = await makeCitizen()
    const worker = await start(t, one, bearer, name, 1)
    await ask(topic, 'q1', 'q2')
    const [q1] = await gets(worker, 1)
    t.equal(await worker.reply(q1 as Task, 'a1'), 'ok')
    const [, q2] = await gets(worker, 2)
    for (const delta of ['a', '2 🎛']) t.equal(await worker.draft(q2 as Task, delta), 'ok')
    t.equal(await worker.reply(q2 as Task), 'ok')
    t.match(await stored(name), [
      { answered: true, lease_until: null },
      { answered: true, lease_until: null },
    ])
    t.match(await chat(topic), [
      { message: 'q1' },
      { message: 'q2' },
      { message: 'a1', sender: 'citizen', author: name, in_reply_to: q1?.task },
      { message: 'a2 🎛', sender: 'citizen', author: name, in_reply_to: q2?.task },
    ])
    t.equal(await worker.done(q2 as Task), 'ok', 'a repeated end succeeds')
    t.equal((await database.query('select from deck.drafts where key = $1', [`task:${q2?.task}`])).length, 0)
  })

  void t.test(`tasks by ${door}: a released task is delivered again after its delay, at most five times`, async (t) => {
    const { name, bearer, topic } = await makeCitizen()
    const worker = await start(t, one, bearer, name, 1)
    await ask(topic, 'hard', 'easy')
    const [hard] = (await gets(worker, 1)) as [Task]
    t.equal(await worker.release(hard, 3600), 'ok')
    const [, easy] = await gets(worker, 2)
    t.strictSame(received(worker), ['hard', 'easy'])
    t.equal(await worker.reply(hard, 'late'), 'conflict')
    t.equal(await worker.done(easy as Task), 'ok')
    t.equal((await stored(name)).filter(({ ended }) => ended === null).length, 1, 'the task waits for its delay')
    await worker.vanish()
    await database.query('update deck.tasks set ready_at = clock_timestamp() where id = $1', [hard.task])
    const other = await start(t, two, bearer, name, 1)
    for (let attempt = 2; attempt <= 5; attempt++) {
      const next = (await gets(other, attempt - 1)).at(-1) as Task
      t.match(next, { task: hard.task, attempt })
      t.equal(await other.release(next), 'ok')
    }
    await ask(topic, 'next')
    await until(() => received(other).includes('next'), 'the next')
    t.match((await stored(name))[0], { id: hard.task, dead: true, attempt: 5, ended: null })
    t.equal(other.tasks.length, 5)
    t.equal(await other.reply(other.tasks[3] as Task, 'late'), 'conflict', 'a failed task takes no reply')
  })

  void t.test(`tasks by ${door}: when a gone worker's lease ends, another worker gets the next attempt`, async (t) => {
    const { name, bearer, topic } = await makeCitizen()
    const gone = await start(t, one, bearer, name, 1)
    await ask(topic, 'q')
    const [q] = (await gets(gone, 1)) as [Task]
    const other = await start(t, two, bearer, name, 1)
    t.strictSame(other.tasks, [], 'the lease has not ended')
    await gone.vanish()
    await runOut(name)
    const [again] = (await gets(other, 1)) as [Task]
    t.match(again, { task: q.task, attempt: 2 })
    t.equal(await other.reply(again, 'a'), 'ok')
    t.match((await chat(topic)).slice(1), [{ message: 'a', seq: 2 }])
  })

  void t.test(`inbox by ${door}: a worker receives only tasks of missions that its token allows`, async (t) => {
    const { name, missions, topic } = await makeCitizen()
    const junk = 'no mission'.padEnd(36, 'x')
    const narrow = await token({ sub: name, role: 'citizen', missions: [missions[1].number, junk] })
    const restricted = await start(t, one, narrow, name, 9)
    await ask(topic, 'not for it')
    await ask(`missions/${missions[1].id}/chat/${name}`, 'for it')
    await gets(restricted, 1)
    t.strictSame(received(restricted), ['for it'])
    const wide = await start(t, two, await token({ sub: name, role: 'citizen', missions: [missions[0].id] }), name, 9)
    await gets(wide, 1)
    t.strictSame(received(wide), ['not for it'])
  })

  void t.test(
    `inbox by ${door}: several workers share the tasks; each task goes to one worker, and all end`,
    async (t) => {
      const { name, bearer, missions } = await makeCitizen()
      const workers = await Promise.all(
        [1, 3, 7].map((credit, i) => start(t, i === 1 ? one : two, bearer, name, credit)),
      )
      const ended = new Set<string>()
      let over = false
      const answering = workers.map(async (worker) => {
        for (let n = 0; !over;) {
          const task = worker.tasks[n]
          if (!task) await new Promise((resolve) => setImmediate(resolve))
          else {
            n++
            void worker
              .reply(task, `re: ${task.message.message}`)
              .then((result) => result === 'ok' && ended.add(task.task))
          }
        }
      })
      await Promise.all(
        Array.from({ length: 100 }, (_, n) => [
          one.request('POST', `/api/missions/${missions[n % 2]?.id}/chat/${name}`, alice, { message: `${n}` }),
          database.query(
            `insert into chat_messages (mission_id, citizen, sender, message) values ($1, $2, 'user', $3)`,
            [missions[n % 2]?.id, name, `sql ${n}`],
          ),
        ]).flat(),
      )
      await until(() => ended.size === 200, 'an answer to each task').finally(() => (over = true))
      await Promise.all(answering)
      const got = workers.flatMap(({ tasks }) => tasks).map(({ task }) => task)
      t.equal(new Set(got).size, got.length, 'no task was delivered twice')
      t.ok(
        workers.every((worker) => worker.tasks.length > 0),
        'each worker received tasks',
      )
      const said = (await Promise.all(missions.map(({ id }) => chat(`missions/${id}/chat/${name}`)))).flat()
      const replies = said.filter(({ sender }) => sender === 'citizen').map(({ message }) => message)
      t.equal(replies.length, 200)
      t.equal(new Set(replies).size, 200)
    },
  )

  void t.test(`tasks by ${door}: those of a cleared chat or a deleted mission are not delivered`, async (t) => {
    const { name, bearer, missions, topic } = await makeCitizen()
    const first = await start(t, one, bearer, name, 1)
    await first.vanish()
    await ask(topic, 'cleared')
    await ask(`missions/${missions[1].id}/chat/${name}`, 'deleted')
    // Creates the tasks without leasing them.
    await database.query('select deck.find_tasks($1, null, 100)', [name])
    t.equal((await one.request('DELETE', `/api/${topic}`, admin)).status, 204)
    t.equal((await one.request('DELETE', `/api/missions/${missions[1].id}`, admin)).status, 204)
    const worker = await start(t, two, bearer, name, 5)
    await ask(topic, 'new')
    await gets(worker, 1)
    t.strictSame(received(worker), ['new'])
    await database.query('select deck.tidy_inboxes()')
    t.equal((await stored(name)).length, 1)
  })
}

void t.test('inbox: a socket without credit gets no task, and none is created for it', async (t) => {
  const { name, bearer, topic } = await makeCitizen()
  await ask(topic, 'q')
  t.strictSame(await stored(name), [], 'before any work frame')
  const idle = await work(two, bearer, 0)
  t.match(await idle.ask({ type: 'ping' }), { type: 'ok' })
  t.strictSame(texts(idle), [])
  t.strictSame(await stored(name), [])
})

void t.test('tasks: a reply ends its task in the same transaction, by send and by stream', async (t) => {
  const { name, bearer, topic } = await makeCitizen()
  const worker = await work(one, bearer, 1)
  await ask(topic, 'q1', 'q2', 'q3')
  const [q1] = await has(worker, 1)
  t.match(await worker.ask({ type: 'send', topic, message: 'a1', key: 'k1', task: q1?.task }), { type: 'ok', seq: 4 })
  const [, q2] = await has(worker, 2)
  const key = 'k2'
  t.match(await worker.ask({ type: 'stream', topic, key, delta: 'a' }), { type: 'ok' })
  t.match(await worker.ask({ type: 'stream', topic, key, delta: '2', done: true, task: q2?.task?.toUpperCase() }), {
    type: 'ok',
    message: { message: 'a2', key },
  })
  const [, , q3] = await has(worker, 3)
  t.match(await worker.ask({ type: 'stream', topic, key: 'k3', done: true, message: 'a3', task: q3?.task }), {
    type: 'ok',
  })
  t.ok((await stored(name)).every(({ ended }) => ended !== null))
  t.strictSame(
    (await chat(topic)).map(({ message }) => message),
    ['q1', 'q2', 'q3', 'a1', 'a2', 'a3'],
  )
  t.match(await worker.ask({ type: 'done', task: q3?.task }), { type: 'ok' }, 'a repeated done succeeds')
  t.match(
    await worker.ask({ type: 'send', topic, message: 'again', task: q3?.task }),
    { type: 'error', code: 'conflict' },
    'a task is answered once',
  )
})

void t.test('tasks: only the holder’s socket can answer; from another it is conflict, nothing saved', async (t) => {
  const { name, bearer, missions, topic } = await makeCitizen()
  const holder = await work(one, bearer, 1)
  const other = await two.connect(bearer)
  await ask(topic, 'q')
  const [q] = await has(holder, 1)
  const { task } = q as Task
  const conflict = { type: 'error', code: 'conflict' }
  // One batch with valid messages, which must be saved.
  const answers = await Promise.all([
    other.ask({ type: 'send', topic, message: 'good', key: 'good' }),
    other.ask({ type: 'send', topic, message: 'bad', task }),
    other.ask({ type: 'send', topic, message: 'bad', key: 'bad', task }),
    other.ask({ type: 'send', topic, message: 'good too' }),
    other.ask({ type: 'send', topic, message: 'bad', task: randomUUID() }),
  ])
  t.match(answers, [{ type: 'ok', seq: 2 }, conflict, conflict, { type: 'ok', seq: 3 }, conflict])
  t.match(await other.ask({ type: 'stream', topic, key: 's', done: true, message: 'bad', task }), conflict)
  t.match(await other.ask({ type: 'done', task }), conflict)
  t.match(await other.ask({ type: 'release', task }), conflict)
  const elsewhere = `missions/${missions[1].id}/chat/${name}`
  t.match(
    await holder.ask({ type: 'send', topic: elsewhere, message: 'bad', task }),
    conflict,
    'a reply in a different chat',
  )
  t.match(
    await other.ask({ type: 'send', topic, message: 'good', key: 'good', task }),
    { type: 'ok', seq: 2 },
    'a message that the key has already saved is returned first',
  )
  t.match(await stored(name), [{ ended: null, id: task }])
  t.match(
    (await chat(topic)).map(({ message }) => message),
    ['q', 'good', 'good too'],
  )
  t.strictSame(await chat(elsewhere), [])
  const twice = await Promise.all(['one', 'two'].map((message) => holder.ask({ type: 'send', topic, message, task })))
  t.match(twice, [{ type: 'ok', seq: 4 }, conflict], 'of two concurrent replies one is saved')
})

void t.test('tasks: a send with a task and an idempotency key that was used before ends the task', async (t) => {
  const { name, bearer, topic } = await makeCitizen()
  const worker = await work(one, bearer, 3)
  await ask(topic, 'q1', 'q2', 'q3')
  const found = await has(worker, 3)
  const reply = { topic, message: 'a', key: 'k' }
  t.match(await worker.ask({ type: 'send', ...reply }), { type: 'ok', seq: 4 })
  t.match(await worker.ask({ type: 'send', ...reply, task: found[0]?.task }), { type: 'ok', seq: 4 })
  t.match(await worker.ask({ type: 'stream', topic, key: 'k', done: true, task: found[1]?.task }), {
    type: 'ok',
    seq: 4,
  })
  t.match(await worker.ask({ type: 'stream', topic, key: 'k', delta: 'x', done: true, task: found[2]?.task }), {
    type: 'ok',
    seq: 4,
  })
  t.ok((await stored(name)).every(({ ended, answered }) => ended !== null && answered === true))
})

void t.test('tasks: when a closed socket’s lease ends, another socket gets the next attempt', async (t) => {
  const { name, bearer, topic } = await makeCitizen()
  const gone = await work(one, bearer, 1)
  await ask(topic, 'q')
  const [q] = await has(gone, 1)
  const { task } = q as Task
  const other = await work(two, bearer, 1)
  // The lease has not ended: the holder may resume.
  t.match(await other.ask({ type: 'ping' }), { type: 'ok' })
  t.strictSame(tasks(other), [])
  gone.socket.terminate()
  await until(() => gone.closed !== undefined, 'the socket to close')
  await runOut(name)
  t.match((await has(other, 1))[0], { task, attempt: 2 })
  const back = await one.connect(bearer)
  t.match(await back.ask({ type: 'send', topic, message: 'late', task }), { type: 'error', code: 'conflict' })
  t.match(await back.ask({ type: 'work', credit: 1, resume: gone.frames[0]?.['session'] }), { type: 'ok', tasks: [] })
  t.match(await other.ask({ type: 'send', topic, message: 'a', task }), { type: 'ok', seq: 2 })
})

void t.test('inbox: a socket that resumes a former session keeps its tasks', async (t) => {
  const { name, bearer, topic } = await makeCitizen()
  const former = await work(one, bearer, 2)
  await ask(topic, 'q1', 'q2', 'q3')
  const held = await has(former, 2)
  former.socket.terminate()
  const stranger = await two.connect(await token({ sub: 'emma', role: 'citizen' }))
  const resume = former.frames[0]?.['session']
  t.match(
    await stranger.ask({ type: 'work', credit: 1, resume }),
    { type: 'ok', tasks: [] },
    'a different citizen can not resume it',
  )
  const next = await two.connect(bearer)
  const [answer, early] = await Promise.all([
    next.ask({ type: 'work', credit: 2, resume }),
    next.ask({ type: 'stream', topic, key: 'early', message: 'a', done: true, task: held[0]?.task }),
  ])
  t.match(early, { type: 'ok' }, 'a reply right after the work frame')
  t.strictSame(new Set(answer['tasks'] as string[]), new Set(held.map(({ task }) => task)))
  for (const { task } of held.slice(1))
    t.match(await next.ask({ type: 'send', topic, message: 'a', task }), { type: 'ok' })
  await has(next, 1)
  t.strictSame(texts(next), ['q3'])
  t.strictSame(
    (await stored(name)).map(({ attempt }) => attempt),
    [1, 1, 1],
  )
})

void t.test('tasks: a lease is renewed while its socket is open', async (t) => {
  const { name, bearer, topic } = await makeCitizen()
  const quick = await startInstance(t, database.url, { limits: { renewEvery: 100 } })
  const worker = await work(quick, bearer, 1)
  await ask(topic, 'q')
  await has(worker, 1)
  const lease = async () => String((await stored(name))[0]?.['lease_until'])
  const before = await lease()
  await until(async () => (await lease()) !== before, 'the renewal')
  t.equal(tasks(worker).length, 1)
})

void t.test('inbox: forbidden to users and admins; values out of range are bad_request', async (t) => {
  for (const bearer of [alice, admin]) {
    const client = await one.connect(bearer)
    const { id } = await makeMission(one)
    const topic = `missions/${id}/chat/rafael`
    for (const frame of [
      { type: 'work', credit: 1 },
      { type: 'done', task: randomUUID() },
      { type: 'release', task: randomUUID() },
      { type: 'send', topic, message: 'x', task: randomUUID() },
      { type: 'stream', topic, key: 'k', done: true, message: 'x', task: randomUUID() },
    ])
      t.match(await client.ask(frame), { type: 'error', code: 'forbidden' }, frame.type)
    t.strictSame(await chat(topic), [])
  }
  const { bearer, topic } = await makeCitizen()
  const client = await one.connect(bearer)
  for (const frame of [
    { type: 'work' },
    { type: 'work', credit: -1 },
    { type: 'work', credit: 1.5 },
    { type: 'work', credit: 101 },
    { type: 'work', credit: 1, resume: 'x' },
    { type: 'done', task: 'x' },
    { type: 'release', task: randomUUID(), after: -1 },
    { type: 'release', task: randomUUID(), after: 86_401 },
    { type: 'send', topic, message: 'x', task: 7 },
    { type: 'stream', topic, key: 'k', delta: 'x', task: randomUUID() },
  ])
    t.match(await client.ask(frame), { type: 'error', code: 'bad_request' }, JSON.stringify(frame))
})
