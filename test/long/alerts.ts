// Alerts, fired by causing their reason: two servers under load, a real Prometheus with our rules as they are, and one fault after
// the other. Each must fire on whom it concerns, with no other critical one that its cause does not explain, and be over after it.
// All expressions of the dashboard are asked as well. Ten minutes; by command:
//   npx tap --timeout=900 --reporter=tap test/long/alerts.ts
// Needs `prometheus` (a Debian package); without it nothing is tried, and that is said.
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
if (spawnSync('prometheus', ['--version']).error) t.bailout('there is no prometheus here: apt-get install prometheus')

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
  // A scrape waits up to 2 s for a database that hangs.
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
/** Alerts that fire, "name@site". */
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

void t.test('each alert fires by its reason, on whom it concerns, and is over after it', async (t) => {
  const { id } = await makeMission(door(t, a.server.url))
  const ledger = makeLedger()
  const topics = ['emma', 'rafael', 'sofia', 'maya'].map((citizen) => `missions/${id}/chat/${citizen}`)
  const followers = await Promise.all(sites.map(({ server }) => Line.open(server.url, alice)))
  for (const follower of followers) for (const topic of topics) await follower.ask({ type: 'subscribe', topic })
  const senders = sites.flatMap(({ server }) =>
    topics.map((topic) => makeSender({ where: () => server.url, token: alice, topic, ledger, keyed: true, pace: 25 })),
  )

  const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(0)} s`
  /** Causes a reason until what is expected fires, takes it away, and waits until that is over. */
  const cause = async (
    what: string,
    expected: string[],
    explained: RegExp,
    begin: () => unknown,
    end: () => unknown,
    limit = 170_000,
  ): Promise<void> => {
    const quiet = async (): Promise<boolean> => (await firing()).every((name) => lasting.test(name))
    await until(quiet, `nothing fires before: ${what}`, 120_000)
    await begin()
    const begun = performance.now()
    const at = new Map<string, string>()
    const look = async (): Promise<void> => {
      for (const name of await firing())
        if (!at.has(name) && (expected.includes(name) || !lasting.test(name))) at.set(name, seconds(begun))
    }
    await until(
      async () => {
        await look()
        return expected.every((name) => at.has(name))
      },
      `${expected.join()} for: ${what}; ${[...at.keys()].join()}`,
      limit,
    ).catch((error: Error) => t.fail(error.message))
    await end()
    const healed = performance.now()
    const over = async (): Promise<boolean> =>
      (await firing()).every((name) => !expected.includes(name) || lasting.test(name))
    await until(over, `an end of ${expected.join()}`, 120_000).catch((error: Error) => t.fail(error.message))
    t.comment(
      `${what}: ${[...at].map(([name, when]) => `${name} after ${when}`).join(', ')}; over ${seconds(healed)} after its reason`,
    )
    for (const name of at.keys()) t.ok(expected.includes(name) || explained.test(name), `${name} belongs to it`)
    t.ok(
      expected.every((name) => at.has(name)),
      what,
    )
  }
  // Those that count what happened within five minutes are over when these are.
  const lasting = /^Deck(ReadersTooSlow|HintsLost|InternalErrors|SlowCommits|PoolShort)@/

  // Two rates need their past.
  await until(
    async () => (await api<{ result: unknown[] }>('query?query=rate(deck_messages_total[1m])')).result.length === 2,
    'rates',
    30_000,
  )
  t.strictSame(await firing(), [], 'under load, with nothing wrong, nothing fires')

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
    'somebody locks chat_messages, and Postgres answers all else',
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
    'A hears no NOTIFY any more',
    ['DeckListenerLost@a'],
    /^$/,
    async () => {
      a.proxy.muted = true
      for (const { server } of sites) await door(t, server.url).request('GET', '/api/missions/4711', alice)
    },
    () => a.proxy.heal(),
  )
  t.ok((await firing()).includes('DeckHintsLost@a'), 'and DeckHintsLost keeps firing for five minutes')

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

  // The dashboard is asked while all that it shows has happened.
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
  t.strictSame(empty, [], 'each panel of the dashboard has something to show')
  t.comment(`${asked} expressions of the dashboard asked`)

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
    `messages acknowledged: ${ledger.acknowledged.length}; told: ${[...ledger.told].map(([what, n]) => `${what} ${n}`).join(', ')}`,
  )
})
