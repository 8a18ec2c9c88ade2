// Alerts, each fired by its cause: two servers under load, a real Prometheus with the project's rules, and one fault after the other.
// Each alert must fire for the affected servers and resolve afterwards. No other critical alert may fire unless the fault explains it.
// Every query of the dashboard is evaluated too. Takes ten minutes. Run:
//   npx tap --timeout=900 --reporter=tap test/long/alerts.ts
// Needs `prometheus` (a Debian package); without it the test bails out with a message.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { makeLedger, makeSender, Line } from '../support/users.ts'
import { startPostgres } from '../support/postgres.ts'
import { startProxy } from '../support/database-proxy.ts'
import { admin, alice, door, makeMission, until, type Json } from '../support/server.ts'
import { root, spawnServer } from '../support/processes.ts'

t.setTimeout(900_000)
if (spawnSync('prometheus', ['--version']).error) t.bailout('prometheus is not installed: apt-get install prometheus')

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

const postgres = await startPostgres(t)
const sites = await Promise.all(
  ['a', 'b'].map(async (name) => {
    const proxy = await startProxy(t)
    const port = await freePort()
    const env = {
      DATABASE_URL: proxy.url(postgres.url()),
      PORT: String(port),
      LOG_LEVEL: 'fatal',
      OUTBOX_BYTES: '262144',
    }
    return { name, proxy, env, server: await spawnServer(t, env), at: `127.0.0.1:${port}` }
  }),
)
const [a, b] = sites as [(typeof sites)[0], (typeof sites)[0]]

const folder = await mkdtemp(join(tmpdir(), 'mission-deck-alerts-'))
const port = await freePort()
await writeFile(
  join(folder, 'prometheus.yml'),
  // A scrape waits up to 2 s if the database hangs.
  `global: { scrape_interval: 5s, evaluation_interval: 1s, scrape_timeout: 5s }
rule_files: ['${root}ops/prometheus/alerts.yml']
scrape_configs:
  - job_name: mission-deck
    static_configs: [{ targets: ['${a.at}', '${b.at}'] }]
`,
)
const prometheus = spawn(
  'prometheus',
  [
    `--config.file=${join(folder, 'prometheus.yml')}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ],
  { stdio: 'ignore' },
)
t.teardown(async () => {
  prometheus.kill('SIGTERM')
  await once(prometheus, 'exit')
  await rm(folder, { recursive: true, force: true })
})
const api = async <T>(path: string): Promise<T> => {
  const answer = await fetch(`http://127.0.0.1:${port}/api/v1/${path}`)
  const { status, data, error } = (await answer.json()) as { status: string; data: T; error?: string }
  if (status !== 'success') throw new Error(`${path}: ${error}`)
  return data
}
type Alert = { labels: { alertname: string; instance: string; severity: string }; state: string }
/** The alerts that fire, as "name@site". */
const firing = async (): Promise<string[]> => {
  const { alerts } = await api<{ alerts: Alert[] }>('alerts')
  const nameOf = (instance: string): string => sites.find(({ at }) => at === instance)?.name ?? instance
  const found = alerts
    .filter(({ state }) => state === 'firing')
    .map(({ labels }) => `${labels.alertname}@${nameOf(labels.instance)}`)
  return [...new Set(found)].sort()
}
await until(
  async () =>
    api('alerts').then(
      () => true,
      () => false,
    ),
  'Prometheus',
  30_000,
)

void t.test('alerts: each fires for its cause, on the affected servers only, and resolves afterwards', async (t) => {
  const { id } = await makeMission(door(t, a.server.url))
  const ledger = makeLedger()
  const topics = ['emma', 'rafael', 'sofia', 'maya'].map((citizen) => `missions/${id}/chat/${citizen}`)
  const followers = await Promise.all(sites.map(({ server }) => Line.open(server.url, alice)))
  for (const follower of followers) for (const topic of topics) await follower.ask({ type: 'subscribe', topic })
  const senders = sites.flatMap(({ server }) =>
    topics.map((topic) => makeSender({ where: () => server.url, token: alice, topic, ledger, keyed: true, pace: 25 })),
  )

  const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(0)} s`
  /** Causes a fault until the expected alerts fire, ends it, and waits until they resolve. */
  const cause = async (
    what: string,
    expected: string[],
    explained: RegExp,
    begin: () => unknown,
    end: () => unknown,
    limit = 170_000,
  ): Promise<void> => {
    const quiet = async (): Promise<boolean> => (await firing()).every((name) => lasting.test(name))
    await until(quiet, `no alert before: ${what}`, 120_000)
    await begin()
    const begun = performance.now()
    const at = new Map<string, string>()
    const check = async (): Promise<void> => {
      for (const name of await firing())
        if (!at.has(name) && (expected.includes(name) || !lasting.test(name))) at.set(name, seconds(begun))
    }
    await until(
      async () => {
        await check()
        return expected.every((name) => at.has(name))
      },
      `${expected.join()} for: ${what}; fired: ${[...at.keys()].join()}`,
      limit,
    ).catch((error: Error) => t.fail(error.message))
    await end()
    const healed = performance.now()
    const over = async (): Promise<boolean> =>
      (await firing()).every((name) => !expected.includes(name) || lasting.test(name))
    await until(over, `the resolution of ${expected.join()}`, 120_000).catch((error: Error) => t.fail(error.message))
    t.comment(
      `${what}: ${[...at].map(([name, when]) => `${name} after ${when}`).join(', ')}; resolved ${seconds(healed)} after its cause`,
    )
    for (const name of at.keys())
      t.ok(expected.includes(name) || explained.test(name), `${name} is explained by the fault`)
    t.ok(
      expected.every((name) => at.has(name)),
      what,
    )
  }
  // These alerts count events of the last five minutes, so they keep firing after the fault.
  const lasting = /^Deck(ReadersTooSlow|HintsLost|InternalErrors|SlowCommits|PoolShort)@/

  // The rates need two scrapes.
  await until(
    async () => (await api<{ result: unknown[] }>('query?query=rate(deck_messages_total[1m])')).result.length === 2,
    'rates',
    30_000,
  )
  t.strictSame(await firing(), [], 'no alert fires under load without a fault')

  await cause(
    'Postgres crashed',
    ['DeckDatabaseAway@a', 'DeckDatabaseAway@b'],
    /^Deck(ListenerLost|Refuses|NotWriting|TopicsHeld)@[ab]/,
    () => postgres.crash(),
    async () => {
      await postgres.start()
      for (const { proxy } of sites) proxy.port = postgres.port()
    },
  )

  const held: { query: (text: string) => Promise<unknown>; end: () => Promise<void> }[] = []
  const hold = async (text: string): Promise<void> => {
    const { default: pg } = await import('pg')
    const client = new pg.Client({ connectionString: postgres.url() })
    await client.connect()
    await client.query('begin')
    await client.query(text)
    held.push({ query: (text) => client.query(text), end: () => client.end() })
  }
  const letGo = async (): Promise<void> => {
    for (const { query, end } of held.splice(0)) {
      await query('rollback')
      await end()
    }
  }
  await cause(
    'chat_messages is locked, and Postgres answers all other queries',
    ['DeckNotWriting@a', 'DeckNotWriting@b'],
    /^Deck(Refuses|TopicsHeld)@[ab]/,
    () => hold('lock table chat_messages in exclusive mode'),
    letGo,
  )

  await cause(
    'a transaction holds one chat',
    ['DeckTopicsHeld@a', 'DeckTopicsHeld@b'],
    /^DeckRefuses@[ab]/,
    () => hold(`select from deck.heads where topic = '${topics[0]}' for update`),
    letGo,
  )

  await cause(
    'A receives no NOTIFY any more',
    ['DeckListenerLost@a'],
    /^$/,
    async () => {
      a.proxy.muted = true
      for (const { server } of sites) await door(t, server.url).request('GET', '/api/missions/4711', alice)
    },
    () => a.proxy.heal(),
  )
  t.ok((await firing()).includes('DeckHintsLost@a'), 'DeckHintsLost keeps firing for five minutes')

  await cause(
    'twelve readers on B that do not read',
    ['DeckReadersTooSlow@b'],
    /^DeckOutboxesFull@b/,
    async () => {
      const topic = `missions/${id}/chat/inna`
      const stalled = await Promise.all(Array.from({ length: 12 }, () => Line.open(b.server.url, alice)))
      for (const line of stalled) {
        await line.ask({ type: 'subscribe', topic })
        ;(line.socket as unknown as { _socket: { pause(): void } })._socket.pause()
      }
      const writer = await Line.open(b.server.url, admin)
      const message = 'x'.repeat(10_000)
      for (let n = 0; n < 40; n++)
        await Promise.all(Array.from({ length: 50 }, () => writer.ask({ type: 'send', topic, message })))
      writer.drop()
      t.teardown(() => stalled.forEach((line) => line.drop()))
    },
    () => {},
  )

  for (const sender of senders) void sender.stop()
  await Promise.all(senders.map((sender) => sender.stop()))

  // The dashboard's queries run now, because every fault that it shows has occurred.
  const { panels } = JSON.parse(await readFile(`${root}ops/grafana/mission-deck.json`, 'utf8')) as {
    panels: { title: string; targets?: { expr: string }[] }[]
  }
  let asked = 0
  const empty: string[] = []
  for (const { title, targets = [] } of panels)
    for (const { expr } of targets) {
      const text = expr.replaceAll(/\$(job|instance)/g, '.*').replaceAll('$__rate_interval', '10m')
      const { result } = await api<{ result: Json[] }>(`query?query=${encodeURIComponent(text)}`)
      asked++
      if (result.length === 0) empty.push(title)
    }
  t.strictSame(empty, [], 'each panel of the dashboard has data')
  t.comment(`${asked} queries of the dashboard evaluated`)

  await cause(
    'A is killed',
    ['DeckDown@a'],
    /^$/,
    async () => {
      a.server.process.kill('SIGKILL')
      await a.server.exited()
    },
    async () => (a.server = await spawnServer(t, a.env)),
  )
  t.comment(
    `messages acknowledged: ${ledger.acknowledged.length}; errors: ${[...ledger.told].map(([what, n]) => `${what} ${n}`).join(', ')}`,
  )
})
