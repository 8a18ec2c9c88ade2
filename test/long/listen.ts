// Faults of LISTEN, with figures: two server processes on one database, each behind a proxy that breaks its connections.
// SQL inserts a message every 20 ms, and followers on both servers measure each message's delay. Run:
//   npx tap --timeout=900 --reporter=tap test/long/listen.ts
// A delay is the time from the answer to the commit until the delivery. Bounds apply to the largest delay of a phase.
// In every phase nothing is lost, duplicated or out of order, and no socket is closed.
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startProxy, type Proxy } from '../support/database-proxy.ts'
import { Line } from '../support/users.ts'
import { freshDatabase, insertMission } from '../support/database.ts'
import { admin, door, until, type Json } from '../support/server.ts'
import { spawnServer, type Server } from '../support/processes.ts'

t.setTimeout(240_000)

/** The interval of the poll of all latest seqs, in ms, as in src/config/limits.ts. */
const pollEvery = 5000
const pace = 20
const followersEach = 2

type Site = { proxy: Proxy; server: Server }

const database = await freshDatabase(t)
const makeSite = async (): Promise<Site> => {
  const proxy = await startProxy(t)
  return { proxy, server: await spawnServer(t, { DATABASE_URL: proxy.url(database.url), LOG_LEVEL: 'error' }) }
}
// The first server migrates the database.
const sites = [await makeSite(), await makeSite()] as [Site, Site]
const id = await insertMission(database)
const topic = `missions/${id}/chat/rafael`

// Writer and followers ----------------------------------------------------------------------------------------------

/** The performance.now of the answer to each message's commit; the index is seq - 1. Seqs are in the writer's order. */
const committed: number[] = []
let writing = true
const writer = await database.connect()
const written = (async () => {
  for (let next = performance.now(); writing; next += pace) {
    await writer.query(
      `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', $2)`,
      [id, String(committed.length + 1)],
    )
    committed.push(performance.now())
    await delay(Math.max(0, next + pace - performance.now()))
  }
})()

type Follower = { line: Line; arrived: number[]; ids: string[]; wrong: string[] }
const follow = async ({ server }: Site): Promise<Follower> => {
  const line = await Line.open(server.url, admin)
  const follower: Follower = { line, arrived: [], ids: [], wrong: [] }
  const { arrived, ids, wrong } = follower
  line.onFrame = (frame) => {
    if (frame.type !== 'event') return
    const { id, message } = frame['data'] as Json
    arrived.push(performance.now())
    ids.push(String(id))
    if (frame['seq'] !== ids.length || message !== String(ids.length))
      wrong.push(`seq ${frame['seq']} with ${message} as the ${ids.length}th`)
  }
  const answer = await line.ask({ type: 'subscribe', topic, after: 0 })
  if (answer.type !== 'ok') throw new Error(JSON.stringify(answer))
  return follower
}
const followers = await Promise.all(sites.flatMap((site) => Array.from({ length: followersEach }, () => follow(site))))

const ready = async ({ server }: Site): Promise<boolean> =>
  (await door(t, server.url).request('GET', '/readyz')).status === 200
/** Waits until both servers are ready and all followers have every committed message. Resolves with the number of messages. */
const settled = async (): Promise<number> => {
  await until(async () => (await ready(sites[0])) && (await ready(sites[1])), 'both servers to be ready', 30_000)
  const { length } = committed
  await until(() => followers.every(({ ids }) => ids.length >= length), 'all followers to have every message', 30_000)
  return length
}

/** All followers' delays of the messages with indexes `from` to `to` (exclusive). */
const delays = (from: number, to: number): number[] =>
  followers.flatMap(({ arrived }) =>
    committed.slice(from, to).map((at, i) => Math.max(0, (arrived[from + i] ?? Infinity) - at)),
  )
const median = (times: number[]): number => times.toSorted((a, b) => a - b)[times.length >> 1] ?? 0
const ms = (value: number): string => `${Math.round(value)} ms`

/** Waits until a second's worth of messages is committed. */
const aSecond = (): Promise<void> => {
  const enough = committed.length + 1000 / pace
  return until(() => committed.length >= enough, 'a second of messages')
}

/**
 * Runs rounds: a healthy second, then a fault that lasts until both servers are ready and have caught up, then the repair.
 * Prints and asserts the largest delay since the fault: in each round at least `least` (otherwise nothing was broken) and at
 * most `bound`.
 */
const phase = async (
  t: Test,
  what: string,
  {
    rounds,
    least = 0,
    bound,
    fault,
  }: { rounds: number; least?: number; bound: number; fault: (round: number) => Promise<unknown> },
): Promise<void> => {
  const healthy: number[] = []
  const broken: number[][] = []
  for (let round = 0; round < rounds; round++) {
    const before = committed.length
    await aSecond()
    const from = await settled()
    healthy.push(...delays(before, from))
    await fault(round)
    // A server may not have noticed the fault yet.
    await aSecond()
    await settled()
    for (const { proxy } of sites) proxy.heal()
    broken.push(delays(from, await settled()))
  }
  const worst = broken.map((times) => Math.max(...times))
  t.ok(broken.every(({ length }) => length >= (followers.length * 1000) / pace))
  t.ok(Math.min(...worst) >= least, `each fault delayed a message by at least ${ms(least)}`)
  t.ok(Math.max(...worst) <= bound, `no delay above ${ms(bound)}`)
  t.ok(median(healthy) < 250 && Math.max(...healthy) < 2000, 'delivered at once while healthy')
  t.strictSame(
    followers.flatMap(({ line, wrong }) => [line.closed, ...wrong]),
    followers.map(() => undefined),
    'no socket closed, nothing lost, duplicated or out of order',
  )
  t.comment(
    `${what}: ${rounds} ×, ${broken.flat().length} deliveries, the worst ${ms(Math.max(...worst))} after its commit ` +
      `(by round ${worst.map(ms).join(', ')}; at most ${ms(bound)}); ` +
      `healthy: median ${ms(median(healthy))}, worst ${ms(Math.max(...healthy))}`,
  )
}

const ownSessions = `from pg_stat_activity where datname = current_database() and application_name = 'mission-deck session'`

void t.test('listen: a terminated LISTEN session delays no message by more than 2 s', (t) =>
  phase(t, 'LISTEN terminated', {
    rounds: 8,
    bound: 2000,
    async fault(round) {
      // In every second round the replacement sessions are terminated too.
      for (let times = round % 2 ? 3 : 1; times > 0; times--) {
        const cut = await database.query(`select pg_terminate_backend(pid) as done, pid ${ownSessions}`)
        t.strictSame(
          cut.map(({ done }) => done),
          sites.map(() => true),
          'one LISTEN session of each server',
        )
        await until(
          async () =>
            (await database.query(`select ${ownSessions} and pid <> all ($1)`, [cut.map(({ pid }) => pid)])).length ===
            sites.length,
          'new sessions',
        )
      }
    },
  }),
)

void t.test('listen: an instance whose connections are black-holed catches up within 7 s', (t) =>
  phase(t, "an instance's connections black-holed", {
    rounds: 6,
    least: 1000,
    bound: 7000,
    fault: (round) => Promise.resolve(sites[round % 2]?.proxy.blackHole('none')),
  }),
)

// A LISTEN session that does not receive its own beat is replaced, and each new session re-reads the latest seqs.
void t.test('listen: new LISTEN sessions deliver the messages when every NOTIFY is dropped for 12 s', (t) =>
  phase(t, 'every NOTIFY dropped for 12 s', {
    rounds: 2,
    least: 1000,
    bound: pollEvery + 2000,
    async fault() {
      for (const { proxy } of sites) proxy.muted = true
      await delay(12_000)
    },
  }),
)

void t.test('listen: the poll delivers the messages when every hint is lost for 12 s but LISTEN works', (t) =>
  phase(t, 'every hint lost for 12 s, LISTEN holds', {
    rounds: 2,
    least: 1000,
    bound: pollEvery + 2000,
    async fault() {
      const hint = 'deck.hint(text[], bigint[])'
      const [{ definition } = {}] = await database.query('select pg_get_functiondef($1::regprocedure) as definition', [
        hint,
      ])
      await database.query(`create or replace function deck.hint(topics text[], seqs bigint[]) returns void
        language plpgsql set search_path = pg_catalog, pg_temp as 'begin end'`)
      await delay(12_000)
      await database.query(String(definition))
    },
  }),
)

void t.test("listen: in the end every follower holds the table's rows in order", async (t) => {
  writing = false
  await written
  await settled()
  const rows = await database.query('select seq::integer, id from chat_messages where mission_id = $1 order by seq', [
    id,
  ])
  t.strictSame(
    rows.map(({ seq }) => seq),
    committed.map((_, i) => i + 1),
  )
  const ids = rows.map(({ id }) => id)
  for (const follower of followers) {
    t.strictSame(follower.wrong, [])
    t.equal(JSON.stringify(follower.ids), JSON.stringify(ids), 'the ids in order')
    follower.line.drop()
  }
  t.comment(
    `${rows.length} messages by SQL to ${followers.length} followers on 2 instances: 0 lost, duplicated or out of order`,
  )
})
