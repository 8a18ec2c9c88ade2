// The server process: SIGTERM under load loses no acknowledged message, kill -9 does not damage the embedded database,
// and a second server can use the same folder. npm passes the signal on. A configuration error is one sentence.
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { freshDatabase } from '../support/database.ts'
import { admin, alice, bob, closed, door, makeMission, until, type Client, type Door } from '../support/server.ts'
import { root, spawnServer } from '../support/processes.ts'

/** Sends messages until the socket closes. Returns the messages that were acknowledged so far. */
const sendOn = (client: Client, topic: string): { acknowledged: string[]; done: Promise<void> } => {
  const acknowledged: string[] = []
  const done = (async () => {
    for (let n = 0; !client.closed; n++) {
      const message = `message ${n}`
      const answer = await client.ask({ type: 'send', topic, message }).catch(() => undefined)
      if (answer?.['type'] === 'ok') acknowledged.push(message)
    }
  })()
  return { acknowledged, done }
}

const history = async (deck: Door, mission: string, citizen: string): Promise<string[]> => {
  const found: string[] = []
  for (let after = 0; ;) {
    const { json } = await deck.request(
      'GET',
      `/api/missions/${mission}/chat/${citizen}?limit=500&after=${after}`,
      admin,
    )
    const messages = json['messages'] as { message: string; seq: number }[]
    found.push(...messages.map(({ message }) => message))
    after = messages.at(-1)?.seq ?? after
    if (!json['has_more']) return found
  }
}

const folder = async (t: Test): Promise<string> => {
  const made = await mkdtemp(join(tmpdir(), 'mission-deck-'))
  t.teardown(() => rm(made, { recursive: true, force: true }))
  return made
}

void t.test(
  'server: SIGTERM under load sends goodbye and 1012, exits with 0, and keeps every acknowledged message',
  async (t) => {
    const database = await freshDatabase(t)
    const server = await spawnServer(t, { DATABASE_URL: database.url })
    const deck = door(t, server.url)
    const { id } = await makeMission(deck)
    const citizens = ['emma', 'inna', 'rafael', 'sofia', 'maya']
    const clients = await Promise.all(citizens.flatMap(() => [deck.connect(alice), deck.connect(alice)]))
    const senders = clients.map((client, n) => sendOn(client, `missions/${id}/chat/${citizens[n % 5]}`))
    await until(() => senders.every(({ acknowledged }) => acknowledged.length > 20), 'the load')
    server.process.kill('SIGTERM')
    t.equal(await server.exited(), 0)
    await Promise.all(senders.map(({ done }) => done))
    for (const client of clients) {
      t.equal(client.closed?.code, 1012)
      t.ok(client.frames.some((frame) => frame['type'] === 'goodbye'))
    }
    const again = door(t, (await spawnServer(t, { DATABASE_URL: database.url })).url)
    for (const [n, citizen] of citizens.entries()) {
      const kept = new Map<string, number>()
      for (const message of await history(again, id, citizen)) kept.set(message, (kept.get(message) ?? 0) + 1)
      const expected = [...(senders[n]?.acknowledged ?? []), ...(senders[n + 5]?.acknowledged ?? [])]
      t.ok(expected.length > 40)
      for (const message of expected) if (!kept.has(message)) t.fail(`${citizen} lost ${message}`)
    }
  },
)

void t.test('embedded: survives a kill -9 of the server, and a second server can use the same folder', async (t) => {
  const env = { DATA_DIR: await folder(t), JWT_SECRET: '' }
  const tokenOf = (output: string): string => /ADMIN=(\S+)\n/.exec(output)?.[1] ?? ''
  const first = await spawnServer(t, env)
  await until(() => tokenOf(first.output()) !== '', 'the greeting')
  const token = tokenOf(first.output())
  const posted = await door(t, first.url).request('POST', '/api/missions/47/chat/rafael', token, { message: 'kept' })
  t.equal(posted.status, 201)
  first.process.kill('SIGKILL')
  await first.exited()

  const [second, third] = await Promise.all([spawnServer(t, env), spawnServer(t, env)])
  const watcher = await door(t, third.url).connect(token)
  await watcher.ask({ type: 'subscribe', topic: 'missions/47/chat/rafael', after: 0 })
  await door(t, second.url).request('POST', '/api/missions/47/chat/rafael', token, { message: 'by the second' })
  await until(() => watcher.events(String(watcher.frames[1]?.['topic'])).length === 4, 'both messages')
  t.match(watcher.frames.map((frame) => frame['data']).filter(Boolean), [
    {},
    {},
    { message: 'kept' },
    { message: 'by the second' },
  ])

  second.process.kill('SIGTERM')
  t.equal(await second.exited(), 0)
  t.equal((await door(t, third.url).request('GET', '/readyz')).status, 200, 'the third server keeps running')
  third.process.kill('SIGTERM')
  t.equal(await third.exited(), 0)
})

void t.test('npm start: passes SIGTERM on and exits with 0', async (t) => {
  const env = { DATA_DIR: await folder(t), JWT_SECRET: '' }
  const server = await spawnServer(t, env, ['npm', 'start'])
  await until(() => server.output().includes('psql "'), 'the whole greeting')
  t.match(server.output(), /ADMIN=\S+\n\s+TOKEN=\S+/)
  t.match(server.output(), new RegExp(`${server.url}/#token=\\S+\n`), 'a link that signs in')
  let page = ''
  await until(async () => /src="\/assets\//.test((page = await (await fetch(server.url)).text())), 'the page')
  const script = await fetch(server.url + (/src="(\/assets\/[^"]+\.js)"/.exec(page)?.[1] ?? '/none'))
  t.equal(script.status, 200, 'the page is built')
  t.match(script.headers.get('cache-control'), /immutable/)
  server.process.kill('SIGTERM')
  t.equal(await server.exited(), 0)
  await t.rejects(fetch(`${server.url}/healthz`), 'the server stopped listening')
})

void t.test('server: a configuration error is one sentence without a stack, and exit code 1', async (t) => {
  const mistakes = [
    [{ PORT: 'many' }, /did not start: .*PORT/],
    [{ NODE_ENV: 'production', JWT_SECRET: '' }, /did not start: JWT_SECRET is required/],
    [{ NODE_ENV: 'production', RATE_LIMITS: 'on' }, /did not start: DATABASE_URL is required/],
    [{ NODE_ENV: 'production', RATE_LIMITS: 'off' }, /did not start: RATE_LIMITS=off is for benchmarks and tests/],
    [
      { DATABASE_URL: 'postgres://nobody:secret@127.0.0.1:1/none', START_PATIENCE: '0' },
      /did not start: .*ECONNREFUSED/,
    ],
  ] as const
  const runs = mistakes.map(async ([env, sentence]) => {
    const failed = await spawnServer(t, env).catch((error: Error) => error.message)
    t.match(failed, sentence)
    t.notMatch(failed, /\n\s+at |secret/)
  })
  await Promise.all(runs)
})

void t.test('deck revoke: shuts a subject out on every instance, until deck unrevoke', async (t) => {
  const { url, query } = await freshDatabase(t)
  const servers = await Promise.all([1, 2].map(() => spawnServer(t, { DATABASE_URL: url })))
  const doors = servers.map((server) => door(t, server.url))
  const deck = async (...args: string[]): Promise<string> => {
    const env = { PATH: process.env['PATH'], DATABASE_URL: url }
    return (await promisify(execFile)(process.execPath, [join(root, 'dist/cli/index.js'), ...args], { env })).stdout
  }
  const clients = await Promise.all(doors.map((at) => at.connect(alice)))
  const other = await doors[0]?.connect(bob)
  t.equal(await deck('revoke', 'alice'), 'alice is revoked\n')
  for (const client of clients) t.equal(await closed(client), 4401)
  for (const at of doors) t.equal((await at.request('GET', '/api/missions', alice)).status, 401)
  t.match(await other?.ask({ type: 'ping' }), { type: 'ok' })
  t.equal(await deck('revoke', 'alice'), 'alice was revoked already\n')
  t.match(await deck('revoked'), /^\S+ {2}alice {2}\(by .+@.+\)\n$/)
  t.equal(await deck('unrevoke', 'alice'), 'alice is no longer revoked\n')
  for (const at of doors)
    await until(async () => (await at.request('GET', '/api/missions', alice)).status === 200, 'to be let in again')
  const rows = await query('select action from deck.audit order by id')
  t.strictSame(rows, [{ action: 'revoke' }, { action: 'unrevoke' }])
})
