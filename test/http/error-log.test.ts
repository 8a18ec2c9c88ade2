// The log: the error_id of an internal error leads to its log line, which names the request or the socket.
// Lines are JSON; in a terminal they are readable text.
import { execFileSync, spawn } from 'node:child_process'
import t from 'tap'
import { freshDatabase } from '../support/database.ts'
import { admin, alice, leak, makeMission, startInstance, until, type Json } from '../support/server.ts'
import { collect } from '../support/output.ts'
import { root, spawnServer } from '../support/processes.ts'

type Line = Json & { level: number; msg: string }
const database = await freshDatabase(t, true)
const lines: Line[] = []
const instance = await startInstance(t, database.url, { logLevel: 'debug' }, (line) =>
  lines.push(JSON.parse(line) as Line),
)
const found = (members: Json): Line | undefined =>
  lines.find((line) => Object.entries(members).every(([name, value]) => line[name] === value))
const { id } = await makeMission(instance)
const topic = `missions/${id}/chat/rafael`

void t.test(
  'error log: an internal error has the same error_id in the answer and in the log, with its request or socket',
  async (t) => {
    // An unexpected fault: the insert of a message raises an error that the server has no code for.
    await database.query(`create function deck.broken() returns trigger language plpgsql as $$
    begin raise exception 'the disk of somebody is on fire' using errcode = 'XX000'; end $$`)
    await database.query(`create trigger broken before insert on chat_messages execute function deck.broken()`)
    const client = await instance.connect(alice)
    const welcome = await client.frame(({ type }) => type === 'welcome')
    const answered = await client.ask({ type: 'send', topic, message: 'hello' })
    t.match(answered, {
      type: 'error',
      code: 'internal',
      detail: 'something went wrong on the server',
      error_id: /^[0-9a-f-]{36}$/,
    })
    const ofSocket = found({ error_id: answered['error_id'] })
    t.match(ofSocket, { level: 50, socket: welcome['session'], err: { message: /on fire/ } }, 'the log has the cause')

    const { status, json } = await instance.request('POST', `/api/${topic}`, alice, { message: 'hello' })
    t.equal(status, 500)
    t.match(json, { code: 'internal', error_id: /^[0-9a-f-]{36}$/ })
    t.not(json['error_id'], answered['error_id'])
    const ofRequest = found({ error_id: json['error_id'] })
    t.match(ofRequest, { level: 50, reqId: /^[0-9a-f-]{36}$/, err: { message: /on fire/ } })
    t.notMatch(JSON.stringify([answered, json]), /fire/, 'no client receives the cause')
    await until(() => found({ msg: 'request', reqId: ofRequest?.['reqId'], status: 500 }) !== undefined, 'the request')
    await database.query('drop trigger broken on chat_messages')
    t.equal((await instance.request('POST', `/api/${topic}`, alice, { message: 'hello' })).status, 201)

    client.close()
    await until(() => found({ msg: 'a socket closed', socket: welcome['session'] }) !== undefined, 'the close')
    t.ok(found({ msg: 'a socket opened', socket: welcome['session'] }))
  },
)

void t.test('error log: the line of a cut event stream has the ID of its request', async (t) => {
  const hasty = await startInstance(t, database.url, { limits: { silence: 500 } }, (line) =>
    lines.push(JSON.parse(line) as Line),
  )
  const other = await makeMission(hasty)
  const chat = `/api/missions/${other.id}/chat/rafael`
  const response = await fetch(hasty.url + chat, {
    headers: { authorization: `Bearer ${admin}`, accept: 'text/event-stream' },
  })
  t.equal(response.status, 200)
  // The client of the stream reads nothing.
  const text = 'x'.repeat(10_000)
  const cut = (): boolean => found({ msg: 'an event stream was reset' }) !== undefined
  while (!cut())
    await Promise.all(Array.from({ length: 100 }, () => hasty.request('POST', chat, alice, { message: text })))
  t.match(found({ msg: 'an event stream was reset' }), { why: /stalled|too slow/, reqId: /^[0-9a-f-]{36}$/ })
  await response.body?.cancel().catch(() => {})
})

void t.test('log format: JSON by default, readable text in a terminal, JSON in production even there', async (t) => {
  const server = await spawnServer(t, { DATABASE_URL: database.url, LOG_LEVEL: 'info' })
  const line = /^\{"level":30,"time":\d+,.*"msg":"Server listening/m
  // stdout and stderr are separate pipes: the line may arrive after the first output.
  await until(() => line.test(server.output()), 'a line of JSON')
  try {
    execFileSync('script', ['--version'])
  } catch {
    return t.comment('skipped: script(1), which provides a terminal, is not installed')
  }
  const seen = async (more: NodeJS.ProcessEnv, wanted: RegExp): Promise<string> => {
    const env = {
      PATH: process.env['PATH'],
      DATABASE_URL: database.url,
      JWT_SECRET: 'x'.repeat(40),
      PORT: '0',
      ...more,
    }
    const child = spawn('script', ['-qefc', `exec ${process.execPath} dist/main.js`, '/dev/null'], { cwd: root, env })
    const { out, ended } = collect(child)
    // When script(1) is ended, it drops output that it has not read.
    await until(() => /Mission Deck is at/.test(out()) && wanted.test(out()), 'the server and its log')
    child.kill('SIGTERM')
    await ended
    if (leak.test(out())) t.fail('a secret in the output')
    return out()
  }
  const words = await seen({ LOG_LEVEL: 'info' }, /\d\d:\d\d:\d\d\.\d{3}.*INFO.*Server listening/)
  t.notMatch(words, /"level"/)
  t.match(
    await seen({ LOG_LEVEL: 'info', NODE_ENV: 'production' }, /"level":30/),
    /"level":30/,
    'JSON in production, in a terminal as well',
  )
})
