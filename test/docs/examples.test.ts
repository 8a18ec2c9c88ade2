// The examples run as processes, with the built client, against a server with the seed missions.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { seedFile } from '../../src/database/postgres/migrate.ts'
import { admin, rafael, startDeck, token, until, type Json } from '../support/server.ts'
import { collect } from '../support/output.ts'
import { root } from '../support/processes.ts'

const { instance, database } = await startDeck(t)
await database.query(await readFile(seedFile, 'utf8'))
const user = await token({ sub: 'person1@scopelock.ai', role: 'user' })
const chat = 'missions/47/chat/rafael'

/** Starts an example; it is killed at the end of the test. */
const run = (
  t: Test,
  name: string,
  env: NodeJS.ProcessEnv,
  program = process.execPath,
): { child: ChildProcess; ended: Promise<number | null> } => {
  const child = spawn(program, [`examples/${name}`], {
    cwd: root,
    env: { PATH: process.env['PATH'], DECK_URL: instance.url, ...env },
    stdio: ['pipe', 'ignore', 'inherit'],
  })
  const { ended } = collect(child)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, ended }
}
/** Sends a message in mission 47. Returns the reply, and the deltas of its draft. */
const ask = async (message: string): Promise<{ reply: Json; grew: string[] }> => {
  const client = await instance.connect(user)
  t.match(await client.ask({ type: 'subscribe', topic: chat }), { type: 'ok' })
  const { seq } = await client.ask({ type: 'send', topic: chat, message })
  const frame = await client.frame(
    ({ type, data }) =>
      type === 'event' && (data as Json)['sender'] === 'citizen' && Number((data as Json)['seq']) > Number(seq),
    'the reply',
  )
  client.close()
  const deltas = client.frames.filter(({ type }) => type === 'delta')
  return { reply: frame['data'] as Json, grew: deltas.map(({ delta }) => String(delta)) }
}
/** Waits until the citizen has an inbox. */
const works = (citizen: string): Promise<void> =>
  until(
    async () => (await database.query('select from deck.inboxes where citizen = $1', [citizen])).length > 0,
    `${citizen} to work`,
  )

void t.test('echo example: the citizen answers without a network, with a code block, a word at a time', async (t) => {
  run(t, 'echo.js', { DECK_TOKEN: rafael })
  await works('rafael')
  const { reply, grew } = await ask('Does it\nrun?')
  t.match(reply, { author: 'rafael', message: /^You asked "Does it\\nrun\?"\./, code_blocks: [{ language: 'js' }] })
  t.match(reply['activity'], [{ line: 'Reads the question', status: 'done' }])
  t.equal((reply['code_blocks'] as Json[])[0]?.['code'], 'console.log("Does it\\nrun?")\n')
  t.ok(grew.length > 2, `the draft grew in ${grew.length} steps`)
})

const python = ['python3', 'python'].find((name) => {
  const { stdout } = spawnSync(name, ['--version'], { encoding: 'utf8' })
  return /^Python 3/.test(stdout)
})
void t.test(
  'echo example in Python: the citizen answers over HTTP, a word at a time, also what was asked before it ran',
  { skip: python === undefined && 'Python 3 is not installed' },
  async (t) => {
    const citizen = 'maya'
    const topic = `missions/47/chat/${citizen}`
    const follower = await instance.connect(user)
    t.match(await follower.ask({ type: 'subscribe', topic }), { type: 'ok' })
    const { seq } = await follower.ask({ type: 'send', topic, message: 'Läuft "es" 🎛?' })
    run(t, 'echo.py', { DECK_TOKEN: await token({ sub: citizen, role: 'citizen' }), CITIZEN: citizen }, python)
    const replyTo = (n: number) =>
      follower.frame(
        ({ type, data }) =>
          type === 'event' && (data as Json)['author'] === citizen && Number((data as Json)['seq']) > n,
        'the reply',
      )
    t.match((await replyTo(Number(seq)))['data'], {
      message: 'You asked "Läuft \\"es\\" 🎛?". That is a good question.',
      sender: 'citizen',
    })
    const next = await follower.ask({ type: 'send', topic, message: 'And now?' })
    t.match((await replyTo(Number(next['seq'])))['data'], {
      message: 'You asked "And now?". That is a good question.',
      in_reply_to: (next['message'] as Json)['id'],
    })
    // (Deltas that are sent within 40 ms are joined.)
    const keys = new Set(follower.frames.filter(({ type }) => type === 'delta').map(({ key }) => key))
    t.equal(keys.size, 2, 'both replies were shown as they were written')
  },
)

void t.test('openai example: the citizen streams from the endpoint and passes the history on', async (t) => {
  const asked: Json[] = []
  const endpoint = createServer((request, response) => void complete(request).then((body) => response.end(body)))
  const complete = async (request: IncomingMessage): Promise<string> => {
    const parts: string[] = []
    for await (const part of request.setEncoding('utf8')) parts.push(String(part))
    asked.push({ path: request.url, key: request.headers.authorization, ...(JSON.parse(parts.join('')) as Json) })
    const words = ['Use ', 'an ', 'InlineKeyboard 🎛️']
    const chunks = [
      ...words.map((content) => ({ choices: [{ delta: { content } }] })),
      { choices: [], usage: { total_tokens: 12 } },
    ]
    return [...chunks.map((chunk) => JSON.stringify(chunk)), '[DONE]'].map((data) => `data: ${data}\n\n`).join('')
  }
  endpoint.listen(0, '127.0.0.1')
  await once(endpoint, 'listening')
  t.teardown(() => endpoint.close())
  const { port } = endpoint.address() as AddressInfo
  run(t, 'openai.js', {
    DECK_TOKEN: await token({ sub: 'sofia', role: 'citizen' }),
    CITIZEN: 'sofia',
    OPENAI_BASE_URL: `http://127.0.0.1:${port}/v1`,
    OPENAI_API_KEY: 'k',
    MODEL: 'm',
  })
  await works('sofia')
  const topic = 'missions/47/chat/sofia'
  const client = await instance.connect(admin)
  t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
  await client.ask({ type: 'send', topic, message: 'Hi', sender: 'citizen' })
  await client.ask({ type: 'send', topic, message: 'How?' })
  const { data } = await client.frame(
    ({ type, data }) => type === 'event' && (data as Json)['author'] === 'sofia',
    'the reply',
  )
  t.match(data, {
    message: 'Use an InlineKeyboard 🎛️',
    sender: 'citizen',
    activity: [{ line: 'Asks m', status: 'done' }],
    usage: { total_tokens: 12 },
  })
  t.match(asked, [{ path: '/v1/chat/completions', key: 'Bearer k', model: 'm', stream: true }])
  t.strictSame((asked[0]?.['messages'] as Json[]).slice(-2), [
    { role: 'assistant', content: 'Hi' },
    { role: 'user', content: 'How?' },
  ])
})

void t.test('tap-run example: reports a test run from TAP, with its log and results', async (t) => {
  const { child, ended } = run(t, 'tap-run.js', { DECK_TOKEN: rafael, MISSION: '47' })
  const tap = `TAP version 14
# Subtest: buttons
    ok 1 - they are there
    not ok 2 - they can be removed
    1..2
not ok 1 - buttons # time=12ms
ok 2 - a file
1..2
`
  child.stdin?.end(tap)
  t.equal(await ended, 1, 'the exit code of a failed run')
  const { json } = await instance.request('GET', '/api/missions/47/tests/latest', user)
  t.match(json, { status: 'failed', summary: { passed: 2, failed: 1 } })
  t.match(json['results'], [
    { name: 'buttons > they are there', status: 'passed' },
    { name: 'buttons > they can be removed', status: 'failed' },
    { name: 'a file', status: 'passed' },
  ])
  const log = await instance.request('GET', `/api/missions/47/tests/${String(json['id'])}/logs`, user)
  t.equal(log.text, tap)
})
