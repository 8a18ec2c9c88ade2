// The socket: its upgrade, its frames, its refusals and its closes (contract, section 5).
// Delivery is tested in test/live/delivery.test.ts and two-instances.test.ts.
import { randomUUID } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import {
  admin,
  alice,
  bob,
  closed,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  token,
  until,
  type Client,
  type Instance,
  type Json,
} from '../support/server.ts'

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/

/** Opens a raw socket. Returns its upgrade headers, frames and close code, or the HTTP status that refused it. */
const dial = async (
  t: Test,
  url: string,
  { protocols = [], headers = {} }: { protocols?: string[]; headers?: Record<string, string> },
) => {
  const socket = new WebSocket(url.replace(/^http/, 'ws'), protocols, { headers })
  t.teardown(() => socket.terminate())
  const frames: Json[] = []
  let upgrade = ''
  let status = 101
  let code = 0
  socket.on('upgrade', ({ rawHeaders }) => (upgrade = rawHeaders.join('\n')))
  socket.on('message', (data: Buffer) => frames.push(JSON.parse(data.toString()) as Json))
  socket.on('unexpected-response', (request, response) => {
    status = response.statusCode ?? 0
    request.destroy()
  })
  socket.on('error', () => {})
  socket.on('close', (closed) => (code = closed))
  await until(() => code !== 0 || status !== 101 || frames.length > 0, 'an answer to the upgrade')
  return { socket, frames, upgrade, status, code: () => code }
}

/** Waits until the server has handled all earlier frames. Returns the frames received meanwhile, without the answer to the ping. */
const settled = async (client: Client): Promise<Json[]> => {
  const before = client.frames.length
  const { id } = await client.ask({ type: 'ping' })
  return client.frames.slice(before).filter((frame) => frame['id'] !== id)
}

const { instance } = await startDeck(t)
const mission = await makeMission(instance)
const chat = `missions/${mission.id}/chat/rafael`
const say = (more: Json = {}): Json => ({ type: 'send', topic: chat, message: 'hi', ...more })

await t.test('welcome: has the subject, the role, the session, the instance, the expiry and the limits', async (t) => {
  const client = await instance.connect(await token({ sub: 'alice', role: 'user' }, 300))
  const welcome = await client.frame(() => true)
  t.match(welcome, {
    type: 'welcome',
    session: String,
    sub: 'alice',
    role: 'user',
    expires_at: rfc3339,
    instance: String,
    limits: Object,
  })
  const left = Date.parse(String(welcome['expires_at'])) - Date.now()
  t.ok(left > 290_000 && left <= 300_000, 'expires_at is the expiry of the token')
})

await t.test('send: the answer has the message as HTTP returns it', async (t) => {
  const client = await instance.connect(alice)
  const message = 'Run `x`:\r\n\n```py extra\nprint("ü😀")\n```\n~~~\nplain\n~~~\n\t '
  const answer = await client.ask(say({ topic: `missions/${mission.number}/chat/emma`, message, key: 'k 1' }))
  t.match(answer, {
    type: 'ok',
    seq: 1,
    message: { id: uuid, mission_id: mission.id, citizen: 'emma', sender: 'user', author: 'alice', seq: 1, key: 'k 1' },
  })
  const saved = answer['message'] as Json
  t.equal(saved['message'], message)
  t.match(saved['created_at'], rfc3339)
  t.strictSame(saved['code_blocks'], [
    { language: 'py', code: 'print("ü😀")\n' },
    { language: null, code: 'plain\n' },
  ])
  const { json } = await instance.request('GET', `/api/missions/${mission.id}/chat/emma`, alice)
  t.strictSame((json['messages'] as Json[])[0], saved)
  const again = await client.ask(say({ topic: `missions/${mission.id}/chat/emma`, message: 'other', key: 'k 1' }))
  t.strictSame([again['seq'], again['message']], [1, saved], 'a repeated key returns the first message')
})

await t.test('frame id: is returned unchanged, number or string; a frame without one gets no ok', async (t) => {
  const client = await instance.connect(alice)
  await client.frame(({ type }) => type === 'welcome')
  const ids = [0, 1.5, -7, 'x', '', '1', 'ü '.repeat(20)]
  for (const id of ids) client.send({ type: 'ping', id })
  client.send({ type: 'ping' })
  client.send({ type: 'subscribe', topic: chat })
  client.send({ type: 'unsubscribe', topic: chat })
  client.send(say({ topic: `missions/${mission.id}/chat/silent` }))
  await settled(client)
  const answers = client.frames.filter(({ type, id }) => type === 'ok' && ids.includes(id as string))
  t.strictSame(new Set(answers.map(({ id }) => id)), new Set(ids))
  t.equal(answers.length, ids.length, 'one answer for each frame')
  t.strictSame(
    client.frames.filter(({ type, id }) => type !== 'welcome' && id === undefined),
    [],
  )
  await until(async () => {
    const { json } = await instance.request('GET', `/api/missions/${mission.id}/chat/silent`, alice)
    return json['last_seq'] === 1
  }, 'the message without an id')
})

await t.test(
  'bad input: gets an error, with the id if it is readable; nothing changes and the socket stays open',
  async (t) => {
    const client = await instance.connect(alice)
    await client.frame(({ type }) => type === 'welcome')
    const { json: before } = await instance.request('GET', `/api/${chat}`, alice)
    const bad: [frame: string | Json, id?: string | number, code?: string | undefined][] = [
      ['no JSON'],
      ['"text"'],
      ['[]'],
      ['null'],
      ['{"type":"ping","id":'],
      ['{}'],
      [{ id: 1 }, 1],
      [{ type: 'pong', id: 2 }, 2],
      [{ type: 'constructor', id: 'c' }, 'c'],
      [{ type: '__proto__', id: 'p' }, 'p'],
      [{ type: 7, id: 3 }, 3],
      [{ type: 'ping', id: null }],
      [{ type: 'ping', id: {} }],
      [{ type: 'ping', id: true }],
      ['{"type":"ping","id":1e999}'],
      [{ type: 'subscribe', id: 4 }, 4],
      [{ type: 'subscribe', id: 5, topic: 7 }, 5],
      ...['', 'missions/', 'missions/0/dod', 'missions/-1', 'missions/1.5', 'missions/2147483648/dod', `${chat}/`]
        .concat(
          `missions/${mission.id}/chat/Rafael`,
          `missions/${mission.id}/chat`,
          `missions/${mission.id}/tests/1/logs`,
        )
        .concat(`/missions/${mission.id}`, `missions/${mission.id}x`, `missions/${mission.id}/dod/1`, 'x'.repeat(5000))
        .map((topic): [Json, string] => [
          { type: 'subscribe', id: `topic ${topic.slice(0, 80)}`, topic },
          `topic ${topic.slice(0, 80)}`,
        ]),
      ...[-1, 1.5, '1', null, 1e300].map((after): [Json, string] => [
        { type: 'subscribe', id: `after ${after}`, topic: chat, after },
        `after ${after}`,
      ]),
      [{ type: 'subscribe', id: 6, topic: chat, epoch: 1 }, 6],
      [{ type: 'unsubscribe', id: 7, topic: 'nowhere' }, 7],
      [{ type: 'auth', id: 8 }, 8],
      [{ type: 'auth', id: 9, token: 'none' }, 9, 'unauthorized'],
      ...(
        [
          [{ message: '' }],
          [{ message: 7 }],
          [{ message: undefined }],
          [{ message: 'x'.repeat(10_001) }],
          [{ message: 'e\u0301'.repeat(5001) }],
          [{ message: 'nul \0' }],
          [{ message: 'half \ud800' }],
          [{ key: '' }],
          [{ key: 'x'.repeat(65) }],
          [{ key: 'ü' }],
          [{ key: 'tab\t' }],
          [{ key: 7 }],
          [{ code_blocks: {} }],
          [{ code_blocks: [{ language: 'py' }] }],
          [{ code_blocks: [{ code: 'x'.repeat(256 * 1024 + 1) }] }],
          [{ code_blocks: [{ code: '\0' }] }],
          [{ topic: `missions/${mission.id}/dod` }],
          [{ topic: `missions/${randomUUID()}/chat/rafael` }, 'not_found'],
          [{ topic: 'missions/2147483647/chat/rafael' }, 'not_found'],
        ] as [Json, string | undefined][]
      ).map(([more, code], n): [Json, string, string | undefined] => [
        say({ id: `send ${n}`, ...more }),
        `send ${n}`,
        code,
      ]),
    ]
    for (const [frame, id, code = 'bad_request'] of bad) {
      const text = typeof frame === 'string' ? frame : JSON.stringify(frame)
      client.socket.send(text)
      const came = await settled(client)
      if (id !== undefined && came.length === 0) await client.frame((f) => f['id'] === id, text.slice(0, 100))
      const answers = id === undefined ? came : client.frames.filter((f) => f['id'] === id)
      t.match(answers, [{ type: 'error', code, detail: String }], text.slice(0, 100))
      t.equal(answers.length, 1)
      t.equal('id' in (answers[0] ?? {}), id !== undefined)
    }
    const { json: after } = await instance.request('GET', `/api/${chat}`, alice)
    t.strictSame(after, before, 'nothing was changed')
    t.match(await client.ask(say()), { type: 'ok' })
  },
)

await t.test('frame: unknown members are ignored', async (t) => {
  const client = await instance.connect(alice)
  t.match(await client.ask({ type: 'ping', later: { a: 1 } }), { type: 'ok' })
})

await t.test('send: only an admin sets sender and author; a citizen posts in its own chats only', async (t) => {
  const user = await instance.connect(alice)
  const forged = await user.ask(say({ sender: 'citizen', author: 'rafael' }))
  t.match(forged['message'] ?? { sender: 'user', author: 'alice' }, { sender: 'user', author: 'alice' })
  const citizen = await instance.connect(rafael)
  t.match(await citizen.ask(say()), { type: 'ok', message: { sender: 'citizen', author: 'rafael' } })
  t.match(await citizen.ask(say({ topic: `missions/${mission.id}/chat/sofia` })), { type: 'error', code: 'forbidden' })
  const root = await instance.connect(admin)
  t.match(await root.ask(say({ sender: 'citizen', author: 'sofia' })), {
    message: { sender: 'citizen', author: 'sofia' },
  })
  t.match(await root.ask(say({ author: null })), { message: { sender: 'user', author: null } })
})

await t.test('not_found: a hidden mission gets exactly the answer of a missing one', async (t) => {
  const client = await instance.connect(bob)
  const nowhere = { id: randomUUID(), number: 2_000_000_000 }
  for (const type of ['subscribe', 'unsubscribe', 'send'])
    for (const name of ['id', 'number'] as const) {
      const [hidden, absent] = await Promise.all(
        [mission, nowhere].map(async (m) => {
          const answer = await client.ask(say({ type, topic: `missions/${m[name]}/chat/rafael` }))
          return JSON.stringify({ ...answer, id: 0 }).replaceAll(String(m[name]), 'M')
        }),
      )
      t.equal(hidden, absent, `${type} by ${name}`)
      t.notMatch(hidden, mission.id)
    }
})

await t.test('close codes: 4400 for binary or many bad frames, 1007 for bad UTF-8, 1009 for a large one', async (t) => {
  const binary = await instance.connect(alice)
  binary.socket.send(Buffer.from('{"type":"ping","id":1}'))
  t.equal(await closed(binary), 4400)
  t.match(binary.frames.at(-1), { type: 'goodbye', reason: String })

  const latin1 = await instance.connect(alice)
  latin1.socket.send(Buffer.from([0x22, 0xfc, 0x22]), { binary: false })
  t.equal(await closed(latin1), 1007)

  const large = await instance.connect(alice)
  const fill = (bytes: number) => JSON.stringify({ type: 'ping', id: 1, fill: 'x'.repeat(bytes - 32) })
  t.equal(Buffer.byteLength(fill(512 * 1024)), 512 * 1024)
  large.socket.send(fill(512 * 1024))
  await large.frame(({ id }) => id === 1, 'a frame of 512 KiB')
  large.socket.send(fill(512 * 1024 + 1))
  t.equal(await closed(large), 1009)

  const noisy = await instance.connect(alice)
  for (let n = 0; n < 5000; n++) noisy.socket.send('x')
  t.equal(await closed(noisy), 4400)
  t.match(
    noisy.frames.find(({ type }) => type === 'error'),
    { type: 'error', code: 'bad_request' },
  )
  t.equal((await instance.request('GET', '/healthz')).status, 200)
})

await t.test(
  'socket: closes with 4401 after the upgrade when the token is bad; the answer never has the token',
  async (t) => {
    const url = `${instance.url}/api/ws`
    const good = await token({ sub: 'alice', role: 'user' })
    const [head = '', body = '', signature = ''] = good.split('.')
    const other = Buffer.from(JSON.stringify({ sub: 'alice', role: 'admin', exp: 4_000_000_000 })).toString('base64url')
    const none = Buffer.from(JSON.stringify({ alg: 'none' })).toString('base64url')
    const bad: Record<string, string> = {
      expired: await token({ sub: 'alice', role: 'user' }, -1),
      forged: `${head}.${other}.${signature}`,
      'without an algorithm': `${none}.${body}.`,
      'of an unknown role': await token({ sub: 'alice', role: 'king' as 'user' }),
      'without a sub': await token({ sub: '', role: 'user' }),
      empty: '',
      nonsense: 'nonsense',
    }
    for (const [what, text] of Object.entries(bad))
      for (const how of ['header', 'subprotocol']) {
        const { upgrade, status, code, frames } = await dial(t, url, {
          protocols: how === 'header' ? ['deck.v1'] : text ? ['deck.v1', `bearer.${text}`] : ['deck.v1'],
          headers: how === 'header' && text ? { authorization: `Bearer ${text}` } : {},
        })
        t.equal(status, 101, `${what}, ${how}: the upgrade is done`)
        await until(() => code() !== 0, 'the close')
        t.equal(code(), 4401, `${what}, ${how}`)
        t.notOk(frames.some(({ type }) => type === 'welcome'))
        t.match(upgrade, /sec-websocket-protocol\ndeck\.v1(\n|$)/i)
        if (text) t.notMatch(upgrade, text)
      }
    for (const [protocols, headers] of [
      [['deck.v1'], { authorization: `Bearer ${good}` }],
      [['deck.v1', `bearer.${good}`], {}],
      [[`bearer.${good}`, 'deck.v1'], {}],
    ] as const) {
      const { upgrade, frames } = await dial(t, url, { protocols: [...protocols], headers })
      t.match(frames[0], { type: 'welcome', sub: 'alice' })
      t.match(upgrade, /sec-websocket-protocol\ndeck\.v1(\n|$)/i)
      t.notMatch(upgrade, good)
    }
  },
)

await t.test("origin: a foreign one is refused with 403; the server's own and allowed ones are accepted", async (t) => {
  const { host, port } = new URL(instance.url)
  const friendly = await startDeck(t, { allowedOrigins: new Set(['https://deck.example', 'http://localhost:5173']) })
  const at = async (on: Instance, origin: string | undefined, hostHeader?: string) => {
    const { status } = await dial(t, `${on.url}/api/ws`, {
      protocols: ['deck.v1', `bearer.${alice}`],
      headers: { ...(origin ? { origin } : {}), ...(hostHeader ? { host: hostHeader } : {}) },
    })
    return status
  }
  t.equal(await at(instance, undefined), 101, 'no browser')
  t.equal(await at(instance, `http://${host}`), 101, "the server's own")
  t.equal(await at(instance, `https://${host}`), 101, 'with any scheme')
  t.equal(await at(instance, 'https://deck.example', 'deck.example'), 101, 'behind a proxy')
  t.equal(await at(instance, 'https://deck.example', 'deck.example:443'), 101, 'with the default port')
  for (const origin of [
    'https://evil.example',
    `http://${host}.evil.example`,
    `http://127.0.0.1:${Number(port) + 1}`,
    'null',
  ])
    t.equal(await at(instance, origin), 403, origin)
  t.equal(await at(instance, 'https://deck.example'), 403, 'not in the allowed origins')
  for (const origin of ['https://deck.example', 'http://localhost:5173'])
    t.equal(await at(friendly.instance, origin), 101)
  t.equal(await at(friendly.instance, 'https://deck.example.evil.example'), 403)
  t.equal(await at(friendly.instance, 'http://deck.example'), 403)
})

await t.test('auth: a fresh token of the same sub applies at once, wider or narrower', async (t) => {
  const hidden = await makeMission(instance, { assigned_to: 'carol' })
  const theirs = `missions/${hidden.id}/chat/rafael`
  const client = await instance.connect(await token({ sub: 'alice', role: 'user', missions: [mission.id] }))
  t.match(await client.ask({ type: 'subscribe', topic: chat }), { type: 'ok' })
  t.match(await client.ask({ type: 'auth', token: bob }), { type: 'error', code: 'forbidden' }, 'another sub')
  const late = await token({ sub: 'alice', role: 'user' }, -60)
  t.match(await client.ask({ type: 'auth', token: late }), { type: 'error', code: 'unauthorized' })
  t.match(await client.ask({ type: 'subscribe', topic: theirs }), { type: 'error', code: 'not_found' })

  const wider = await token({ sub: 'alice', role: 'user', missions: [hidden.number] })
  t.match(await client.ask({ type: 'auth', token: wider }), { type: 'ok', expires_at: rfc3339 })
  t.match(await client.ask({ type: 'subscribe', topic: theirs }), { type: 'ok' })
  t.match(await client.ask(say({ topic: theirs })), { type: 'ok' })

  t.match(await client.ask({ type: 'auth', token: alice }), { type: 'ok' }, 'narrower')
  await client.frame(
    (f) => f['type'] === 'error' && f['topic'] === theirs && f['code'] === 'not_found',
    'the end of the subscription',
  )
  t.match(await client.ask(say({ topic: theirs })), { type: 'error', code: 'not_found' })
  const before = client.events(theirs).length
  await instance.request('POST', `/api/${theirs}`, admin, { message: 'secret' })
  await client.ask(say())
  await until(() => client.events(chat).length > 0, 'an event of the other topic')
  t.equal(client.events(theirs).length, before, 'no event of the lost topic')
})

await t.test('token expiry: closes the socket with 4401 unless a fresh token arrives in time', async (t) => {
  const short = () => token({ sub: 'alice', role: 'user' }, 2)
  const [ends, stays] = [await instance.connect(await short()), await instance.connect(await short())]
  t.match(await stays.ask({ type: 'auth', token: alice }), { type: 'ok' })
  t.equal(await closed(ends), 4401)
  t.match(ends.frames.at(-1), { type: 'goodbye', reason: String })
  t.match(await stays.ask({ type: 'ping' }), { type: 'ok' })
})

await t.test("chat socket: a chat's own path opens the same socket, subscribed from the start", async (t) => {
  const { number } = await makeMission(instance)
  const door = `/api/missions/${number}/chat/sofia`
  for (const n of [1, 2, 3]) await instance.request('POST', door, alice, { message: `${n}` })
  const canonical = (client: Client) => client.frames.filter(({ type }) => type === 'event').map((f) => f['seq'])
  const all = await instance.connect(alice, `${door}/ws?after=0`)
  const some = await instance.connect(alice, `${door}/ws?after=2`)
  const live = await instance.connect(alice, `${door}/ws`)
  for (const client of [all, some, live]) await client.ask({ type: 'subscribe', topic: chat })
  await instance.request('POST', door, alice, { message: '4' })
  await until(() => [all, some, live].every((client) => canonical(client).at(-1) === 4), 'the fourth message')
  t.strictSame([all, some, live].map(canonical), [[1, 2, 3, 4], [3, 4], [4]])
  t.equal(all.frames[0]?.['type'], 'welcome')
  for (const [path, code] of [
    [`${door}/ws?after=5`, 'conflict'],
    [`${door}/ws?after=x`, 'bad_request'],
    [`${door}/ws?after=-1`, 'bad_request'],
    ['/api/missions/2147483647/chat/sofia/ws', 'not_found'],
    [`/api/missions/${number}/chat/Sofia/ws`, 'bad_request'],
  ] as const) {
    const client = await instance.connect(alice, path)
    t.match(await client.frame(({ type }) => type === 'error'), { type: 'error', code }, path)
    t.match(await client.ask({ type: 'ping' }), { type: 'ok' })
  }
})

await t.test('restart: sockets get goodbye and 1012, and every acknowledged message is stored', async (t) => {
  const { database, instance: first } = await startDeck(t)
  const { number } = await makeMission(first)
  const topic = `missions/${number}/chat/rafael`
  const clients = await Promise.all(Array.from({ length: 5 }, () => first.connect(alice)))
  const acknowledged = new Set<unknown>()
  let sent = 0
  const busy = clients.map(async (client) => {
    for (;;) {
      const answer = await client.ask(say({ topic, message: `message ${sent++}` })).catch(() => undefined)
      if (answer?.['type'] !== 'ok') return
      acknowledged.add((answer['message'] as Json)['message'])
    }
  })
  await until(() => acknowledged.size > 100, 'some messages')
  await first.close()
  await Promise.all(busy)
  for (const client of clients) {
    t.equal(await closed(client), 1012)
    t.match(
      client.frames.find(({ type }) => type === 'goodbye'),
      { reason: String, retry_after: Number },
    )
  }
  const second = await startInstance(t, database.url)
  const client = await second.connect(alice, `/api/${topic}/ws?after=0`)
  const { json } = await second.request('GET', `/api/${topic}?limit=1`, alice)
  await until(() => client.frames.filter(({ type }) => type === 'event').length === json['last_seq'], 'all messages')
  const stored = new Set(client.frames.map((f) => (f['data'] as Json | undefined)?.['message']))
  t.strictSame(
    [...acknowledged].filter((message) => !stored.has(message)),
    [],
  )
})

await t.test('ping: a socket that answers no ping is closed with 4408, one that answers stays open', async (t) => {
  const { instance } = await startDeck(t, { limits: { pingEvery: 500, silence: 2000 } })
  const kept = await instance.connect(alice)
  const url = `${instance.url.replace(/^http/, 'ws')}/api/ws`
  const mute = new WebSocket(url, ['deck.v1', `bearer.${alice}`], { autoPong: false })
  t.teardown(() => mute.terminate())
  const [code] = (await once(mute, 'close')) as [number]
  t.equal(code, 4408)
  t.match(await kept.ask({ type: 'ping' }), { type: 'ok' })
})

await t.test('slow reader: a socket that reads nothing is closed, and the others get every event', async (t) => {
  const { instance, database } = await startDeck(t)
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  const url = new URL(instance.url)
  // A paused TCP connection, so that nothing in this process reads for it.
  const stalled = connectTcp(Number(url.port), url.hostname)
  t.teardown(() => stalled.destroy())
  stalled.on('error', () => {})
  let cut = false
  stalled.on('close', () => (cut = true))
  const key = Buffer.from(randomUUID().slice(0, 16)).toString('base64')
  stalled.write(
    `GET /api/${topic}/ws?after=0 HTTP/1.1\r\nHost: ${url.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\nAuthorization: Bearer ${alice}\r\n\r\n`,
  )
  await once(stalled, 'data')
  stalled.pause()
  const reader = await instance.connect(alice)
  await reader.ask({ type: 'subscribe', topic })
  const rows = 200
  let inserted = 0
  while (inserted < 4000) {
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message)
       select $1, 'rafael', 'user', repeat('x', 10000) from generate_series(1, $2)`,
      [id, rows],
    )
    inserted += rows
    await until(() => reader.events(topic).length === inserted, 'the reader to receive every event', 20_000)
    reader.frames.forEach((frame) => delete (frame['data'] as Json | undefined)?.['message'])
  }
  t.strictSame(
    reader.events(topic).map(({ seq }) => seq),
    Array.from({ length: inserted }, (_, i) => i + 1),
  )
  t.equal(reader.closed, undefined)
  stalled.resume()
  await until(() => cut, 'the close of the stalled socket')
  t.equal((await instance.request('GET', '/readyz')).status, 200)
})

await t.test('socket: a GET without an upgrade is an ordinary error', async (t) => {
  const { hostname, port } = new URL(instance.url)
  const request = httpRequest({ hostname, port, path: '/api/ws', headers: { authorization: `Bearer ${alice}` } })
  request.end()
  const [response] = (await once(request, 'response')) as [{ statusCode: number; resume(): void }]
  response.resume()
  t.ok(response.statusCode >= 400 && response.statusCode < 500)
})
