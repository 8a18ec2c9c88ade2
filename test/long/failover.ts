// Real failovers: two Postgres servers under Patroni with synchronous replication, behind HAProxy. Two instances serve 20 senders,
// two of the project's clients and a follower. Run:
//   npm run failover
// Needs Debian's patroni, haproxy, etcd-server and postgresql-15. Fails if an acknowledged message is lost or duplicated. Prints the
// errors that senders received.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { judge, startClient, startSender } from '../faults/failover.ts'
import { alice, makeMission, realDeadlines, startInstance, until, type Instance } from '../support/server.ts'
import { missing, startPatroni } from './patroni.ts'

t.setTimeout(900_000)
t.jobs = 1
const absent = missing()
const skip = absent.length > 0 ? `not installed: ${absent.join(', ')}` : false

type Cluster = Awaited<ReturnType<typeof startPatroni>>
const cases: [name: string, shutdown: boolean, happen: (cluster: Cluster) => Promise<void>][] = [
  [
    'failover: the standby is disconnected for 9 s, then the primary is killed',
    true,
    async (cluster) => {
      const [primary] = await cluster.places()
      primary.way.cut()
      await delay(9000)
      await cluster.kill(primary, 'all')
    },
  ],
  [
    'failover: Patroni is killed, its Postgres keeps running',
    false,
    async (cluster) => cluster.kill((await cluster.places())[0], 'patroni'),
  ],
  ['failover: a switchover that ends open sessions', true, (cluster) => cluster.switchover()],
  ['failover: a switchover that keeps open sessions', false, (cluster) => cluster.switchover()],
  [
    'failover: the primary is frozen for 40 s, then thawed',
    false,
    async (cluster) => {
      const thaw = await cluster.freeze((await cluster.places())[0])
      await delay(40_000)
      thaw()
    },
  ],
]

for (const [name, shutdown, happen] of cases)
  await t.test(name, { skip }, async (t) => {
    const cluster = await startPatroni(t, { shutdown })
    const [, other] = await cluster.places()
    const instances: Instance[] = []
    for (let n = 0; n < 2; n++) instances.push(await startInstance(t, cluster.url(), { limits: realDeadlines }))
    const [one, two] = instances as [Instance, Instance]
    const { id } = await makeMission(one)
    const topic = (n: number): string => `missions/${id}/chat/c${n}`
    const senders = [
      ...Array.from({ length: 20 }, (_, n) => startSender(() => (n % 2 ? one : two), topic(n), { pace: 20 })),
      ...instances.map((on, n) => startClient(on.url, topic(100 + n))),
    ]
    await until(() => senders.every(({ acknowledged }) => acknowledged.size > 20), 'messages', 30_000)
    await happen(cluster)
    await until(
      async () => (await cluster.role(other)) !== 'replica' && (await cluster.isLeader(other)),
      'the standby to be promoted',
      90_000,
    )
    const led = performance.now()
    const before = senders.map(({ acknowledged }) => acknowledged.size)
    await until(
      () => senders.every(({ acknowledged }, n) => acknowledged.size > (before[n] ?? 0) + 20),
      'messages on the new primary',
      60_000,
    )
    t.comment(`all senders resumed within ${Math.round(performance.now() - led)} ms after the promotion`)
    for (const on of instances)
      await until(async () => (await on.request('GET', '/readyz')).status === 200, 'an instance to be ready', 20_000)
    const follower = await one.connect(alice)
    await follower.ask({ type: 'subscribe', topic: topic(0), after: 0 })
    await judge(t, senders, cluster.url(other.port))
    await until(
      () => follower.events(topic(0)).length >= (senders[0]?.acknowledged.size ?? 0),
      'a follower to hold every message',
    )
  })
