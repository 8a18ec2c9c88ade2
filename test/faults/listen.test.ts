// LISTEN that proves itself: whatever becomes of its connection, and also where NOTIFY is not heard at all, followers get
// every message, in order, and the server says of itself whether it is ready.
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

await t.test(
  'NOTIFY dropped altogether: delivery goes on at the pace of the poll, and the server is not ready',
  async (t) => {
    const { client, topic, insert } = await follow()
    proxy.muted = true
    for (let n = 1; n <= 3; n++) {
      await insert(2)
      await until(() => seqs(client, topic).length === 2 * n, 'by the poll')
    }
    await until(async () => !(await isReady()), 'it to notice')
    t.match(await instance.request('GET', '/readyz'), { status: 503, json: { detail: /listener/ } })
    proxy.muted = false
    await ready()
    await insert(1)
    await until(() => seqs(client, topic).length === 7, 'by a hint')
    t.strictSame(seqs(client, topic), upTo(7))
  },
)

await t.test(
  'a connection that leads nowhere is noticed, and what was missed comes, long before the next look',
  async (t) => {
    const slow = await startInstance(t, proxy.url(database.url), { limits: { pollEvery: 60_000 } })
    const { topic, insert } = await follow()
    const client = await slow.connect(alice)
    await client.ask({ type: 'subscribe', topic, after: 0 })
    proxy.blackHole('none')
    await insert(3)
    await Promise.all([
      until(async () => (await slow.request('GET', '/readyz')).status === 503, 'it to notice'),
      until(() => seqs(client, topic).length === 3, 'what was missed'),
    ])
    t.strictSame(seqs(client, topic), upTo(3))
    proxy.heal()
    await until(async () => (await slow.request('GET', '/readyz')).status === 200, 'ready', 20_000)
  },
)

await t.test('a session that stopped listening, though it lives, is replaced', async (t) => {
  // UNLISTEN can't be sent for it: what it hears is dropped instead, while its queries are answered.
  await ready()
  const before = await sessions()
  proxy.muted = true
  await until(async () => {
    const now = await sessions()
    return now.length > 0 && now.every(({ pid }) => !before.some((old) => old['pid'] === pid))
  }, 'another session')
  proxy.muted = false
  await ready()
  t.equal((await sessions()).length, 1, 'and none is left over')
})

await t.test('cut again and again, it comes back each time, and leaves no session over', async (t) => {
  const { client, topic, insert } = await follow()
  for (let n = 1; n <= 10; n++) {
    await database.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = 'mission-deck session'`,
    )
    await insert(2)
    if (n % 3 === 0) await until(() => seqs(client, topic).length === 2 * n, 'what was missed')
  }
  await until(() => seqs(client, topic).length === 20, 'all')
  t.strictSame(seqs(client, topic), upTo(20))
  await ready()
  t.equal((await sessions()).length, 1)
})

await t.test('heads say where each followed topic stands', async (t) => {
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

await t.test('instance: keeps its sessions when idle_session_timeout is set, with traffic or without', async (t) => {
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
    await until(() => seqs(client, topic).length === n, 'the next one')
  }
  const { text } = await other.request('GET', '/metrics')
  t.match(text, /^deck_listen_sessions_total 1$/m, 'one session all the while')
})
