// A test run of a mission from TAP: its log grows while the tests run, its results stand at the end.
//   npx tap --reporter=tap | DECK_TOKEN=… MISSION=47 node examples/tap-run.js        (a token of a citizen, or of an admin)
import { connect } from 'mission-deck/client'
import { Parser } from 'tap-parser'

const { DECK_URL: url = 'http://127.0.0.1:3000', DECK_TOKEN: token = '', MISSION: mission = '' } = process.env
const deck = connect({ url, token })
const tests = deck.tests(mission)

const parser = new Parser()
const results = []
const note = (assertion) => results.push({ name: assertion.fullname || assertion.name, ok: assertion.ok, ms: assertion.time })
parser.on('assert', note)
parser.on('child', (child) => child.on('assert', note))

const run = await tests.create({ status: 'running' })
const log = tests.logs(run.id)
for await (const chunk of process.stdin.setEncoding('utf8')) {
  process.stdout.write(chunk)
  parser.write(chunk)
  await log.append(chunk)
}
parser.end()
const { ok, pass, fail, count } = parser.results ?? { ok: false, pass: 0, fail: 0, count: 0 }
await tests.update(run.id, { status: ok ? 'passed' : 'failed', summary: { total: count, passed: pass, failed: fail }, results })
deck.close()
process.exitCode = ok ? 0 : 1
