// `npm start`: what it prints and builds, in a copy of the repository with the packages of this one. The page's build waits for the
// file `go`, so that a test decides when it is built.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cp, mkdtemp, readFile, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freshDatabase } from '../support/database.ts'
import { root, spawnServer } from '../support/processes.ts'
import { alice, door, makeMission, until } from '../support/server.ts'
import { openPage, startBrowser, without } from '../web/browser.ts'

const copyOf = async (t: Test): Promise<string> => {
  const copy = await mkdtemp(join(tmpdir(), 'mission-deck-start-'))
  t.teardown(() => rm(copy, { recursive: true, force: true }))
  for (const name of ['package.json', 'package-lock.json', 'tsconfig.json', 'vite.config.ts', 'db', 'scripts', 'src'])
    await cp(join(root, name), join(copy, name), { recursive: true })
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))
  await rename(join(copy, 'vite.config.ts'), join(copy, 'vite.page.ts'))
  await writeFile(
    join(copy, 'vite.config.ts'),
    `import { existsSync } from 'node:fs'
     import config from './vite.page.ts'
     export default async () => {
       while (!existsSync(${JSON.stringify(join(copy, 'go'))})) await new Promise((resolve) => setTimeout(resolve, 20))
       return config
     }`,
  )
  return copy
}
const command = ['npm', 'start']
const pageOf = async (url: string): Promise<string> => (await fetch(url)).text()
const built = /<script type="module"[^>]* src="\/assets\//

/** The files of a folder with the times of their last changes. */
const timesOf = async (folder: string): Promise<[string, number][]> => {
  const files = await readdir(folder, { recursive: true })
  return Promise.all(
    files.sort().map(async (file): Promise<[string, number]> => [file, (await stat(join(folder, file))).mtimeMs]),
  )
}

void t.test('start: the first line is printed before anything is loaded', async (t) => {
  const copy = await copyOf(t)
  await writeFile(join(copy, 'scripts/build.js'), "throw new Error('loaded')")
  const { stdout, stderr } = spawnSync(process.execPath, ['scripts/start.js'], { cwd: copy, encoding: 'utf8' })
  t.match(stdout, /^ +\d+\.\d s {2}starting Mission Deck\n$/)
  t.match(stderr, /Error: loaded/)
  for (const [args, env] of [
    [['--json'], {}],
    [[], { NODE_ENV: 'production' }],
    [[], { RENDER: 'true' }],
  ] as const)
    t.equal(
      spawnSync(process.execPath, ['scripts/start.js', ...args], {
        cwd: copy,
        encoding: 'utf8',
        env: { ...process.env, ...env },
      }).stdout,
      '',
      'neither with --json nor in production',
    )
})

void t.test('start: a plain page is served until the page is built, and a second start builds nothing', async (t) => {
  const { url } = await freshDatabase(t)
  const copy = await copyOf(t)
  const server = await spawnServer(t, { DATABASE_URL: url }, command, copy)
  const steps = [...server.output().matchAll(/^ +\d+\.\d s {2}(.*)$/gm)].map(([, text = '']) => text)
  t.match(steps, [/^starting/, /^compiling the server/, /^building the page/])
  const plain = await fetch(server.url)
  t.equal(plain.status, 200)
  t.equal(plain.headers.get('cache-control'), 'no-cache')
  const text = await plain.text()
  t.match(text, /its page is being built/)
  const [, script = ''] = /<script>(.+)<\/script>/.exec(text) ?? []
  t.match(script, /location\.reload\(\)/)
  const hash = createHash('sha256').update(script).digest('base64')
  t.ok(
    plain.headers.get('content-security-policy')?.includes(`script-src 'sha256-${hash}';`),
    'which its policy allows',
  )
  for (const path of ['/readyz', '/docs/', '/client/index.js']) t.equal((await fetch(server.url + path)).status, 200)
  t.notMatch(server.output(), /the page is built/)

  // Where there is a browser: the link that signs in works, though it was opened before the page was built.
  const title = 'opened while the page was built'
  await makeMission(door(t, server.url), { title })
  const tab = without ? undefined : await openPage(t, await startBrowser(t), `${server.url}/#token=${alice}`)
  await writeFile(join(copy, 'go'), '')
  await until(() => server.output().includes('the page is built'), 'the page', 60_000)
  await tab?.getByText(title).first().waitFor({ timeout: 30_000 })
  t.match(await pageOf(server.url), built)
  t.match(await pageOf(`${server.url}/deck/missions/47`), built)
  server.process.kill('SIGTERM')
  t.equal(await server.exited(), 0)

  const dist = join(copy, 'dist')
  const times = await timesOf(dist)
  t.ok(times.length > 200)
  const second = await spawnServer(t, { DATABASE_URL: url }, command, copy)
  t.match(await pageOf(second.url), built, 'the page is there from the start')
  t.match(second.output(), /starting Mission Deck/)
  t.notMatch(second.output(), /compiling|building/)
  t.strictSame(await timesOf(dist), times)
  second.process.kill('SIGTERM')
  t.equal(await second.exited(), 0)
})

void t.test('start: with a page that cannot be built the rest is served; a later start builds it', async (t) => {
  const { url } = await freshDatabase(t)
  const copy = await copyOf(t)
  await writeFile(join(copy, 'go'), '')
  const source = join(copy, 'src/web/main.tsx')
  const text = await readFile(source, 'utf8')
  await writeFile(source, `${text}\nimport './nowhere.ts'\n`)
  const server = await spawnServer(t, { DATABASE_URL: url }, command, copy)
  await until(() => server.output().includes('could not be built'), 'the failure', 60_000)
  t.match(server.output(), /The page could not be built; the server runs without it:\n[^]*nowhere\.ts/)
  const plain = await pageOf(server.url)
  t.match(plain, /its page could not be built/)
  t.notMatch(plain, /<script/)
  t.equal((await fetch(`${server.url}/readyz`)).status, 200)
  server.process.kill('SIGTERM')
  t.equal(await server.exited(), 0)

  await writeFile(source, text)
  const second = await spawnServer(t, { DATABASE_URL: url }, command, copy)
  t.notMatch(second.output(), /compiling/)
  await until(() => second.output().includes('the page is built'), 'the page', 60_000)
  t.match(await pageOf(second.url), built)
  second.process.kill('SIGTERM')
  t.equal(await second.exited(), 0)
})

void t.test('start: a source that cannot be compiled is named, and ends it with 1', async (t) => {
  const copy = await copyOf(t)
  await writeFile(join(copy, 'src/config/index.ts'), 'export const = 1')
  const { status, stderr } = spawnSync(process.execPath, ['scripts/start.js'], { cwd: copy, encoding: 'utf8' })
  t.equal(status, 1)
  t.match(stderr, /^Mission Deck did not start: it can't be compiled\n[^]*src\/config\/index\.ts:1/)
})

void t.test('build: a file is compiled again after a change and after the change was undone', async (t) => {
  const copy = await copyOf(t)
  const compile = () => spawnSync(process.execPath, ['scripts/build.js', 'server'], { cwd: copy, encoding: 'utf8' })
  const source = join(copy, 'src/protocol/topics.ts')
  const made = join(copy, 'dist/protocol/topics.js')
  const text = await readFile(source, 'utf8')
  t.equal(compile().status, 0)
  const first = await readFile(made, 'utf8')
  await writeFile(source, `${text}\nexport const added = 1\n`)
  t.equal(compile().status, 0)
  t.match(await readFile(made, 'utf8'), /\badded = 1/)
  await writeFile(source, `export const = 1`)
  t.equal(compile().status, 1)
  t.match(await readFile(made, 'utf8'), /\badded = 1/, 'a build that fails changes nothing')
  await writeFile(source, text)
  t.equal(compile().status, 0)
  t.equal(await readFile(made, 'utf8'), first)
  t.match(spawnSync(process.execPath, ['scripts/build.js', 'pages'], { cwd: copy, encoding: 'utf8' }), {
    status: 1,
    stderr: /^pages can't be built: name server, client, page\n$/,
  })
})
