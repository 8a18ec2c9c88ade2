// Continuous load on two server processes while faults occur one after the other: of the servers, their connections, Postgres and clients.
// In the end every acknowledged message is stored exactly once, and every follower holds 1…n in the table's order.
// The recovery time runs from the end of a fault until messages sent to each server are delivered by both.
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { admin, alice, door, makeMission, until } from '../support/server.ts'
import { spawnServer, type Server } from '../support/processes.ts'
import { compare, makeFollower, makeLedger, makeSender, type Row, type Where } from '../support/users.ts'
import { startPostgres } from '../support/postgres.ts'
import { startProxy, type Proxy } from '../support/database-proxy.ts'
import { startScraping } from '../support/scrape.ts'

type Site = { proxy: Proxy; server: Server }
type Fault = { name: string; run(): Promise<void> }

/** Returns the faults in an order determined by the seed, each once. */
const shuffled = (faults: Fault[], random: () => number): Fault[] =>
  faults
    .map((fault) => ({ fault, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ fault }) => fault)

/** Numbers in [0, 1) from a seed (mulberry32). */
export const makeRandom = (seed: number) => (): number => {
  seed = (seed + 0x6d2b79f5) | 0
  let x = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
  return ((x ^ (x >>> 14)) >>> 0) / 4_294_967_296
}

export const soak = async (t: Test, options: { seconds: number; every: number; senders: number; seed: number }) => {
  const random = makeRandom(options.seed)
  const postgres = await startPostgres(t)
  const start = async (proxy: Proxy): Promise<Server> =>
    spawnServer(t, { DATABASE_URL: proxy.url(postgres.url()), LOG_LEVEL: 'error' })
  const makeSite = async (): Promise<Site> => {
    const proxy = await startProxy(t)
    return { proxy, server: await start(proxy) }
  }
  // The first server migrates the database.
  const sites = [await makeSite(), await makeSite()] as [Site, Site]
  const any: Where = () => sites[Math.random() < 0.5 ? 0 : 1].server.url
  const at =
    (i: 0 | 1): Where =>
    () =>
      sites[i].server.url
  const proxies = (work: (proxy: Proxy) => void): void => sites.forEach(({ proxy }) => work(proxy))

  const { id } = await makeMission(door(t, sites[0].server.url))
  const topics = ['emma', 'rafael', 'sofia', 'maya'].map((citizen) => `missions/${id}/chat/${citizen}`)
  const probes = `missions/${id}/chat/inna`
  const ledger = makeLedger()
  const followers = [any, any, at(0), at(1)].flatMap((where) => [
    makeFollower({ where, token: alice, topics }),
    makeFollower({ where, token: admin, topics }),
  ])
  const watchers = [at(0), at(1)].map((where) => makeFollower({ where, token: admin, topics: [probes] }))
  const senders = Array.from({ length: options.senders }, (_, n) =>
    makeSender({
      // Two of three senders always use the same server, whatever happens to it.
      where: [any, at(0), at(1)][n % 3] ?? any,
      token: alice,
      topic: topics[n % topics.length] ?? '',
      ledger,
      keyed: n % 4 > 0,
      pace: 10,
    }),
  )
  const scraping = startScraping([at(0), at(1)], options.every / 2)
  let writing = true
  let inserted = 0
  const sql = (async () => {
    while (writing) {
      await postgres
        .query(
          `insert into chat_messages (mission_id, citizen, sender, message)
           select $1, 'emma', 'user', gen_random_uuid()::text from generate_series(1, 5)`,
          [id],
        )
        .then(
          () => (inserted += 5),
          () => {},
        )
      await delay(200)
    }
  })()

  // Faults ------------------------------------------------------------------------------------------------------

  const one = (): Site => sites[random() < 0.5 ? 0 : 1]
  const restart = async (site: Site, signal: NodeJS.Signals): Promise<void> => {
    site.server.process.kill(signal)
    const code = await site.server.exited()
    if (signal === 'SIGTERM' && code !== 0) t.fail(`exit ${code} after SIGTERM`)
    site.server = await start(site.proxy)
  }
  const terminate = (names: string) => async (): Promise<void> => {
    const cut = await postgres.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name like $1`,
      [names],
    )
    if (cut.length === 0) t.fail(`no session is named ${names}`)
  }
  const faults: Fault[] = [
    { name: 'server killed (-9), restarted', run: () => restart(one(), 'SIGKILL') },
    { name: 'server drained (SIGTERM), restarted', run: () => restart(one(), 'SIGTERM') },
    {
      name: 'server frozen for 2 s (SIGSTOP)',
      async run() {
        const { process } = one().server
        process.kill('SIGSTOP')
        await delay(2000)
        process.kill('SIGCONT')
      },
    },
    { name: 'LISTEN terminated', run: terminate('mission-deck session') },
    { name: 'all backends terminated', run: terminate('mission-deck s%') },
    {
      name: 'Postgres crashed, restarted',
      async run() {
        await postgres.crash()
        await postgres.start()
        proxies((proxy) => (proxy.port = postgres.port()))
      },
    },
    {
      name: 'Postgres frozen for 3 s',
      async run() {
        await postgres.freeze()
        await delay(3000)
        postgres.thaw()
      },
    },
    { name: 'connections cut', run: () => Promise.resolve(proxies((proxy) => proxy.cut())) },
    {
      name: 'connections cut in the middle of an answer',
      async run() {
        proxies((proxy) => proxy.halve())
        await delay(500)
      },
    },
    { name: 'connections black-holed', run: () => Promise.resolve(one().proxy.blackHole('none')) },
    {
      name: 'all connections and new ones black-holed for 3 s',
      async run() {
        const { proxy } = one()
        proxy.blackHole('new')
        await delay(3000)
        proxy.heal()
      },
    },
    {
      name: 'new connections refused for 2 s, open ones cut',
      async run() {
        proxies((proxy) => (proxy.refusing = true))
        proxies((proxy) => proxy.cut())
        await delay(2000)
        proxies((proxy) => (proxy.refusing = false))
      },
    },
    {
      name: '200 ms added latency to Postgres for 2 s',
      async run() {
        proxies((proxy) => (proxy.delay = 200))
        await delay(2000)
        proxies((proxy) => (proxy.delay = 0))
      },
    },
    { name: 'answer to a commit lost', run: () => Promise.race(sites.map(({ proxy }) => proxy.loseAnswer())) },
    {
      name: 'NOTIFY dropped for 6 s',
      async run() {
        proxies((proxy) => (proxy.muted = true))
        await delay(6000)
        proxies((proxy) => (proxy.muted = false))
      },
    },
    {
      name: 'half of the clients dropped',
      run: () => {
        for (const person of [...senders, ...followers]) if (random() < 0.5) person.drop()
        return Promise.resolve()
      },
    },
  ]

  let probed = 0
  /** Resolves with the time, in ms, until a message sent to each server has reached the watchers on both. */
  const recovery = async (): Promise<number> => {
    const begun = performance.now()
    for (const i of [0, 1] as const) {
      const probe = makeSender({ where: at(i), token: admin, topic: probes, ledger, keyed: true, pace: 0 })
      await probe.stop()
      probed++
    }
    for (const watcher of watchers)
      if (!(await watcher.reaches(probes, probed, 30_000))) t.fail('a probe did not reach both servers within 30 s')
    return performance.now() - begun
  }

  const times = new Map<string, number[]>()
  const end = performance.now() + options.seconds * 1000
  await recovery()
  for (let round = shuffled(faults, random), next = performance.now(); performance.now() < end; next += options.every) {
    const fault = round.shift() ?? (round = shuffled(faults, random)).shift()
    if (!fault) break
    await fault.run()
    times.set(fault.name, [...(times.get(fault.name) ?? []), await recovery()])
    proxies((proxy) => proxy.heal())
    await delay(Math.max(0, next + options.every - performance.now()))
  }

  // The end -----------------------------------------------------------------------------------------------------

  writing = false
  await Promise.all([sql, ...senders.map((sender) => sender.stop())])
  let rowCount = 0
  for (const topic of [...topics, probes]) {
    const rows = await postgres.query<Row>(
      `select seq::integer, id, message as text from chat_messages
       where mission_id = $1 and citizen = $2 order by chat_messages.seq`,
      [id, topic.split('/').at(-1)],
    )
    rowCount += rows.length
    const holders = topic === probes ? watchers : followers
    for (const follower of holders)
      if (!(await follower.reaches(topic, rows.length, 30_000))) t.fail(`a follower of ${topic} did not reach its end`)
    t.strictSame(compare(topic, rows, ledger, holders).slice(0, 20), [], topic)
    // The history over HTTP equals the table.
    const history: string[] = []
    for (let after = 0, more = true; more;) {
      const { json } = await door(t, any()).request('GET', `/api/${topic}?after=${after}&limit=500`, admin)
      const messages = json['messages'] as { id: string; seq: number }[]
      history.push(...messages.map(({ id }) => id))
      after = messages.at(-1)?.seq ?? after
      more = json['has_more'] === true
    }
    if (history.some((id, i) => id !== rows[i]?.id) || history.length !== rows.length) t.fail(`the history of ${topic}`)
  }
  await Promise.all([...followers, ...watchers].map((follower) => follower.stop()))
  const figures = await scraping.stop()
  // The servers exit cleanly, and no session is left in Postgres.
  for (const { server } of sites) {
    server.process.kill('SIGTERM')
    t.equal(await server.exited(), 0, 'exit 0')
    t.notMatch(server.output(), /internal error|nhandled/, 'the server logged no unexpected error')
  }
  await until(
    async () =>
      (await postgres.query(`select from pg_stat_activity where application_name like 'mission-deck s%'`)).length === 0,
    'no session left',
  )
  return { times, figures, rows: rowCount, inserted, ledger, followers: followers.length + watchers.length }
}
