// A request that names a task parks it: on two instances, by both doors, through lost workers and restarts.
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { connect, DeckError } from '../../src/client/index.ts'
import {
  admin,
  alice,
  bob,
  makeMission,
  startDeck,
  startInstance,
  token,
  until,
  type Client,
  type Instance,
  type Json,
} from '../support/server.ts'

const limits = { lease: 3, renewEvery: 300 }
const { instance: one, database } = await startDeck(t, { limits })
const two = await startInstance(t, database.url, { limits })

type Task = { task: string; attempt: number; claim?: string; request?: Json; message: Json }

let citizens = 0
/** A citizen that no other test uses, with a mission and two questions. */
const begin = async (questions = ['first', 'second']) => {
  const name = `asker${citizens++}`
  const bearer = await token({ sub: name, role: 'citizen' })
  const { id } = await makeMission(one)
  const topic = `missions/${id}/chat/${name}`
  const ids: string[] = []
  for (const message of questions) {
    const { json } = await one.request('POST', `/api/${topic}`, alice, { message })
    ids.push(String(json['id']))
  }
  const path = `/api/missions/${id}/requests`
  const park = async (task: string, more: Json = {}, on: Instance = two): Promise<string> => {
    const made = await on.request('POST', path, bearer, { kind: 'approve', title: 'Deploy?', task, ...more })
    if (made.status !== 201) throw new Error(made.text)
    return String(made.json['id'])
  }
  const answer = async (request: string, on: Instance = two): Promise<void> => {
    const { status, text } = await on.request('POST', `${path}/${request}/answer`, alice, { answer: true })
    if (status !== 200) throw new Error(text)
  }
  const question = async (n: number): Promise<Json | undefined> => {
    const { json } = await one.request('GET', `/api/${topic}/questions`, alice)
    return (json['questions'] as Json[]).find(({ id }) => id === ids[n])
  }
  return { name, bearer, id, topic, ids, path, park, answer, question }
}
const work = async (instance: Instance, bearer: string, credit: number, more: Json = {}): Promise<Client> => {
  const client = await instance.connect(bearer)
  t.match(await client.ask({ type: 'work', credit, ...more }), { type: 'ok', credit })
  return client
}
const tasks = (client: Client): Task[] => client.frames.filter(({ type }) => type === 'task') as never
const has = async (client: Client, n: number): Promise<Task> => {
  await until(() => tasks(client).length >= n, `${n} tasks`)
  return tasks(client)[n - 1] as Task
}
const sessionOf = (client: Client): unknown => client.frames.find(({ type }) => type === 'welcome')?.['session']
const leaseOf = async (task: string): Promise<Json> => {
  const [row] = await database.query(
    `select lease_until = 'infinity' as parked, returned, extract(epoch from lease_until - clock_timestamp())::float8 as left
     from deck.tasks where id = $1`,
    [task],
  )
  return row ?? {}
}

void t.test('parking: a parked task takes no credit, and comes back to its socket with the request', async (t) => {
  const { bearer, topic, park, answer, question } = await begin()
  const client = await work(one, bearer, 1)
  const { task } = await has(client, 1)
  const request = await park(task)
  const second = await has(client, 2)
  t.equal(second.message['message'], 'second', 'the credit is free again')
  t.match(await question(0), { state: 'working', attempt: 1, until: null })
  await answer(request)
  const again = await has(client, 3)
  t.match(again, { task, attempt: 1, kind: 'message', message: { message: 'first' } })
  t.match(again.request, { id: request, state: 'answered', answer: true, answered_by: 'alice', task })
  t.match(await client.ask({ type: 'send', topic, message: 'deployed', task }), { type: 'ok' })
  t.match(await client.ask({ type: 'send', topic, message: 'and this', task: second.task }), { type: 'ok' })
  t.match(await question(0), { state: 'answered', attempt: 1 })
})

void t.test('parking: a task waits for all of its requests, and gets the one that ended last', async (t) => {
  const { name, bearer, path, park, answer } = await begin(['first'])
  const client = await work(one, bearer, 1)
  const { task } = await has(client, 1)
  const first = await park(task)
  const [row] = await database.query(
    `select deck.ask($1, $2, 'choose', 'Which?', options => array['a', 'b'], task => $3) as id`,
    [path.split('/')[3], name, task],
  )
  const second = String(row?.['id'])
  await answer(first)
  t.match(await leaseOf(task), { parked: true })
  await database.query(`select deck.answer($1, '"b"')`, [second])
  t.match((await has(client, 2)).request, { id: second, answer: 'b' })
})

void t.test(
  'parking: a task that its holder released meanwhile goes to the next worker, later with the request',
  async (t) => {
    const { bearer, park, answer } = await begin(['first'])
    const client = await work(one, bearer, 1)
    const { task } = await has(client, 1)
    const request = await park(task)
    t.match(await client.ask({ type: 'release', task }), { type: 'ok' })
    const { request: early, attempt } = await has(client, 2)
    t.equal(early, undefined)
    t.equal(attempt, 2)
    t.match(await client.ask({ type: 'release', task, after: 600 }), { type: 'ok' })
    await answer(request)
    t.match(await leaseOf(task), { parked: null, returned: false, left: null }, 'it is as free as before')
    await database.query('update deck.tasks set ready_at = clock_timestamp() where id = $1', [task])
    t.match(await has(client, 3), { attempt: 3, request: { id: request, answer: true } })
  },
)

void t.test('parking: of 20 requests of one task that end at the same time, the last one returns it', async (t) => {
  const { bearer, path, park } = await begin(['first'])
  const client = await work(one, bearer, 1)
  const { task } = await has(client, 1)
  for (let round = 2; round < 8; round++) {
    const all = await Promise.all(Array.from({ length: 20 }, (_, n) => park(task, {}, n % 2 ? one : two)))
    const ended = await Promise.all(
      all.map((id, n) => (n % 2 ? one : two).request('POST', `${path}/${id}/answer`, alice, { answer: false })),
    )
    for (const { status, text } of ended) t.equal(status, 200, text)
    const { request } = await has(client, round)
    t.match(request, { state: 'answered' })
  }
})

void t.test('parking: across a restart of its server, answered meanwhile on the other instance', async (t) => {
  const { bearer, topic, park, answer } = await begin(['first'])
  const third = await startInstance(t, database.url, { limits })
  const client = await work(third, bearer, 1)
  const { task } = await has(client, 1)
  const request = await park(task, {}, third)
  await until(async () => (await leaseOf(task))['parked'] === true, 'the task to be parked')
  await third.close()
  const clients: Client[] = []
  for (const answered of [false, true]) {
    if (answered) await answer(request)
    const next = await one.connect(bearer)
    const former = answered ? sessionOf(clients.at(-1) as Client) : sessionOf(client)
    t.match(await next.ask({ type: 'work', credit: 1, resume: former }), { type: 'ok', tasks: [task] })
    clients.push(next)
    if (!answered) {
      t.match(await leaseOf(task), { parked: true })
      next.socket.terminate()
      continue
    }
    const again = await has(next, 1)
    t.match(again, { task, attempt: 1, request: { id: request, state: 'answered' } })
    t.match(await next.ask({ type: 'send', topic, message: 'done', task }), { type: 'ok' })
  }
})
void t.test('parking: if its holder has died, another worker gets the task with the request', async (t) => {
  const { bearer, topic, park, answer } = await begin(['first'])
  const client = await work(one, bearer, 1)
  const { task } = await has(client, 1)
  const request = await park(task)
  client.socket.terminate()
  const other = await work(two, bearer, 1)
  // Longer than a lease: the task still waits.
  await until(
    async () =>
      (await database.query('select from deck.tasks where id = $1 and parked_until < clock_timestamp()', [task]))
        .length > 0,
    "the dead holder's lease to be over",
  )
  t.match(await leaseOf(task), { parked: true })
  t.equal(tasks(other).length, 0)
  await answer(request, one)
  const given = await has(other, 1)
  t.match(given, { task, attempt: 2, request: { id: request, state: 'answered', answer: true } })
  t.match(await other.ask({ type: 'send', topic, message: 'done', task }), { type: 'ok' })
})

void t.test(
  'parking: a holder that does nothing after the answer has 60 s; what it does renews its lease',
  async (t) => {
    for (const acts of [false, true]) {
      const { name, bearer, topic, park, answer } = await begin(['first'])
      const client = await work(one, bearer, 1)
      const { task } = await has(client, 1)
      await answer(await park(task))
      await has(client, 2)
      const { left } = await leaseOf(task)
      t.ok(Number(left) > 30 && Number(left) <= 60, `${String(left)} s`)
      if (acts) {
        t.match(await client.ask({ type: 'stream', topic, key: 'k', delta: 'I go on' }), { type: 'ok' })
        await until(async () => (await leaseOf(task))['returned'] === false, 'the lease to be renewed')
        continue
      }
      // (As if the time had passed.)
      await database.query('update deck.tasks set lease_until = clock_timestamp() where id = $1', [task])
      const other = await work(two, bearer, 1)
      t.match(await has(other, 1), { task, attempt: 2, request: { state: 'answered' } })
      t.match(await client.ask({ type: 'done', task }), { type: 'error', code: 'conflict' })
      t.equal((await database.query('select from deck.tasks where citizen = $1', [name])).length, 1)
    }
  },
)

void t.test(
  'parking: a request that expired while every instance was down returns its task at the next start',
  async (t) => {
    const { instance, database } = await startDeck(t, { limits })
    const bearer = await token({ sub: 'emma', role: 'citizen' })
    const { id } = await makeMission(instance)
    const topic = `missions/${id}/chat/emma`
    await instance.request('POST', `/api/${topic}`, alice, { message: 'first' })
    const client = await work(instance, bearer, 1)
    const { task } = await has(client, 1)
    const made = await instance.request('POST', `/api/missions/${id}/requests`, bearer, {
      kind: 'text',
      title: 'Which host?',
      task,
      expires_in: 1,
    })
    t.equal(made.status, 201)
    await instance.close()
    await until(
      async () =>
        (await database.query(`select from deck.requests where expires_at < now() at time zone 'utc'`)).length > 0,
      'the time to be over',
    )
    t.match((await database.query('select state from deck.requests'))[0], { state: 'open' })
    const next = await startInstance(t, database.url, { limits })
    const other = await work(next, bearer, 1)
    t.match(await has(other, 1), { task, request: { id: made.json['id'], state: 'expired', answer: null } })
  },
)

void t.test('parking over HTTP: the claim stays good, and a claim with the same key gets the task again', async (t) => {
  const { name, bearer, park, answer } = await begin()
  const inbox = `/api/inbox/${name}`
  const claim = async (key: string, more: Json = {}): Promise<Task[]> => {
    const headers = { 'idempotency-key': key }
    const { status, json, text } = await one.request('POST', `${inbox}/claim`, bearer, { lease: 10, ...more }, headers)
    if (status !== 200) throw new Error(text)
    return json['tasks'] as Task[]
  }
  const [first] = (await claim('a')) as [Task]
  const { task } = first
  const request = await park(task)
  t.match(await claim('a'), [{ message: { message: 'second' } }], 'a parked task takes no credit')
  const renewed = await one.request('POST', `${inbox}/tasks/${task}/renew`, bearer, { claim: first.claim, lease: 20 })
  t.match(renewed, { status: 200, json: { cancelled: false } })
  t.ok(Date.parse(String(renewed.json['lease_until'])) > Date.now() + 3_600_000, 'as long as the request may be open')
  t.match(await leaseOf(task), { parked: true })
  await answer(request)
  t.strictSame(await claim('b', { wait: 0 }), [], 'others get it after 60 s')
  const again = (await claim('a', { credit: 2 })).find((given) => given.task === task)
  t.match(again, { claim: first.claim, attempt: 1, request: { id: request, answer: true } })
  const path = `${inbox}/tasks/${task}/reply`
  t.match(await one.request('POST', path, bearer, { claim: first.claim, message: 'done' }), { status: 201 })
})

void t.test(
  'parking over HTTP: a claim without a key goes on at once; if it does nothing, others get the task',
  async (t) => {
    const { name, bearer, park, answer } = await begin()
    const claim = async (): Promise<Task[]> =>
      (await one.request('POST', `/api/inbox/${name}/claim`, bearer, {})).json['tasks'] as Task[]
    const [first, second] = [...(await claim()), ...(await claim())] as [Task, Task]
    await answer(await park(first.task))
    await answer(await park(second.task))
    const draft = `/api/inbox/${name}/tasks/${first.task}/draft`
    t.match(await two.request('POST', draft, bearer, { claim: first.claim, delta: 'on ' }), { status: 200 })
    t.match(await leaseOf(first.task), { parked: false, returned: false })
    t.match(await leaseOf(second.task), { parked: false, returned: true })
    await database.query('update deck.tasks set lease_until = clock_timestamp() where id = $1', [second.task])
    t.match(await claim(), [{ task: second.task, attempt: 2, request: { state: 'answered' } }])
    const done = `/api/inbox/${name}/tasks/${second.task}/done`
    t.match(await one.request('POST', done, bearer, { claim: second.claim }), { status: 409 })
  },
)

void t.test(
  "parking: refuses tasks that are not there, not held, or not the citizen's, and changes nothing",
  async (t) => {
    const { id, bearer, ids, path } = await begin()
    const foreign = await begin()
    const ask = (task: string, more: Json = {}, by = bearer) =>
      one.request('POST', path, by, { kind: 'approve', title: 'Deploy?', task, ...more })
    const client = await work(one, foreign.bearer, 1)
    const { task } = await has(client, 1)
    t.match(await ask(randomUUID()), { status: 400, json: { code: 'bad_request' } })
    t.match(await ask(String(ids[0])), { status: 400 }, 'it has no inbox yet')
    t.match(await ask(task), { status: 400 }, "another citizen's, in another mission")
    t.match(await ask(task, { citizen: foreign.name }, admin), { status: 400 }, 'in another mission')
    const own = await work(one, bearer, 1)
    await has(own, 1)
    t.match(await ask(String(ids[1])), { status: 409, json: { code: 'conflict' } }, 'nobody holds it')
    t.match(await ask(String(ids[0]), {}, bob), { status: 404 }, 'a mission that one may not see')
    t.strictSame(await database.query('select from deck.requests where mission_id = $1', [id]), [])
    t.match(await leaseOf(task), { parked: false })
    const released = await own.ask({ type: 'release', task: ids[0], after: 600 })
    t.match(released, { type: 'ok' })
    t.match(await ask(String(ids[0])), { status: 409 })
  },
)

const startClient = (t: Test, instance: Instance, bearer: string) => {
  const deck = connect({ url: instance.url, token: bearer })
  t.teardown(() => deck.close())
  return deck
}

void t.test('client: reply.ask resolves with the answer, and the citizen works on other tasks meanwhile', async (t) => {
  const { name, bearer, path, topic } = await begin()
  const deck = startClient(t, one, bearer)
  const seen: string[] = []
  const over = new AbortController()
  const answering = deck.citizen(name).answer(
    async ({ message }, reply) => {
      seen.push(message)
      if (message !== 'first') return 'at once'
      const kind = await reply.ask({ kind: 'choose', title: 'Which?', options: ['red', 'green'] })
      return `it is ${String(kind)}`
    },
    { concurrency: 1, signal: over.signal },
  )
  const openOf = async (): Promise<Json[]> =>
    (await two.request('GET', `${path}?state=open`, alice)).json['requests'] as Json[]
  await until(async () => (await openOf()).length === 1, 'the request')
  await until(() => seen.includes('second'), 'the second task')
  const [request] = await openOf()
  t.match(await two.request('POST', `${path}/${String(request?.['id'])}/answer`, alice, { answer: 'green' }), {
    status: 200,
  })
  const replies = async (): Promise<string[]> =>
    ((await one.request('GET', `/api/${topic}`, alice)).json['messages'] as Json[])
      .filter(({ sender }) => sender === 'citizen')
      .map(({ message }) => String(message))
      .sort()
  await until(async () => (await replies()).length === 2, 'both replies')
  t.strictSame(await replies(), ['at once', 'it is green'])
  over.abort()
  await answering
})

void t.test(
  'client: a cancelled reply withdraws its request, and a stopped worker leaves the task waiting',
  async (t) => {
    const { name, bearer, path, ids, topic, answer } = await begin(['first'])
    const deck = startClient(t, one, bearer)
    const faults: unknown[] = []
    deck.on('error', (error) => faults.push(error))
    const reasons: unknown[] = []
    const stop = new AbortController()
    const answering = deck.citizen(name).answer(
      async (_message, reply) => {
        await reply.ask({ kind: 'approve', title: 'Deploy?' }).catch((error: unknown) => {
          reasons.push(error)
          throw error
        })
      },
      { signal: stop.signal },
    )
    const requests = async (): Promise<Json[]> => (await two.request('GET', path, alice)).json['requests'] as Json[]
    await until(async () => (await requests()).length === 1, 'the request')
    t.match(await two.request('POST', `/api/${topic}/questions/${ids[0]}/cancel`, alice), { status: 200 })
    await until(() => reasons.length === 1, 'the cancel')
    t.ok(reasons[0] instanceof DeckError)
    t.match(reasons[0], { code: 'cancelled' })
    await until(async () => (await requests())[0]?.['state'] === 'withdrawn', 'the request to be withdrawn')

    const { json } = await one.request('POST', `/api/${topic}`, alice, { message: 'again' })
    const task = String(json['id'])
    await until(async () => (await requests()).length === 2, 'the second request')
    await until(async () => (await leaseOf(task))['parked'] === true, 'the task to be parked')
    stop.abort()
    await answering
    deck.close()
    t.match(await leaseOf(task), { parked: true }, 'the task still waits')
    await answer(String((await requests())[0]?.['id']))
    const next = startClient(t, two, bearer)
    const given: unknown[] = []
    void next.citizen(name).answer((message, { request, attempt }) => {
      given.push([message.message, request?.answer, attempt])
      return 'done'
    })
    await until(() => given.length === 1, 'the next worker')
    t.strictSame(given, [['again', true, 2]])
  },
)
