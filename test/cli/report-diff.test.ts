// Diffs of runs that `report` reads from files of public tools: newly failing, fixed, added and removed tests have the tools' names.
// The second file is the first one, edited as the tool would have written it.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { makeJunit } from '../../src/cli/report/junit.ts'
import type { Report } from '../../src/cli/report/results.ts'
import { makeTap } from '../../src/cli/report/tap.ts'
import { alice, makeMission, rafael, startDeck, type Json } from '../support/server.ts'
import { root } from '../support/processes.ts'

const { instance } = await startDeck(t)
const reports = join(root, 'test/reports')

type Expected = Partial<Record<'newly_failing' | 'fixed' | 'still_failing' | 'added' | 'removed' | 'slower', string[]>>

const junit = async (text: string): Promise<Report> => {
  const reader = makeJunit(() => {})
  await reader.read('a file', Readable.from([Buffer.from(text)]))
  return reader.report()
}
const tap = (text: string): Report => {
  const parser = makeTap()
  parser.write(text)
  return parser.end()
}

const compared = async (
  t: Test,
  parse: (text: string) => Report | Promise<Report>,
  before: string,
  edits: [string, string][],
  expected: Expected,
) => {
  const { id } = await makeMission(instance)
  let after = before
  for (const [from, to] of edits) {
    t.ok(after.includes(from), from)
    after = after.replace(from, () => to)
  }
  const runs: string[] = []
  for (const text of [before, after]) {
    const { results } = await parse(text)
    const { json } = await instance.request('POST', `/api/missions/${id}/tests`, rafael, { status: 'failed', results })
    runs.push(String(json['id']))
    if (runs.length === 1)
      await instance.request('POST', `/api/missions/${id}/chat/rafael`, rafael, {
        message: 'Fixed:\n```js\nfix()\n```',
      })
  }
  const { json } = await instance.request('GET', `/api/missions/${id}/tests/${runs[0]}/diff/${runs[1]}`, alice)
  const names = (list: unknown): string[] => (list as { name: string }[]).map(({ name }) => name)
  for (const what of ['newly_failing', 'fixed', 'still_failing', 'added', 'removed', 'slower'] as const)
    t.strictSame(names(json[what]), expected[what] ?? [], what)
  const { messages } = json['between'] as { messages: Json[] }
  t.match(messages, [{ message: /^Fixed/, code_blocks: [{ language: 'js', code: 'fix()\n' }] }])
}

const read = (name: string): Promise<string> => readFile(join(reports, name), 'utf8')

void t.test('report diff: compares two runs of pytest', async (t) => {
  const text = await read('pytest.xml')
  const failure =
    /<testcase classname="tests.test_buttons.TestButtons" name="test_shown\[reply\]"[^]*?<\/testcase>/.exec(
      text,
    )?.[0] ?? ''
  await compared(
    t,
    junit,
    text,
    [
      [failure, '<testcase classname="tests.test_buttons.TestButtons" name="test_shown[reply]" time="0.198" />'],
      [
        'name="test_saves" time="0.004" />',
        'name="test_saves" time="0.300"><failure message="no">trace</failure></testcase>',
      ],
      ['name="test_shown[inline]" time="0.211"', 'name="test_shown[inline]" time="0.911"'],
    ],
    {
      newly_failing: ['tests.test_store > test_saves'],
      fixed: ['tests.test_buttons.TestButtons > test_shown[reply]'],
      still_failing: ['pytest > tests.test_broken'],
      slower: ['tests.test_buttons.TestButtons > test_shown[inline]'],
    },
  )
})

void t.test('report diff: compares two runs of jest-junit', async (t) => {
  const text = await read('jest.xml')
  const failure = /<failure>[^]*?<\/failure>/.exec(text)?.[0] ?? ''
  await compared(
    t,
    junit,
    text,
    [
      [failure, ''],
      ['tests="4" failures="1"', 'tests="4" failures="0"'],
      ['errors="0" failures="1"', 'errors="0" failures="0"'],
      [
        'classname="format escapes &lt;b&gt; 😀" name="format escapes &lt;b&gt; 😀"',
        'classname="format escapes &lt;i&gt; 😀" name="format escapes &lt;i&gt; 😀"',
      ],
    ],
    {
      fixed: ['notifier keeps the order'],
      added: ['format escapes <i> 😀'],
      removed: ['format escapes <b> 😀'],
    },
  )
})

void t.test('report diff: compares two runs of Maven Surefire', async (t) => {
  const text = await read('surefire.xml')
  await compared(
    t,
    junit,
    text,
    [
      ['<testcase name="creates" classname="com.example.deck.MissionTest" time="0.041"/>', ''],
      [
        'name="migrates" classname="com.example.deck.MissionTest" time="0">\n    <skipped message="needs a database"/>',
        'name="migrates" classname="com.example.deck.MissionTest" time="0.1">\n    <error type="java.lang.Error">no</error>',
      ],
    ],
    {
      newly_failing: ['com.example.deck.MissionTest > migrates'],
      still_failing: ['com.example.deck.MissionTest > rejectsPastDeadline', 'com.example.deck.MissionTest > connects'],
      removed: ['com.example.deck.MissionTest > creates'],
    },
  )
})

void t.test("report diff: compares two runs of tap's own output", async (t) => {
  const before =
    'TAP version 14\n# Subtest: test/a.test.ts\n    # Subtest: buttons\n        ok 1 - there\n        not ok 2 - two\n        1..2\n' +
    '    not ok 1 - buttons # time=3ms\n    \n    ok 2 - plain\n    1..2\nnot ok 1 - test/a.test.ts # time=12ms\n1..1\n'
  await compared(
    t,
    tap,
    before,
    [
      ['        not ok 2 - two', '        ok 2 - two'],
      ['    not ok 1 - buttons', '    ok 1 - buttons'],
      ['    ok 2 - plain', '    not ok 2 - plain'],
    ],
    { newly_failing: ['test/a.test.ts > plain'], fixed: ['test/a.test.ts > buttons > two'] },
  )
})
