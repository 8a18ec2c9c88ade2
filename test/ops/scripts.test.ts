// The scripts for developers: dev (the proxy, its end), db:reset (its refusals) and test:node (its counts).
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { outcomeOf } from '../../scripts/outcome.ts'
import { proxied, proxiedPattern } from '../../scripts/proxied.ts'
import { startEmbedded } from '../../src/database/embedded/index.ts'
import { makePlace } from '../support/clusters.ts'
import { freshDatabase } from '../support/database.ts'
import { admin, bob, door, makeMission, secret, startDeck, until } from '../support/server.ts'
import { root } from '../support/processes.ts'

/** Starts a script; it is killed at the end of the test. */
const start = (t: Test, script: string, env: Record<string, string>, ...args: string[]) => {
  const child = spawn(process.execPath, ['--import=./test/typescript.js', `scripts/${script}.ts`, ...args], {
    cwd: root,
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()))
  const exit = once(child, 'close').then(([code]) => code as number | null)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exit
  })
  return { child, exit, output: () => output }
}

void t.test('dev: Vite proxies every route of the server except those of the page', async (t) => {
  const { app } = (await startDeck(t)).instance
  const paths: string[] = []
  const above: string[] = []
  for (const line of app.http.printRoutes({ commonPrefix: false }).split('\n')) {
    const [, indent = '', part = '', methods] = /^(.*?)[└├]── (\S+)(?: \((.*)\))?/.exec(line) ?? []
    if (!part) continue
    above.length = indent.length / 4
    above.push(part)
    if (methods) paths.push(above.join(''))
  }
  t.ok(paths.length > 20)
  const page = /^\/(deck(\/.*)?|assets\/.*)?$/
  const served = RegExp(proxiedPattern)
  for (const path of paths.filter((path) => !page.test(path) && path !== '*')) t.match(path, served, path)
  for (const name of proxied)
    t.ok(
      paths.some((path) => path.split('/')[1] === name),
      name,
    )
  t.notMatch('/address.ts', served, 'a file of the page is not proxied')
})

void t.test('dev: Vite serves the page and proxies the server; SIGINT ends both', async (t) => {
  const { url } = await freshDatabase(t)
  const env = { DATABASE_URL: url, JWT_SECRET: secret, PORT: '0', LOG_LEVEL: 'warn' }
  const dev = start(t, 'dev', env, '--port=0')
  await until(() => dev.child.exitCode !== null || /Ctrl-C/.test(dev.output()), 'the server and Vite', 60_000)
  const page = /page.*\n\s+(http\S+[^/])\/\n/.exec(dev.output())?.[1] ?? `none in ${dev.output()}`
  const server = /the server: (\S+)/.exec(dev.output())?.[1] ?? ''

  const html = await (await fetch(`${page}/deck/missions/47`)).text()
  t.match(html, /\/@vite\/client/, 'with hot reload')
  t.match(html, /src="\/main\.tsx/)
  const deck = door(t, page)
  const { id } = await makeMission(deck)
  const client = await deck.connect(admin, `/api/missions/${id}/chat/rafael/ws?after=0`)
  await deck.request('POST', `/api/missions/${id}/chat/rafael`, admin, { message: 'through Vite' })
  await client.frame((frame) => frame['type'] === 'event', 'the message')
  t.equal((await fetch(`${page}/@fs${root}package.json`)).status, 403, 'Vite serves only src and node_modules')

  const dial = (origin: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = new WebSocket(page.replace('http', 'ws') + '/api/ws', ['deck.v1', `bearer.${bob}`], { origin })
      socket.once('error', ({ message }) => resolve(message))
      socket.once('open', () => resolve('open'))
      t.teardown(() => socket.terminate())
    })
  t.equal(await dial(page), 'open', "the page's origin is that of the server")
  t.match(await dial('http://127.0.0.1:1'), /403/, 'a different origin is refused, as without Vite')

  dev.child.kill('SIGINT')
  t.equal(await dev.exit, 0)
  await t.rejects(fetch(page), 'Vite ended')
  await t.rejects(fetch(`${server}/healthz`), 'the server ended')
})

void t.test(
  'db:reset: refuses with one sentence while a server uses the database, and deletes it afterwards',
  async (t) => {
    const place = await makePlace(t)
    const dir = join(place, 'postgres')
    const exists = (): Promise<boolean> =>
      stat(dir).then(
        () => true,
        () => false,
      )
    const reset = async (env: Record<string, string>) => {
      const { exit, output } = start(t, 'db-reset', env)
      return { code: await exit, printed: output() }
    }
    const server = await startEmbedded({ dir, settings: { fsync: 'off' } })
    t.match(await reset({ DATA_DIR: place }), {
      code: 1,
      printed: /^A server uses the database .*: stop npm run dev .*\n$/,
    })
    t.match(await reset({ DATA_DIR: place, DATABASE_URL: 'postgres://db/deck' }), {
      code: 1,
      printed: /DATABASE_URL is set/,
    })
    t.ok(await exists(), 'nothing was deleted')
    await server.stop()
    t.match(await reset({ DATA_DIR: place }), { code: 0, printed: /^Deleted the database/ })
    t.notOk(await exists())
    t.match(await reset({ DATA_DIR: place }), { code: 0, printed: /^There is no database/ })
  },
)

void t.test('CONTRIBUTING: each file and each npm script that it names exists', (t) => {
  const text = readFileSync(`${root}CONTRIBUTING.md`, 'utf8')
  const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: Record<string, string> }
  const paths = new Set(
    [...text.matchAll(/(?<![\w/.])(?:src|db|test|docs|scripts|bench)\/[\w./-]*\w/g)].map(([path]) => path),
  )
  t.ok(paths.size > 20)
  // 006_… stands for a future migration.
  for (const path of paths) if (!path.includes('/006')) t.ok(existsSync(root + path), path)
  for (const [, name = ''] of text.matchAll(/npm run ([\w:]+)/g)) t.ok(name in scripts, name)
  t.end()
})

void t.test("test:node: reads the counts from tap's last totals, and returns zeros without totals", (t) => {
  const lines = ['    # { total: 2, pass: 2 }', 'ok 1', '# { total: 9, pass: 5, fail: 3, skip: 1 }', '# time=1ms']
  t.strictSame(outcomeOf(lines), { passed: 5, failed: 3 })
  t.strictSame(outcomeOf(['# { total: 4, pass: 4 }']), { passed: 4, failed: 0 })
  t.strictSame(outcomeOf(['not ok 1']), { passed: 0, failed: 0 })
  t.end()
})
