// The examples run as processes, with the built client, against a server with the seed missions.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { seedFile } from '../../src/database/postgres/migrate.ts'
import { admin, rafael, secret, startDeck, token, until, type Json } from '../support/server.ts'
import { collect } from '../support/output.ts'
import { client, python as withHttpx, withoutPython } from '../support/python.ts'
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
    env: {
      PATH: process.env['PATH'],
      PYTHONPATH: client,
      PYTHONDONTWRITEBYTECODE: '1',
      DECK_URL: instance.url,
      ...env,
    },
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

/** An OpenAI-compatible endpoint, and what it was asked. */
const startEndpoint = async (t: Test): Promise<{ url: string; asked: Json[] }> => {
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
  return { url: `http://127.0.0.1:${port}/v1`, asked }
}
for (const [name, citizen, program, skip] of [
  ['openai.js', 'sofia', process.execPath, false],
  ['openai_agent.py', 'inna', withHttpx, withoutPython],
] as const)
  void t.test(
    `${name} example: the citizen streams from the endpoint and passes the history on`,
    { skip },
    async (t) => {
      const { url, asked } = await startEndpoint(t)
      const env = { OPENAI_BASE_URL: url, OPENAI_API_KEY: 'k', MODEL: 'm' }
      run(t, name, { DECK_TOKEN: await token({ sub: citizen, role: 'citizen' }), CITIZEN: citizen, ...env }, program)
      await works(citizen)
      const topic = `missions/47/chat/${citizen}`
      const client = await instance.connect(admin)
      t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
      await client.ask({ type: 'send', topic, message: 'Hi', sender: 'citizen' })
      await client.ask({ type: 'send', topic, message: 'How?' })
      const { data } = await client.frame(
        ({ type, data }) => type === 'event' && (data as Json)['author'] === citizen,
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
    },
  )

void t.test(
  'agent example in Python: shows its steps, and asks people before a risky one',
  { skip: withoutPython },
  async (t) => {
    const citizen = 'emma'
    const env = { DECK_TOKEN: await token({ sub: citizen, role: 'citizen' }), CITIZEN: citizen }
    const { child } = run(t, 'agent.py', env, withHttpx)
    await works(citizen)
    const topic = `missions/47/chat/${citizen}`
    const client = await instance.connect(user)
    for (const each of [topic, 'missions/47/requests'])
      t.match(await client.ask({ type: 'subscribe', topic: each }), { type: 'ok' })
    const replyTo = async (message: string, answer?: boolean): Promise<Json> => {
      const sent = (await client.ask({ type: 'send', topic, message }))['message'] as Json
      if (answer !== undefined) {
        const asked = await client.frame(
          ({ type, event }) => type === 'event' && event === 'request.created',
          'the request',
        )
        const { id, title, task } = asked['data'] as Json
        t.strictSame([title, task], [`Deploy ${mission.title}?`, sent['id']])
        const answered = await instance.request('POST', `/api/missions/47/requests/${String(id)}/answer`, user, {
          answer,
        })
        t.equal(answered.status, 200)
      }
      const frame = await client.frame(
        ({ type, data }) => type === 'event' && (data as Json)['in_reply_to'] === sent['id'],
        'the reply',
      )
      return frame['data'] as Json
    }
    const mission = (await instance.request('GET', '/api/missions/47', user)).json as { title: string }
    const lines = (reply: Json): unknown[] => (reply['activity'] as Json[]).map(({ line, status }) => [line, status])
    const first = await replyTo('How far is it?')
    t.match(first['message'], /has \d+ open items\.\s*$/)
    t.strictSame(lines(first), [
      ['Plans', 'done'],
      ['Looks into the mission', 'done'],
      ['Writes the answer', 'done'],
    ])
    const second = await replyTo('Deploy it', false)
    t.match(second['message'], /I do not deploy it\.\s*$/)
    t.strictSame(lines(second)[2], ['Asks before the deployment', 'done'])
    child.kill('SIGTERM')
    await until(() => child.exitCode !== null, 'the agent to stop')
    t.equal(child.exitCode, 0)
  },
)

for (const [name, start, skip] of [
  ['backend.js', process.execPath, false],
  ['backend.py', python, python === undefined && 'Python 3 is not installed'],
] as const)
  void t.test(
    `${name} example: its users sign in there, and the deck takes the tokens that it signs`,
    { skip },
    async (t) => {
      const child = spawn(start ?? '', [`examples/${name}`], {
        cwd: root,
        env: { PATH: process.env['PATH'], JWT_SECRET: secret, PORT: '0' },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const { out, ended } = collect(child)
      t.teardown(async () => {
        child.kill('SIGKILL')
        await ended
      })
      await until(() => out().includes('\n'), 'the back end')
      const url = out().trim()
      const signIn = (body: string): Promise<Response> => fetch(`${url}/sign-in`, { method: 'POST', body })
      for (const [body, status] of [
        ['{"user":"ann@example.com","password":"wrong"}', 401],
        ['{"user":"bob@example.com","password":"correct horse"}', 401],
        ['no JSON', 400],
        ['null', 400],
      ] as const)
        t.equal((await signIn(body)).status, status, body)
      t.equal((await fetch(`${url}/deck-token`)).status, 401)
      const signedIn = await signIn('{"user":"ann@example.com","password":"correct horse"}')
      t.equal(signedIn.status, 204)
      const [cookie = ''] = (signedIn.headers.get('set-cookie') ?? '').split(';')
      const deckToken = await (await fetch(`${url}/deck-token`, { headers: { cookie } })).text()
      const { status, json } = await instance.request('GET', '/api/missions', deckToken)
      t.equal(status, 200)
      t.strictSame(
        (json['missions'] as Json[]).map(({ number }) => number),
        [47],
        'the missions of the user, and no other',
      )
      const sent = await instance.request('POST', '/api/missions/47/chat/rafael', deckToken, { message: 'Hi' })
      t.match(sent.json, { author: 'ann@example.com', sender: 'user' })
      child.kill('SIGTERM')
      await ended
    },
  )

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
