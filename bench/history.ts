// The cost of reading. A page of 50 messages is read from a table of 1,000 rows and from HISTORY_ROWS (10,000,000) rows of
// bench/generate.ts. A chat's whole history of HISTORY_REPLAY (500,000) messages is read as NDJSON.
// The bench starts its own Postgres in HISTORY_DIR or .data, and removes it afterwards.
import { randomInt } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { Agent, get, type IncomingMessage } from 'node:http'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { startEmbedded } from '../src/database/embedded/index.ts'
import { generate } from './generate.ts'
import { cpuOf, cpuOfFamily, memoryOf } from './system.ts'
import { postgresIn, startDeck, type Postgres, type Target } from './targets.ts'

const rows = Number(process.env['HISTORY_ROWS'] ?? 10_000_000)
const replayed = Number(process.env['HISTORY_REPLAY'] ?? 500_000)
const requests = Number(process.env['HISTORY_REQUESTS'] ?? 1000)
const few = 1000
const missions = 200

type Read = { path: string; messages: number }

const print = (line: string): void => void process.stdout.write(`${line}\n`)
const timed = async (what: string, work: () => Promise<unknown>): Promise<void> => {
  const since = performance.now()
  await work()
  print(`   ${what}: ${((performance.now() - since) / 1000).toFixed(1)} s`)
}

/** Messages 1 to `count` of a chat. */
const fill = async (admin: pg.Client, mission: string, count: number, bytes: number): Promise<void> => {
  // Seqs as the database would assign them. The role `replica` allows a given seq.
  await admin.query('set session_replication_role = replica')
  await admin.query(
    `insert into chat_messages (mission_id, citizen, sender, author, message, seq, at)
     select $1, 'rafael', 'user', 'alice', rpad('message ' || s || ' of many: ', $3, 'lorem ipsum dolor sit amet '), s, now() at time zone 'utc'
     from generate_series(1, $2::integer) s`,
    [mission, count, bytes],
  )
  await admin.query(
    `insert into deck.heads (topic) select 'missions/' || $1::uuid || '/chat/rafael' on conflict do nothing`,
    [mission],
  )
  await admin.query('set session_replication_role = origin')
  await admin.query('vacuum analyze chat_messages, deck.heads')
}

const open = (target: Target, agent: Agent, path: string, accept: string): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const url = `${target.urls[0]?.replace('ws', 'http')}/api/${path}`
    get(url, { agent, headers: { authorization: `Bearer ${target.token}`, accept } }, resolve).on('error', reject)
  })

const pages = async (target: Target, postgres: Postgres, chats: Read[]): Promise<void> => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const middle = (messages: number): number => randomInt(100, messages - 100)
  const queries = {
    newest: () => '',
    before: (messages: number) => `?before=${middle(messages)}`,
    after: (messages: number) => `?after=${middle(messages)}`,
  }
  const one = async (query: (messages: number) => string): Promise<number> => {
    const { path, messages: there } = chats[randomInt(chats.length)] as Read
    const since = performance.now()
    const response = await open(target, agent, `${path}${query(there)}`, 'application/json')
    let text = ''
    for await (const chunk of response.setEncoding('utf8')) text += chunk as string
    const { messages } = JSON.parse(text) as { messages: unknown[] }
    if (messages.length !== 50) throw new Error(text.slice(0, 200))
    return performance.now() - since
  }
  for (const [name, query] of Object.entries(queries)) {
    for (let n = 0; n < requests / 4; n++) await one(query)
    const before = { server: cpuOf(target.pids), postgres: cpuOfFamily(postgres.pid) }
    const times: number[] = []
    for (let n = 0; n < requests; n++) times.push(await one(query))
    const server = (cpuOf(target.pids) - before.server) / requests
    const database = (cpuOfFamily(postgres.pid) - before.postgres) / requests
    times.sort((a, b) => a - b)
    print(
      `   page of 50, ${name}: median ${times[requests >> 1]?.toFixed(2)} ms, p99 ${times[Math.floor(requests * 0.99)]?.toFixed(2)} ms, ` +
        `CPU ${server.toFixed(0)} + ${database.toFixed(0)} µs`,
    )
  }
  agent.destroy()
}

const replay = async (target: Target, postgres: Postgres, chat: string): Promise<void> => {
  const [pid = 0] = target.pids
  const before = { memory: memoryOf(pid), server: cpuOf(target.pids), postgres: cpuOfFamily(postgres.pid) }
  let peak = 0
  const sampler = setInterval(() => (peak = Math.max(peak, memoryOf(pid))), 20)
  const agent = new Agent()
  const since = performance.now()
  let lines = 0
  let bytes = 0
  for await (const chunk of await open(target, agent, chat, 'application/x-ndjson')) {
    const data = chunk as Buffer
    bytes += data.length
    for (let at = data.indexOf(10); at >= 0; at = data.indexOf(10, at + 1)) lines++
  }
  const seconds = (performance.now() - since) / 1000
  clearInterval(sampler)
  agent.destroy()
  const server = (cpuOf(target.pids) - before.server) / lines
  const database = (cpuOfFamily(postgres.pid) - before.postgres) / lines
  const mebibytes = (bytes: number): string => (bytes / 1024 / 1024).toFixed(0)
  if (lines !== replayed) throw new Error(`${lines} lines`)
  print(
    `   replay of ${lines} messages: ${(lines / seconds).toFixed(0)} messages/s, ${(bytes / seconds / 1e6).toFixed(0)} MB/s, ` +
      `CPU ${server.toFixed(1)} + ${database.toFixed(1)} µs/message, server's memory ${mebibytes(before.memory)} MiB before, ${mebibytes(peak)} MiB at its peak`,
  )
}

export const history = async (): Promise<void> => {
  const dir = process.env['HISTORY_DIR'] ?? fileURLToPath(new URL('../../../.data/bench/history', import.meta.url))
  const embedded = await startEmbedded({ dir, settings: { max_connections: '100', max_wal_size: '4GB' } })
  let target: Target | undefined
  try {
    const postgres = postgresIn(dir, embedded.adminUrl)
    target = await startDeck(postgres, 1, missions + 2)
    const admin = new pg.Client({ connectionString: target.database })
    await admin.connect()
    const [small = '', large = '', ...others] = target.topics.map((topic) => topic.split('/')[1] ?? '')

    await fill(admin, small, few, 60)
    print(`${few} rows:`)
    await pages(target, postgres, [{ path: `missions/${small}/chat/rafael`, messages: few }])
    await timed(`${replayed} rows of 200 bytes`, () => fill(admin, large, replayed, 200))
    for (let n = 0; n < 3; n++) await replay(target, postgres, `missions/${large}/chat/rafael`)
    if (rows > 0) {
      let chats: Read[] = []
      await timed(`${rows} rows`, async () => {
        chats = (await generate(admin, others, rows)).map(({ mission, citizen, messages }) => ({
          path: `missions/${mission}/chat/${citizen}`,
          messages,
        }))
      })
      print(`${rows + replayed + few} rows in ${chats.length} chats:`)
      await pages(
        target,
        postgres,
        chats.filter(({ messages }) => messages >= few),
      )
      await replay(target, postgres, `missions/${large}/chat/rafael`)
    }
    await admin.end()
  } finally {
    await target?.stop()
    await embedded.stop()
    await rm(dir, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await history()
