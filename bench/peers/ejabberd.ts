// ejabberd from Debian's packages (ejabberd, erlang-p1-pgsql): XMPP over WebSocket, rooms whose every message is archived in
// Postgres before it is reflected. A node of its own: nothing of an installed service is read, changed or listened to.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { connect, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { ejabberdLibraries } from '../ejabberd.ts'

const connectionString = process.env['DATABASE_URL'] ?? ''
const database = new URL(connectionString)
const libraries = ejabberdLibraries()
if (libraries === undefined) throw new Error('ejabberd and erlang-p1-pgsql are not installed')

const client = new pg.Client({ connectionString })
await client.connect()
await client.query(await readFile('/usr/share/ejabberd/sql/pg.sql', 'utf8'))
await client.end()

const probe = createServer().listen(0, '127.0.0.1')
await once(probe, 'listening')
const { port } = probe.address() as AddressInfo
probe.close()
await once(probe, 'close')

// Only what differs from the defaults. Shapers and limits of stanzas come with a c2s listener or mod_muc's options: there are none.
const config = {
  hosts: ['localhost'],
  loglevel: 'warning',
  auth_method: ['anonymous'],
  anonymous_protocol: 'sasl_anon',
  max_fsm_queue: 1_000_000,
  default_db: 'sql',
  sql_type: 'pgsql',
  sql_server: database.hostname,
  sql_port: Number(database.port || 5432),
  sql_database: database.pathname.slice(1),
  sql_username: decodeURIComponent(database.username),
  sql_password: decodeURIComponent(database.password),
  sql_pool_size: 10,
  listen: [
    { port, ip: '127.0.0.1', backlog: 1024, module: 'ejabberd_http', request_handlers: { '/ws': 'ejabberd_http_ws' } },
  ],
  modules: {
    mod_mam: { db_type: 'sql', default: 'always' },
    mod_muc: {
      max_users: 100_000,
      // The archive is the history.
      history_size: 0,
      default_room_options: {
        persistent: true,
        mam: true,
        max_users: 100_000,
        // No other target tells who comes and goes.
        presence_broadcast: [],
      },
    },
  },
}

const dir = mkdtempSync(join(tmpdir(), 'bench-ejabberd-'))
process.once('exit', () => rmSync(dir, { recursive: true, force: true, maxRetries: 10 }))
const configPath = join(dir, 'ejabberd.yml')
const inetPath = join(dir, 'inetrc')
// JSON is YAML.
await writeFile(configPath, JSON.stringify(config), { mode: 0o600 })
await writeFile(inetPath, '{lookup,["file","native"]}.\n{host,{127,0,0,1},["localhost"]}.\n')

// Without a name it has no distribution, hence no port and no epmd. Its schedulers don't spin: others need the CPUs. It reads
// its stdin and ends with it, however this process ends. `erl` becomes beam.smp by exec, so the pid is that one's.
const node = spawn(
  'erl',
  [
    ...['+sbwt', 'none', '+sbwtdcpu', 'none', '+sbwtdio', 'none', '-noshell'],
    ...['-mnesia', 'dir', JSON.stringify(join(dir, 'mnesia')), '-s', 'ejabberd'],
    ...['-eval', 'spawn(fun() -> io:get_line(""), halt(1) end).'],
  ],
  {
    cwd: dir,
    env: {
      PATH: process.env['PATH'],
      HOME: dir,
      ERL_LIBS: libraries,
      ERL_INETRC: inetPath,
      ERL_CRASH_DUMP_BYTES: '0',
      EJABBERD_CONFIG_PATH: configPath,
      EJABBERD_LOG_PATH: join(dir, 'ejabberd.log'),
    },
  },
)
// Of interest is what it says before it fails to start, and what goes wrong while it runs.
let state: 'starting' | 'running' | 'ending' = 'starting'
const said: Buffer[] = []
const hear = (text: Buffer): void => {
  if (state === 'starting') said.push(text)
  if (state === 'running') process.stderr.write(text)
}
node.stdout.on('data', hear)
node.stderr.on('data', hear)
node.once('exit', (exitCode) => {
  if (state === 'starting') process.stderr.write(Buffer.concat(said))
  process.exit(state === 'ending' ? 0 : (exitCode ?? 1))
})
const end = (): void => {
  state = 'ending'
  // Nothing in it is worth a shutdown.
  node.kill('SIGKILL')
}
for (const event of ['SIGTERM', 'SIGINT', 'disconnect']) process.once(event, end)

const listens = (): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(true)
    }).once('error', () => resolve(false))
  })
while (!(await listens())) await delay(50)
state = 'running'
process.stdout.write(`pid ${node.pid}\nhttp://127.0.0.1:${port}\n`)
