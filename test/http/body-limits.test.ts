// Request bodies: a subject's bodies share one rate with its sockets. Beyond the rate or the limit in memory they wait unread.
import type { IncomingMessage } from 'node:http'
import { request as ask } from 'node:http'
import t from 'tap'
import { admin, alice, makeMission, rafael, startDeck, until, type Answer, type Instance } from '../support/server.ts'

/** A rate so low that a test only reads the burst. */
const never = { subjectBytesPerSecond: 1, subjectBytesBurst: 300_000 }
const message = (name: string) => ({ message: name, code_blocks: [{ language: null, code: 'x'.repeat(200_000) }] })

/** Returns a list to which later POSTs are added when they reach the server. */
const arrivals = ({ app }: Instance): IncomingMessage[] => {
  const seen: IncomingMessage[] = []
  app.http.server.on('request', (raw: IncomingMessage) => {
    if (raw.method === 'POST') seen.push(raw)
  })
  return seen
}
const messagesIn = async ({ request }: Instance, path: string): Promise<string[]> =>
  ((await request('GET', path, admin)).json['messages'] as { message: string }[]).map(({ message }) => message)

/** Sends a body in chunks, so that its length is not declared. */
const chunked = (url: string, token: string, body: string): Promise<number> =>
  new Promise((resolve, reject) => {
    const sent = ask(
      url,
      { method: 'POST', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' } },
      (response) => {
        response.resume()
        response.once('end', () => resolve(response.statusCode ?? 0))
      },
    )
    sent.once('error', reject)
    sent.write(body.slice(0, 1))
    sent.end(body.slice(1))
  })

await t.test('body limits: a body beyond the rate of its subject waits unread; another subject can post', async (t) => {
  const { instance } = await startDeck(t, { limits: never })
  const { id } = await makeMission(instance)
  const path = `/api/missions/${id}/chat/rafael`
  const seen = arrivals(instance)
  t.equal((await instance.request('POST', path, rafael, message('first'))).status, 201)
  const gone = new AbortController()
  const second = fetch(instance.url + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${rafael}`, 'content-type': 'application/json' },
    body: JSON.stringify(message('second')),
    signal: gone.signal,
  })
  await until(() => seen.length === 2, 'the second request')
  t.equal((await instance.request('POST', path, alice, message('other'))).status, 201)
  t.equal(seen[1]?.readableFlowing, null, 'the second body is not read')
  t.strictSame(await messagesIn(instance, path), ['first', 'other'])
  gone.abort()
  await t.rejects(second)
})

await t.test('body limits: sockets and bodies share a rate, which a new socket does not reset', async (t) => {
  const { instance } = await startDeck(t, { limits: never })
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  const seen = arrivals(instance)
  const socket = await instance.connect(rafael)
  t.match(await socket.ask({ type: 'send', topic, ...message('first') }), { type: 'ok' })
  socket.close()
  await until(() => socket.closed !== undefined, 'the close')
  const second = fetch(`${instance.url}/api/${topic}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${rafael}`, 'content-type': 'application/json' },
    body: JSON.stringify(message('second')),
  })
  await until(() => seen.length === 1, 'the second request')
  t.match(await (await instance.connect(alice)).ask({ type: 'send', topic, message: 'other' }), { type: 'ok' })
  t.equal(seen[0]?.readableFlowing, null, 'the body is not read')
  await instance.close()
  t.match(await (await second).json(), { code: 'unavailable', detail: 'the server is restarting' })
})

await t.test('body limits: all bodies beyond the rate are read eventually', async (t) => {
  const limits = { subjectBytesPerSecond: 1_000_000, subjectBytesBurst: 300_000 }
  const { instance } = await startDeck(t, { limits })
  const { id } = await makeMission(instance)
  const path = `/api/missions/${id}/chat/rafael`
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, n) => instance.request('POST', path, rafael, message(`${n}`))),
  )
  t.strictSame(new Set(answers.map(({ status }) => status)), new Set([201]))
  t.equal((await messagesIn(instance, path)).length, 8)
})

await t.test('body limits: a subject has a limited number of bytes in memory, and further bodies wait', async (t) => {
  const { instance, database } = await startDeck(t, { limits: { bodyBytesAtOnce: 300_000 } })
  const { id } = await makeMission(instance)
  const path = `/api/missions/${id}/tests`
  const run = { status: 'passed', results: ['x'.repeat(200_000)] }
  const seen = arrivals(instance)
  // The lock makes reports of runs of this mission wait.
  const lock = await database.connect()
  await lock.query(`begin; select from missions where id = '${id}' for update`)
  const first = instance.request('POST', path, rafael, run)
  await until(() => seen[0]?.complete === true, 'the first body')
  const second = instance.request('POST', path, rafael, run)
  await until(() => seen.length === 2, 'the second request')
  const { id: other } = await makeMission(instance)
  t.equal((await instance.request('POST', `/api/missions/${other}/chat/rafael`, alice, message('x'))).status, 201)
  t.equal(seen[1]?.readableFlowing, null, 'the second body is not read')
  await lock.query('commit')
  t.strictSame([(await first).status, (await second).status], [201, 201])
})

for (const [name, limit] of [
  ['number', { bodiesWaiting: 2 }],
  ['bytes', { bodyBytesWaiting: 450_000 }],
] as const)
  await t.test(`body limits: the ${name} of waiting bodies are limited, and the next is rate_limited`, async (t) => {
    const { instance } = await startDeck(t, { limits: { ...never, ...limit } })
    const { id } = await makeMission(instance)
    const path = `/api/missions/${id}/chat/rafael`
    const seen = arrivals(instance)
    t.equal((await instance.request('POST', path, rafael, message('first'))).status, 201)
    const gone = new AbortController()
    const post = (n: number) =>
      fetch(instance.url + path, {
        method: 'POST',
        headers: { authorization: `Bearer ${rafael}`, 'content-type': 'application/json' },
        body: JSON.stringify(message(`${n}`)),
        signal: gone.signal,
      }).catch(() => undefined)
    const waiting = [post(1), post(2)]
    await until(() => seen.length === 3, 'the two waiting requests')
    const refused: Answer = await instance.request('POST', path, rafael, message('3'))
    t.match(refused, { status: 429, json: { code: 'rate_limited' } })
    t.ok(Number(refused.headers.get('retry-after')) >= 1)
    t.equal((await instance.request('POST', path, alice, message('other'))).status, 201)
    gone.abort()
    await Promise.all(waiting)
    t.strictSame(await messagesIn(instance, path), ['first', 'other'])
  })

await t.test('body limits: all subjects together have a limit of bytes in memory; more is unavailable', async (t) => {
  const { instance, database } = await startDeck(t, { limits: { bodyBytesOfAll: 300_000 } })
  const { id } = await makeMission(instance)
  const path = `/api/missions/${id}/chat/rafael`
  const seen = arrivals(instance)
  const lock = await database.connect()
  await lock.query('begin; lock table chat_messages in access exclusive mode')
  const first = instance.request('POST', path, rafael, message('first'))
  await until(() => seen[0]?.complete === true, 'the first body')
  const second = await instance.request('POST', path, alice, message('second'))
  t.match(second, { status: 503, json: { code: 'unavailable' } })
  await lock.query('commit')
  t.equal((await first).status, 201)
  t.equal((await instance.request('POST', path, alice, message('second'))).status, 201)
})

await t.test('body limits: a body without a declared length counts by its received bytes', async (t) => {
  // A request reserves 2 MiB. If the rest were not returned, the third body would never be read.
  const limits = { subjectBytesPerSecond: 1, subjectBytesBurst: 5_000_000 }
  const { instance } = await startDeck(t, { limits })
  const { id } = await makeMission(instance)
  const path = `/api/missions/${id}/chat/rafael`
  for (let n = 0; n < 10; n++)
    t.equal(await chunked(instance.url + path, rafael, JSON.stringify({ message: `${n}` })), 201)
  t.equal(await chunked(instance.url + path, rafael, `"${'x'.repeat(2_100_000)}"`), 413)
  t.equal(await chunked(instance.url + path, rafael, '{'), 400)
  t.equal((await messagesIn(instance, path)).length, 10)
})
