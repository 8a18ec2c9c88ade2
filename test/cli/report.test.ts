// report: test runs from files of public tools (test/reports), and from the output of tap and node:test, which run here.
// Runs are compared by the names of their tests, so the names must be exact.
import { spawn } from 'node:child_process'
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { makeJunit } from '../../src/cli/report/junit.ts'
import { makeLog } from '../../src/client/run-log.ts'
import { fit, hasFailed, makeUnique, summaryOf, type Report, type Result } from '../../src/cli/report/results.ts'
import { makeTap } from '../../src/cli/report/tap.ts'
import { deck, folder, start } from '../support/cli.ts'
import { alice, makeMission, rafael, secret, startDeck, until, type Json } from '../support/server.ts'
import { collect } from '../support/output.ts'
import { root } from '../support/processes.ts'

const reports = join(root, 'test/reports')
// eslint-disable-next-line @typescript-eslint/require-await
const pieces = async function* (bytes: Buffer, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}
const junit = async (bytes: Buffer | string, size = 1 << 16): Promise<Report & { log: string }> => {
  let log = ''
  const reader = makeJunit((text) => (log += text))
  await reader.read('a file', pieces(Buffer.from(bytes), size))
  return { ...reader.report(), log }
}
const tap = (text: string): Report & { failed: boolean } => {
  const parser = makeTap()
  for (const char of text.match(/[^]{1,7}/gu) ?? []) parser.write(char)
  const report = parser.end()
  return { ...report, failed: hasFailed(report) }
}
const brief = ({ results }: Report): [string, string][] => results.map(({ name, status }) => [name, status])
/** Returns the stdout of a program, with any exit code. */
const output = async (t: Test, args: string[], cwd = reports): Promise<string> => {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(TAP|_TAPJS|NODE)/.test(name)))
  const { out, err, ended } = collect(spawn(process.execPath, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] }))
  await ended
  if (out() === '') t.fail(`no output: ${args.join(' ')}`, { stderr: err() })
  return out()
}
/** Makes a separate project with tap.mjs: tap keeps files in its project, which a second tap there would remove. */
const tapProject = async (): Promise<string> => {
  const project = join(folder, 'tap')
  await mkdir(project)
  await symlink(join(root, 'node_modules'), join(project, 'node_modules'))
  await copyFile(join(reports, 'tap.mjs'), join(project, 'tap.mjs'))
  const { tap } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { tap: { plugin: string[] } }
  await writeFile(join(project, 'package.json'), JSON.stringify({ tap: { plugin: tap.plugin } }))
  return project
}

void t.test('JUnit report: pytest, jest-junit, Surefire and go-junit-report become uniform results', async (t) => {
  const expected: Record<string, { results: [string, string][]; ms: number }> = {
    pytest: {
      ms: 2417,
      results: [
        ['tests.test_buttons.TestButtons > test_shown[inline]', 'passed'],
        ['tests.test_buttons.TestButtons > test_shown[reply]', 'failed'],
        ['tests.test_buttons > test_webhook', 'skipped'],
        ['tests.test_buttons > test_known_bug', 'skipped'],
        ['tests.test_store > test_saves', 'passed'],
        ['pytest > tests.test_broken', 'failed'],
      ],
    },
    jest: {
      ms: 1819,
      results: [
        ['notifier sends a message when a mission changes', 'passed'],
        ['notifier keeps the order', 'failed'],
        ['notifier retries & gives up', 'skipped'],
        ['format escapes <b> 😀', 'passed'],
      ],
    },
    surefire: {
      ms: 1204500,
      results: [
        ['com.example.deck.MissionTest > creates', 'passed'],
        ['com.example.deck.MissionTest > rejectsPastDeadline', 'failed'],
        ['com.example.deck.MissionTest > connects', 'failed'],
        ['com.example.deck.MissionTest > migrates', 'skipped'],
        ['com.example.deck.MissionTest > polls', 'passed'],
      ],
    },
    go: {
      ms: 21,
      results: [
        ['github.com/example/deck/topic > TestParse', 'failed'],
        ['github.com/example/deck/topic > TestParse/chat', 'passed'],
        ['github.com/example/deck/topic > TestFormat', 'passed'],
        ['github.com/example/deck/topic > TestSlow', 'skipped'],
        ['github.com/example/deck/hub > [build failed]', 'failed'],
      ],
    },
  }
  const read: Record<string, Report & { log: string }> = {}
  for (const [tool, { results, ms }] of Object.entries(expected)) {
    const bytes = await readFile(join(reports, `${tool}.xml`))
    const report = await junit(bytes)
    read[tool] = report
    t.strictSame(brief(report), results, tool)
    t.equal(summaryOf(report).duration_ms, ms, `${tool}'s time`)
    t.strictSame(await junit(bytes, 7), report, 'the same for any chunks')
  }
  const one = (tool: string, n: number): Result | undefined => read[tool]?.results[n]
  t.match(one('pytest', 1)?.error, /^AssertionError: assert.*\nself = <tests/s, 'the message, then the trace')
  t.match(one('pytest', 5), { suite: 'pytest', error: /^collection failure\nImportError while/ })
  t.match(one('jest', 1)?.error, /^Error: expect\(received\)/)
  t.match(one('surefire', 1), { duration_ms: 6, error: /^expected: <400> but was: <201>\norg\.opentest4j/ })
  t.equal(one('surefire', 2)?.duration_ms, 1202100, 'thousands with commas')
  t.strictSame(Object.keys(one('surefire', 0) ?? {}), ['name', 'status', 'duration_ms', 'suite'], 'no other members')
  t.equal(
    read['surefire']?.log,
    '--- com.example.deck.MissionTest > rejectsPastDeadline (stdout)\nPOST /missions -> 201\n' +
      '--- com.example.deck.MissionTest > rejectsPastDeadline (stderr)\nWARN \u001b[31mdeadline\u001b[0m is in the past\n',
    'the output of tests is the log, with its colours',
  )
  t.equal(read['go']?.log, '--- github.com/example/deck/topic (stdout)\nseed 42\n')
})

void t.test("TAP report: the output of tap's reporter becomes one result for each assertion", async (t) => {
  const text = await output(
    t,
    [join(root, 'node_modules/.bin/tap'), '--reporter=tap', '--disable-coverage', 'tap.mjs'],
    await tapProject(),
  )
  t.match(text, /^TAP version 14/)
  const report = tap(text)
  const first = report.results[0]?.name.split(' > ')[0] ?? ''
  t.match(first, /tap\.mjs$/)
  t.strictSame(brief(report), [
    [`${first} > buttons > they are there`, 'passed'],
    [`${first} > buttons > there are two`, 'failed'],
    [`${first} > buttons > removed > one by one`, 'passed'],
    [`${first} > webhooks`, 'skipped'],
    [`${first} > threads`, 'skipped'],
    [`${first} > a plain one`, 'passed'],
    [`${first} > a plain one (2)`, 'passed'],
  ])
  t.match(report.results[1], { suite: `${first} > buttons`, file: /tap\.mjs$/, error: /-2\n\+1/ })
  t.ok(report.failed)
})

void t.test('report: node:test output has the same names as TAP and as JUnit', async (t) => {
  const as = (reporter: string) => output(t, ['--test', `--test-reporter=${reporter}`, 'node.mjs'])
  const results = [
    ['topics > are parsed', 'passed'],
    ['topics > of chats > have a citizen', 'failed'],
    ['topics > of chats > are followed', 'skipped'],
    ['plain', 'passed'],
  ]
  const fromTap = tap(await as('tap'))
  const bare = (report: Report) => brief(report).map(([name, status]) => [name.replace(/^.*node\.mjs > /, ''), status])
  t.strictSame(bare(fromTap), results)
  t.ok(fromTap.failed)
  t.match(fromTap.results[1]?.error, /Rafael/)
  const fromXml = await junit(await as('junit'))
  t.strictSame(bare(fromXml), results)
})

void t.test('TAP report: counts as failed when it is cut short, bails out, breaks its plan or is not TAP', (t) => {
  const cases: [text: string, failed: boolean, results: [string, string][]][] = [
    [
      '1..2\nok 1 - a\nok 2 - b\n',
      false,
      [
        ['a', 'passed'],
        ['b', 'passed'],
      ],
    ],
    [
      '1..3\nok 1 - a\n',
      true,
      [
        ['a', 'passed'],
        ['TAP', 'failed'],
      ],
    ],
    [
      'ok 1 - a\nBail out! no database\n',
      true,
      [
        ['a', 'passed'],
        ['TAP', 'failed'],
      ],
    ],
    ['hello\n', true, [['TAP', 'failed']]],
    ['', true, [['TAP', 'failed']]],
    ['1..0 # SKIP nothing to do\n', false, []],
    [
      '1..2\nok 1\nnot ok 2\n',
      true,
      [
        ['#1', 'passed'],
        ['#2', 'failed'],
      ],
    ],
    ['1..1\nnot ok 1 - later # TODO\n', false, [['later', 'skipped']]],
    ['# Subtest: s\n    not ok 1 - x\n    1..1\nnot ok 1 - s # TODO\n1..1\n', false, [['s > x', 'skipped']]],
    [
      '# Subtest: s\n    ok 1 - x\n    1..2\nnot ok 1 - s\n1..1\n',
      true,
      [
        ['s > x', 'passed'],
        ['s', 'failed'],
      ],
    ],
    [
      '# Subtest: s\n    ok 1 - x\n',
      true,
      [
        ['s > x', 'passed'],
        ['TAP', 'failed'],
      ],
    ],
    ['ok 1 - b # time=3ms {\n    ok 1 - x\n    1..1\n}\n1..1\n', false, [['b > x', 'passed']]],
    ['1..0\n', true, [['TAP', 'failed']]],
    ['TAP version 13\n1..0\n# tests 0\n# pass 0\n# fail 0\n', true, [['TAP', 'failed']]],
  ]
  const a: [string, string] = ['a', 'passed']
  const none: [string, string] = ['TAP', 'failed']
  cases.push(
    ['ok 1 - a\n', true, [a, none]],
    ['1..1\nok 1 - a\nok 2 - a\n', true, [a, ['a (2)', 'passed'], none]],
    ['1..2\nok 1 - a\nok 1 - a\n', true, [a, ['a (2)', 'passed'], none]],
    ['1..1\nok 1 - a\n# Subtest: s\n    Bail out! x\n', true, [a, none]],
    ['1..1\nNOT OK 1 - a\n', true, [none]],
    ['1..1\nok 1 - a\n# tests 2\n# pass 1\n# fail 1\n', true, [a, none]],
    ['1..1\nok 1 - a\n# tests 2\n# pass 1\n# fail 0\n# cancelled 1\n', true, [a, none]],
    ['1..1\n# fail 1\nok 1 - a\n# tests 1\n# fail 0\n# cancelled 0\n', false, [a]],
    ['1..1\nnot ok 1 - b\n# tests 1\n# fail 1\n', true, [['b', 'failed']]],
  )
  for (const [text, failed, results] of cases) {
    const report = tap(text)
    t.strictSame([report.failed, brief(report)], [failed, results], JSON.stringify(text))
  }
  t.match(tap('ok 1 - a\nBail out! no database\n').results[1]?.error, /no database/)
  t.end()
})

void t.test('TAP report: numbers in diagnostics keep every digit', (t) => {
  const diagnostics = (indent: string, end = '') =>
    ['---', 'expected: 1234567890123456789', 'actual: 1e-400', 'duration_ms: 2.5', '...']
      .map((line) => `${indent}  ${line}\n`)
      .join('') + end
  const error = 'expected: 1234567890123456789\nactual: 1e-400'
  const flat = tap(`1..1\nnot ok 1 - a\n${diagnostics('')}`)
  t.match(flat.results, [{ name: 'a', duration_ms: 2.5, error }])
  const nested = tap(`# Subtest: s\n    not ok 1 - a\n${diagnostics('    ', '    1..1\n')}not ok 1 - s\n1..1\n`)
  t.match(nested.results, [{ name: 's > a', duration_ms: 2.5, error }])
  const other = tap(
    `1..2\nnot ok 1 - a\n${diagnostics('')}not ok 2 - b\n  ---\n  actual: [1.50, {x: 123456789012345678}]\n  ...\n`,
  )
  t.match(other.results[1]?.error, /123456789012345678/)
  t.end()
})

void t.test('JUnit report: a file that is no JUnit XML is refused, and entities are not expanded', async (t) => {
  const bomb = `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">${'bcdefghij'
    .split('')
    .map((c, i) => `<!ENTITY ${c} "${`&${'abcdefghij'[i]};`.repeat(10)}">`)
    .join('')}]>`
  for (const [what, xml] of [
    ['nothing', ''],
    ['text that is no XML', 'ok 1 - a'],
    ['another root', '<html></html>'],
    ['a file that is cut short', '<testsuite name="a"><testcase name="b">'],
    ['crossed tags', '<testsuite><testcase></testsuite></testcase>'],
    ['an XML bomb', `${bomb}<testsuite><testcase name="&j;"/></testsuite>`],
    ['an entity of a local file', '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><testsuite name="&f;"/>'],
    ['an unknown encoding', '<?xml version="1.0" encoding="klingon"?><testsuite/>'],
  ] as const)
    await t.rejects(junit(xml as string), { code: 'bad_request', detail: /^a file is not JUnit XML: / }, what)
  const latin = Buffer.from(
    '<?xml version="1.0" encoding="ISO-8859-1"?><testsuite name="é"/>'.replace(
      '/>',
      '><testcase name="ü"/></testsuite>',
    ),
    'latin1',
  )
  t.strictSame(brief(await junit(latin)), [['é > ü', 'passed']], 'other encodings are read')
  const utf16 = Buffer.from(
    '\ufeff<?xml version="1.0" encoding="UTF-16"?><testsuite name="é"><testcase name="ü"/></testsuite>',
    'utf16le',
  )
  t.strictSame(brief(await junit(utf16)), [['é > ü', 'passed']])
  const suiteFails =
    '<testsuites><testsuite name="db"><error message="no server"/><testcase name="a"/></testsuite></testsuites>'
  t.match((await junit(suiteFails)).results, [
    { name: 'db', status: 'failed', error: 'no server' },
    { name: 'db > a', status: 'passed' },
  ])
})

void t.test('report: names are unique and repeatable, and errors are shortened to fit into a run', (t) => {
  const unique = makeUnique()
  t.strictSame(['a', 'a', 'a (2)', 'a', 'b'].map(unique), ['a', 'a (2)', 'a (2) (2)', 'a (3)', 'b'])
  const results = (count: number, error: string): Result[] =>
    Array.from({ length: count }, (_, n) => ({ name: `suite > test ${n}`, status: 'failed', error }))
  const few = fit(results(10, 'é'.repeat(1000)))
  t.strictSame([few.shortened, few.results[0]?.error?.length], [false, 1000])
  const many = fit(results(2000, 'é\n'.repeat(1000)))
  t.ok(many.shortened && many.results[0]?.error?.endsWith('more)'))
  t.equal(many.results.length, 2000)
  t.throws(() => fit(results(30_000, 'x')), { code: 'too_large', detail: /30000 tests/ })
  t.end()
})

void t.test('report log: is sent in order, in chunks of whole characters, until the first failure', async (t) => {
  const sent: string[] = []
  const log = makeLog((text) => Promise.resolve(sent.push(text)))
  const text = `x${'😀'.repeat(400_000)}`
  await log.write(text)
  await log.write('end')
  await log.end()
  t.ok(sent.join('') === `${text}end`)
  t.ok(sent.every((piece) => piece.isWellFormed() && piece.length <= 256 * 1024))
  let tries = 0
  const broken = makeLog(() => Promise.reject(new Error(`away ${++tries}`)))
  await t.rejects(async () => {
    await broken.write('a')
    await broken.end()
  }, /away 1/)
  await t.rejects(broken.write('b'), /away 1/)
})

const open = async (t: Test) => {
  const { instance } = await startDeck(t)
  const { id, number } = await makeMission(instance)
  const tests = `/api/missions/${id}/tests`
  return {
    instance,
    id,
    tests,
    mission: String(number),
    env: { DECK_URL: instance.url, DECK_TOKEN: rafael },
    latest: async (): Promise<Json> => (await instance.request('GET', `${tests}/latest`, alice)).json,
    log: async (run: unknown): Promise<string> => (await instance.request('GET', `${tests}/${run}/logs`, alice)).text,
  }
}

void t.test('report: posts a run from files, or completes a requested run', async (t) => {
  const { instance, env, mission, tests, latest, log } = await open(t)
  const files = ['surefire', 'go'].map((name) => join(reports, `${name}.xml`))
  const posted = await deck(t, ['report', mission, '--junit', ...files], env)
  t.match(posted, { code: 0, out: /^run [\w-]{36} failed: 4 passed, 4 failed, 2 skipped in 1204\.5 s\n$/ })
  t.match(posted.err, /MissionTest > connects/)
  const run = await latest()
  t.match(run, { status: 'failed', summary: { passed: 4, failed: 4, skipped: 2, total: 10, duration_ms: 1204521 } })
  t.equal((run['results'] as Json[]).length, 10)
  t.ok((await log(run['id'])).includes('deadline\u001b[0m is in the past\n--- github'))

  const asked = (await instance.request('POST', `${tests}/run`, alice)).json
  const passing = '<testsuite name="a"><testcase name="b" time="0.5"/></testsuite>'
  const json = await deck(
    t,
    ['report', mission, '--junit', '-', '--run', String(asked['id']), '--json', '--fail'],
    env,
    passing,
  )
  t.match(json, { code: 0, err: '' })
  t.strictSame(JSON.parse(json.out), (await instance.request('GET', `${tests}/${asked['id']}`, alice)).json)
  t.match(JSON.parse(json.out), { id: asked['id'], status: 'passed', results: [{ name: 'a > b', duration_ms: 500 }] })
  t.equal((await deck(t, ['report', mission, '--junit', ...files, '--fail'], env)).code, 1, '--fail')
})

void t.test('TAP report: the run and its log are live while the input arrives', async (t) => {
  const { env, mission, latest, log } = await open(t)
  await writeFile(join(folder, 'run.tap'), '1..1\nok 1 - a # time=2.5ms\n')
  t.match(await deck(t, ['report', mission, '--tap', 'run.tap'], env), { code: 0, out: /passed: 1 passed, 0 failed/ })
  t.match(await latest(), { status: 'passed', results: [{ name: 'a', status: 'passed', duration_ms: 2.5 }] })
  const { child, ended } = start(t, ['report', mission, '--tap', '--fail'], env, null)
  child.stdin?.write('TAP version 14\nok 1 - \u001b[32mgréen\u001b[0m\n')
  await until(async () => (await latest())['status'] === 'running', 'the run')
  const { id } = await latest()
  await until(async () => (await log(id)).includes('ok 1'), 'its log while it runs')
  t.equal((await latest())['results'], null)
  child.stdin?.end('not ok 2 - b\n1..2\n')
  t.match(await ended, { code: 1, out: /failed: 1 passed, 1 failed/ })
  t.equal(await log(id), 'TAP version 14\nok 1 - \u001b[32mgréen\u001b[0m\nnot ok 2 - b\n1..2\n')
  t.match(await latest(), { id, status: 'failed', summary: { total: 2 } })
})

void t.test('TAP report: UTF-16, as PowerShell writes it, is read', async (t) => {
  const { env, mission, latest, log } = await open(t)
  const text = '1..2\r\nok 1 - gréen\r\nnot ok 2 - b\r\n'
  await writeFile(join(folder, 'wide.tap'), Buffer.from(`\ufeff${text}`, 'utf16le'))
  t.match(await deck(t, ['report', mission, '--tap', 'wide.tap'], env), { code: 0, out: /failed: 1 passed, 1 failed/ })
  const run = await latest()
  t.match(run['results'], [{ name: 'gréen' }, { name: 'b' }])
  t.equal(await log(run['id']), text)
})

void t.test('report: fails and leaves no run when its options, input or token are wrong', async (t) => {
  const { env, mission, instance, tests } = await open(t)
  const cases: [args: string[], code: number, err: RegExp, env?: Json][] = [
    [['report', mission], 2, /either --junit or --tap/],
    [['report', mission, '--junit', 'a.xml', '--tap', 'b'], 2, /either --junit or --tap/],
    [['report', mission, '--junit', 'none.xml'], 1, /ENOENT/],
    [['report', mission, '--junit', '-'], 1, /stdin is not JUnit XML/],
    [['report', mission, '--tap', '--run', 'x'], 2, /a test run/],
    [['report', '999999', '--tap'], 1, /no such mission/],
    [['report', mission, '--tap'], 1, /this role may not/, { DECK_TOKEN: alice }],
  ]
  for (const [args, code, err, more = {}] of cases)
    t.match(
      await deck(t, args, { ...env, ...(more as NodeJS.ProcessEnv) }, 'hello\n'),
      { code, err, out: '' },
      args.join(' '),
    )
  t.strictSame((await instance.request('GET', tests, alice)).json['test_runs'], [])
  const own = await deck(
    t,
    ['report', mission, '--tap'],
    { DECK_URL: instance.url, JWT_SECRET: secret },
    '1..1\nok 1\n',
  )
  t.match(own, { code: 0, err: /as reporter/ }, "no token is needed with the secret of this folder's server")
})
