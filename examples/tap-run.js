// A test run of a mission from TAP: its log grows while the tests run, its results stand at the end.
// (mission-deck report --tap does the same, and more: docs/cli.md. This is how it works.)
//   npx tap --reporter=tap | DECK_TOKEN=… MISSION=47 node examples/tap-run.js        (a token of a citizen, or of an admin)
import { connect } from 'mission-deck/client'
import { Parser } from 'tap-parser'

const { DECK_URL: url = 'http://127.0.0.1:3000', DECK_TOKEN: token = '', MISSION: mission = '' } = process.env
const deck = connect({ url, token })
const tests = deck.tests(mission)

const results = []
/** Notes the assertions of a parser and of its subtests, whose own line only repeats them. */
const note = (parser) => {
  const subtests = new Set()
  parser.on('child', (child) => {
    subtests.add(child.name)
    note(child)
  })
  parser.on('assert', ({ name, fullname, ok, skip, todo, time }) => {
    const status = skip || todo ? 'skipped' : ok ? 'passed' : 'failed'
    if (!subtests.has(name)) results.push({ name: fullname || name, status, duration_ms: time ?? undefined })
  })
}
const parser = new Parser()
note(parser)

const run = await tests.create({ status: 'running' })
const log = tests.logs(run.id)
for await (const chunk of process.stdin.setEncoding('utf8')) {
  process.stdout.write(chunk)
  parser.write(chunk)
  await log.append(chunk)
}
parser.end()
const count = (status) => results.filter((result) => result.status === status).length
const status = parser.results?.ok ? 'passed' : 'failed'
const summary = {
  total: results.length,
  passed: count('passed'),
  failed: count('failed'),
  skipped: count('skipped'),
}
await tests.update(run.id, { status, summary, results })
deck.close()
process.exitCode = status === 'passed' ? 0 : 1
