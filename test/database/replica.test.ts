// History from a real streaming replica. A reader sees everything committed before its request, on any instance,
// however far the replica is behind. A reader that lost its access sees nothing there.
// When the replica is down or promoted, the primary serves the reads.
import { connect as dial, createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { connectTo, makePlace, makeStandby, provide, settings, start } from '../support/clusters.ts'
import { openCluster } from '../../src/database/embedded/cluster.ts'
import { exported, withDirect } from '../support/transfer.ts'
import { deck } from '../support/cli.ts'
import { freshDatabase } from '../support/database.ts'
import { startProxy } from '../support/database-proxy.ts'
import { refused } from '../support/forms.ts'
import {
  admin,
  alice,
  makeMission,
  secret,
  startInstance,
  until,
  type Answer,
  type Instance,
  type Json,
} from '../support/server.ts'

const place = await makePlace(t)
const primary = await start(t, await openCluster(join(place, 'primary'), { ...settings, wal_keep_size: '64MB' }))
await provide(primary, 'deck')
const url = primary.url('deck', 'deck')
const first = await startInstance(t, url)
const standby = await start(t, await makeStandby(primary, join(place, 'standby')))
const proxy = await startProxy(t)
const change = { databaseReplicaUrl: proxy.url(standby.url('deck', 'deck')) }
const [one, two] = [await startInstance(t, url, change), await startInstance(t, url, change)]
await first.close()

const caughtUp = async (): Promise<void> => {
  const { rows } = await primary.admin.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn')
  await until(async () => {
    const found = await standby.admin.query<{ done: boolean }>(
      'select pg_last_wal_replay_lsn() >= $1::pg_lsn as done',
      [rows[0]?.lsn],
    )
    return found.rows[0]?.done === true
  }, 'the replica to catch up')
}
const paused = async (on: boolean): Promise<void> => {
  await standby.admin.query(`select pg_wal_replay_${on ? 'pause' : 'resume'}()`)
  if (!on) return
  await until(
    async () =>
      (await standby.admin.query<{ state: string }>('select pg_get_wal_replay_pause_state() as state')).rows[0]
        ?.state === 'paused',
    'the pause',
  )
}
const reads = async (instance: Instance): Promise<Record<string, number>> => {
  const { text } = await instance.request('GET', '/metrics')
  return Object.fromEntries(
    [...text.matchAll(/^deck_replica_reads_total\{outcome="(\w+)"\} (\d+)$/gm)].map(([, name = '', n]) => [
      name,
      Number(n),
    ]),
  )
}
const { id } = await makeMission(one)
let chats = 0
const newChat = (): string => `/api/missions/${id}/chat/c${chats++}`
const post = async (instance: Instance, chat: string, message: string): Promise<number> =>
  Number((await instance.request('POST', chat, alice, { message })).json['seq'])
const texts = ({ json }: Answer): unknown[] => (json['messages'] as Json[]).map(({ message }) => message)
const stream = async (instance: Instance, chat: string): Promise<number[]> => {
  const { text } = await instance.request('GET', `${chat}?after=0`, alice, undefined, {
    accept: 'application/x-ndjson',
  })
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => Number((JSON.parse(line) as Json)['seq']))
}
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1)
/** Asks until the replica answers. */
const served = (instance: Instance, chat: string): Promise<void> =>
  until(async () => {
    const before = (await reads(instance))['replica'] ?? 0
    await instance.request('GET', chat, alice)
    return ((await reads(instance))['replica'] ?? 0) > before
  }, 'the replica to serve')

await t.test('replica: serves pages and streams, with the epoch of its primary', async (t) => {
  const chat = newChat()
  for (let n = 1; n <= 3; n++) await post(one, chat, `${n}`)
  await primary.admin.query('checkpoint')
  await caughtUp()
  await served(one, chat)
  const page = await one.request('GET', chat, alice)
  t.strictSame(texts(page), ['1', '2', '3'])
  const before = await reads(one)
  t.strictSame(await stream(one, chat), range(3))
  t.equal((await reads(one))['replica'], (before['replica'] ?? 0) + 1)
  const client = await one.connect(alice)
  const ok = await client.ask({ type: 'subscribe', topic: chat.slice(5), after: 3, epoch: page.json['epoch'] })
  t.match(ok, { type: 'ok', seq: 3 }, 'a cursor of the replica’s page is valid on the primary')
})

await t.test('replica: a message is readable at once on every instance while the replica is paused', async (t) => {
  const chat = newChat()
  await post(one, chat, 'before')
  await caughtUp()
  await served(one, chat)
  await paused(true)
  for (let n = 0; n < 5; n++) {
    const seq = await post(one, chat, `${n}`)
    for (const instance of [one, two]) {
      const page = await instance.request('GET', `${chat}?after=${seq - 1}`, alice)
      t.strictSame([texts(page), page.json['last_seq']], [[`${n}`], seq])
      t.strictSame(await stream(instance, chat), range(seq))
    }
  }
  t.ok(((await reads(one))['behind'] ?? 0) > 0, 'the replica was asked, and was behind')
  await paused(false)
  await caughtUp()
  await served(one, chat)
  t.strictSame(await stream(one, chat), range(6))
})

await t.test('replica: lost access, cleared chats and deleted missions apply at once while paused', async (t) => {
  const chat = newChat()
  const { id: lost } = await makeMission(one)
  const other = `/api/missions/${lost}/chat/emma`
  for (const path of [chat, other]) await post(one, path, 'a secret')
  await caughtUp()
  await served(one, chat)
  await served(one, other)
  await paused(true)
  await one.request('PATCH', `/api/missions/${lost}`, admin, { assigned_to: 'bob' })
  for (const instance of [one, two]) refused(t, await instance.request('GET', other, alice), 404, 'not_found')
  await one.request('DELETE', chat, admin)
  for (const instance of [one, two]) t.strictSame(texts(await instance.request('GET', chat, alice)), [])
  await one.request('DELETE', `/api/missions/${lost}`, admin)
  refused(t, await one.request('GET', other, admin), 404, 'not_found')
  await paused(false)
})

await t.test(
  'replica: a stream is complete although replay stops, starts and falls behind while it runs',
  async (t) => {
    const chat = newChat()
    const count = 20_000
    await primary.admin.query(`select 1`)
    const writer = await connectTo(t, url)
    await writer.query(
      `insert into chat_messages (mission_id, citizen, sender, message) select $1, $2, 'user', 'x' from generate_series(1, $3::integer)`,
      [id, chat.split('/').at(-1), count],
    )
    await caughtUp()
    await served(one, chat)
    let over = false
    const streams = Promise.all([stream(one, chat), stream(two, chat)]).finally(() => (over = true))
    let rounds = 0
    while (!over) {
      rounds++
      await paused(true)
      await post(one, chat, 'more')
      await paused(false)
    }
    for (const found of await streams) t.strictSame(found, range(Math.max(count, found.length)))
    t.comment(`${rounds} pauses`)
  },
)

await t.test('replica: used once it is reachable when it was down at the start, with and without TLS', async (t) => {
  const way = createServer((socket) => {
    const there = dial(standby.port, '127.0.0.1')
    for (const end of [socket, there])
      end.on('error', () => {}).on('close', () => [socket, there].forEach((it) => it.destroy()))
    socket.pipe(there).pipe(socket)
  })
  await new Promise<void>((resolve) => way.listen(0, '127.0.0.1', resolve))
  const { port } = way.address() as { port: number }
  await new Promise((resolve) => way.close(resolve))
  const late = new URL(standby.url('deck', 'deck'))
  late.port = String(port)
  const instance = await startInstance(t, url, { databaseReplicaUrl: late.href })
  const { id } = await makeMission(instance)
  const read = async (): Promise<number> => {
    t.equal((await instance.request('GET', `/api/missions/${id}/chat/rafael`, alice)).status, 200)
    return (await reads(instance))['replica'] ?? 0
  }
  t.equal(await read(), 0)
  await new Promise<void>((resolve) => way.listen(port, '127.0.0.1', resolve))
  t.teardown(() => way.close())
  await until(async () => (await read()) > 0, 'the replica to be used')
  await instance.close()
})

await t.test('replica: can be exported, and refuses writes', async (t) => {
  await caughtUp()
  const mission = id
  t.equal((await exported(change.databaseReplicaUrl, mission)).equals(await exported(url, mission)), true)
  await t.rejects(
    withDirect(change.databaseReplicaUrl, (client) => client.query('delete from missions')),
    { code: '25006' },
  )
})

await t.test('doctor: distinguishes a standby, the primary, another database and no server', async (t) => {
  const examine = async (replica: string): Promise<unknown> => {
    const env = { DATABASE_URL: url, DATABASE_REPLICA_URL: replica, JWT_SECRET: secret }
    const { code, out } = await deck(t, ['doctor', '--json'], env)
    t.equal(code, 0, 'a missing replica is not an error')
    return (JSON.parse(out) as { checks: Json[] }).checks.find(({ check }) => check === 'replica')
  }
  t.match(await examine(standby.url('deck', 'deck')), { status: 'ok', detail: /^a standby, \d+ \w+ behind$/ })
  t.match(await examine(url), { status: 'warn', detail: /the primary itself/ })
  const other = await freshDatabase(t, true)
  t.match(await examine(other.url), { status: 'warn', detail: /different database/, advice: /nothing is read/ })
  const nobody = new URL(url)
  nobody.port = '1'
  t.match(await examine(nobody.href), {
    status: 'warn',
    detail: /ECONNREFUSED/,
    advice: /from the primary meanwhile/,
  })
})

await t.test('replica: the primary serves while it is down or promoted; it serves again once back', async (t) => {
  const chat = newChat()
  await post(one, chat, 'hello')
  await caughtUp()
  await served(one, chat)
  proxy.refusing = true
  proxy.cut()
  for (let n = 0; n < 3; n++) t.strictSame(texts(await one.request('GET', chat, alice)), ['hello'])
  t.strictSame(await stream(one, chat), [1])
  t.ok(((await reads(one))['failed'] ?? 0) > 0)
  proxy.heal()
  await served(one, chat)
  proxy.blackHole('new')
  const since = performance.now()
  t.strictSame(texts(await one.request('GET', chat, alice)), ['hello'])
  const took = performance.now() - since
  t.strictSame(texts(await one.request('GET', chat, alice)), ['hello'])
  t.ok(took < 3000, `the first read waited ${Math.round(took)} ms, the next did not wait`)
  proxy.heal()
  await served(one, chat)

  t.equal((await standby.admin.query<{ done: boolean }>('select pg_promote() as done')).rows[0]?.done, true)
  const stray = await connectTo(t, standby.url('deck', 'deck'))
  await stray.query(
    `insert into chat_messages (mission_id, citizen, sender, message) select $1, $2, 'user', 'stray' from generate_series(1, 5)`,
    [id, chat.split('/').at(-1)],
  )
  for (let n = 0; n < 3; n++) t.strictSame(texts(await one.request('GET', chat, alice)), ['hello'])
  t.strictSame(await stream(two, chat), [1])
})
