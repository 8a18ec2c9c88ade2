// Bounds: `welcome.limits` lists the limit of everything that can grow. A client that exceeds a limit is refused or closed with that
// limit's code. Other clients are not affected.
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import t from 'tap'
import { makeBucket } from '../../src/live/connections/token-bucket.ts'
import { makeHub } from '../../src/live/hub/hub.ts'
import type { Receiver } from '../../src/live/hub/subscription.ts'
import { makeLedger, makeOutbox } from '../../src/live/connections/send-buffer.ts'
import { makeTally } from '../../src/live/connections/counters.ts'
import type { Page } from '../../src/protocol/rows.ts'
import { connect } from '../../src/client/index.ts'
import {
  admin,
  alice,
  bob,
  closed,
  makeMission,
  rafael,
  startDeck,
  textsOf,
  until,
  type Client,
} from '../support/server.ts'

await t.test('limits: the welcome frame lists every limit', async (t) => {
  const { instance } = await startDeck(t, { limits: { framesPerSecond: 500, framesBurst: 2500 } })
  const { limits } = await (await instance.connect(alice)).frame(({ type }) => type === 'welcome')
  t.strictSame(limits, {
    frame_bytes: 524_288,
    body_bytes: 2_097_152,
    message_chars: 10_000,
    code_blocks_bytes: 262_144,
    json_depth: 64,
    topics: 1000,
    credit: 100,
    pending: 256,
    bad_frames: 100,
    frames_per_second: 500,
    frames_burst: 2500,
    subject_frames_per_second: null,
    subject_frames_burst: null,
    requests_per_minute: null,
    outbox_bytes: 4_194_304,
    sockets_per_subject: 10_000,
  })
})

await t.test('frame rate: too many frames close the socket with 4429, and no other socket', async (t) => {
  const { instance } = await startDeck(t, { limits: { framesPerSecond: 50, framesBurst: 200 } })
  const [flood, calm] = await Promise.all([instance.connect(alice), instance.connect(alice)])
  for (let n = 0; n < 400; n++) flood.send({ type: 'ping', id: n })
  t.equal(await closed(flood), 4429)
  t.match(
    flood.frames.find(({ type }) => type === 'goodbye'),
    { reason: 'too many frames', retry_after: 5 },
  )
  const answered = flood.frames.filter(({ type }) => type === 'ok').length
  t.ok(answered >= 200 && answered < 400, `${answered} were answered before`)
  t.match(await calm.ask({ type: 'ping' }), { type: 'ok' })
})

await t.test('token bucket: allows its burst at once, then its rate', (t) => {
  const bucket = makeBucket(10, 20, 0)
  const taken = (now: number, tries: number) =>
    Array.from({ length: tries }, () => bucket.take(now)).filter(Boolean).length
  t.equal(taken(0, 50), 20)
  t.equal(taken(50, 50), 0)
  t.equal(taken(1000, 50), 10)
  t.ok(bucket.low(1000))
  t.notOk(bucket.low(2500))
  t.equal(taken(100_000, 50), 20, 'only the burst after a long pause')
  t.end()
})

await t.test('socket: is closed with 1013 when its subject, or the process, has too many sockets', async (t) => {
  const { instance } = await startDeck(t, { limits: { sockets: 5, socketsPerSubject: 3 } })
  const mine = await Promise.all([1, 2, 3].map(() => instance.connect(alice)))
  const fourth = await instance.connect(alice)
  t.equal(await closed(fourth), 1013)
  t.match(fourth.frames, [{ type: 'goodbye', reason: 'too many sockets', retry_after: Number }])
  const others = await Promise.all([1, 2].map(() => instance.connect(bob)))
  const sixth = await instance.connect(bob)
  t.equal(await closed(sixth), 1013)
  t.match(sixth.frames, [{ type: 'goodbye', reason: 'overloaded' }])
  mine[0]?.close()
  await closed(mine[0] as Client)
  t.match(await (await instance.connect(alice)).ask({ type: 'ping' }), { type: 'ok' }, 'a freed place')
  for (const client of [...mine.slice(1), ...others]) t.match(await client.ask({ type: 'ping' }), { type: 'ok' })
})

await t.test('limits: a socket may follow a bounded number of topics', async (t) => {
  const { instance } = await startDeck(t, { limits: { topics: 3 } })
  const { id } = await makeMission(instance)
  const client = await instance.connect(alice)
  for (const citizen of ['a', 'b', 'c'])
    t.match(await client.ask({ type: 'subscribe', topic: `missions/${id}/chat/${citizen}` }), { type: 'ok' })
  const more = { type: 'subscribe', topic: `missions/${id}/chat/d` }
  t.match(await client.ask(more), { type: 'error', code: 'bad_request' })
  t.match(await client.ask({ ...more, topic: `missions/${id}/chat/a` }), { type: 'ok' }, 'a followed topic again')
  await client.ask({ type: 'unsubscribe', topic: `missions/${id}/chat/a` })
  t.match(await client.ask(more), { type: 'ok' })
})

await t.test('instance: answers 503, closes the busiest socket and stays healthy when its loop is late', async (t) => {
  const { instance } = await startDeck(t, {
    limits: { eventLoopDelay: 100, pressureEvery: 1000, framesPerSecond: 10, framesBurst: 1000 },
  })
  const { request } = instance
  const [busy, calm] = await Promise.all([instance.connect(alice), instance.connect(alice)])
  await Promise.all(Array.from({ length: 600 }, () => busy.ask({ type: 'ping' })))
  let answer = await request('GET', '/api/missions', alice)
  const late = async (): Promise<boolean> => {
    answer = await request('GET', '/api/missions', alice)
    return answer.status === 503
  }
  const drown = (): void => {
    const end = performance.now() + 600
    while (performance.now() < end);
  }
  t.equal(answer.status, 200)
  await until(async () => {
    drown()
    return late()
  }, 'a refusal')
  t.match(answer.json, { code: 'unavailable', detail: /overloaded/ })
  t.ok(Number(answer.headers.get('retry-after')) > 0)
  t.match(await request('GET', '/healthz'), { status: 200 })
  await until(async () => {
    drown()
    if (!(await late())) return false
    busy.send({ type: 'ping' })
    return busy.closed !== undefined
  }, 'the busiest socket to be closed')
  t.equal(busy.closed?.code, 1013)
  t.match(await calm.ask({ type: 'ping' }), { type: 'ok' })
  await until(async () => !(await late()), 'requests to be served again')
})

await t.test('http: headers that are too large or never end are refused', async (t) => {
  const { instance } = await startDeck(t, { limits: { headersTimeout: 500 } })
  const { port, hostname } = new URL(instance.url)
  const answer = async (sent: string): Promise<string> => {
    const socket = connectTcp(Number(port), hostname)
    t.teardown(() => socket.destroy())
    socket.write(sent)
    let text = ''
    socket.on('data', (data: Buffer) => (text += data.toString()))
    await once(socket, 'close')
    return text
  }
  t.match(await answer(`GET /api/missions HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`), /^HTTP\/1.1 431 /)
  t.match(await answer('GET /api/missions HTTP/1.1\r\nHost: x\r\nX: '), /^HTTP\/1.1 408 .*"code":"bad_request"/s)
})

// Units, without a server ------------------------------------------------------------------------------------------

const mission = { id: '00000000-0000-4000-8000-000000000000', number: 1, assigned_to: 'alice' }
const topic = `missions/${mission.id}/chat/rafael`

await t.test('hub: a thousand subscriptions that catch up on one topic share reads', async (t) => {
  const head = 1000
  let reads = 0
  let cursor = head
  const hub = makeHub({
    liveBytes: 1e6,
    pageBytes: 1e6,
    follow: () => {},
    onSubscriptions: () => {},
    unfollow: () => {},
    cursor: () => cursor,
    async page(_topic, after, limit, _bytes, begun): Promise<Page> {
      reads++
      begun()
      const asOf = performance.now()
      await new Promise((resolve) => setImmediate(resolve))
      const covered = Math.min(head, after + limit)
      const events = Array.from({ length: covered - after }, (_, i) => ({
        seq: after + i + 1,
        event: 'message.created',
        data: '{}',
      }))
      return { events, covered, head, mission, asOf }
    },
    onError: (error) => t.fail(String(error)),
  })
  const got = Array.from({ length: 1000 }, (): number[] => [])
  const asOf = performance.now()
  got.forEach((seqs, n) => {
    const receiver: Receiver = {
      form: 'frames',
      actor: {
        sub: 'alice',
        role: 'user',
        missions: undefined,
        expires: Infinity,
        token: undefined,
        session: undefined,
      },
      send: (frames) => seqs.push(...textsOf(frames).map((text) => (JSON.parse(text) as { seq: number }).seq)) > 0,
      fits: () => true,
      drained: () => Promise.resolve(),
      ended: () => t.fail('ended'),
    }
    // The subscribers missed different numbers of events.
    hub.join(receiver, topic, { rights: mission, asOf, head }, n % 60)
  })
  await until(() => got.every((seqs) => seqs.at(-1) === head), 'all to catch up')
  got.forEach((seqs, n) => {
    if (seqs.length !== head - (n % 60) || seqs[0] !== (n % 60) + 1) t.fail(`subscription ${n} received ${seqs.length}`)
  })
  t.ok(reads < 100, `${reads} reads`)
  cursor = 0
})

await t.test('send buffers: all together are bounded; the fuller they are, the less each may hold', (t) => {
  const ledger = makeLedger(1000, makeTally())
  const closing: (() => void)[] = []
  const outboxes = Array.from({ length: 10 }, () => {
    const socket = {
      OPEN: 1,
      CLOSED: 3,
      readyState: 1,
      once: (_event: string, done: () => void) =>
        closing.push(() => {
          socket.readyState = 3
          wire.destroyed = true
          done()
        }),
    }
    const wire = {
      destroyed: false,
      writableLength: 0,
      write: (bytes: Buffer) => (wire.writableLength += bytes.length),
    }
    return makeOutbox(socket as never, wire as never, 400, ledger)
  })
  const frame = Buffer.alloc(50)
  const hog = outboxes[0]
  let taken = 0
  while (hog?.push(frame)) taken += 50
  t.equal(taken, 400, 'the limit of one buffer')
  for (const outbox of outboxes.slice(1)) while (outbox.push(frame));
  // An empty buffer accepts one frame beyond the bound.
  t.ok(ledger.waiting <= 1000 + 10 * 50, `${ledger.waiting} bytes wait`)
  t.notOk(hog?.push(frame), 'the fullest buffer is refused first')
  t.notOk(outboxes[1]?.fits(1))
  for (const close of closing) close()
  t.equal(ledger.waiting, 0, 'no bytes are counted for closed sockets')
  t.end()
})

await t.test('message rate: a user may send a burst of 50; citizens and admins are not limited', async (t) => {
  // The rate is so low that only the burst counts, on a slow machine too.
  const limits = { userMessagesPerSecond: 0.01, userMessagesBurst: 50 }
  const { instance } = await startDeck(t, { limits })
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  const sockets = await Promise.all([instance.connect(alice), instance.connect(alice)])
  const send = async (client: Client | undefined, n: number) =>
    client?.ask({ type: 'send', topic, message: `${n}`, key: `${n}` })
  const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => send(sockets[n % 2], n)))
  const refused = answers.filter((answer) => answer?.['code'] === 'rate_limited')
  t.equal(refused.length, 50)
  for (const answer of refused) t.match(answer, { type: 'error', retry_after: 100 })
  const posted = await instance.request('POST', `/api/${topic}`, alice, { message: 'x' })
  t.match(posted, { status: 429, json: { code: 'rate_limited' } }, 'over HTTP too')
  t.ok(Number(posted.headers.get('retry-after')) >= 1)
  t.match(await sockets[0]?.ask({ type: 'stream', topic, key: 'k', delta: 'x', done: true }), { code: 'rate_limited' })
  t.match(await (await instance.connect(bob)).ask({ type: 'send', topic, message: 'x' }), { code: 'not_found' })
  for (const [bearer, name] of [
    [rafael, 'rafael'],
    [admin, 'root'],
  ] as const) {
    const machine = await instance.connect(bearer)
    const all = await Promise.all(
      Array.from({ length: 200 }, (_, n) => machine.ask({ type: 'send', topic, message: `${name} ${n}` })),
    )
    t.ok(
      all.every(({ type }) => type === 'ok'),
      `${name} has no message limit`,
    )
  }
  t.equal((await instance.request('GET', '/api/limits', alice)).json['user_messages_burst'], 50)
})

await t.test('client: waits for the message rate instead of rejecting sends', async (t) => {
  const { instance } = await startDeck(t, { limits: { userMessagesPerSecond: 10, userMessagesBurst: 50 } })
  const { id } = await makeMission(instance)
  const deck = connect({ url: instance.url, token: alice })
  const sent = await Promise.all(Array.from({ length: 60 }, async (_, n) => deck.chat(id, 'emma').send(`${n}`)))
  t.strictSame(
    sent.map(({ seq }) => seq),
    Array.from({ length: 60 }, (_, i) => i + 1),
  )
  deck.close()
})

await t.test('byte rate: a subject that exceeds it is read more slowly, and nothing is refused', async (t) => {
  const { instance } = await startDeck(t, { limits: { subjectBytesPerSecond: 500_000, subjectBytesBurst: 300_000 } })
  const { id } = await makeMission(instance)
  const [one, two] = await Promise.all([instance.connect(rafael), instance.connect(rafael)])
  const other = await instance.connect(alice)
  const code_blocks = [{ language: null, code: 'x'.repeat(100_000) }]
  const begun = performance.now()
  const topic = `missions/${id}/chat/rafael`
  const sent = Array.from({ length: 16 }, (_, n) =>
    (n % 2 ? one : two).ask({ type: 'send', topic, message: `${n}`, code_blocks }),
  )
  t.match(await other.ask({ type: 'send', topic, message: 'meanwhile' }), { type: 'ok' })
  const before = performance.now() - begun
  const answers = await Promise.all(sent)
  t.ok(answers.every(({ type }) => type === 'ok'))
  // 1.6 MB minus the burst, at 0.5 MB/s. A slow machine takes longer.
  t.ok(performance.now() - begun > 2000, 'the sends took as long as their bytes require')
  t.ok(before < performance.now() - begun, 'a different subject did not wait')
})

await t.test('limits: a user may open a bounded number of sockets, a citizen more', async (t) => {
  const { instance } = await startDeck(t, { limits: { socketsPerUser: 3 } })
  const three = await Promise.all([1, 2, 3].map(() => instance.connect(alice)))
  t.equal(await closed(await instance.connect(alice)), 1013)
  await Promise.all([1, 2, 3, 4, 5].map(() => instance.connect(rafael)))
  three[0]?.close()
  await until(async () => {
    const next = await instance.connect(alice)
    return next.ask({ type: 'ping' }).then(
      () => true,
      () => false,
    )
  }, 'a freed place')
})
