// mission-deck runner on two instances: it works the runs that people ask for with a command.
import { execFile } from 'node:child_process'
import { access, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { folder, start } from '../support/cli.ts'
import {
  admin,
  alice,
  makeMission,
  startDeck,
  startInstance,
  token,
  until,
  type Instance,
  type Json,
} from '../support/server.ts'

const execute = promisify(execFile)
const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)
const sofia = await token({ sub: 'sofia', role: 'citizen' })

const runner = (t: Test, args: string[], on: Instance = one) =>
  start(t, ['runner', 'sofia', ...args], { DECK_URL: on.url, DECK_TOKEN: sofia, JWT_SECRET: 'x'.repeat(32) })

const makeRuns = async (more: Json = {}) => {
  const { id } = await makeMission(one, more)
  const tests = `/api/missions/${id}/tests`
  return {
    id,
    tests,
    ask: async (on = two): Promise<string> => String((await on.request('POST', `${tests}/run`, alice)).json['id']),
    read: async (run: string, on = two): Promise<Json> => (await on.request('GET', `${tests}/${run}`, alice)).json,
    task: async (run: string): Promise<Json | null> =>
      (await two.request('GET', `${tests}/${run}/task`, alice)).json['task'] as Json | null,
    log: async (run: string, on = two): Promise<string> =>
      (await on.request('GET', `${tests}/${run}/logs`, alice)).text,
    ended: async (run: string, on = two): Promise<Json> => {
      let row: Json = {}
      await until(
        async () => {
          row = (await on.request('GET', `${tests}/${run}`, alice)).json
          return row['status'] !== 'running' && row['status'] !== undefined
        },
        'the run to end',
        60_000,
      )
      return row
    },
  }
}
/** A script in the command line's folder. */
const script = async (name: string, text: string): Promise<string> => {
  await mkdir(join(folder, 'repository'), { recursive: true })
  await writeFile(join(folder, 'repository', name), text)
  return `repository/${name}`
}
/** Waits until these processes have ended. (One that nobody has waited for is a zombie: Z.) */
const haveEnded = (pids: number[]): Promise<void> =>
  until(async () => {
    const states = await Promise.all(
      pids.map((pid) =>
        execute('ps', ['-o', 'stat=', '-p', String(pid)]).then(
          ({ stdout }) => stdout.trim(),
          () => 'gone',
        ),
      ),
    )
    return states.every((state) => /^(Z|gone)/.test(state))
  }, 'the processes to end')
const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )

void t.test('runner: works a run on a repository: its log is live, and results and evidence follow', async (t) => {
  const { id, ask, read, log, ended, task } = await makeRuns({ github_url: 'https://github.com/acme/notifier' })
  const items = await Promise.all(
    ['adds', 'divides'].map(async (name) => {
      const { json } = await one.request('POST', `/api/missions/${id}/dod`, sofia, { text: name, category: 'tests' })
      const item = String(json['id'])
      await one.request('PATCH', `/api/missions/${id}/dod/${item}`, admin, { test_name: name })
      return item
    }),
  )
  const go = join(folder, 'go')
  const file = await script(
    'sums.test.mjs',
    `import { test } from 'node:test'
     import assert from 'node:assert'
     import { existsSync } from 'node:fs'
     const { MISSION, RUN, GITHUB_URL, DECK_TOKEN, JWT_SECRET } = process.env
     console.log('env ' + JSON.stringify({ MISSION, RUN, GITHUB_URL, secrets: [DECK_TOKEN, JWT_SECRET].filter(Boolean) }))
     while (!existsSync(${JSON.stringify(go)})) await new Promise((resolve) => setTimeout(resolve, 20))
     test('adds', () => assert.equal(1 + 1, 2))
     test('divides', () => assert.equal(1 / 2, 2))`,
  )
  const { err } = runner(t, ['--', process.execPath, '--test', '--test-reporter=tap', file])
  const run = await ask()
  await until(async () => /env \{/.test(await log(run)), 'the log', 60_000)
  t.match(await read(run), { status: 'running' })
  t.match(await task(run), { state: 'working', citizen: 'sofia' })
  t.match(JSON.parse(/env (\{.*\})/.exec(await log(run))?.[1] ?? ''), {
    MISSION: id,
    RUN: run,
    GITHUB_URL: 'https://github.com/acme/notifier',
    secrets: [],
  })
  await writeFile(go, '')
  const row = await ended(run)
  t.match(row, { status: 'failed', summary: { passed: 1, failed: 1, total: 2, exit_code: 1 } }, err())
  t.match(
    (row['results'] as Json[]).map(({ name, status }) => [name, status]),
    [
      ['adds', 'passed'],
      ['divides', 'failed'],
    ],
  )
  t.match(await log(run), /not ok 2 - divides/)
  const { json } = await one.request('GET', `/api/missions/${id}/dod`, alice)
  for (const [n, status] of ['passed', 'failed'].entries())
    t.match(
      (json['items'] as Json[]).find((item) => item['id'] === items[n]),
      { evidence: { run, status } },
    )
})

void t.test('runner: without results, the exit status decides', async (t) => {
  const { ask, ended, log } = await makeRuns()
  const file = await script(
    'exit.mjs',
    `import { existsSync, writeFileSync } from 'node:fs'
     console.error('to stderr \\0 é')
     const first = !existsSync('exited')
     writeFileSync('exited', '')
     process.exit(first ? 0 : 3)`,
  )
  runner(t, ['--', process.execPath, file])
  const passed = await ask()
  t.match(await ended(passed), { status: 'passed', summary: { exit_code: 0 }, results: null })
  t.equal(await log(passed), 'to stderr \ufffd é\n')
  const failed = await ask()
  t.match(await ended(failed), { status: 'failed', summary: { reason: 'the command exited with 3' } })
})

void t.test('runner: reads JUnit files that the command wrote, not older ones', async (t) => {
  const { ask, ended } = await makeRuns()
  const xml = '<testsuite name="s" tests="1"><testcase name="a" time="0.1"/></testsuite>'
  const file = await script(
    'junit.mjs',
    `import { existsSync, writeFileSync } from 'node:fs'
     if (!existsSync('junit.xml')) writeFileSync('junit.xml', ${JSON.stringify(xml)})`,
  )
  runner(t, ['--junit', 'junit.xml', '--', process.execPath, file])
  t.match(await ended(await ask()), { status: 'passed', summary: { passed: 1 }, results: [{ name: 's > a' }] })
  t.match(await ended(await ask()), { status: 'passed', results: null, summary: { reason: /older than the run/ } })
})

void t.test('runner: reads TAP without a version line, on the output and in a file', async (t) => {
  const { ask, ended } = await makeRuns()
  const tap = '1..2\nok 1 - a\nnot ok 2 - b\n'
  for (const [args, write] of [
    [['--tap'], `process.stdout.write(${JSON.stringify(tap)})`],
    [['--tap', 'new.tap'], `writeFileSync('new.tap', ${JSON.stringify(tap)})`],
    [[], `console.log('ok 1 - no TAP')`],
  ] as const) {
    const file = await script('tap.mjs', `import { writeFileSync } from 'node:fs'\n${write}`)
    const { child, ended: over } = runner(t, [...args, '--', process.execPath, file])
    const row = await ended(await ask())
    if (args.length === 0) t.match(row, { status: 'passed', results: null })
    else t.match(row, { status: 'failed', summary: { passed: 1, failed: 1 }, results: [{ name: 'a' }, { name: 'b' }] })
    child.kill('SIGTERM')
    await over
  }
})

void t.test('runner: a command that cannot be started fails the run, and the runner goes on', async (t) => {
  const { ask, ended } = await makeRuns()
  runner(t, ['--', './no-such-command'])
  for (let n = 0; n < 2; n++)
    t.match(await ended(await ask()), { status: 'failed', summary: { reason: /could not be started.*ENOENT/ } })
})

/** A command with a child, which both ignore SIGTERM if asked. It writes their process IDs to a file. */
const family = (name: string, deaf: boolean): Promise<string> =>
  script(
    name,
    `import { spawn } from 'node:child_process'
     import { writeFileSync } from 'node:fs'
     const deaf = ${JSON.stringify(deaf ? "process.on('SIGTERM', () => {});" : '')}
     const child = spawn(process.execPath, ['-e', deaf + "console.log('child');setInterval(() => {}, 1000)"], { stdio: ['ignore', 'pipe', 'inherit'] })
     ${deaf ? "process.on('SIGTERM', () => console.log('not yet'))" : ''}
     child.stdout.on('data', () => { writeFileSync(${JSON.stringify(`${name}.pids`)}, process.pid + ' ' + child.pid); console.log('ready') })
     setInterval(() => {}, 1000)`,
  )
const pidsOf = async (name: string): Promise<number[]> =>
  (await readFile(join(folder, `${name}.pids`), 'utf8')).split(' ').map(Number)

void t.test('runner: a cancel stops the process group, also one that ignores SIGTERM', async (t) => {
  const { tests, ask, log, ended } = await makeRuns()
  runner(t, ['--', process.execPath, await family('deaf.mjs', true)])
  const run = await ask()
  await until(async () => /ready/.test(await log(run)), 'the command', 60_000)
  const pids = await pidsOf('deaf.mjs')
  t.equal((await two.request('POST', `${tests}/${run}/cancel`, alice)).status, 200)
  t.match(await ended(run), { status: 'failed', summary: { reason: 'cancelled by alice' } })
  t.match(await log(run), /not yet/, 'SIGTERM comes first')
  await haveEnded(pids)
})

void t.test('runner: a command that takes longer than --timeout is stopped', async (t) => {
  const { ask, ended } = await makeRuns()
  runner(t, ['--timeout', '2', '--', process.execPath, await family('slow.mjs', false)])
  t.match(await ended(await ask()), { status: 'failed', summary: { reason: /stopped after \d+ s, its timeout/ } })
  if (await exists(join(folder, 'slow.mjs.pids'))) await haveEnded(await pidsOf('slow.mjs'))
})

void t.test('runner: SIGTERM stops the command and gives the run to another runner', async (t) => {
  const { ask, log, ended, task } = await makeRuns()
  const first = runner(t, ['--', process.execPath, await family('left.mjs', false)])
  const run = await ask()
  await until(async () => /ready/.test(await log(run)), 'the command', 60_000)
  const pids = await pidsOf('left.mjs')
  first.child.kill('SIGTERM')
  t.equal((await first.ended).code, 0)
  await haveEnded(pids)
  t.match(await task(run), { state: 'waiting', attempt: 1 })
  const second = runner(t, ['--json', '--', process.execPath, '-e', 'console.log("again")'], two)
  t.match(await ended(run), { status: 'passed' })
  t.match(await log(run), /ready\nagain\n$/)
  await until(() => second.out() !== '', 'the line')
  t.match(JSON.parse(second.out()), { run, status: 'passed' })
})

void t.test('runner: survives restarts of its server, and logs each line once', async (t) => {
  const { ask, log, ended } = await makeRuns()
  const third = await startInstance(t, database.url)
  const port = Number(new URL(third.url).port)
  const lines = 400
  const file = await script(
    'lines.mjs',
    `for (let n = 0; n < ${lines}; n++) {
       console.log('line ' + n)
       await new Promise((resolve) => setTimeout(resolve, 10))
     }`,
  )
  runner(t, ['--', process.execPath, file], third)
  const run = await ask()
  await until(async () => /line 20\n/.test(await log(run)), 'the first lines', 60_000)
  await third.close()
  const fourth = await startInstance(t, database.url, { port })
  t.match(await ended(run), { status: 'passed' })
  t.strictSame((await log(run, fourth)).split('\n'), [...Array.from({ length: lines }, (_, n) => `line ${n}`), ''])
})

void t.test('runner: refuses to start without a command, and with a bad timeout', async (t) => {
  for (const args of [[], ['--timeout', '0', '--', 'true'], ['--timeout', 'x', '--', 'true']]) {
    const { code } = await runner(t, args).ended
    t.equal(code, 2)
  }
})
