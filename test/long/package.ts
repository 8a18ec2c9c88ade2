// The package, built and run as by a user with only Node: npm pack in a copy of the repository, then npx in an empty folder with an empty
// home. The server starts, accepts a message and stops. It writes only to that folder. Run: npm run long
import { execFile, spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { door, until } from '../support/server.ts'
import { root } from '../support/processes.ts'

t.setTimeout(600_000)
const run = promisify(execFile)

void t.test('package: npx in an empty folder starts the server in one command', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'mission-deck-package-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [copy = '', home = '', empty = ''] = ['copy', 'home', 'empty'].map((name) => join(folder, name))
  await Promise.all([copy, home, empty].map((path) => mkdir(path)))
  const { stdout: listed } = await run('git', ['ls-files', '-co', '--exclude-standard'], { cwd: root })
  for (const file of listed.trim().split('\n')) await cp(`${root}${file}`, join(copy, file))
  await symlink(`${root}node_modules`, join(copy, 'node_modules'))
  const { stdout: packed } = await run('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: copy })
  const name = packed.trim().split('\n').at(-1) ?? ''

  const begun = performance.now()
  // Only PATH and the registry come from this machine's environment.
  const { stdout: registry } = await run('npm', ['config', 'get', 'registry'])
  const env = { PATH: process.env['PATH'], HOME: home, PORT: '0', npm_config_registry: registry.trim() }
  const child = spawn('npx', ['--yes', `file:${join(folder, name)}`, '--json'], { cwd: empty, env, detached: true })
  let output = ''
  let faults = ''
  child.stdout.on('data', (data: Buffer) => (output += data.toString()))
  child.stderr.on('data', (data: Buffer) => (faults += data.toString()))
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const signal = (what: NodeJS.Signals): void => {
    try {
      process.kill(-(child.pid ?? 0), what)
    } catch {}
  }
  t.teardown(async () => {
    signal('SIGKILL')
    await exited
  })
  await until(() => output.includes('\n') || child.exitCode !== null, 'the server', 300_000)
  t.equal(faults, '', 'stderr is empty')
  const { url, tokens } = JSON.parse(output) as { url: string; tokens: { user: string } }
  t.comment(`the server answers after ${((performance.now() - begun) / 1000).toFixed(1)} s, including the installation`)

  const deck = door(t, url)
  const sent = await deck.request('POST', '/api/missions/47/chat/rafael', tokens.user, { message: 'from a package' })
  t.equal(sent.status, 201, sent.text)
  for (const path of ['/', '/docs/', '/openapi.json', '/asyncapi.json', '/client/index.js', '/readyz'])
    t.equal((await fetch(url + path)).status, 200, path)
  t.match(await (await fetch(url)).text(), /<script type="module"/, 'the page was built')
  t.strictSame(await readdir(empty), ['.data'], 'all data is in .data')

  signal('SIGTERM')
  await exited
  const deck2 = async (): Promise<boolean> =>
    fetch(`${url}/healthz`).then(
      () => false,
      () => true,
    )
  await until(deck2, 'the server to stop')
})
