// The measured servers, each with a fresh database of one Postgres. They are started as users start them.
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { makeTokens } from '../src/access/tokens.ts'
import type { Plan } from './load.ts'

/** What is measured: a chat, or `raw`, a WebSocket server that stores nothing. */
export type Competitor = Plan['target'] | 'raw'
export const names: Record<Competitor, string> = {
  deck: 'Mission Deck',
  socketio: 'Socket.IO 4 + its Postgres adapter + INSERT',
  ejabberd: 'ejabberd 23 (MUC + archive in Postgres)',
  tutorial: 'one INSERT + NOTIFY a message (tutorial design)',
  raw: 'ws alone (stores nothing)',
}

export type Postgres = {
  adminUrl: string
  pid: number
  /** the file that it writes its log to */
  log: string
}
export type Target = {
  name: string
  adapter: Plan['target']
  database: string
  token: string
  urls: string[]
  pids: number[]
  /** names of existing topics */
  topics: string[]
  stop(): Promise<void>
}

const here = fileURLToPath(new URL('.', import.meta.url))
const root = fileURLToPath(new URL('../../../', import.meta.url))

// No server outlives the bench.
const running = new Set<ChildProcess>()
process.once('exit', () => running.forEach((child) => child.kill()))

/** Starts a program that prints its address. Rejects if it exits before. */
const launch = async (
  path: string,
  env: NodeJS.ProcessEnv,
  flags: string[] = [],
): Promise<{ child: ChildProcess; url: string; pid: number }> => {
  const execArgv = process.env['BENCH_NODE']?.split(' ') ?? flags
  const child = fork(path, { env: { ...process.env, ...env }, execArgv, stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  running.add(child)
  child.once('exit', () => running.delete(child))
  let told = ''
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout?.on('data', (text: Buffer) => {
      told += text.toString()
      const [found] = /http:\/\/[\d.:]+/.exec(told) ?? []
      if (found) resolve(found)
    })
    child.once('exit', (code) => reject(new Error(`${path} ended with ${code}`)))
  })
  // A program that runs its server as a separate process prints that process's ID.
  return { child, url, pid: Number(/pid (\d+)/.exec(told)?.[1] ?? child.pid) }
}

export const freshDatabase = async ({ adminUrl }: Postgres, name: string): Promise<string> => {
  const admin = new pg.Client({ connectionString: adminUrl })
  await admin.connect()
  await admin.query(`drop database if exists ${name} with (force)`)
  await admin.query(`create database ${name}`)
  await admin.end()
  const url = new URL(adminUrl)
  url.pathname = `/${name}`
  return url.href
}

const stopping = (children: ChildProcess[]) => async (): Promise<void> => {
  await Promise.all(
    children.map(async (child) => {
      if (child.exitCode !== null) return
      const gone = once(child, 'exit')
      child.kill('SIGTERM')
      await gone
    }),
  )
}

// The same flags as `npm start`.
const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: { start: string } }
const startFlags = / node (.*?) ?dist\/main\.js$/.exec(scripts.start)?.[1]?.split(' ').filter(Boolean) ?? []

const jwtSecret = 'a secret for benches that is longer than 32 bytes'

/** `topics`: the number of chats to create. `kept`: the URL of an existing database. */
export const startDeck = async (
  postgres: Postgres,
  instances: number,
  topics: number,
  kept?: string,
  more: NodeJS.ProcessEnv = {},
): Promise<Target> => {
  const database = kept ?? (await freshDatabase(postgres, 'bench_deck'))
  const env = {
    DATABASE_URL: database,
    JWT_SECRET: jwtSecret,
    PORT: '0',
    LOG_LEVEL: 'warn',
    RATE_LIMITS: 'off',
    MAX_SOCKETS_PER_USER: '20000',
    // The load generator shares the machine.
    MAX_EVENT_LOOP_DELAY: '0',
    ...more,
  }
  const children: ChildProcess[] = []
  const urls: string[] = []
  const pids: number[] = []
  for (let i = 0; i < instances; i++) {
    const { child, url, pid } = await launch(`${root}dist/main.js`, env, startFlags)
    children.push(child)
    pids.push(pid)
    urls.push(url)
  }
  const token = await makeTokens({ secret: jwtSecret }).sign({ sub: 'alice', role: 'user' }, 86_400)
  const client = new pg.Client({ connectionString: database })
  await client.connect()
  const { rows } = await client.query<{ id: string }>(
    `insert into missions (title, client, budget, deadline, status, assigned_to)
     select 'bench', 'bench', 1, now(), 'active', 'alice' from generate_series(1, $1) returning id`,
    [topics],
  )
  await client.end()
  return {
    name: names.deck,
    adapter: 'deck',
    database,
    token,
    urls: urls.map((url) => url.replace('http', 'ws')),
    pids,
    topics: rows.map(({ id }) => `missions/${id}/chat/rafael`),
    stop: stopping(children),
  }
}

/** Starts a peer: a program under peers/ that accepts any topic name. */
export const startPeer = async (
  postgres: Postgres,
  peer: Exclude<Competitor, 'deck'>,
  instances: number,
  topics: number,
): Promise<Target> => {
  const database = await freshDatabase(postgres, `bench_${peer}`)
  const children: ChildProcess[] = []
  const urls: string[] = []
  const pids: number[] = []
  for (let i = 0; i < instances; i++) {
    const { child, url, pid } = await launch(`${here}peers/${peer}.js`, { DATABASE_URL: database })
    children.push(child)
    pids.push(pid)
    urls.push(url.replace('http', 'ws'))
  }
  return {
    name: names[peer],
    adapter: peer === 'raw' ? 'tutorial' : peer,
    database,
    token: '',
    urls,
    pids,
    topics: Array.from({ length: topics }, (_, n) => `room-${n}`),
    stop: stopping(children),
  }
}

/** The Postgres of a data folder. */
export const postgresIn = (dir: string, adminUrl: string): Postgres => ({
  adminUrl,
  pid: Number(readFileSync(`${dir}/postmaster.pid`, 'utf8').split('\n')[0]),
  log: `${dir}/server.log`,
})
