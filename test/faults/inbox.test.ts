// 50 questions, three workers over HTTP, kills of workers and servers; test/long/workers.ts is the same with 1,000.
import t from 'tap'
import { httpWorker } from './http-worker.ts'
import { killWorkers } from './kills.ts'

t.setTimeout(300_000)

void t.test('inbox over HTTP: three workers under random kills answer 50 questions once each', (t) =>
  killWorkers(t, { questions: 50, script: httpWorker, killEvery: 1000, most: 8, pause: 120 }),
)
