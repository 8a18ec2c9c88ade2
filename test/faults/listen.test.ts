// LISTEN is monitored: if its connection fails in any way, or NOTIFY is lost altogether, followers still get every message in
// order, and /readyz reports whether LISTEN works.
import pg from 'pg'
import t from 'tap'
import { freshDatabase } from '../support/database.ts'
import { alice, makeMission, startInstance, until, type Client } from '../support/server.ts'
import { startProxy } from '../support/database-proxy.ts'

const database = await freshDatabase(t)
const proxy = await startProxy(t)
const instance = await startInstance(t, proxy.url(database.url), { limits: { pollEvery: 500 } })
const { id } = await makeMission(instance)

let citizens = 0
const follow = async (): Promise<{ client: Client; topic: string; insert(n: number): Promise<void> }> => {
  const citizen = `c${citizens++}`
  const topic = `missions/${id}/chat/${citizen}`
  const client = await instance.connect(alice)
  await client.ask({ type: 'subscribe', topic, after: 0 })
  const insert = (n: number) =>
    database
      .query(
        `insert into chat_messages (mission_id, citizen, sender, message)
         select $1, $2, 'user', n::text from generate_series(1, $3::int) n`,
        [id, citizen, n],
      )
      .then(() => {})
  return { client, topic, insert }
}
const seqs = (client: Client, topic: string) => client.events(topic).map(({ seq }) => seq)
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1)
const isReady = async () => (await instance.request('GET', '/readyz')).status === 200
const ready = () => until(isReady, 'ready', 20_000)
const sessions = () =>
  database.query(
    `select pid from pg_stat_activity where datname = current_database() and application_name = 'mission-deck session'`,
  )

await t.test('listen: the poll delivers and the instance is not ready when every NOTIFY is dropped', async (t) => {
  const { client, topic, insert } = await follow()
  proxy.muted = true
  for (let n = 1; n <= 3; n++) {
    await insert(2)
    await until(() => seqs(client, topic).length === 2 * n, 'by the poll')
  }
  await until(async () => !(await isReady()), '/readyz to return 503')
  t.match(await instance.request('GET', '/readyz'), { status: 503, json: { detail: /listener/ } })
  proxy.muted = false
  await ready()
  await insert(1)
  await until(() => seqs(client, topic).length === 7, 'by a notification')
  t.strictSame(seqs(client, topic), upTo(7))
})

await t.test('listen: a dead connection is noticed, and missed messages arrive before the next poll', async (t) => {
  const slow = await startInstance(t, proxy.url(database.url), { limits: { pollEvery: 60_000 } })
  const { topic, insert } = await follow()
  const client = await slow.connect(alice)
  await client.ask({ type: 'subscribe', topic, after: 0 })
  proxy.blackHole('none')
  await insert(3)
  await Promise.all([
    until(async () => (await slow.request('GET', '/readyz')).status === 503, '/readyz to return 503'),
    until(() => seqs(client, topic).length === 3, 'the missed messages'),
  ])
  t.strictSame(seqs(client, topic), upTo(3))
  proxy.heal()
  await until(async () => (await slow.request('GET', '/readyz')).status === 200, 'ready', 20_000)
})

await t.test('listen: a session that is connected but receives no notifications is replaced', async (t) => {
  // UNLISTEN can't be sent on the server's own session. Instead its notifications are dropped while its queries are answered.
  await ready()
  const before = await sessions()
  proxy.muted = true
  await until(async () => {
    const now = await sessions()
    return now.length > 0 && now.every(({ pid }) => !before.some((old) => old['pid'] === pid))
  }, 'a new session')
  proxy.muted = false
  await ready()
  t.equal((await sessions()).length, 1, 'the old session is closed')
})

await t.test('listen: recovers after each of ten cuts, and leaves one session', async (t) => {
  const { client, topic, insert } = await follow()
  for (let n = 1; n <= 10; n++) {
    await database.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = 'mission-deck session'`,
    )
    await insert(2)
    if (n % 3 === 0) await until(() => seqs(client, topic).length === 2 * n, 'the missed messages')
  }
  await until(() => seqs(client, topic).length === 20, 'all')
  t.strictSame(seqs(client, topic), upTo(20))
  await ready()
  t.equal((await sessions()).length, 1)
})

await t.test('heads: report the latest seq of each followed topic', async (t) => {
  const frequent = await startInstance(t, proxy.url(database.url), { limits: { pingEvery: 1000 } })
  const { topic, insert } = await follow()
  const client = await frequent.connect(alice)
  await client.ask({ type: 'subscribe', topic: `missions/${id}` })
  await client.ask({ type: 'subscribe', topic, after: 0 })
  await insert(5)
  await until(() => seqs(client, topic).length === 5, 'all')
  const { length } = client.frames
  await until(() => client.frames.slice(length).some(({ type }) => type === 'heads'), 'heads')
  t.strictSame(
    client.frames.slice(length).find(({ type }) => type === 'heads'),
    { type: 'heads', topics: { [`missions/${id}`]: 0, [topic]: 5 } },
  )
})

await t.test(
  'listen: an instance keeps its session when idle_session_timeout is set, with traffic or without',
  async (t) => {
    const base = pg.escapeIdentifier(new URL(database.url).pathname.slice(1))
    await database.query(`alter database ${base} set idle_session_timeout = '300ms'`)
    t.teardown(() => database.query(`alter database ${base} reset idle_session_timeout`))
    const other = await startInstance(t, database.url)
    const { topic, insert } = await follow()
    const client = await other.connect(alice)
    await client.ask({ type: 'subscribe', topic, after: 0 })
    const begun = performance.now()
    for (let n = 1; performance.now() - begun < 2000; n++) {
      await insert(1)
      await until(() => seqs(client, topic).length === n, 'the next message')
    }
    const { text } = await other.request('GET', '/metrics')
    t.match(text, /^deck_listen_sessions_total 1$/m, 'the session was never replaced')
  },
)
