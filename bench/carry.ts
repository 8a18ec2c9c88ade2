// The cost of import and export. CARRY_MESSAGES (500,000) messages of 200 bytes are imported into one chat and into ten, twice,
// while a client writes to the same chat. Then CARRY_ROWS (10,000,000) messages are exported, with the memory used, and imported
// into a second database, whose export must be the same. The bench starts its own Postgres, and removes it afterwards.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, rm, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { startEmbedded } from '../src/database/embedded/index.ts'
import { memoryOf } from './system.ts'

const messages = Number(process.env['CARRY_MESSAGES'] ?? 500_000)
const rows = Number(process.env['CARRY_ROWS'] ?? 10_000_000)
const perChat = 1000
const citizens = ['rafael', 'sofia', 'emma', 'leo', 'ida', 'noah', 'mila', 'finn', 'lena', 'jonas']

const dir = fileURLToPath(new URL('../../../.data/bench/carry', import.meta.url))
const cli = fileURLToPath(new URL('../../../dist/cli/index.js', import.meta.url))
const print = (line: string): void => void process.stdout.write(`${line}\n`)
const mebibytes = (bytes: number): string => (bytes / 1024 / 1024).toFixed(0)

type Run = { out: string; seconds: number; peak: number; early: number; sha256: string }
/** Runs mission-deck, with the output in a file if one is given. Returns its duration, and its memory at the peak and in the first quarter. */
const deck = async (url: string, args: string[], file?: string): Promise<Run> => {
  const since = performance.now()
  const child = spawn(process.execPath, [cli, ...args], {
    env: { ...process.env, DATABASE_URL: url },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const samples: number[] = []
  const sampler = setInterval(() => {
    if (child.exitCode === null && child.pid !== undefined) samples.push(memoryOf(child.pid))
  }, 50)
  const hash = createHash('sha256')
  const to = file === undefined ? undefined : createWriteStream(file)
  let out = ''
  for await (const data of child.stdout as AsyncIterable<Buffer>)
    if (args[0] === 'export') {
      hash.update(data)
      if (to && !to.write(data)) await once(to, 'drain')
    } else out += data.toString()
  if (child.exitCode === null) await once(child, 'exit')
  clearInterval(sampler)
  if (to) await new Promise<void>((resolve) => to.end(resolve))
  if (child.exitCode !== 0) throw new Error(`deck ${args.join(' ')} ended with ${child.exitCode}`)
  const peak = Math.max(...samples)
  const early = Math.max(...samples.slice(0, Math.max(1, samples.length >> 2)))
  return { out: out.trim(), seconds: (performance.now() - since) / 1000, peak, early, sha256: hash.digest('hex') }
}

const embedded = await startEmbedded({
  dir: `${dir}/postgres`,
  settings: { max_connections: '50', max_wal_size: '4GB' },
})
const admin = new pg.Client({ connectionString: embedded.adminUrl })
await admin.connect()
/** A database, and a superuser's connection to it. */
const fresh = async (name: string): Promise<{ url: string; client: pg.Client }> => {
  await admin.query(`drop database if exists ${name}`)
  await admin.query(`create database ${name} owner deck`)
  const [url, own] = [new URL(embedded.url), new URL(embedded.adminUrl)]
  url.pathname = own.pathname = `/${name}`
  await deck(url.href, ['migrate'])
  const client = new pg.Client({ connectionString: own.href })
  await client.connect()
  return { url: url.href, client }
}
const newMissions = async (client: pg.Client, count: number): Promise<string[]> =>
  (
    await client.query<{ id: string }>(
      `insert into missions (title, client, budget, deadline, status, assigned_to)
       select 'Mission ' || n, 'Acme', 300, '2030-01-01', 'active', 'alice' from generate_series(1, $1::integer) n returning id`,
      [count],
    )
  ).rows.map(({ id }) => id)

/** Writes to a chat by SQL, ten times a second, until the signal is aborted. Returns the duration of each write, sorted, in ms. */
const beside = async (url: string, mission: string, over: AbortSignal): Promise<number[]> => {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const times: number[] = []
  while (!over.aborted) {
    const since = performance.now()
    await client.query(
      `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'x')`,
      [mission],
    )
    times.push(performance.now() - since)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  await client.end()
  return times.sort((a, b) => a - b)
}

const imports = async (chats: number): Promise<void> => {
  const { url, client } = await fresh('carry_import')
  const [mission = ''] = await newMissions(client, 1)
  const file = `${dir}/messages.ndjson`
  const to = createWriteStream(file)
  for (let n = 0; n < messages; n++) {
    const citizen = citizens[n % chats]
    const created_at = new Date(1_700_000_000_000 + n * 1000).toISOString()
    const message = `message ${n} of many: `.padEnd(200, 'lorem ipsum dolor sit amet ')
    if (!to.write(`${JSON.stringify({ mission, citizen, sender: 'user', author: 'alice', message, created_at })}\n`))
      await once(to, 'drain')
  }
  await new Promise<void>((resolve) => to.end(resolve))
  print(
    `${messages} messages into ${chats} ${chats === 1 ? 'chat' : 'chats'} (${mebibytes((await stat(file)).size)} MiB):`,
  )
  for (const what of ['first', 'again']) {
    const { out, peak } = await deck(url, ['import', file])
    print(`   ${what}: ${out}, memory ${mebibytes(peak)} MiB at its peak`)
  }
  await client.query('delete from chat_messages')
  await client.query('vacuum chat_messages')
  const over = new AbortController()
  const others = beside(url, mission, over.signal)
  const { out } = await deck(url, ['import', file])
  over.abort()
  const times = await others
  print(
    `   beside a writer: ${out}; an INSERT into the same chat took ${times[times.length >> 1]?.toFixed(0)} ms in the median, ${times.at(-1)?.toFixed(0)} ms at most`,
  )
  await client.end()
  await rm(file)
}

const exports = async (): Promise<void> => {
  const { url, client } = await fresh('carry_export')
  const missions = await newMissions(client, Math.max(1, Math.ceil(rows / perChat / citizens.length)))
  // Seqs as the database would assign them. The role `replica` allows a given seq.
  await client.query('set session_replication_role = replica')
  await client.query(
    `insert into chat_messages (mission_id, citizen, sender, author, message, seq, at)
     select m, c, 'user', 'alice', rpad('message ' || s || ' of many: ', 200, 'lorem ipsum dolor sit amet '), s, now() at time zone 'utc'
     from unnest($1::uuid[]) m, unnest($2::text[]) c, generate_series(1, $3::integer) s`,
    [missions, citizens, perChat],
  )
  await client.query(
    `insert into deck.heads (topic) select 'missions/' || m || '/chat/' || c from unnest($1::uuid[]) m, unnest($2::text[]) c`,
    [missions, citizens],
  )
  await client.end()
  const file = `${dir}/all.ndjson`
  print(`${missions.length * citizens.length * perChat} messages in ${missions.length * citizens.length} chats:`)
  const first = await deck(url, ['export', '--all'], file)
  const { size } = await stat(file)
  print(
    `   export: ${first.seconds.toFixed(1)} s, ${(size / first.seconds / 1e6).toFixed(0)} MB/s, ${mebibytes(size)} MiB; ` +
      `memory ${mebibytes(first.early)} MiB in its first quarter, ${mebibytes(first.peak)} MiB at its peak`,
  )
  const other = await fresh('carry_back')
  await other.client.end()
  const back = await deck(other.url, ['import', file])
  print(
    `   import: ${back.seconds.toFixed(1)} s, ${back.out}; memory ${mebibytes(back.early)} MiB, ${mebibytes(back.peak)} MiB at its peak`,
  )
  const second = await deck(other.url, ['export', '--all'])
  const same = createHash('sha256')
  for await (const data of createReadStream(file)) same.update(data as Buffer)
  if (second.sha256 !== first.sha256 || same.digest('hex') !== first.sha256)
    throw new Error('the second export differs from the first')
  print(`   the other database's export is the same, byte for byte (${second.seconds.toFixed(1)} s)`)
}

try {
  await mkdir(dir, { recursive: true })
  if (messages > 0) await imports(1)
  if (messages > 0) await imports(10)
  if (rows > 0) await exports()
} finally {
  await admin.end()
  await embedded.stop()
  await rm(dir, { recursive: true, force: true })
}
