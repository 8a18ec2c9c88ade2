// Connections that the server closes: the peer sees the reason even while it is still sending, and the last response has
// `Connection: close`. Peers are plain TCP connections, so that only the server ends them.
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { Agent, get, request as ask, type IncomingMessage } from 'node:http'
import { connect as dial, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { root } from '../support/processes.ts'
import { admin, alice, bob, makeMission, startDeck, startInstance, token, until, type Json } from '../support/server.ts'

const { database, instance } = await startDeck(t)
const mission = await makeMission(instance)

/** A client's frame, masked with zeros, so that its payload is unchanged. */
const frame = (opcode: number, payload: Buffer | string, { fin = true, reserved = 0 } = {}): Buffer => {
  const body = Buffer.from(payload)
  const first = (fin ? 0x80 : 0) | reserved | opcode
  const head =
    body.length < 126
      ? Buffer.from([first, 0x80 | body.length])
      : body.length < 65_536
        ? Buffer.from([first, 0x80 | 126, body.length >> 8, body.length & 255])
        : Buffer.from([first, 0x80 | 127, 0, 0, 0, 0, ...[24, 16, 8, 0].map((by) => (body.length >> by) & 255)])
  return Buffer.concat([head, Buffer.alloc(4), body])
}

/** A connection that sends `first` and, after `go()`, repeats `again` until it is closed. */
const sendOn = (t: Test, url: string, first: string | Buffer, again: Buffer) => {
  const { port, hostname } = new URL(url)
  // Half open: it keeps sending after the server has ended its side.
  const wire: Socket = dial({ port: Number(port), host: hostname, allowHalfOpen: true })
  t.teardown(() => wire.destroy())
  let received = Buffer.alloc(0)
  let over = false
  let going = false
  const write = (): void => {
    while (going && !over && wire.write(again));
  }
  wire.on('drain', write)
  wire.on('data', (chunk) => (received = Buffer.concat([received, chunk])))
  wire.on('error', () => {})
  wire.on('close', () => (over = true))
  wire.write(first)
  return {
    received: () => received,
    over: () => over,
    /** Bytes handed to the kernel. */
    taken: () => wire.bytesWritten - wire.writableLength,
    go(): void {
      going = true
      write()
    },
    send: (bytes: Buffer): void => void wire.write(bytes),
  }
}

const handshake = (path: string, bearer: string): string =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
  `Sec-WebSocket-Protocol: deck.v1\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n` +
  `Authorization: Bearer ${bearer}\r\n\r\n`

/** Parses the server's frames. Returns their texts and the close code. */
const read = (received: Buffer): { texts: string[]; code: number | undefined } => {
  const texts: string[] = []
  let at = received.indexOf('\r\n\r\n') + 4
  if (at < 4) return { texts, code: undefined }
  while (at + 2 <= received.length) {
    const opcode = received.readUInt8(at) & 15
    const short = received.readUInt8(at + 1)
    const start = at + (short < 126 ? 2 : 4)
    if (start > received.length) break
    const size = short < 126 ? short : received.readUInt16BE(at + 2)
    if (start + size > received.length) break
    if (opcode === 8) return { texts, code: received.readUInt16BE(start) }
    if (opcode === 1) texts.push(received.toString('utf8', start, start + size))
    at = start + size
  }
  return { texts, code: undefined }
}

/** A socket that can repeat `again`. `ended()` waits for its end and returns the close code and the last text. */
const openOn = (t: Test, url: string, bearer: string, again: Buffer) => {
  const peer = sendOn(t, url, handshake('/api/ws', bearer), again)
  return {
    ...peer,
    welcomed: () => until(() => read(peer.received()).texts.length > 0, 'the welcome'),
    async ended() {
      await until(peer.over, 'the end of the connection')
      const { texts, code } = read(peer.received())
      return { code, last: texts.map((text) => JSON.parse(text) as Json).at(-1) }
    },
  }
}

const part = frame(0, 'x'.repeat(16_000), { fin: false })
// A valid frame that a socket may send as fast as the server reads.
const large = frame(1, JSON.stringify({ type: 'ping', fill: 'x'.repeat(400_000) }))

const times = 8
const unfinished = frame(1, 'x', { fin: false })
const expired = await token({ sub: 'alice', role: 'user' }, -1)
const broken = [
  ['a message in fragments', alice, unfinished, 1009],
  ['text that is not UTF-8', alice, frame(1, Buffer.from([0x22, 0xfc, 0x22])), 1007],
  ['a reserved bit', alice, frame(1, '{}', { reserved: 0x40 }), 1002],
  ['a binary frame', alice, Buffer.concat([frame(2, '{}'), unfinished]), 4400],
  ['an expired token', expired, unfinished, 4401],
] as const

void t.test('close codes: a client that is still sending sees the code', async (t) => {
  const sender = fileURLToPath(new URL('../fixtures/sender.ts', import.meta.url))
  const url = `${instance.url.replace('http', 'ws')}/api/ws`
  // If the server resets the connection, 10 to 33 percent of the clients miss the code.
  await Promise.all(
    broken.map(async ([what, bearer, first, code]) => {
      const args = ['--import', './test/typescript.js', sender, url, bearer, first.toString('base64'), '20']
      const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root })
      t.strictSame(JSON.parse(stdout), Array(20).fill(code), what)
    }),
  )
})

void t.test('close: the server reads a limited number of bytes after it, and then ends the connection', async (t) => {
  await Promise.all(
    broken.flatMap(([what, bearer, first, code]) =>
      Array.from({ length: times }, async () => {
        const peer = openOn(t, instance.url, bearer, part)
        await until(() => peer.received().length > 0, 'the upgrade')
        peer.send(first)
        peer.go()
        t.equal((await peer.ended()).code, code, what)
        // The buffers of both kernels are not part of the server's limit.
        t.ok(peer.taken() < 64 * 1024 * 1024, what)
      }),
    ),
  )
})

void t.test('close codes: 4429 for too many frames, even for a peer that keeps sending', async (t) => {
  const limited = await startInstance(t, database.url, { limits: { framesPerSecond: 100, framesBurst: 200 } })
  const small = Buffer.concat(Array<Buffer>(500).fill(frame(1, '{"type":"ping"}')))
  const ends = await Promise.all(
    Array.from({ length: times }, async () => {
      const peer = openOn(t, limited.url, bob, small)
      await peer.welcomed()
      peer.go()
      return peer.ended()
    }),
  )
  t.strictSame(
    ends.map(({ code }) => code),
    Array(times).fill(4429),
  )
  for (const { last } of ends) t.match(last, { type: 'goodbye', reason: 'too many frames' })
})

void t.test('close codes: 1013, 4401, 4408 and 1012 reach a peer that keeps sending', async (t) => {
  const sub = (name: string, seconds?: number) => token({ sub: name, role: 'citizen' }, seconds)
  const impatient = await startInstance(t, database.url, { limits: { silence: 1500, pingEvery: 500 } })
  // This peer sends frames but answers no ping.
  const mute = openOn(t, impatient.url, alice, large)
  mute.go()
  const two = await startInstance(t, database.url, { limits: { sockets: 2 } })
  const stays = openOn(t, two.url, await sub('emma'), large)
  await stays.welcomed()
  stays.go()
  const expiring = openOn(t, two.url, await sub('maya', 10), large)
  await expiring.welcomed()
  expiring.go()
  const third = openOn(t, two.url, alice, large)
  third.go()
  t.match(await third.ended(), { code: 1013, last: { type: 'goodbye', reason: 'overloaded' } })
  t.equal((await mute.ended()).code, 4408)
  t.equal((await expiring.ended()).code, 4401)
  t.equal(stays.over(), false)
  void two.close()
  t.equal((await stays.ended()).code, 1012)
  t.ok(read(stays.received()).texts.some((text) => text.includes('"goodbye"')))
})

void t.test('close codes: 4401 for a revoked token, even for a peer that keeps sending', async (t) => {
  const peers = await Promise.all(
    Array.from({ length: times }, async () => {
      const peer = openOn(t, instance.url, await token({ sub: 'grace', role: 'citizen' }), large)
      await peer.welcomed()
      peer.go()
      return peer
    }),
  )
  await database.query(`select deck.revoke('grace')`)
  for (const peer of peers) t.equal((await peer.ended()).code, 4401)
})

const statusOf = (received: Buffer): string => received.toString('latin1').split('\r\n')[0] ?? ''
const headOf = (received: Buffer): string => received.toString('latin1').split('\r\n\r\n')[0] ?? ''

void t.test('connection: close is in the last response, which a client that is still sending receives', async (t) => {
  const chat = `/api/missions/${mission.number}/chat/rafael`
  const post = (path: string, more: string, bearer = alice): string =>
    `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer ${bearer}\r\n${more}\r\n\r\n`
  const chunk = Buffer.from(`4000\r\n${'x'.repeat(0x4000)}\r\n`)
  const text = Buffer.from('x'.repeat(0x4000))
  await Promise.all(
    (
      [
        ['a body that is too large', post(chat, 'Content-Length: 1000000000'), text, 413],
        ['a body without end', post(chat, 'Transfer-Encoding: chunked'), chunk, 413],
        ['headers without end', 'GET / HTTP/1.1\r\nHost: x\r\n', Buffer.from(`A: ${'x'.repeat(8000)}\r\n`), 431],
        ['no HTTP', 'hello\r\n\r\n', text, 400],
        [
          'a client that asks to close',
          post(chat, 'Connection: close\r\nContent-Length: 1000000000', 'none'),
          text,
          401,
        ],
      ] as const
    ).flatMap(([what, first, again, status]) =>
      Array.from({ length: times }, async () => {
        const peer = sendOn(t, instance.url, first, again)
        peer.go()
        await until(peer.over, `${what}: the end`)
        t.equal(statusOf(peer.received()).split(' ')[1], String(status), what)
        t.match(headOf(peer.received()), /^connection: close$/im, what)
        t.equal(peer.received().toString('latin1').split('HTTP/1.1 ').length, 2, `${what}: one response`)
        t.ok(peer.taken() < 64 * 1024 * 1024, `${what}: the server read a limited number of bytes`)
      }),
    ),
  )
})

void t.test('connection: close ends the connection: a request after the last one is not handled', async (t) => {
  const chat = `/api/missions/${mission.number}/chat/emma`
  const post = (message: string, more: string): string => {
    const body = JSON.stringify({ message })
    return (
      `POST ${chat} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer ${alice}\r\n` +
      `${more}Content-Length: ${body.length}\r\n\r\n${body}`
    )
  }
  const again = Buffer.from(post('behind', ''))
  const peer = sendOn(t, instance.url, post('last', 'Connection: close\r\n'), again)
  await until(() => peer.received().length > 0, 'the answer')
  peer.go()
  await until(peer.over, 'the end')
  t.match(statusOf(peer.received()), '201')
  const { json } = await instance.request('GET', `/api/missions/${mission.number}/chat/emma?limit=500`, alice)
  t.match(json['messages'], [{ message: 'last' }])
  t.equal((json['messages'] as unknown[]).length, 1)
})

/** Makes a request by an agent that keeps connections. Returns its response, read to the end. */
const by = (agent: Agent, url: string, headers: Record<string, string> = {}): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const made = headers['upgrade'] ? ask(url, { agent, headers }).end() : get(url, { agent, headers })
    made.on('error', reject).on('response', (response) => response.resume().on('end', () => resolve(response)))
  })

const upgrading = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  'sec-websocket-protocol': 'deck.v1',
}

void t.test("connection: close is in a refused upgrade, and the agent's next request succeeds", async (t) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  for (const [what, path, headers, status] of [
    ['a foreign origin', '/api/ws', { origin: 'https://elsewhere.example' }, 403],
    ['no such route', '/api/nothing', {}, 404],
    ['no such path', '/nothing', {}, 404],
    ['a path without a socket', '/healthz', {}, 400],
    ['an API path without a socket', '/api/missions', { authorization: `Bearer ${alice}` }, 400],
    ['a path that is no URL', '/api/%zz', {}, 400],
    [
      'an unsupported version of WebSocket',
      '/api/ws',
      { 'sec-websocket-version': '7', authorization: `Bearer ${alice}` },
      400,
    ],
  ] as const)
    for (let n = 0; n < 5; n++) {
      const refused = await by(agent, instance.url + path, { ...upgrading, ...headers })
      t.equal(refused.statusCode, status, what)
      t.equal(refused.headers.connection, 'close', what)
      t.equal((await by(agent, `${instance.url}/healthz`)).statusCode, 200, `after ${what}`)
    }
  // An instance with a low limit of bad tokens answers with 429.
  const limited = await startInstance(t, database.url, { limits: { authFailuresPerMinute: 5 } })
  const headers = { ...upgrading, authorization: 'Bearer none' }
  const seen: (number | undefined)[] = []
  for (let n = 0; n < 8; n++) {
    const opened = await new Promise<IncomingMessage>((resolve, reject) => {
      const made = ask(`${limited.url}/api/ws`, { agent, headers }).end()
      made.on('error', reject).on('response', (response) => resolve(response.resume()))
      made.on('upgrade', (response, wire) => {
        wire.destroy()
        resolve(response)
      })
    })
    seen.push(opened.statusCode)
    if (opened.statusCode === 429) t.equal(opened.headers.connection, 'close')
  }
  t.strictSame(seen, [101, 101, 101, 101, 101, 429, 429, 429])
})

void t.test('connection: close is in every response while the server stops', async (t) => {
  const other = await startInstance(t, database.url)
  const agent = new Agent({ keepAlive: true, maxSockets: 10 })
  t.teardown(() => agent.destroy())
  const lock = await database.connect()
  await lock.query('begin; lock table missions in access exclusive mode')
  const waiting = by(agent, `${other.url}/api/missions`, { authorization: `Bearer ${admin}` })
  await until(async () => {
    const [row] = await database.query(`select count(*)::int as n from pg_locks where not granted`)
    return row?.['n'] === 1
  }, 'a request that waits for the lock')
  const over = other.close()
  for (const headers of [upgrading, {}])
    await until(async () => {
      const { statusCode, headers: answered } = await by(agent, `${other.url}/api/ws`, {
        ...headers,
        authorization: `Bearer ${alice}`,
      })
      if (statusCode === 503) t.equal(answered.connection, 'close')
      return statusCode === 503
    }, 'the drain')
  await lock.query('commit')
  const { statusCode, headers } = await waiting
  t.equal(statusCode, 200)
  t.equal(headers.connection, 'close', 'a request from before the stop')
  await over
})

void t.test('upgrade: one that follows an unanswered request leaves no open connection', async (t) => {
  const own = await startInstance(t, database.url)
  const count = (): Promise<number> =>
    new Promise((resolve) => own.app.http.server.getConnections((_error, n) => resolve(n)))
  const { port, hostname } = new URL(own.url)
  for (let n = 0; n < 5; n++) {
    const wire = dial(Number(port), hostname)
    t.teardown(() => wire.destroy())
    wire.on('error', () => {})
    wire.write(
      `GET /api/missions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${alice}\r\n\r\n` + handshake('/api/ws', alice),
    )
    let text = ''
    wire.on('data', (chunk) => (text += chunk.toString('latin1')))
    await until(() => text.includes('HTTP/1.1') || wire.destroyed, 'an answer')
    t.match(text, /^HTTP\/1.1 200/)
    wire.destroy()
  }
  await until(async () => (await count()) === 0, 'the connections to be gone')
})
