// Mass reconnects, with figures: 2,000 sockets on two server processes, each subscribed to one of 20 topics. One process is
// killed, and its 1,000 sockets resume on the second. Then all 2,000 are dropped by their clients and resume. Run:
//   npx tap --timeout=900 --reporter=tap test/long/storm.ts
// Each socket has missed 100 messages. Within 10 s every socket holds exactly the table's rows, in order. The server must
// have read pages for topics, not for sockets. Memory is read from /proc: Linux only.
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { compare, Line, makeFollower, makeLedger, type Row } from '../support/users.ts'
import { freshDatabase } from '../support/database.ts'
import { alice, door, makeMission, until } from '../support/server.ts'
import { spawnServer, type Server } from '../support/processes.ts'

t.setTimeout(240_000)

const sockets = 2000
const missed = 100

const database = await freshDatabase(t)
// The first server migrates the database.
const start = (): Promise<Server> => spawnServer(t, { DATABASE_URL: database.url, LOG_LEVEL: 'error' })
const [doomed, survivor] = [await start(), await start()]
const missions = await Promise.all([1, 2, 3, 4].map(() => makeMission(door(t, survivor.url))))
const topics = missions.flatMap(({ id }) =>
  ['emma', 'inna', 'rafael', 'sofia', 'maya'].map((citizen) => `missions/${id}/chat/${citizen}`),
)

const mb = (value: number): string => `${Math.round(value)} MB`
const seconds = (value: number): string => `${(value / 1000).toFixed(1)} s`
const rss = async (): Promise<number> =>
  Number(/VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${survivor.process.pid}/status`, 'utf8'))?.[1]) / 1024

// Followers and writers -----------------------------------------------------------------------------------------------

/** An instance's sockets; the URL that they connect to, undefined while they must stay away; the number of attempts. */
type Group = { url: string | undefined; tries: number; followers: ReturnType<typeof makeFollower>[] }
const makeGroup = (url: string): Group => {
  const group: Group = { url, tries: 0, followers: [] }
  const where = (): string => {
    if (group.url === undefined) throw new Error('away')
    group.tries++
    return group.url
  }
  for (let n = 0; n < sockets / 2; n++)
    group.followers.push(makeFollower({ where, token: alice, topics: [topics[n % topics.length] ?? ''] }))
  return group
}
const groups = [makeGroup(doomed.url), makeGroup(survivor.url)] as const
const everybody = groups.flatMap(({ followers }) => followers)
t.teardown(() => Promise.all(everybody.map((follower) => follower.stop())))

const ledger = makeLedger()
let head = 0
/** Sends messages to each topic, from one writer each, on the surviving instance. */
const write = async (messages: number): Promise<void> => {
  await Promise.all(
    topics.map(async (topic) => {
      const line = await Line.open(survivor.url, alice)
      await Promise.all(
        Array.from({ length: messages }, async (_, n) => {
          const text = `${topic} ${head + n} ${'x'.repeat(100)}`
          const answer = await line.ask({ type: 'send', topic, message: text })
          if (answer.type !== 'ok') throw new Error(JSON.stringify(answer))
          const { id } = answer['message'] as { id: string }
          ledger.acknowledged.push({ topic, seq: Number(answer['seq']), id, text })
        }),
      )
      line.drop()
    }),
  )
  head += messages
}
const complete = ({ followers }: { followers: Group['followers'] }): Promise<void> =>
  until(
    () => followers.every(({ held }) => [...held.values()].every((ids) => ids.length >= head)),
    'all followers to hold every message',
    60_000,
  ).catch(async (error: Error) => {
    const limit = /Max open files +(\d+)/.exec(await readFile('/proc/self/limits', 'utf8'))?.[1]
    throw new Error(`${error.message} (this process may open ${limit} files)`)
  })

/** The database's commits so far. An idle session reports its last commits within 10 s (Postgres 15 and later). */
const commits = async (): Promise<number> => {
  await delay(11_000)
  const [row] = await database.query(`select xact_commit from pg_stat_database where datname = current_database()`)
  return Number(row?.['xact_commit'])
}

/** Drops the groups' sockets, writes 100 messages to each topic, and lets them reconnect. Asserts and prints the outcome. */
const storm = async (t: Test, what: string, gone: readonly Group[], drop: () => void): Promise<void> => {
  const stay = groups.filter((group) => !gone.includes(group))
  const before = { commits: await commits(), rss: await rss() }
  let most = 0
  let over = false
  const watching = (async () => {
    while (!over) {
      most = Math.max(most, await rss())
      await delay(50)
    }
  })()
  for (const group of gone) Object.assign(group, { url: undefined, tries: 0 })
  const dropped = performance.now()
  drop()
  await write(missed)
  await Promise.all(stay.map(complete))
  const back = performance.now()
  for (const group of gone) group.url = survivor.url
  await Promise.all(gone.map(complete))
  const all = performance.now()
  over = true
  await watching
  const made = (await commits()) - before.commits
  const n = gone.reduce((sum, { followers }) => sum + followers.length, 0)
  const tries = gone.reduce((sum, group) => sum + group.tries, 0)
  t.ok(all - dropped < 10_000, 'within 10 s')
  t.ok(made < n, 'reads are shared')
  t.ok(most - before.rss < 256, 'memory grows by less than 256 MB')
  t.ok(tries >= n && tries < 2 * n, 'nearly all connected at the first attempt')
  t.strictSame(
    everybody.flatMap(({ problems }) => problems.slice(0, 3)),
    [],
    'in order, without a gap',
  )
  t.comment(
    `${what}: all ${n} complete ${seconds(all - dropped)} after the drop (${topics.length * missed} messages ` +
      `written meanwhile: ${seconds(back - dropped)}; from the reconnect: ${seconds(all - back)}); ${tries} tries, ` +
      `${made} commits in all; RSS ${mb(before.rss)} before, ${mb(most)} at most`,
  )
}

void t.test('reconnect storm: 1,000 sockets of a killed instance resume on the second within 10 s', async (t) => {
  await write(20)
  await complete({ followers: everybody })
  await storm(t, 'one of two instances killed', [groups[0]], () => void doomed.process.kill('SIGKILL'))
  t.equal(doomed.process.signalCode, 'SIGKILL')
})

void t.test('reconnect storm: 2,000 sockets dropped at once resume on one instance within 10 s', (t) =>
  storm(t, 'all sockets dropped', groups, () => everybody.forEach((follower) => follower.drop())),
)

void t.test("reconnect storm: in the end each socket holds exactly the table's rows", async (t) => {
  for (const topic of topics) {
    const rows = await database.query(
      `select seq::integer, id, message as text from chat_messages
       where 'missions/' || mission_id || '/chat/' || citizen = $1 order by chat_messages.seq`,
      [topic],
    )
    t.equal(rows.length, head)
    t.strictSame(compare(topic, rows as Row[], ledger, everybody).slice(0, 5), [], topic)
  }
  t.comment(`${everybody.length} sockets hold 1…${head} of their topic, each once, in the table's order`)
})
