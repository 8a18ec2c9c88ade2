// Runs as tasks: on two instances, by both doors. Any writer that ends a run ends its task.
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import t, { type Test } from 'tap'
import { connect } from '../../src/client/index.ts'
import { doors } from '../support/agents.ts'
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
const runCitizen = 'tess'
const { instance: one, database } = await startDeck(t, { limits, runCitizen })
const two = await startInstance(t, database.url, { limits, runCitizen })
const bearer = await token({ sub: runCitizen, role: 'citizen' })
const inbox = `/api/inbox/${runCitizen}`

type Task = { task: string; kind: string; attempt: number; topic: string; claim?: string; run?: Json; message?: Json }

/** Ends what other tests left, so that a test sees its own runs only. */
const begin = async () => {
  await database.query(`update test_runs set status = 'failed' where status = 'running'`)
  const { id } = await makeMission(one)
  const tests = `/api/missions/${id}/tests`
  const ask = async (on: Instance = one): Promise<string> => {
    const { status, json, text } = await on.request('POST', `${tests}/run`, alice)
    if (status !== 202) throw new Error(text)
    return String(json['id'])
  }
  const read = async (run: string): Promise<Json> => (await two.request('GET', `${tests}/${run}`, alice)).json
  const task = async (run: string): Promise<Json | null> =>
    (await two.request('GET', `${tests}/${run}/task`, alice)).json['task'] as Json | null
  const patch = (run: string, body: Json, on: Instance = two, by = bearer) =>
    on.request('PATCH', `${tests}/${run}`, by, body)
  const cancel = (run: string, by = alice, on: Instance = one) => on.request('POST', `${tests}/${run}/cancel`, by)
  return { id, tests, ask, read, task, patch, cancel }
}
const work = async (on: Instance, credit = 1, kinds: unknown = ['run'], by = bearer): Promise<Client> => {
  const client = await on.connect(by)
  t.match(await client.ask({ type: 'work', credit, kinds }), { type: 'ok', credit })
  return client
}
const tasks = (client: Client): Task[] => client.frames.filter(({ type }) => type === 'task') as never
const has = async (client: Client, n: number): Promise<Task> => {
  await until(() => tasks(client).length >= n, `${n} tasks`)
  return tasks(client)[n - 1] as Task
}
const leave = async (...clients: Client[]): Promise<void> => {
  for (const client of clients) client.socket.terminate()
  await until(() => clients.every(({ closed }) => closed), 'the sockets to close')
}
const claim = async (on: Instance, more: Json = {}): Promise<Task[]> => {
  const { status, json, text } = await on.request('POST', `${inbox}/claim`, bearer, { kinds: ['run'], ...more })
  if (status !== 200) throw new Error(text)
  return json['tasks'] as Task[]
}

void t.test('runs: a requested run is a task on the other instance, and ends with the run', async (t) => {
  const { id, ask, read, task, patch } = await begin()
  const client = await work(two)
  const run = await ask()
  const given = await has(client, 1)
  t.match(given, { task: run, kind: 'run', attempt: 1, topic: `missions/${id}/tests` })
  t.strictSame(given.run, await read(run))
  t.match(await task(run), { state: 'working', citizen: runCitizen, attempt: 1, listening: true, cancelled: false })
  const second = await ask()
  t.match(await task(second), { state: 'waiting', attempt: 0, listening: true })
  t.match(await patch(run, { status: 'passed', summary: { passed: 1 } }, one), { status: 200 })
  t.equal(await task(run), null)
  t.equal((await has(client, 2)).task, second, 'the credit is free again')
  for (let n = 0; n < 2; n++) t.match(await client.ask({ type: 'done', task: run }), { type: 'ok' })
  await patch(second, { status: 'failed' })
  await leave(client)
})

void t.test('runs: a claim over HTTP that waits gets a run at once, and ends it with the run', async (t) => {
  const { ask, patch, task } = await begin()
  const waiting = claim(two, { wait: 50 })
  await until(async () => {
    const [seen] = await database.query('select from deck.run_workers where seen > $1', [new Date(Date.now() - 60_000)])
    return seen !== undefined
  }, 'the claim')
  const run = await ask()
  const [given] = await waiting
  t.match(given, { task: run, kind: 'run', attempt: 1, run: { id: run, status: 'running' } })
  const call = (path: string, body: Json = {}, on = one) =>
    on.request('POST', `${inbox}/tasks/${run}/${path}`, bearer, { claim: given?.claim, ...body })
  t.match(await call('renew', { lease: 60 }), { status: 200, json: { cancelled: false } })
  for (const [path, body] of [
    ['done', {}],
    ['reply', { message: 'x' }],
    ['draft', { delta: 'x' }],
  ] as const)
    t.match(await call(path, body), { status: 409, json: { code: 'conflict', detail: /the task is a run/ } }, path)
  t.match(await task(run), { state: 'working', attempt: 1 })
  t.match(await patch(run, { status: 'failed' }), { status: 200 })
  for (const on of [one, two]) t.match(await call('done', {}, on), { status: 204 }, 'it has ended')
  t.match(await call('release'), { status: 409 })
})

void t.test('runs: SQL that finishes a run ends its task, and frees its holder', async (t) => {
  const { ask, task } = await begin()
  const client = await work(one)
  const run = await ask(two)
  await has(client, 1)
  const second = await ask(two)
  await database.query(`update test_runs set status = 'passed' where id = $1`, [run])
  t.equal((await has(client, 2)).task, second)
  t.equal(await task(run), null)
  await leave(client)
})

const superuser = new pg.Client({ connectionString: database.adminUrl })
await superuser.connect()
t.teardown(() => superuser.end())
const isSuperuser =
  (await superuser.query<{ on: string }>(`select current_setting('is_superuser') as on`)).rows[0]?.on === 'on'
void t.test(
  'runs: a role with grants on the table only ends a run, and its task',
  { skip: isSuperuser ? false : 'needs a superuser' },
  async (t) => {
    const { ask, read, task } = await begin()
    const run = await ask()
    const role = `deck_test_ci_${run.slice(0, 8)}`
    await superuser.query(`create role ${role}; grant select, update on test_runs to ${role}; set role ${role}`)
    await superuser.query(`update test_runs set status = 'passed' where id = $1`, [run])
    await superuser.query(`reset role; drop owned by ${role}; drop role ${role}`)
    t.match(await read(run), { status: 'passed' })
    t.equal(await task(run), null)
  },
)

void t.test('runs: done, replies and drafts of a running run are refused, and the socket keeps it', async (t) => {
  const { id, ask, task } = await begin()
  const client = await work(one)
  const run = await ask()
  await has(client, 1)
  const topic = `missions/${id}/chat/${runCitizen}`
  const refused: Json[] = [
    { type: 'done', task: run },
    { type: 'send', topic, message: 'x', task: run },
    { type: 'send', topic, message: 'x', key: 'k', task: run },
    { type: 'stream', topic, key: 's', delta: 'x', done: true, task: run },
  ]
  for (const frame of refused) t.match(await client.ask(frame), { type: 'error', code: 'conflict', detail: /is a run/ })
  t.match(await client.ask({ type: 'send', topic, message: 'saved', key: 'k2' }), { type: 'ok' })
  const again = { type: 'send', topic, message: 'saved', key: 'k2', task: run }
  t.match(await client.ask(again), { type: 'error', code: 'conflict', detail: /is a run/ })
  const { json } = await one.request('GET', `/api/${topic}`, alice)
  t.match(
    (json['messages'] as Json[]).map(({ message }) => message),
    ['saved'],
  )
  const [row] = await database.query('select lease_until from deck.tasks where id = $1', [run])
  await until(async () => {
    const [now] = await database.query('select lease_until from deck.tasks where id = $1', [run])
    return Number(now?.['lease_until']) > Number(row?.['lease_until'])
  }, 'the lease to be renewed')
  t.match(await task(run), { state: 'working', attempt: 1 })
  await leave(client)
})

void t.test('runs: a released run goes to another runner, and so does one whose runner has died', async (t) => {
  const { ask, task } = await begin()
  const first = await work(one)
  const run = await ask()
  await has(first, 1)
  t.match(await first.ask({ type: 'work', credit: 0, kinds: ['run'] }), { type: 'ok' })
  t.match(await first.ask({ type: 'release', task: run }), { type: 'ok' })
  t.match(await task(run), { state: 'waiting', attempt: 1 })
  const second = await work(two)
  t.match(await has(second, 1), { task: run, attempt: 2 })
  for (const type of ['done', 'release'])
    t.match(await first.ask({ type, task: run }), { type: 'error', code: 'conflict' })
  await leave(second)
  const third = await work(one)
  t.match(await has(third, 1), { task: run, attempt: 3 })
  await leave(first, third)
})

void t.test('runs: after five attempts a run fails with the reason', async (t) => {
  const { ask, read } = await begin()
  const run = await ask()
  for (let attempt = 1; attempt <= 5; attempt++) {
    const [given] = await claim(attempt % 2 ? one : two, { wait: 20 })
    t.match(given, { task: run, attempt })
    const released = { claim: given?.claim }
    t.match(await one.request('POST', `${inbox}/tasks/${run}/release`, bearer, released), { status: 204 })
  }
  await until(async () => (await read(run))['status'] === 'failed', 'the run to fail')
  t.match(await read(run), { summary: { reason: /five attempts/ } })
  t.strictSame(await claim(two), [])
})

void t.test('runs: workers that do not ask for runs never get one', async (t) => {
  const { id, ask, task } = await begin()
  const chat = `/api/missions/${id}/chat/${runCitizen}`
  const agents = await Promise.all(doors.map(([, start], n) => start(t, n % 2 ? one : two, bearer, runCitizen, 2)))
  const deck = connect({ url: one.url, token: bearer })
  t.teardown(() => deck.close())
  const answered: string[] = []
  deck
    .citizen(runCitizen)
    .answer(({ message }) => void answered.push(message))
    .catch(() => {})
  const messages = await work(two, 2, ['message'])
  const run = await ask()
  const got = (): number =>
    answered.length + tasks(messages).length + agents.reduce((sum, { tasks }) => sum + tasks.length, 0)
  // A message that is asked later arrives, and the run does not.
  await one.request('POST', chat, alice, { message: 'a question' })
  await until(() => got() >= 1, 'the question')
  t.equal(got(), 1)
  t.match(
    [...agents.flatMap(({ tasks }) => tasks), ...tasks(messages)].filter(({ kind }) => kind !== 'message'),
    [],
  )
  t.match(await task(run), { state: 'waiting', attempt: 0 })
  for (const agent of agents) await agent.vanish()
  deck.close()
  await leave(messages)
})

void t.test('runs: a worker of both kinds gets the oldest first', async (t) => {
  const name = 'tess2'
  const both = await startInstance(t, database.url, { limits, runCitizen: name })
  const by = await token({ sub: name, role: 'citizen' })
  const { id } = await makeMission(both)
  const chat = `/api/missions/${id}/chat/${name}`
  await leave(await work(both, 1, ['message'], by))
  const order: unknown[] = []
  for (const kind of ['message', 'run', 'message', 'run']) {
    const path = kind === 'run' ? `/api/missions/${id}/tests/run` : chat
    const made = await both.request('POST', path, alice, kind === 'run' ? undefined : { message: 'x' })
    order.push([kind, made.json['id']])
  }
  const client = await work(one, 4, ['message', 'run'], by)
  await has(client, 4)
  t.strictSame(
    tasks(client).map(({ kind, task }) => [kind, task]),
    order,
  )
  await leave(client)
})

void t.test('runs: a runner opens no inbox, and messages keep the rule of the first work', async (t) => {
  const name = 'tess3'
  const only = await startInstance(t, database.url, { limits, runCitizen: name })
  const by = await token({ sub: name, role: 'citizen' })
  const { id } = await makeMission(only)
  const chat = `/api/missions/${id}/chat/${name}`
  const question = await only.request('POST', chat, alice, { message: 'before' })
  const client = await work(only, 2, ['run'], by)
  await only.request('POST', `/api/missions/${id}/tests/run`, alice)
  await has(client, 1)
  await only.request('POST', chat, alice, { message: 'meanwhile' })
  t.strictSame(await database.query('select from deck.inboxes where citizen = $1', [name]), [])
  t.strictSame(await database.query('select from deck.inbox_chats where citizen = $1', [name]), [])
  const { json } = await only.request('GET', '/api/citizens', alice)
  t.ok(Array.isArray(json['citizens']))
  t.match((await only.request('GET', `${chat}/questions`, alice)).json, { listening: true })
  t.match(await client.ask({ type: 'work', credit: 3, kinds: ['run', 'message'] }), { type: 'ok' })
  await has(client, 3)
  t.match(tasks(client)[1], { kind: 'message', task: question.json['id'] })
  await leave(client)
})

// RUN_PATIENCE

/** Instances of their own, with little patience, on a database of their own. */
const impatient = async (t: Test, runPatience = 2) => {
  const { instance, database } = await startDeck(t, { limits, runPatience, runCitizen })
  const { id } = await makeMission(instance)
  const tests = `/api/missions/${id}/tests`
  const ask = async (): Promise<string> => String((await instance.request('POST', `${tests}/run`, alice)).json['id'])
  const read = async (run: string): Promise<Json> => {
    const [row] = await database.query('select status, summary from test_runs where id = $1', [run])
    return row ?? {}
  }
  const failed = (run: string) => until(async () => (await read(run))['status'] === 'failed', 'the run to fail')
  return { instance, database, id, tests, ask, read, failed }
}

void t.test(
  'run patience: a run without a runner fails with the reason; one whose CI writes its log does not',
  async (t) => {
    const { instance, database, id, tests, ask, read, failed } = await impatient(t)
    await startInstance(t, database.url, { limits, runPatience: 2, runCitizen })
    const client = await instance.connect(alice)
    await client.ask({ type: 'subscribe', topic: `missions/${id}/tests` })
    const logged = await ask()
    const patched = await ask()
    const nobody = await ask()
    // A run that a CI made has no task: nothing fails it.
    const own = String((await instance.request('POST', tests, bearer, {})).json['id'])
    let over = false
    const log = (async () => {
      for (let n = 0; !over; n++) {
        await instance.request('POST', `${tests}/${logged}/logs`, bearer, `line ${n}\n`)
        await instance.request('PATCH', `${tests}/${patched}`, bearer, { summary: { n } })
      }
    })()
    await failed(nobody)
    // Twice the patience of the first.
    const later = await ask()
    await failed(later)
    t.match(await read(nobody), { summary: { reason: /nothing asked for runs of tess within 2 s/ } })
    for (const run of [logged, patched, own]) t.match(await read(run), { status: 'running' })
    over = true
    await log
    await failed(logged)
    await failed(patched)
    t.ok(Number(((await read(patched))['summary'] as Json)['n']) > 0, 'the summary keeps its members')
    t.match(await read(own), { status: 'running' })
    const updates = client
      .events(`missions/${id}/tests`)
      .filter(({ event, data }) => event === 'test_run.updated' && data['id'] === nobody)
    t.equal(updates.length, 1, 'once')
  },
)

void t.test(
  'run patience: a run that somebody holds is not failed, nor one that waits for a busy runner',
  async (t) => {
    const { instance, database, tests, ask, read, failed } = await impatient(t)
    const client = await work(instance)
    const held = await ask()
    await has(client, 1)
    const waits = await ask()
    const passed = async (ms: number): Promise<void> => {
      const [{ now } = {}] = await database.query('select clock_timestamp() as now')
      await until(
        async () =>
          (await database.query('select where clock_timestamp() > $1::timestamptz + $2 * interval $$1 ms$$', [now, ms]))
            .length > 0,
        'some time',
      )
    }
    await passed(5000)
    for (const run of [held, waits]) t.match(await read(run), { status: 'running' })
    await instance.request('PATCH', `${tests}/${held}`, bearer, { status: 'passed' })
    t.equal((await has(client, 2)).task, waits)
    await leave(client)
    await failed(waits)
  },
)

void t.test('run patience: a run that a trigger refuses to change holds up no other', async (t) => {
  const { database, ask, read, failed } = await impatient(t)
  const refused = await ask()
  await database.query(`
    create function public.refuse_change() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$;
    create trigger refuse_change before update on public.test_runs for each row
      when (old.id = '${refused}' and new.status = 'failed') execute function public.refuse_change()`)
  await failed(await ask())
  await failed(await ask())
  t.match(await read(refused), { status: 'running' })
  await database.query('drop trigger refuse_change on public.test_runs')
  await failed(refused)
})

void t.test('run patience: a run whose time is over while no instance runs fails at the next start', async (t) => {
  const { instance, database, ask, read, failed } = await impatient(t)
  const run = await ask()
  await instance.close()
  await until(
    async () =>
      (await database.query(`select from test_runs where created_at < (now() at time zone 'utc') - interval '2 s'`))
        .length > 0,
    'the time to be over',
  )
  t.match(await read(run), { status: 'running' })
  await startInstance(t, database.url, { limits, runPatience: 2, runCitizen })
  await failed(run)
})

void t.test('run patience: 0 is no limit, and a run from before has no task and stays', async (t) => {
  const { instance, database, ask, read } = await impatient(t, 0)
  const [old] = await database.query(
    `insert into test_runs (mission_id, status, created_at)
     select id, 'running', '2020-01-01' from missions limit 1 returning id`,
  )
  const run = await ask()
  await database.query(
    `update deck.tasks set at = '2020-01-01', since = '2020-01-01', ready_at = '2020-01-01', checked = '2020-01-01'`,
  )
  const next = await startInstance(t, database.url, { limits, runPatience: 0, runCitizen })
  await database.query('select deck.fail_lost_runs(0)')
  t.match(await read(run), { status: 'running' })
  await next.close()
  await instance.close()
  await until(
    async () => (await database.query('select deck.fail_lost_runs(1) as n'))[0]?.['n'] === 1,
    'its last change to be a second ago',
  )
  t.match(await read(run), { status: 'failed' })
  t.match(await read(String(old?.['id'])), { status: 'running' })
})

// Cancel

void t.test('run cancel: a run that nobody has fails, with the name of who cancelled it', async (t) => {
  const { ask, cancel, task, read, tests } = await begin()
  const run = await ask()
  t.match(await cancel(run), {
    status: 200,
    json: { id: run, status: 'failed', summary: { reason: 'cancelled by alice' } },
  })
  t.equal(await task(run), null)
  const before = await read(run)
  t.match(await cancel(run), { status: 409, json: { code: 'conflict' } })
  t.match(await cancel(randomUUID()), { status: 404 })
  t.match(await cancel(await ask(), bob), { status: 404 }, 'a mission that the user may not see')
  t.match(await one.request('POST', `${tests}/x/cancel`, alice), { status: 400 })
  const elsewhere = await begin()
  t.match(await elsewhere.cancel(run), { status: 404 }, 'a run of another mission')
  t.strictSame(await read(run), before)
  t.match(await one.request('GET', `${tests}/${randomUUID()}/task`, alice), { status: 404 })
})

void t.test('run cancel: its holder is asked to stop, on the other instance and over HTTP', async (t) => {
  const { id, ask, cancel, task, read, patch } = await begin()
  const client = await work(two)
  const run = await ask()
  await has(client, 1)
  t.match(await cancel(run), { status: 200, json: { status: 'running' } })
  const frame = await client.frame(({ type }) => type === 'cancel', 'the cancel')
  t.strictSame(frame, { type: 'cancel', topic: `missions/${id}/tests`, task: run, key: null, by: 'alice' })
  t.match(await task(run), { state: 'working', cancelled: true })
  t.match(await patch(run, { status: 'failed', summary: { reason: 'stopped' } }), { status: 200 })
  await leave(client)
  const second = await ask()
  const [given] = await claim(two, { wait: 20 })
  t.equal(given?.task, second)
  await cancel(second, admin)
  const path = `${inbox}/tasks/${second}`
  t.match(await one.request('POST', `${path}/renew`, bearer, { claim: given?.claim }), { json: { cancelled: true } })
  // A holder that only gives it back: nobody gets it again.
  t.match(await one.request('POST', `${path}/release`, bearer, { claim: given?.claim }), { status: 204 })
  await until(async () => (await read(second))['status'] === 'failed', 'the run to fail')
  t.match(await read(second), { summary: { reason: 'cancelled by root' } })
})
