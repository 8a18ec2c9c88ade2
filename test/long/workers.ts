// 1,000 questions (QUESTIONS) to workers by the client, over sockets, and to workers over HTTP (DOOR: one of socket, HTTP), under random kills
// of workers and servers, one every second (KILL_EVERY, ms). A busy machine, on which a server takes longer to start, needs more.
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { killWorkers } from '../faults/kills.ts'
import { httpWorker } from '../faults/http-worker.ts'
import { buildClient } from '../support/client-bundle.ts'

t.setTimeout(1_800_000)
const questions = Number(process.env['QUESTIONS'] ?? 1000)

const killEvery = Number(process.env['KILL_EVERY'] ?? 1000)

const socketWorker = `
  const { connect } = await import(${JSON.stringify(pathToFileURL(buildClient()).href)})
  const deck = connect({ url: process.env.URL, token: process.env.TOKEN })
  deck.on('error', (error) => console.log(JSON.stringify({ error: String(error) })))
  await deck.citizen('rafael').answer(async (message, reply) => {
    console.log(JSON.stringify({ task: message.id, attempt: reply.attempt }))
    for (const word of ['re: ', message.message, ' ', '🎛️']) {
      reply.write(word)
      await new Promise((resolve) => setTimeout(resolve, 10 + Math.random() * 40))
    }
  })`

for (const [door, script] of [
  ['socket', socketWorker],
  ['HTTP', httpWorker],
])
  if (!process.env['DOOR'] || process.env['DOOR'] === door)
    await t.test(`inbox by ${door}: three workers under random kills answer ${questions} questions once each`, (t) =>
      killWorkers(t, { questions, script: script ?? '', killEvery }),
    )
