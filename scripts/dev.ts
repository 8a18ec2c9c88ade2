// `npm run dev`: the server from its sources, restarted when a file under src/ or db/ changes, and the page by Vite with hot reload.
// Vite forwards the server's paths with the original Host header, so the page's origin equals the server's: ALLOWED_ORIGINS is not
// needed. Requests that arrive during a restart wait for it.
// This process starts Postgres, so a restart of the server does not wait for it. Ctrl-C ends the server, Vite and Postgres.
// Options: --port 5173 (the page), --inspect (a debugger may attach to the server). PORT and DATABASE_URL work as with npm start.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer as createTcpServer, type AddressInfo } from 'node:net'
import { join, relative, resolve, sep } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createServer } from 'vite'
import { readConfig } from '../src/config/index.ts'
import { makePretty } from '../src/http/observability/pretty-log.ts'
import { startEmbedded } from '../src/database/embedded/index.ts'
import { proxiedPattern } from './proxied.ts'

type Greeting = { url: string; link?: string; tokens?: { admin: string; user: string } }

const root = fileURLToPath(new URL('..', import.meta.url))
const { values } = parseArgs({ options: { port: { type: 'string', default: '5173' }, inspect: { type: 'boolean' } } })
const config = readConfig(process.env)
const say = (text: string): void => void process.stdout.write(`${text}\n`)
const log = process.stdout.isTTY ? await makePretty() : process.stdout

/** Returns the server's port: Vite must know it before the server runs. */
const serverPort = async (): Promise<number> => {
  if (config.port !== 0) return config.port
  const server = createTcpServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

const port = await serverPort()
const target = `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${port}`.replace(
  '0.0.0.0',
  '127.0.0.1',
)
/** Settles when the server listens again, or failed to start. Forwarded requests wait for it. */
let running: Promise<void> = Promise.resolve()

const vite = await createServer({
  configFile: join(root, 'vite.config.ts'),
  clearScreen: false,
  logLevel: 'warn',
  server: {
    host: '127.0.0.1',
    port: Number(values.port),
    // Vite answers no other origin; for the server's paths its own CORS rules apply.
    cors: false,
    // Not the whole checkout: .data contains the database and the secret.
    fs: { allow: [join(root, 'src'), join(root, 'node_modules')] },
    proxy: { [proxiedPattern]: { target, ws: true, bypass: () => running } },
  },
})

let child: ChildProcess | undefined
let greeted = false

const greet = ({ link, tokens }: Greeting): void => {
  const page = `http://127.0.0.1:${(vite.httpServer?.address() as AddressInfo).port}/`
  say(`
  the page, with hot reload${link ? ', signed in for a day' : ': sign in with your own token'}:
    ${page}${link ? new URL(link).hash : ''}
  the server: ${target}
${tokens ? `\n  ADMIN=${tokens.admin}\n  TOKEN=${tokens.user}\n` : ''}
  Ctrl-C stops everything.
`)
}

/** Prints a line of the server's output. Returns the greeting if the line is one. */
const show = (line: string): Greeting | undefined => {
  let parsed: Partial<Greeting> & { level?: number; detail?: string } = {}
  try {
    parsed = { ...(JSON.parse(line) as typeof parsed) }
  } catch {}
  if (parsed.url !== undefined && parsed.level === undefined) return parsed as Greeting
  if (parsed.level === undefined) say(parsed.detail ?? line)
  else log.write(`${line}\n`)
  return undefined
}

/** Starts the server. Resolves when it listens, or when it ended instead. */
const start = async (): Promise<void> => {
  const began = performance.now()
  const args = ['--enable-source-maps', '--import=./test/typescript.js', '--import=./scripts/end-with-parent.js']
  const started = spawn(
    process.execPath,
    [...(values.inspect ? ['--inspect'] : []), ...args, 'src/main.ts', '--json'],
    // A separate process group: Ctrl-C in the terminal reaches the server only once, from this process.
    {
      cwd: root,
      env: { ...process.env, PORT: String(port) },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      detached: true,
    },
  )
  child = started
  await new Promise<void>((ready) => {
    for (const stream of [started.stdout, started.stderr])
      createInterface({ input: stream ?? process.stdin }).on('line', (line) => {
        const greeting = show(line)
        if (!greeting) return
        if (greeted) say(`the server runs again after ${Math.round(performance.now() - began)} ms`)
        else greet(greeting)
        greeted = true
        ready()
      })
    started.once('exit', (code, signal) => {
      if (child !== started) return ready()
      child = undefined
      say(`the server ended (${signal ?? code}): it starts again when a file changes`)
      ready()
    })
  })
}

/** Stops the server with SIGTERM, as in production. */
const stop = async (): Promise<void> => {
  const stopping = child
  child = undefined
  if (!stopping || stopping.exitCode !== null || stopping.signalCode !== null) return
  const exit = once(stopping, 'exit')
  stopping.kill('SIGTERM')
  const late = setTimeout(() => stopping.kill('SIGKILL'), 10_000)
  await exit
  clearTimeout(late)
}

const buildClient = async (): Promise<void> => {
  await once(spawn('npm', ['run', '--silent', 'client'], { cwd: root, stdio: 'inherit', shell: true }), 'exit')
}

let changed: string[] = []
const restart = (): void => {
  const files = changed
  changed = []
  if (files.length === 0 || ending !== undefined) return
  say(`changed: ${files.join(', ')}`)
  running = running
    .then(() => (files.some((file) => /^src\/(client|protocol)\//.test(file)) ? buildClient() : undefined))
    .then(stop)
    .then(() => (ending === undefined ? start() : undefined))
}

let ending: number | undefined
/** Stops everything. npm repeats a terminal's signal, so a second signal within a second is ignored. */
const end = async (): Promise<void> => {
  if (ending !== undefined) {
    if (performance.now() - ending < 1000) return
    process.exit(1)
  }
  ending = performance.now()
  await vite.close()
  await stop()
  // A restart may be under way.
  await running
  await stop()
  await (await embedded)?.stop()
  process.exit(0)
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void end())
process.on('exit', () => child?.kill('SIGKILL'))

const embedded = config.databaseUrl
  ? undefined
  : startEmbedded({ dir: join(resolve(root, config.dataDir), 'postgres') })
await embedded

vite.watcher.add(['src', 'db', '.env'].map((name) => join(root, name)))
let pause: NodeJS.Timeout | undefined
vite.watcher.on('all', (_event, path) => {
  const file = relative(root, path).split(sep).join('/')
  if (!/^(src\/|db\/|\.env$)/.test(file) || /^src\/(web|cli)\//.test(file)) return
  if (!changed.includes(file)) changed.push(file)
  clearTimeout(pause)
  pause = setTimeout(restart, 100)
})
await vite.listen()
await buildClient()
if (ending === undefined) running = start()
