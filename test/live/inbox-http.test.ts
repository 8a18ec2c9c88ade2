// The inbox over HTTP, on two instances: claims that wait, are repeated or lost, and what each call under a claim checks. What it shares
// with the socket is in inbox.test.ts.
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import type { Task } from '../support/agents.ts'
import { messageForm, refused, time, uuid, isForm } from '../support/forms.ts'
import {
  admin,
  alice,
  makeMission,
  startDeck,
  startInstance,
  token,
  until,
  type Answer,
  type Instance,
  type Json,
} from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)

let citizens = 0
/** A citizen that no other test uses, with a chat. */
const makeCitizen = async () => {
  const name = `agent${citizens++}`
  const bearer = await token({ sub: name, role: 'citizen' })
  const mission = await makeMission(one)
  const topic = `missions/${mission.id}/chat/${name}`
  const ask = async (...questions: string[]): Promise<string[]> => {
    const ids: string[] = []
    for (const message of questions)
      ids.push(String((await one.request('POST', `/api/${topic}`, alice, { message })).json['id']))
    return ids
  }
  const claim = (on: Instance, body: Json = {}, headers: Record<string, string> = {}, by = bearer): Promise<Answer> =>
    on.request('POST', `/api/inbox/${name}/claim`, by, body, headers)
  const call = (on: Instance, { task, claim }: Task, path: string, body: Json = {}, by = bearer): Promise<Answer> =>
    on.request('POST', `/api/inbox/${name}/tasks/${task}/${path}`, by, { claim, ...body })
  const messages = async (): Promise<Json[]> =>
    (await one.request('GET', `/api/${topic}?limit=500`, admin)).json['messages'] as Json[]
  const rows = (): Promise<Json[]> => database.query('select * from deck.tasks where citizen = $1 order by seq', [name])
  const runOut = () =>
    database.query(
      'update deck.tasks set lease_until = clock_timestamp() where citizen = $1 and lease_until is not null',
      [name],
    )
  return { name, bearer, mission, topic, ask, claim, call, messages, rows, runOut }
}
const tasksOf = ({ json }: Answer): Task[] => json['tasks'] as Task[]
const textsOf = (answer: Answer): string[] => tasksOf(answer).map(({ message }) => message.message)
const firstOf = (answer: Answer): Task => tasksOf(answer)[0] as Task
/** Waits until so many claims of an instance wait. */
const waiting = (n: number, on: Instance = one): Promise<void> =>
  until(async () => {
    const { text } = await on.request('GET', '/metrics')
    return text.includes(`\ndeck_claims_waiting ${n}\n`)
  }, `${n} waiting claims`)

void t.test('claim: the exact forms of the answers to all calls', async (t) => {
  const { topic, mission, ask, claim, call, name } = await makeCitizen()
  t.strictSame((await claim(one)).json, { tasks: [] })
  const [id] = await ask('q')
  const answer = await claim(two, { credit: 2, lease: 10, kinds: ['message'] })
  const task = firstOf(answer)
  isForm(
    t,
    task,
    {
      task: id,
      kind: 'message',
      claim: /^[0-9a-f-]{36}\.1$/,
      attempt: 1,
      lease_until: time,
      topic,
      message: task.message,
    },
    'a claimed task',
  )
  isForm(t, task.message, messageForm({ id, mission_id: mission.id, citizen: name, message: 'q' }), 'its message')
  const left = Date.parse(task.lease_until) - Date.now()
  t.ok(left > 5_000 && left <= 10_000, `leased for ${left} ms`)
  const renewed = await call(one, task, 'renew', { lease: 3600 })
  isForm(t, renewed.json, { lease_until: time, cancelled: false }, 'renew')
  t.ok(Date.parse(String(renewed.json['lease_until'])) - Date.now() > 3_590_000, 'the new lease')
  const again = await call(two, task, 'renew')
  t.ok(
    String(again.json['lease_until']) > String(renewed.json['lease_until']),
    'without `lease` the former one is renewed',
  )
  const list = await one.request('GET', `/api/inbox/${name}`, admin)
  isForm(
    t,
    list.json,
    {
      listening: true,
      waiting: 0,
      working: 1,
      failed: 0,
      next: null,
      tasks: [
        {
          id,
          seq: 1,
          state: 'working',
          attempt: 1,
          since: (list.json['tasks'] as Json[])[0]?.['since'],
          until: again.json['lease_until'],
          answer: null,
          topic,
        },
      ],
    },
    'the list',
  )
  t.strictSame((await call(one, task, 'draft', { delta: 'an ' })).json, { offset: 3, cancelled: false })
  t.strictSame((await call(one, task, 'draft')).json, { offset: 3, cancelled: false }, 'no delta')
  const reply = await call(two, task, 'reply', { message: 'a', usage: { tokens: 3 } })
  t.equal(reply.status, 201)
  isForm(
    t,
    reply.json,
    messageForm({
      mission_id: mission.id,
      citizen: name,
      sender: 'citizen',
      author: name,
      message: 'a',
      seq: 2,
      key: `task:${id}`,
      in_reply_to: id,
      usage: { tokens: 3 },
    }),
    'the reply',
  )
  const repeated = await call(one, task, 'reply', { message: 'b' })
  t.strictSame([repeated.status, repeated.text], [200, reply.text])
  const done = await call(one, task, 'done')
  t.strictSame([done.status, done.text], [204, ''], 'done after the reply')
})

void t.test('claim: a question that was just written, by API or SQL, is found at once on any instance', async (t) => {
  const { ask, claim, mission, name } = await makeCitizen()
  for (let n = 0; n < 5; n++) {
    await ask(`q${n}`)
    t.strictSame(textsOf(await claim(n % 2 ? one : two)), [`q${n}`])
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message) values ($1, $2, 'user', $3)`,
      [mission.id, name, `sql ${n}`],
    )
    t.strictSame(textsOf(await claim(n % 2 ? one : two)), [`sql ${n}`])
  }
})

void t.test(
  'claim: one that waits is answered by a question, a release and a lapse, from another instance',
  async (t) => {
    const { ask, claim, call, runOut } = await makeCitizen()
    const first = claim(one, { wait: 50 })
    await waiting(1)
    await ask('q')
    const task = firstOf(await first)
    t.match(task, { attempt: 1 })
    const second = claim(one, { wait: 50 })
    await waiting(1)
    t.equal((await call(two, task, 'release')).status, 204)
    t.match(firstOf(await second), { task: task.task, attempt: 2 })
    const third = claim(one, { wait: 50 })
    await waiting(1)
    await runOut()
    t.match(firstOf(await third), { task: task.task, attempt: 3 })
    t.strictSame(tasksOf(await claim(two, { wait: 0.2 })), [], 'the wait ends')
  },
)

void t.test('claim: many that wait share the tasks, one each, without a connection of the pool', async (t) => {
  const { ask, claim, name } = await makeCitizen()
  // The pool has 6 connections: if a claim held one, no request would be answered meanwhile.
  const claims = Array.from({ length: 50 }, () => claim(one, { wait: 50 }))
  await waiting(50)
  await ask(...Array.from({ length: 50 }, (_, n) => `q${n}`))
  const answers = await Promise.all(claims)
  t.equal(new Set(answers.map((answer) => firstOf(answer).task)).size, 50)
  t.ok(answers.every((answer) => tasksOf(answer).length === 1))
  t.strictSame(
    (await database.query('select count(distinct holder)::int as n from deck.tasks where citizen = $1', [name]))[0],
    { n: 50 },
  )
})

void t.test(
  'claim: an Idempotency-Key gives the same tasks while their leases last, also to several at once',
  async (t) => {
    const { ask, claim, call, runOut, rows } = await makeCitizen()
    await ask('a', 'b', 'c', 'd')
    const key = { 'idempotency-key': 'k 1' }
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, n) => claim(n % 2 ? one : two, { credit: 2, wait: n < 4 ? 0 : 50 }, key)),
    )
    for (const answer of answers) t.strictSame(textsOf(answer), ['a', 'b'])
    t.equal(new Set(answers.flatMap(tasksOf).map(({ claim }) => claim)).size, 1, 'one claim')
    t.match(await rows(), [{ attempt: 1 }, { attempt: 1 }, { attempt: 0 }, { attempt: 0 }])
    const [a, b] = tasksOf(answers[0] as Answer) as [Task, Task]
    t.strictSame(textsOf(await claim(one, { credit: 2 }, { 'idempotency-key': 'k 2' })), ['c', 'd'], 'a different key')
    t.equal((await call(one, a, 'done')).status, 204)
    t.strictSame(textsOf(await claim(two, { credit: 2 }, key)), ['b'], 'those that are left')
    await runOut()
    const anew = await claim(one, { credit: 1 }, key)
    t.match(tasksOf(anew), [{ task: b.task, attempt: 2 }])
    refused(t, await call(two, b, 'reply', { message: 'x' }), 409, 'conflict', 'the claim before, under the same key')
    t.equal((await call(two, firstOf(anew), 'reply', { message: 'x' })).status, 201)
  },
)

void t.test(
  'claim: the key of one subject is not that of another, and a narrower token gets its missions only',
  async (t) => {
    const { ask, claim, name, mission, bearer } = await makeCitizen()
    const key = { 'idempotency-key': 'k' }
    await ask('q')
    const elsewhere = await token({ sub: name, role: 'citizen', missions: [(await makeMission(one)).id] })
    t.strictSame(tasksOf(await claim(one, {}, key, elsewhere)), [])
    const mine = await claim(one, {}, key)
    t.equal(tasksOf(mine).length, 1)
    t.strictSame(tasksOf(await claim(one, {}, key, elsewhere)), [], 'the key alone gives no right')
    t.strictSame(tasksOf(await claim(one, {}, key, admin)), [], 'the same key of an admin')
    const path = `/api/inbox/${name}/tasks/${firstOf(mine).task}`
    for (const [call, body] of [
      ['renew', {}],
      ['draft', { delta: 'x' }],
      ['reply', { message: 'x' }],
      ['done', {}],
      ['release', {}],
    ] as const) {
      const claimed = { claim: firstOf(mine).claim, ...body }
      refused(t, await one.request('POST', `${path}/${call}`, elsewhere, claimed), 404, 'not_found', call)
    }
    t.match((await one.request('GET', `/api/inbox/${name}`, elsewhere)).json, { working: 0, tasks: [] })
    const number = await token({ sub: name, role: 'citizen', missions: [mission.number, 'no mission'.padEnd(36, 'x')] })
    t.match((await one.request('GET', `/api/inbox/${name}`, number)).json, { working: 1, tasks: [{ seq: 1 }] })
    t.match((await one.request('GET', `/api/inbox/${name}`, bearer)).json, { working: 1 })
  },
)

void t.test(
  'claim: once another holder has the task, everything under the old claim is conflict and changes nothing',
  async (t) => {
    const { ask, claim, call, runOut, rows, messages, topic } = await makeCitizen()
    await ask('q')
    const old = firstOf(await claim(one))
    await call(one, old, 'draft', { delta: 'old' })
    await runOut()
    t.equal((await call(two, old, 'renew')).status, 200, 'a lapsed claim counts until somebody else has the task')
    await runOut()
    const next = firstOf(await claim(two))
    t.equal(next.attempt, 2)
    const follower = await one.connect(alice)
    t.match(await follower.ask({ type: 'subscribe', topic }), { type: 'ok' })
    t.strictSame((await call(two, next, 'draft', { offset: 0, delta: 'new' })).json, { offset: 3, cancelled: false })
    const before = await rows()
    for (const on of [one, two])
      for (const [path, body] of [
        ['renew', { lease: 3600 }],
        ['draft', { delta: 'x' }],
        ['draft', { delta: 'x', offset: 0 }],
        ['draft', {}],
        ['reply', { message: 'x' }],
        ['reply', {}],
        ['done', {}],
        ['release', { after: 5 }],
      ] as const)
        refused(t, await call(on, old, path, body), 409, 'conflict', `${path} ${JSON.stringify(body)}`)
    t.strictSame(await rows(), before)
    t.equal((await messages()).length, 1)
    const reply = await call(one, next, 'reply')
    t.match(reply, { status: 201, json: { message: 'new' } }, 'the draft of the claim that holds the task')
    for (const path of ['reply', 'done', 'renew', 'release'])
      refused(
        t,
        await call(two, old, path, path === 'reply' ? { message: 'x' } : {}),
        409,
        'conflict',
        `${path} after the end`,
      )
    for (const path of ['renew', 'release', 'draft'])
      refused(t, await call(two, next, path), 409, 'conflict', `${path} after the own end`)
    t.equal((await messages()).length, 2)
  },
)

void t.test('reply: two claims and the same key save one message, and the late one gets conflict', async (t) => {
  const { ask, claim, call, runOut, messages } = await makeCitizen()
  await ask('q')
  const old = firstOf(await claim(one))
  await runOut()
  const next = firstOf(await claim(two))
  const answers = await Promise.all([
    call(one, old, 'reply', { message: 'old' }),
    call(two, next, 'reply', { message: 'new' }),
    call(two, next, 'reply', { message: 'new' }),
    call(one, next, 'reply', { message: 'new' }),
  ])
  t.strictSame(answers.map(({ status }) => status).sort(), [200, 200, 201, 409])
  t.equal(answers[0]?.status, 409)
  t.match(await messages(), [{ message: 'q' }, { message: 'new' }])
})

void t.test('reply: a key that was used without the task ends the task with that message', async (t) => {
  const { ask, claim, call, topic, bearer, rows } = await makeCitizen()
  const [id] = await ask('q')
  const task = firstOf(await claim(one))
  const early = await one.request('POST', `/api/${topic}`, bearer, {
    message: 'early',
    key: `task:${id}`,
    reply_to: id,
  })
  t.equal(early.status, 201)
  const reply = await call(two, task, 'reply', { message: 'late' })
  t.match(reply, { status: 200, json: { message: 'early' } })
  t.match(await rows(), [{ answered: true, lease_until: null }])
})

void t.test(
  'reply: without text, with too long text or a large usage is bad_request; the task stays held',
  async (t) => {
    const { ask, claim, call, rows, messages } = await makeCitizen()
    await ask('q')
    const task = firstOf(await claim(one))
    for (const body of [
      {},
      { message: '' },
      { message: 'x'.repeat(10_001) },
      { message: 'a\u0000' },
      { message: 'x', usage: { text: 'x'.repeat(4096) } },
      { message: 'x', usage: [] },
      { message: 'x', code_blocks: [{ code: 5 }] },
      { message: 'x', code_blocks: [{ code: 'x'.repeat(262_145) }] },
    ])
      refused(t, await call(one, task, 'reply', body), 400, 'bad_request', JSON.stringify(body).slice(0, 60))
    await call(one, task, 'draft', { delta: 'x'.repeat(10_000) })
    await call(two, task, 'draft', { delta: 'x' })
    refused(t, await call(one, task, 'reply'), 400, 'bad_request', 'a draft over 10,000 characters')
    t.match(await rows(), [{ ended: null, attempt: 1 }])
    const blocks = [{ language: 'js', code: 'x\n' }]
    t.match(await call(one, task, 'reply', { message: 'a 🎛', code_blocks: blocks }), {
      status: 201,
      json: { message: 'a 🎛', code_blocks: blocks },
    })
    t.equal((await messages()).length, 2)
  },
)

void t.test('draft: calls in turn on two instances continue one text, and followers on both see it', async (t) => {
  const { ask, claim, call, topic } = await makeCitizen()
  await ask('q')
  const task = firstOf(await claim(one))
  const watchers = await Promise.all(
    [one, two].map(async (on) => {
      const client = await on.connect(alice)
      t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
      return client
    }),
  )
  let text = ''
  for (const [n, word] of ['One ', '🎛️ ', 'two ', 'three ', 'four ', 'five'].entries()) {
    const offset = n % 3 === 0 ? { offset: text.length } : {}
    text += word
    t.strictSame((await call(n % 2 ? one : two, task, 'draft', { delta: word, ...offset })).json, {
      offset: text.length,
      cancelled: false,
    })
  }
  for (const wrong of [1, text.length - 1, text.length + 1])
    for (const on of [one, two]) {
      const answer = await call(on, task, 'draft', { delta: 'x', offset: wrong })
      t.match(answer, { status: 409, json: { code: 'conflict', offset: text.length } })
    }
  for (const client of watchers)
    await until(() => {
      let seen = ''
      for (const { type, offset, delta, aborted } of client.frames)
        if (type === 'delta') seen = aborted ? '' : seen.slice(0, Number(offset)) + String(delta)
      return seen === text
    }, 'the text')
  t.strictSame((await call(two, task, 'draft', { delta: 'New', offset: 0 })).json, { offset: 3, cancelled: false })
  const taken: string[] = []
  const refusedOnes: string[] = []
  await Promise.all(
    Array.from({ length: 40 }, async (_, n) => {
      const delta = `<${n}>`
      const { status } = await call(n % 2 ? one : two, task, 'draft', { delta })
      if (status === 200) taken.push(delta)
      else if (status === 409) refusedOnes.push(delta)
      else t.fail(String(status))
    }),
  )
  const { json } = await call(one, task, 'reply')
  t.match(json['message'], /^New(<\d+>)*$/)
  t.strictSame((String(json['message']).match(/<\d+>/g) ?? []).sort(), taken.sort(), 'each answered delta once')
  t.comment(`of 40 concurrent deltas ${refusedOnes.length} were refused`)
  for (const bad of [
    { delta: 5 },
    { offset: -1 },
    { offset: 1.5 },
    { delta: 'x'.repeat(20_001) },
    { delta: '\ud800' },
  ]) {
    await ask('next')
    const next = firstOf(await claim(one))
    refused(t, await call(one, next, 'draft', bad), 400, 'bad_request', JSON.stringify(bad).slice(0, 40))
    await call(one, next, 'done')
  }
})

void t.test('draft: a cancel by a user reaches the next call of the claim, on any instance', async (t) => {
  const { ask, claim, call, topic } = await makeCitizen()
  const [id] = await ask('q')
  const task = firstOf(await claim(one))
  await call(one, task, 'draft', { delta: 'x' })
  const user = await two.connect(alice)
  t.match(await user.ask({ type: 'cancel', topic, key: `task:${id}` }), { type: 'ok' })
  await until(async () => (await call(two, task, 'renew')).json['cancelled'] === true, 'the cancel')
  t.match((await call(one, task, 'draft', { delta: 'y' })).json, { offset: 2, cancelled: true })
  await call(one, task, 'release')
  t.match((await call(two, firstOf(await claim(one)), 'renew')).json, { cancelled: false }, 'not of the next attempt')
})

void t.test('draft: a user who writes under the key of a task does not stop the holder', async (t) => {
  const { ask, claim, call, topic } = await makeCitizen()
  const [id] = await ask('q')
  const task = firstOf(await claim(one))
  const user = await two.connect(alice)
  t.match(await user.ask({ type: 'stream', topic, key: `task:${id}`, delta: 'forged' }), { type: 'ok' })
  await until(
    async () =>
      (await database.query(`select from deck.drafts where key = $1 and units = 6`, [`task:${id}`])).length > 0,
    'the forged draft',
  )
  refused(t, await call(one, task, 'reply'), 400, 'bad_request', 'their text is not the reply')
  t.strictSame((await call(one, task, 'draft', { delta: 'mine' })).json, { offset: 4, cancelled: false })
  t.match((await call(one, task, 'reply')).json, { message: 'mine' })
})

void t.test('release: puts a task off, again is 204, and the claim holds nothing after it', async (t) => {
  const { ask, claim, call, rows } = await makeCitizen()
  await ask('q')
  const task = firstOf(await claim(one))
  t.equal((await call(one, task, 'release', { after: 3600 })).status, 204)
  t.equal((await call(two, task, 'release', { after: 0 })).status, 204)
  t.strictSame(tasksOf(await claim(one)), [], 'a repeated release does not change the delay')
  for (const [path, body] of [
    ['renew', {}],
    ['draft', { delta: 'x' }],
    ['reply', { message: 'x' }],
    ['done', {}],
  ] as const)
    refused(t, await call(one, task, path, body), 409, 'conflict', path)
  t.match(await rows(), [{ attempt: 1, ended: null, lease_until: null }])
})

void t.test('claim: a client that has gone gets no task', async (t) => {
  const { ask, name, bearer, rows, claim } = await makeCitizen()
  const gone = new AbortController()
  const abandoned = Array.from({ length: 3 }, (_, n) =>
    fetch(`${one.url}/api/inbox/${name}/claim`, {
      method: 'POST',
      signal: gone.signal,
      headers: {
        authorization: `Bearer ${bearer}`,
        'content-type': 'application/json',
        ...(n === 0 ? {} : { 'idempotency-key': 'k' }),
      },
      body: '{"wait":50}',
    }).catch(() => undefined),
  )
  await waiting(3)
  gone.abort()
  await Promise.all(abandoned)
  await waiting(0)
  await ask('q')
  t.match(tasksOf(await claim(one)), [{ attempt: 1 }], 'no attempt was used')
  t.match(await rows(), [{ attempt: 1 }])
})

void t.test(
  'claim: a client that goes while its tasks are being leased gets none, and no attempt is used',
  async (t) => {
    const { ask, name, bearer, rows, claim } = await makeCitizen()
    await ask('q')
    await claim(one, {}, { 'idempotency-key': 'first' })
    await database.query(`update deck.tasks set lease_until = null, attempt = 0 where citizen = $1`, [name])
    for (const key of [undefined, 'k']) {
      const blocker = await database.connect()
      await blocker.query('begin; lock table deck.tasks in share row exclusive mode')
      const gone = new AbortController()
      const answer = fetch(`${one.url}/api/inbox/${name}/claim`, {
        method: 'POST',
        signal: gone.signal,
        headers: {
          authorization: `Bearer ${bearer}`,
          'content-type': 'application/json',
          ...(key ? { 'idempotency-key': key } : {}),
        },
        body: '{"lease":3600}',
      }).catch(() => undefined)
      await until(
        async () =>
          (await database.query(`select from pg_locks where relation = 'deck.tasks'::regclass and not granted`))
            .length > 0,
        'the claim to wait for the lock',
      )
      gone.abort()
      await answer
      await waiting(0)
      await blocker.query('commit')
      // The lock is held by the claim until it has leased the task, and then released.
      await until(
        async () =>
          (
            await database.query(`select from pg_stat_activity where datname = current_database() and state = 'active'
          and query like '%claim_tasks%' and pid <> pg_backend_pid()`)
          ).length === 0,
        'the claim to end',
      )
      await until(async () => (await rows())[0]?.['lease_until'] === null, 'the task to be free')
      t.match(await rows(), [{ attempt: 0 }])
      t.match(tasksOf(await claim(two, {}, { 'idempotency-key': 'other' })), [{ attempt: 1 }])
      await database.query(`update deck.tasks set lease_until = null, attempt = 0 where citizen = $1`, [name])
    }
  },
)

void t.test('claim: one whose token expires while it waits gets no task, and ends as unauthorized', async (t) => {
  const { ask, claim, name, rows } = await makeCitizen()
  const short = await token({ sub: name, role: 'citizen' }, 1)
  const expiring = claim(one, { wait: 9 }, {}, short)
  await waiting(1)
  await until(async () => (await one.request('GET', `/api/inbox/${name}`, short)).status === 401, 'the token to expire')
  await ask('q')
  refused(t, await expiring, 401, 'unauthorized')
  t.strictSame(
    (await rows()).filter(({ attempt }) => attempt !== 0),
    [],
  )
  t.match(tasksOf(await claim(two)), [{ attempt: 1 }])
})

void t.test('drain: waiting claims end without tasks, and what they waited for goes to another instance', async (t) => {
  const three = await startInstance(t, database.url)
  const { ask, claim } = await makeCitizen()
  const answers = Array.from({ length: 5 }, (_, n) =>
    claim(three, { wait: 50 }, n > 2 ? { 'idempotency-key': 'k' } : {}),
  )
  await waiting(5, three)
  const closing = three.close()
  for (const answer of await Promise.all(answers)) t.match(answer, { status: 200, json: { tasks: [] } })
  await closing
  await ask('q')
  t.match(tasksOf(await claim(one)), [{ attempt: 1 }])
})

void t.test('claim: too many that wait are rate_limited by subject and unavailable by instance', async (t) => {
  const three = await startInstance(t, database.url, { limits: { claimsWaiting: 3, claimsWaitingPerSubject: 2 } })
  t.match((await three.request('GET', '/api/limits', admin)).json, { waiting_claims: 3, waiting_claims_per_subject: 2 })
  const a = await makeCitizen()
  const b = await makeCitizen()
  const held = [a, a, b].map(({ claim }) => claim(three, { wait: 50 }))
  await waiting(3, three)
  const limited = await a.claim(three, { wait: 50 })
  refused(t, limited, 429, 'rate_limited', 'by subject')
  t.ok(limited.headers.get('retry-after'))
  refused(t, await b.claim(three, { wait: 50 }), 503, 'unavailable', 'by instance')
  await a.ask('1', '2')
  await b.ask('3')
  t.strictSame((await Promise.all(held)).flatMap(textsOf).sort(), ['1', '2', '3'])
  t.equal((await a.claim(three)).status, 200, 'places are free again')
})

void t.test('admin: works any inbox; its reply has the citizen as sender and the admin as author', async (t) => {
  const { ask, claim, call, messages, runOut } = await makeCitizen()
  const [id] = await ask('q')
  const citizens = firstOf(await claim(one))
  await call(one, citizens, 'draft', { delta: 'half' })
  await runOut()
  const task = firstOf(await claim(one, {}, {}, admin))
  t.equal(task.attempt, 2)
  t.match((await call(two, task, 'draft', { delta: ' done', offset: 4 }, admin)).json, { offset: 9 })
  const reply = await call(one, task, 'reply', {}, admin)
  t.match(reply, { status: 201, json: { sender: 'citizen', author: 'root', message: 'half done', in_reply_to: id } })
  t.equal((await call(one, task, 'reply', {}, admin)).text, reply.text)
  const other = await token({ sub: 'second root', role: 'admin' })
  t.match(await call(two, task, 'reply', {}, other), { status: 200, text: reply.text }, 'a second admin with the claim')
  t.equal((await messages()).length, 2)
})

void t.test('inbox: closed to users and to other citizens; unknown tasks are not_found', async (t) => {
  const { name, ask, claim, bearer, rows, runOut, call, topic } = await makeCitizen()
  const sofia = await token({ sub: 'sofia', role: 'citizen' })
  await ask('q')
  const task = firstOf(await claim(one))
  const before = await rows()
  const path = `/api/inbox/${name}`
  const calls: [method: string, path: string, body?: Json][] = [
    ['GET', path],
    ['POST', `${path}/claim`, {}],
    ['POST', `${path}/tasks/${task.task}/renew`, { claim: task.claim }],
    ['POST', `${path}/tasks/${task.task}/draft`, { claim: task.claim, delta: 'x' }],
    ['POST', `${path}/tasks/${task.task}/reply`, { claim: task.claim, message: 'x' }],
    ['POST', `${path}/tasks/${task.task}/done`, { claim: task.claim }],
    ['POST', `${path}/tasks/${task.task}/release`, { claim: task.claim }],
  ]
  const user = await token({ sub: name, role: 'user', missions: '*' })
  for (const [method, at, body] of calls) {
    for (const by of [alice, sofia, user]) refused(t, await one.request(method, at, by, body), 403, 'forbidden', at)
    refused(t, await one.request(method, at, undefined, body), 401, 'unauthorized', at)
    refused(t, await one.request(method, at.replace(name, 'No'), admin, body), 400, 'bad_request', `${at}: the name`)
    if (!body || !('claim' in body)) continue
    for (const bad of ['x', '', 5, null, task.claim?.slice(0, 36), `${task.claim}x`, task.claim?.replace('.1', '.0')])
      refused(
        t,
        await one.request(method, at, bearer, { ...body, claim: bad }),
        400,
        'bad_request',
        `${at} ${String(bad)}`,
      )
    refused(t, await one.request(method, at.replace(task.task, 'x'), bearer, body), 400, 'bad_request', `${at}: the id`)
    refused(t, await one.request(method, at.replace(task.task, randomUUID()), bearer, body), 404, 'not_found', at)
    const foreign = at.replace(name, 'sofia')
    refused(t, await one.request(method, foreign, sofia, body), 404, 'not_found', 'a task of another citizen')
    const guessed = { ...body, claim: `${randomUUID()}.1` }
    refused(t, await one.request(method, at, bearer, guessed), 409, 'conflict', 'a claim that nobody has')
  }
  t.strictSame(await rows(), before)
  await runOut()
  t.equal(
    (await call(one, { ...task, task: task.task.toUpperCase(), claim: String(task.claim).toUpperCase() }, 'renew'))
      .status,
    200,
  )
  t.equal((await one.request('DELETE', `/api/${topic}`, admin)).status, 204)
  refused(t, await call(one, task, 'reply', { message: 'x' }), 404, 'not_found', 'a cleared chat')
})

void t.test('claim: values out of range are bad_request, and nothing is leased', async (t) => {
  const { claim, ask, name, bearer, rows, call } = await makeCitizen()
  await ask('q')
  for (const body of [
    ...[0, 101, 1.5, '1', null].map((credit) => ({ credit })),
    ...[-1, 51, '1', null].map((wait) => ({ wait })),
    ...[9, 3601, 10.5, '60', null].map((lease) => ({ lease })),
    ...[[], ['x'], 'message', null].map((kinds) => ({ kinds })),
  ])
    refused(t, await claim(one, body), 400, 'bad_request', JSON.stringify(body))
  for (const key of ['', 'x'.repeat(65), 'é'])
    refused(t, await claim(one, {}, { 'idempotency-key': key }), 400, 'bad_request', `the key ${key}`)
  for (const query of [
    'limit=0',
    'limit=501',
    'limit=x',
    'cursor=x',
    'cursor=',
    `cursor=${Buffer.from('9999-99-99T00:00:00.000000 x 1').toString('base64url')}`,
  ])
    refused(t, await one.request('GET', `/api/inbox/${name}?${query}`, bearer), 400, 'bad_request', query)
  t.strictSame(await rows(), [])
  const answer = await one.request('POST', `/api/inbox/${name}/claim`, bearer)
  t.equal(tasksOf(answer).length, 1, 'a claim without a body')
  for (const body of [{ lease: 9 }, { lease: 3601 }, { lease: 'x' }])
    refused(t, await call(one, firstOf(answer), 'renew', body), 400, 'bad_request', JSON.stringify(body))
  for (const body of [{ after: -1 }, { after: 86_401 }, { after: 'x' }])
    refused(t, await call(one, firstOf(answer), 'release', body), 400, 'bad_request', JSON.stringify(body))
  t.match(await rows(), [{ attempt: 1, ended: null }])
})

void t.test('inbox: the list has waiting, working and failed questions in pages, oldest first', async (t) => {
  const { claim, ask, name, call, runOut, topic, bearer } = await makeCitizen()
  const list = async (query = ''): Promise<Json> =>
    (await two.request('GET', `/api/inbox/${name}?${query}`, bearer)).json
  const ids = await ask('q0', 'q1', 'q2', 'q3', 'q4')
  t.match(await list(), { listening: false, waiting: 5, working: 0, failed: 0, next: null }, 'before any claim')
  t.strictSame(
    ((await list())['tasks'] as Json[]).map(({ id }) => id),
    ids,
  )
  t.equal((await database.query('select from deck.inboxes where citizen = $1', [name])).length, 0, 'no inbox was made')
  t.strictSame((await list('limit=2'))['tasks'], ((await list())['tasks'] as Json[]).slice(0, 2))
  for (let attempt = 1; attempt <= 5; attempt++) await call(one, firstOf(await claim(one)), 'release')
  const working = firstOf(await claim(one))
  t.equal((await call(one, firstOf(await claim(one)), 'done')).status, 204)
  t.match(await list(), { listening: true, waiting: 2, working: 1, failed: 1 })
  const all = (await list())['tasks'] as Json[]
  t.match(all, [
    { id: ids[0], state: 'failed', attempt: 5, until: null, topic },
    { id: ids[1], state: 'working', attempt: 1, until: working.lease_until },
    { id: ids[3], state: 'waiting', attempt: 0, until: null },
    { id: ids[4], state: 'waiting', attempt: 0 },
  ])
  const found: Json[] = []
  for (let next: string | null = ''; next !== null;) {
    const page = await list(`limit=1${next === '' ? '' : `&cursor=${next}`}`)
    found.push(...(page['tasks'] as Json[]))
    next = page['next'] as string | null
  }
  t.strictSame(found, all)
  await runOut()
  t.match(await list(), { waiting: 3, working: 0, failed: 1 }, 'a lapsed lease shows as waiting')
  t.match(((await list())['tasks'] as Json[])[1], { state: 'waiting', attempt: 1 })
  t.match(all[0]?.['id'], uuid)
})

void t.test('listening: a claim shows at once, and a dead agent is gone after 60 s', async (t: Test) => {
  const { claim, name, bearer } = await makeCitizen()
  const listening = async () => (await two.request('GET', `/api/inbox/${name}`, bearer)).json['listening']
  t.equal(await listening(), false)
  await claim(one)
  t.equal(await listening(), true)
  await database.query(`update deck.inboxes set seen = seen - interval '61 seconds' where citizen = $1`, [name])
  t.equal(await listening(), false)
  const socket = await one.connect(bearer)
  await socket.ask({ type: 'work', credit: 1 })
  t.equal(await listening(), true, 'a socket that works')
})
