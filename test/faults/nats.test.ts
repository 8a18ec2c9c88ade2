// Notifications over NATS: followers on other instances receive every message in order while NATS is up, down, hanging or back.
// The writer's batches send no NOTIFY; SQL writers still do. Typing, presence and deltas use NATS too.
import t, { type Test } from 'tap'
import { connect } from '@nats-io/transport-node'
import { busOptions } from '../../src/sync/nats.ts'
import { deck } from '../support/cli.ts'
import { freshDatabase } from '../support/database.ts'
import {
  alice,
  bob,
  makeMission,
  rafael,
  secret,
  startInstance,
  until,
  type Client,
  type Instance,
} from '../support/server.ts'
import { makeNats, noNats, password } from '../support/nats-server.ts'

void t.test('nats: the servers, user and password come from HINTS_URL', (t) => {
  t.strictSame(busOptions('nats://a%40b:c%2Fd@one:4333,nats://two'), {
    servers: ['one:4333', 'two:4222'],
    user: 'a@b',
    pass: 'c/d',
  })
  t.strictSame(busOptions('tls://token@one'), { servers: ['one:4222'], token: 'token', tls: {} })
  t.end()
})

void t.test('nats: delivers notifications, and every message arrives when NATS fails', { skip: noNats }, async (t) => {
  const nats = await makeNats(t)
  const database = await freshDatabase(t, true)
  // The poll is too late to be the cause of a delivery.
  const change = { hintsUrl: nats.url, limits: { pollEvery: 60_000 } }
  const logs: string[] = []
  const [one, two] = [
    await startInstance(t, database.url, change, (line) => logs.push(line)),
    await startInstance(t, database.url, change),
  ]
  const connected = async (instance: Instance): Promise<boolean> =>
    (await instance.request('GET', '/metrics')).text.includes('\ndeck_bus_connected 1\n')
  const together = async (): Promise<void> => {
    for (const instance of [one, two]) await until(() => connected(instance), 'NATS to be connected')
  }
  const { id } = await makeMission(one, { assigned_to: 'alice' })
  let chats = 0
  const newTopic = (): string => `missions/${id}/chat/c${chats++}`
  const seqs = (client: Client, topic: string): number[] => client.events(topic).map(({ seq }) => seq)
  const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1)
  const follow = async (instance: Instance, topic: string): Promise<Client> => {
    const client = await instance.connect(alice)
    await client.ask({ type: 'subscribe', topic, after: 0 })
    return client
  }
  // All NOTIFY payloads, except the beats that monitor LISTEN.
  const notified: string[] = []
  const listener = await database.connect()
  listener.on('notification', ({ payload = '' }) => void (/^(beat|echo)/.test(payload) || notified.push(payload)))
  await listener.query(Array.from({ length: 64 }, (_, n) => `listen deck_${n}`).join(';'))
  const notifications = async (): Promise<string[]> => {
    // Postgres delivers in order: when this notification has arrived, so have all earlier ones.
    await listener.query(`select pg_notify('deck_0', 'now')`)
    await until(() => notified.includes('now'), 'the notification')
    return notified.splice(0).filter((payload) => payload !== 'now')
  }

  const doctor = async (t: Test): Promise<unknown> => {
    const env = { DATABASE_URL: database.url, HINTS_URL: nats.url, JWT_SECRET: secret }
    const { out } = await deck(t, ['doctor', '--json'], env)
    t.notMatch(out, new RegExp(`${password}|${encodeURIComponent(password)}`))
    return (JSON.parse(out) as { checks: { check: string }[] }).checks.find(({ check }) => check === 'nats')
  }

  await t.test(
    'the instance starts, logs the fault without the password, and notifies by NOTIFY when NATS is down',
    async (t) => {
      const topic = newTopic()
      const reader = await follow(two, topic)
      for (let n = 1; n <= 3; n++) await one.request('POST', `/api/${topic}`, alice, { message: 'by NOTIFY' })
      await until(() => seqs(reader, topic).length === 3, 'the messages')
      t.notOk(await connected(one))
      await until(() => logs.some((line) => line.includes('NATS')), 'a log line about NATS')
      t.notMatch(logs.join(''), password)
      // The channel carries presence too, in payloads that begin with #.
      const sent: string[] = []
      // An earlier notification may have made the reader read the last message already.
      await until(async () => {
        sent.push(...(await notifications()).filter((payload) => !payload.startsWith('#')))
        return sent.some((payload) => payload.includes(' 3 missions'))
      }, 'the last notification')
      t.match(await doctor(t), { status: 'warn', detail: /connection refused/, advice: /by NOTIFY meanwhile/ })
    },
  )

  await t.test('when NATS connects, the writer notifies over NATS only, and SQL inserts still by NOTIFY', async (t) => {
    await nats.start()
    await together()
    t.match(await doctor(t), { status: 'ok', detail: /^notifications echo/ })
    const topic = newTopic()
    const [here, there] = [await follow(one, topic), await follow(two, topic)]
    // A topic's first message passes through its lane, not the writer's batch, and may send a NOTIFY.
    await one.request('POST', `/api/${topic}`, alice, { message: 'first' })
    await notifications()
    for (let n = 2; n <= 50; n++) await one.request('POST', `/api/${topic}`, alice, { message: `${n}` })
    await until(() => seqs(there, topic).length === 50, 'the messages')
    t.strictSame(await notifications(), [], 'the writer sent no NOTIFY')
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message) values ($1, $2, 'user', 'by SQL')`,
      [id, topic.split('/').at(-1)],
    )
    for (const client of [here, there]) {
      await until(() => seqs(client, topic).length === 51, 'the row inserted by SQL')
      t.strictSame(seqs(client, topic), range(51))
    }
    t.equal((await notifications()).length, 1)
    await here.ask({ type: 'typing', topic, on: true }).catch(() => {})
    await there.frame(({ type }) => type === 'typing', 'typing')
    const watcher = await two.connect(alice)
    await watcher.ask({ type: 'subscribe', topic, presence: true })
    await watcher.frame(({ type, topic: of }) => type === 'presence' && of === topic, 'presence')
    const writer = await one.connect(rafael)
    const draft = `missions/${id}/chat/rafael`
    const reader = await follow(two, draft)
    await writer.ask({ type: 'stream', topic: draft, key: 'k', delta: 'as it ' })
    await writer.ask({ type: 'stream', topic: draft, key: 'k', delta: 'is written' })
    await until(
      () =>
        reader.frames
          .filter(({ type }) => type === 'delta')
          .map(({ delta }) => delta)
          .join('') === 'as it is written',
      'the deltas',
    )
    t.notMatch((await notifications()).join('\n'), /^[~=].*"(typing|delta)"/m, 'no typing frame or delta by NOTIFY')
  })

  await t.test('an instance receives the notifications of followed missions only, and all with a worker', async (t) => {
    const quiet = await startInstance(t, database.url, change)
    await until(() => connected(quiet), 'NATS to be connected')
    const receivedBy = async (instance: Instance): Promise<number> =>
      Number(/^deck_bus_heard_total (\d+)$/m.exec((await instance.request('GET', '/metrics')).text)?.[1])
    const { id: own } = await makeMission(one, { assigned_to: 'alice' })
    const [mine, others] = [`missions/${own}/chat/rafael`, newTopic()]
    const reader = await follow(quiet, mine)
    const there = await follow(two, others)
    for (let n = 1; n <= 10; n++) await one.request('POST', `/api/${others}`, alice, { message: `${n}` })
    await one.request('POST', `/api/${mine}`, alice, { message: 'mine' })
    await until(() => seqs(there, others).length === 10 && seqs(reader, mine).length === 1, 'the messages')
    t.equal(await receivedBy(quiet), 1)

    const worker = await quiet.connect(rafael)
    await worker.ask({ type: 'work', credit: 1 })
    await one.request('POST', `/api/missions/${id}/chat/rafael`, alice, { message: 'a question' })
    await worker.frame(({ type }) => type === 'task', 'the task')
    await one.request('POST', `/api/${mine}`, alice, { message: 'again' })
    await until(() => seqs(reader, mine).length === 2, 'the followed topic while a citizen works')
    worker.close()
    await until(() => worker.closed !== undefined, 'the close')
    await one.request('POST', `/api/${mine}`, alice, { message: 'after' })
    await until(() => seqs(reader, mine).length === 3, 'the followed topic after the citizen left')
    const before = await receivedBy(quiet)
    await one.request('POST', `/api/${others}`, alice, { message: 'nobody here' })
    await one.request('POST', `/api/${mine}`, alice, { message: 'the last' })
    await until(() => seqs(reader, mine).length === 4, 'the last')
    t.equal(await receivedBy(quiet), before + 1)
  })

  await t.test('an instance notifies its own citizens and mission lists of its own writes at once', async () => {
    const { id: own } = await makeMission(one, { assigned_to: 'alice' })
    const mine = `missions/${own}/chat/rafael`
    const reader = await one.connect(alice)
    await reader.ask({ type: 'subscribe', topic: 'missions', chats: true })
    const worker = await one.connect(rafael)
    await worker.ask({ type: 'work', credit: 10 })
    await one.request('POST', `/api/${mine}`, alice, { message: 'a question' })
    await worker.frame(({ type, topic }) => type === 'task' && topic === mine, 'the task')
    await reader.frame(({ type, mission }) => type === 'missions.changed' && mission === own, 'the new chat')
    worker.close()
    await until(() => worker.closed !== undefined, 'the close')
  })

  await t.test('nothing is lost and no delivery waits for the poll when NATS is killed and restarted', async (t) => {
    const topic = newTopic()
    const reader = await follow(two, topic)
    const writer = await one.connect(alice)
    let sent = 0
    let over = false
    const at: number[] = []
    let longest = 0
    reader.socket.on('message', (data: Buffer) => {
      if (data.includes('"type":"event"'))
        longest = Math.max(longest, performance.now() - (at.at(-1) ?? performance.now()))
      at.push(performance.now())
    })
    const work = (async () => {
      while (!over) {
        t.match(await writer.ask({ type: 'send', topic, message: `${++sent}` }), { type: 'ok', seq: sent })
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    })()
    for (let round = 0; round < 3; round++) {
      const before = sent
      await until(() => sent > before + 20, 'messages by NATS')
      await nats.kill()
      await until(async () => !(await connected(one)) && !(await connected(two)), 'both instances to notice')
      const without = sent
      await until(() => sent > without + 20, 'messages without NATS')
      await nats.start()
      await together()
    }
    over = true
    await work
    await until(() => seqs(reader, topic).length === sent, 'all messages')
    t.strictSame(seqs(reader, topic), range(sent))
    t.ok(longest < 5000, `longest gap between two deliveries: ${Math.round(longest)} ms`)
    t.comment(`${sent} messages, longest gap between two deliveries ${Math.round(longest)} ms`)
  })

  await t.test(
    'a NATS server that hangs is noticed, and the poll delivers the notifications lost meanwhile',
    async (t) => {
      const polling = { hintsUrl: nats.url, limits: { pollEvery: 1000 } }
      const [a, b] = [await startInstance(t, database.url, polling), await startInstance(t, database.url, polling)]
      for (const instance of [a, b]) await until(() => connected(instance), 'NATS to be connected')
      const topic = newTopic()
      const reader = await follow(b, topic)
      await a.request('POST', `/api/${topic}`, alice, { message: 'before' })
      await until(() => seqs(reader, topic).length === 1, 'the first')
      nats.pause(true)
      const since = performance.now()
      await a.request('POST', `/api/${topic}`, alice, { message: 'into the void' })
      await until(() => seqs(reader, topic).length === 2, 'by the poll')
      t.ok(performance.now() - since < 2500, 'within a poll')
      await until(async () => !(await connected(a)), 'the instance to notice')
      nats.pause(false)
      await until(() => connected(a), 'NATS to be connected again')
      await a.request('POST', `/api/${topic}`, alice, { message: 'after' })
      await until(() => seqs(reader, topic).length === 3, 'the last')
      t.strictSame(seqs(reader, topic), range(3))
    },
  )

  await t.test('invalid payloads do no harm, and a different database has a different subject prefix', async (t) => {
    const topic = newTopic()
    const reader = await follow(two, topic)
    const stranger = await connect(busOptions(nats.url))
    t.teardown(() => stranger.close())
    const spaces = new Set<string>()
    stranger.subscribe('deck.>', { callback: (_error, { subject }) => void spaces.add(subject.split('.')[1] ?? '') })
    await stranger.flush()
    await one.request('POST', `/api/${topic}`, alice, { message: 'first' })
    await until(() => spaces.size > 0, 'a notification')
    const [space = ''] = spaces
    const rubbish = [
      '',
      'x',
      '- NaN x',
      `- x ${topic}`,
      `- 1e300 ${topic}`,
      '~x {',
      '=x {}',
      '^x null',
      'missions {',
      'revocations',
      '\0'.repeat(9000),
    ]
    for (const payload of rubbish) stranger.publish(`deck.${space}.${id}`, payload)
    await stranger.flush()
    for (let n = 2; n <= 5; n++) await one.request('POST', `/api/${topic}`, alice, { message: `${n}` })
    await until(() => seqs(reader, topic).length === 5, 'the messages')
    t.strictSame(seqs(reader, topic), range(5))
    t.match(await reader.ask({ type: 'ping' }), { type: 'ok' })

    const elsewhere = await freshDatabase(t, true)
    const other = await startInstance(t, elsewhere.url, change)
    await until(() => connected(other), 'NATS to be connected')
    await makeMission(other, { assigned_to: 'bob' })
    const { text } = await other.request('GET', '/api/missions', bob)
    const mission = (JSON.parse(text) as { missions: { id: string }[] }).missions[0]?.id ?? ''
    await other
      .connect(bob)
      .then((client) => client.ask({ type: 'send', topic: `missions/${mission}/chat/emma`, message: 'x' }))
    await until(() => spaces.size === 2, 'a second subject prefix')
  })
})
