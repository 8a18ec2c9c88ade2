// The Python client at full size: 10,000 events (EVENTS) through a proxy that cuts every second, and 500 questions (QUESTIONS) to two
// workers under random kills of workers and servers, one every KILL_EVERY ms. Run:
//   npx tap --timeout=1800 --reporter=tap test/long/python.ts
import t from 'tap'
import { killWorkers } from '../faults/kills.ts'
import { startPython, withoutPython } from '../support/python.ts'
import { pythonWorker } from '../support/python-worker.ts'
import { secret, startDeck } from '../support/server.ts'

t.setTimeout(1_800_000)
const skip = withoutPython
const events = process.env['EVENTS'] ?? '10000'
const questions = Number(process.env['QUESTIONS'] ?? 500)
const killEvery = Number(process.env['KILL_EVERY'] ?? 1500)

void t.test(`python: ${events} events through cuts, each once and in order`, { skip }, async (t) => {
  const { instance } = await startDeck(t)
  const name = 'tests.test_follow.FollowTest.test_each_event_once_and_in_order_through_cuts'
  const run = startPython(t, ['-m', 'unittest', name], { DECK_URL: instance.url, JWT_SECRET: secret, EVENTS: events })
  t.equal(await run.ended, 0, run.err())
  t.comment(`${run.out().trim()}; ${/Ran 1 test in .*/.exec(run.err())?.[0]}`)
})

void t.test('python: another worker continues with the answer of people', { skip }, async (t) => {
  const { instance } = await startDeck(t)
  const name = 'tests.test_answer.AnswerTest.test_another_worker_goes_on_with_the_answer_of_people'
  const run = startPython(t, ['-m', 'unittest', name], { DECK_URL: instance.url, JWT_SECRET: secret, LONG: '1' })
  t.equal(await run.ended, 0, run.err())
})

void t.test(`python: two workers under random kills answer ${questions} questions once each`, { skip }, (t) =>
  killWorkers(t, { questions, ...pythonWorker, killEvery }),
)
