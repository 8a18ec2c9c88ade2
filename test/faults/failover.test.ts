// Failover: a primary with a synchronous standby, and an address that moves to the standby, as a proxy does.
// Acknowledged messages exist once afterwards. Senders that retry under their key get every message stored.
// No answer is `internal`, and each socket is closed at most once. The old primary is killed, or stays alive beside the new one.
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openCluster } from '../../src/database/embedded/cluster.ts'
import { makePlace, makeStandby, provide, settings, start, type Started } from '../support/clusters.ts'
import { alice, makeMission, realDeadlines, startInstance, until } from '../support/server.ts'
import { judge, startSender } from './failover.ts'
import { startProxy, type Proxy } from '../support/database-proxy.ts'

const value = async ({ admin }: Started, expression: string): Promise<unknown> =>
  (await admin.query<{ value: unknown }>(`select ${expression} as value`)).rows[0]?.value

type Pair = { primary: Started; standby: Started; proxy: Proxy; url: string }

/** A primary whose commits wait for its standby, and an address that points to the primary. */
const makePair = async (t: Test): Promise<Pair> => {
  const place = await makePlace(t)
  const primary = await start(t, await openCluster(join(place, 'primary'), { ...settings, wal_keep_size: '64MB' }))
  await provide(primary, 'deck')
  const standby = await start(t, await makeStandby(primary, join(place, 'standby')))
  await primary.admin.query(`alter system set synchronous_standby_names = '*'`)
  await primary.admin.query('select pg_reload_conf()')
  await until(
    async () => (await value(primary, `(select sync_state from pg_stat_replication)`)) === 'sync',
    'replication',
  )
  const proxy = await startProxy(t)
  return { primary, standby, proxy, url: proxy.url(primary.url('deck', 'deck')) }
}

const promote = async ({ standby }: Pair): Promise<void> => {
  t.equal(await value(standby, 'pg_promote()'), true)
}

void t.test('failover: loses nothing when the standby is cut off and the primary is killed', async (t) => {
  const pair = await makePair(t)
  const { primary, standby, proxy, url } = pair
  const instance = await startInstance(t, url, { limits: realDeadlines })
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  const sender = startSender(() => instance, topic)
  await until(() => sender.acknowledged.size > 50, 'messages')
  // Replication ends: the primary's commits wait for the standby, so no message is acknowledged.
  await standby.admin.query(`alter system set primary_conninfo = ''`)
  await standby.admin.query('select pg_reload_conf()')
  await until(async () => (await value(primary, '(select count(*)::int from pg_stat_replication)')) === 0, 'the cut')
  const before = sender.acknowledged.size
  await until(() => (sender.codes.get('unavailable') ?? 0) > 1, 'senders to receive unavailable')
  t.ok(sender.acknowledged.size <= before + 1, 'nothing is acknowledged without the standby')
  await primary.stop()
  await promote(pair)
  proxy.port = standby.port
  proxy.cut()
  const resumed = sender.acknowledged.size
  await until(() => sender.acknowledged.size > resumed + 20, 'messages on the new primary', 15_000)
  await judge(t, [sender], standby.url('deck', 'deck'))
})

void t.test('failover: moves to the promoted standby when connections to the old primary stay open', async (t) => {
  const pair = await makePair(t)
  const { standby, proxy, url } = pair
  const [one, two] = await Promise.all([
    startInstance(t, url, { limits: realDeadlines }),
    startInstance(t, url, { limits: realDeadlines }),
  ])
  const { id } = await makeMission(one)
  const topic = `missions/${id}/chat/rafael`
  const sender = startSender(() => one, topic)
  // The second instance writes nothing: it must notice the failover by itself.
  const follower = await two.connect(alice)
  t.match(await follower.ask({ type: 'subscribe', topic, after: 0 }), { type: 'ok' })
  await until(() => sender.acknowledged.size > 50, 'messages')
  await promote(pair)
  // New connections reach the new primary. Open connections stay on the old one.
  proxy.port = standby.port
  const resumed = sender.acknowledged.size
  await until(() => sender.acknowledged.size > resumed + 20, 'messages on the new primary', 20_000)
  await judge(t, [sender], standby.url('deck', 'deck'))
  await until(() => follower.closed !== undefined, "the follower's socket to be closed", 15_000)
  const back = await two.connect(alice)
  t.match(await back.ask({ type: 'subscribe', topic, after: 0 }), { type: 'ok' })
  await until(() => back.events(topic).length >= sender.acknowledged.size, 'all that was acknowledged')
  t.strictSame(
    back.events(topic).map(({ seq }) => seq),
    back.events(topic).map((_, i) => i + 1),
  )
  for (const instance of [one, two])
    await until(async () => (await instance.request('GET', '/readyz')).status === 200, 'the instance to be ready')
})

void t.test('failover: an instance that knows both servers moves to the primary without a proxy', async (t) => {
  const { primary, standby } = await makePair(t)
  const [first, second] = [primary, standby].map((server) => server.url('deck', 'deck')) as [string, string]
  const url = first.replace(/@([^/]*)\//, `@$1,${new URL(second).host}/`) + '?target_session_attrs=read-write'
  const instance = await startInstance(t, url, { limits: realDeadlines })
  const { id } = await makeMission(instance)
  const sender = startSender(() => instance, `missions/${id}/chat/rafael`)
  await until(() => sender.acknowledged.size > 50, 'messages')
  await primary.stop()
  t.equal(await value(standby, 'pg_promote()'), true)
  const resumed = sender.acknowledged.size
  await until(() => sender.acknowledged.size > resumed + 20, 'messages on the new primary', 15_000)
  await judge(t, [sender], second)
})
