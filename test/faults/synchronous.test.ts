// Synchronous replication: an ok confirms that the standby has the write too. While the standby is down, every kind of write, over
// HTTP and sockets, is `unavailable`. Under its key it is stored once when the standby is back. No session keeps waiting.
import t from 'tap'
import {
  alice,
  admin,
  makeMission,
  rafael,
  realDeadlines,
  startInstance,
  token,
  until,
  type Json,
} from '../support/server.ts'
import { startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres(t)
// No standby has that name: commits wait until they are cancelled.
const demand = async (standby: string): Promise<void> => {
  await postgres.query(`alter system set synchronous_standby_names = '${standby}'`)
  await postgres.query('select pg_reload_conf()')
  await until(
    async () =>
      (await postgres.query<{ now: string }>('show synchronous_standby_names'))[0]?.[
        'synchronous_standby_names' as 'now'
      ] === standby,
    'the setting',
  )
}
// A role's client_min_messages must not hide the warning that a cancelled commit sends.
await postgres.query(
  `create role deck login superuser password 'deck'; alter role deck set client_min_messages = 'error'`,
)
const url = postgres.url().replace(/\/\/[^@]*@/, '//deck:deck@')
const instance = await startInstance(t, url, { limits: realDeadlines })
const { request } = instance
const { id } = await makeMission(instance)
const mission = `/api/missions/${id}`
const topic = `missions/${id}/chat/rafael`
const doomed = await makeMission(instance)

const item = (await request('POST', `${mission}/dod`, rafael, { text: 'x', category: 'tests' })).json['id']
const run = (await request('POST', `${mission}/tests`, rafael, { logs: 'a\n' })).json['id']
await request('POST', `${mission}/chat/rafael`, alice, { message: 'before', key: 'before' })
await request('POST', `${mission}/chat/emma`, alice, { message: 'to be cleared' })
const citizen = await instance.connect(rafael)
const user = await instance.connect(alice)
await citizen.ask({ type: 'work', credit: 2 })
for (const message of ['first', 'second']) await user.ask({ type: 'send', topic, message })
await until(() => citizen.frames.filter(({ type }) => type === 'task').length === 2, 'two tasks')
const tasks = citizen.frames.filter(({ type }) => type === 'task').map(({ task }) => task)
for (const key of ['draft', 'draft of before']) await citizen.ask({ type: 'stream', topic, key, delta: 'written' })
await citizen.ask({ type: 'stream', topic, key: 'saved', delta: 'saved', done: true })

const http: [method: string, path: string, bearer: string, body?: unknown][] = [
  ['POST', `${mission}/chat/rafael`, alice, { message: 'keyed', key: 'http' }],
  ['POST', `${mission}/chat/new-citizen`, alice, { message: 'a new chat', key: 'new' }],
  ['POST', `${mission}/chat/rafael`, alice, { message: 'before', key: 'before' }],
  [
    'POST',
    '/api/missions',
    admin,
    { title: 'x', client: 'x', budget: 1, deadline: '2030-01-01T00:00:00Z', assigned_to: 'alice' },
  ],
  ['PATCH', mission, admin, { title: 'changed' }],
  ['DELETE', `/api/missions/${doomed.id}`, admin],
  ['DELETE', `${mission}/chat/emma`, admin],
  ['POST', `${mission}/dod`, rafael, { text: 'y', category: 'tests' }],
  ['PATCH', `${mission}/dod/${String(item)}`, alice, { completed: true }],
  ['POST', `${mission}/dod/reset`, alice],
  ['POST', `${mission}/tests/run`, alice],
  ['POST', `${mission}/tests`, rafael, { status: 'passed' }],
  ['PATCH', `${mission}/tests/${String(run)}`, rafael, { status: 'failed' }],
  ['POST', `${mission}/tests/${String(run)}/logs`, rafael, 'b\n'],
]

void t.test('synchronous replication: acknowledges no kind of write without the standby', async (t) => {
  await demand('x')
  await Promise.all(
    http.map(async ([method, path, bearer, body]) => {
      const headers: Record<string, string> = typeof body === 'string' ? { 'content-type': 'text/plain' } : {}
      const { status, text } = await request(method, path, bearer, body, headers)
      t.equal(status, 503, `${method} ${path.replace(id, '47')}: ${text}`)
    }),
  )
  const asked: [who: typeof user, frame: Json, maybe?: true][] = [
    [user, { type: 'send', topic, message: 'keyed', key: 'socket' }],
    [user, { type: 'send', topic, message: 'keyless' }, true],
    [user, { type: 'send', topic, message: 'before', key: 'before' }],
    [user, { type: 'read', topic, seq: 2 }],
    [citizen, { type: 'stream', topic, key: 'draft', done: true }],
    [citizen, { type: 'stream', topic, key: 'saved', delta: 'saved', offset: 0, done: true }],
    [citizen, { type: 'send', topic, message: 'an answer', key: 'answer', task: tasks[0] }],
    [citizen, { type: 'done', task: tasks[1] }],
  ]
  const answers = await Promise.all(asked.map(([who, frame]) => who.ask(frame)))
  for (const [n, [, frame, maybe]] of asked.entries())
    t.match(answers[n], { code: 'unavailable', ...(maybe ? { maybe } : {}) }, JSON.stringify({ ...frame, topic: '' }))
  const [{ waiting } = { waiting: -1 }] = await postgres.query<{ waiting: number }>(
    `select count(*)::int as waiting from pg_stat_activity where wait_event = 'SyncRep' and clock_timestamp() - query_start > interval '6 s'`,
  )
  t.equal(waiting, 0, 'no session still waits for the standby')
  const { status, json } = await request('GET', '/readyz')
  t.equal(status, 503)
  t.match(
    (json['checks'] as Json[]).filter(({ ok }) => !ok),
    [{ check: 'writer', why: /unconfirmed/ }],
  )

  await demand('')
  await until(async () => (await request('GET', '/readyz')).status === 200, 'the instance to be ready again')
  for (const [n, [who, frame, maybe]] of asked.entries())
    if (!maybe && n < 7) t.match(await who.ask(frame), { type: 'ok' }, JSON.stringify({ ...frame, topic: '' }))
  t.match(await request('POST', `${mission}/chat/rafael`, alice, { message: 'keyed', key: 'http' }), { status: 200 })
  const { json: history } = await request('GET', `${mission}/chat/rafael?limit=500`, alice)
  const messages = history['messages'] as Json[]
  for (const key of ['http', 'socket', 'answer', 'draft', 'saved', 'before'])
    t.equal(messages.filter((message) => message['key'] === key).length, 1, `stored once: ${key}`)
  t.strictSame(
    messages.map(({ seq }) => seq),
    messages.map((_, i) => i + 1),
  )
})

void t.test('synchronous replication: a waiting send is acknowledged when the standby returns', async (t) => {
  const names = await postgres.query<{ name: string }>(`select rolname as name from pg_roles where rolname = 'deck'`)
  t.equal(names.length, 1)
  await demand('x')
  const asked = user.ask({ type: 'send', topic, message: 'patient', key: 'patient' })
  await until(
    async () => (await postgres.query(`select from pg_stat_activity where wait_event = 'SyncRep'`)).length > 0,
    'a commit to wait',
  )
  await demand('')
  t.match(await asked, { type: 'ok' })
  t.match(await user.ask({ type: 'send', topic, message: 'after' }), { type: 'ok' })
  const token2 = await token({ sub: 'alice', role: 'user' })
  t.equal((await request('GET', mission, token2)).status, 200)
})
