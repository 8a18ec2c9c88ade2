// Notifications are not trusted. A login without any grant may LISTEN and NOTIFY on every channel. A NATS client may subscribe
// and publish. Neither can end an instance or read a draft. No client receives a forged or replayed notification.
// A forged hint costs at most a read.
import { randomBytes } from 'node:crypto'
import { connect } from '@nats-io/transport-node'
import pg from 'pg'
import t, { type Test } from 'tap'
import { makeSeal } from '../../src/live/ephemeral/seal.ts'
import { busOptions } from '../../src/sync/nats.ts'
import { channelOf } from '../../src/sync/channels.ts'
import { freshDatabase, type FreshDatabase } from '../support/database.ts'
import {
  admin,
  alice,
  makeMission,
  rafael,
  startInstance,
  until,
  type Client,
  type Instance,
} from '../support/server.ts'
import { makeNats, noNats } from '../support/nats-server.ts'

const shards = Array.from({ length: 64 }, (_, n) => `deck_${n}`)

/** An attacker who may connect, and has no other right. */
type Stranger = {
  /** All payloads that the attacker received. */
  received: { channel: string; payload: string }[]
  /** Returns the channel of a topic's notifications. */
  channel: (topic: string) => Promise<string>
  /** Returns all channels on which instances listen. */
  channels: () => Promise<string[]>
  publish: (channel: string, payloads: string[]) => Promise<unknown>
}

const byNotify = async (t: Test, database: FreshDatabase): Promise<Stranger & { client: pg.Client }> => {
  const url = new URL(database.adminUrl)
  const name = `stranger_${randomBytes(4).toString('hex')}`
  const owner = new pg.Client({ connectionString: database.adminUrl })
  await owner.connect()
  await owner.query(`create role ${name} login password 'x'`)
  t.teardown(async () => {
    await owner.query(`drop role ${name}`)
    await owner.end()
  })
  url.username = name
  url.password = 'x'
  const client = new pg.Client({ connectionString: url.href })
  await client.connect()
  t.teardown(() => client.end())
  const received: Stranger['received'] = []
  client.on('notification', ({ channel, payload = '' }) => received.push({ channel, payload }))
  const channels = ['deck', ...shards]
  await client.query(channels.map((channel) => `listen ${channel}`).join(';'))
  return {
    client,
    received,
    channel: (topic) => Promise.resolve(channelOf(topic)),
    channels: () => Promise.resolve(channels),
    // One statement for each payload. The statements are one transaction, in which Postgres drops duplicates.
    publish: (channel, payloads) =>
      client.query(
        payloads.map((payload) => `notify ${channel}, ${pg.escapeLiteral(payload.slice(0, 7999))}`).join(';'),
      ),
  }
}

const byNats = async (t: Test, url: string, missions: string[]): Promise<Stranger> => {
  const connection = await connect(busOptions(url))
  t.teardown(() => connection.close())
  const received: Stranger['received'] = []
  const subjects = new Set<string>()
  connection.subscribe('>', {
    callback: (_error, message) => {
      subjects.add(message.subject)
      received.push({ channel: message.subject, payload: message.string() })
    },
  })
  await connection.flush()
  const prefix = async (): Promise<string> => {
    await until(() => subjects.size > 0, 'a first notification')
    return [...subjects][0]?.replace(/[^.]+$/, '') ?? ''
  }
  return {
    received,
    channel: async (topic) => `${await prefix()}${topic.slice(9, 45)}`,
    channels: async () => {
      const space = await prefix()
      return [...missions.map((id) => space + id), `${space}deck`, 'deck.doctor.x', 'deck']
    },
    async publish(channel, payloads) {
      for (const payload of payloads) connection.publish(channel, payload)
      await connection.flush()
    },
  }
}

const topicOf = (id: string): string => `missions/${id}/chat/rafael`
const secret = 'the secret of the tower'
const marks = ['~', '=', '#', '!']

/** Returns a generator of forged and replayed notifications, determined by the seed. */
const makeForger = (seed: number, sealed: string[], notified: string[], ids: string[]) => {
  const random = (n: number): number => {
    seed = (seed + 0x6d2b79f5) | 0
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) % n
  }
  const pick = <T>(all: readonly T[]): T => all[random(all.length)] as T
  const noise = (n: number): string =>
    Buffer.from(Array.from({ length: 1 + random(n) }, () => random(256))).toString('base64url')
  const body = (): string => {
    const topic = topicOf(pick(ids))
    return JSON.stringify(
      pick([
        { type: 'typing', topic, sub: 'eve', role: 'user', on: true },
        { type: 'read', topic, sub: 'alice', seq: 7 },
        { type: 'delta', topic, key: 'reply', generation: 99, offset: 0, upto: 3, delta: 'eve' },
        { type: 'delta', topic, key: `eve ${random(50)}`, generation: 1, offset: 0, upto: 3, delta: 'eve' },
        { type: 'aborted', topic, key: 'reply', generation: 99 },
        { type: 'end', topic, key: 'reply', generation: Number.MAX_SAFE_INTEGER },
        { type: 'cancel', topic, key: 'reply', by: 'eve' },
        { type: 'who', topic, from: 'eve', whole: true },
        { type: 'here', topic, from: 'eve', n: 1, subs: [{ sub: 'eve', role: 'user', sockets: 1 }] },
        { type: 'change', topic, from: 'eve', n: 2, subs: [{ sub: 'alice', role: 'user', sockets: 0 }] },
        null,
        7,
        { type: 'typing' },
      ]),
    )
  }
  const wrongKey = makeSeal('eve')
  wrongKey.use(randomBytes(32), Date.now(), performance.now())
  const flipped = (payload: string): string => {
    const bytes = Buffer.from(payload.slice(1), 'base64url')
    const at = random(bytes.length)
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8))
    return payload.charAt(0) + bytes.toString('base64url')
  }
  const kinds: (() => string)[] = [
    () => pick(marks) + noise(300),
    () => pick(marks) + noise(5000),
    () => pick(marks) + body(),
    () => `${pick(marks)}${pick(['12345678', 'eve'])} ${body()}`,
    () => pick(marks) + (wrongKey.seal(pick(marks), body()) ?? ''),
    () => pick(notified),
    () => pick(sealed),
    () => pick(sealed).slice(0, 1 + random(100)),
    () => flipped(pick(sealed)),
    // A valid seal with a different kind's mark, and two seals combined.
    () => pick(marks) + pick(sealed).slice(1),
    () => pick(sealed).slice(0, 60) + pick(sealed).slice(60),
    () => `!${pick(['eve', '12345678'])} ${topicOf(pick(ids))} reply`,
    () =>
      `${pick(['-', 'eve'])} ${pick(['1e300', '-1', 'NaN', '99999999999999999999', '9', ''])} ${topicOf(pick(ids))}`,
    () => `- ${1 + random(9)} missions/${pick(ids)}/chat/${pick(['eve', 'zoe', `eve-${random(500)}`])}`,
    () =>
      `missions ${pick([...ids, '{', '{"id":null}', '', '00000000-0000-4000-8000-000000000000', `${pick(ids)} x`])}`,
    () => pick(['revocations', 'echo x', 'beat', '', ' ', '-', 'x y z', '\u{1f642}'.repeat(500)]),
  ]
  return (): string => pick(kinds)()
}

/** Whether a log line has the level error or fatal. */
const isError = (line: string): boolean => Number((JSON.parse(line) as { level?: unknown }).level) >= 50

for (const way of ['NOTIFY', 'NATS'])
  void t.test(`forged notifications: do no harm over ${way}`, { skip: way === 'NATS' && noNats }, async (t) => {
    t.setTimeout(300_000)
    const nats = way === 'NATS' ? await makeNats(t) : undefined
    await nats?.start()
    const database = await freshDatabase(t, true)
    const errors: string[] = []
    const start = async (): Promise<Instance> => {
      const instance = await startInstance(t, database.url, nats ? { hintsUrl: nats.url } : {}, (line) => {
        if (isError(line)) errors.push(line)
      })
      if (nats)
        await until(
          async () => (await instance.request('GET', '/metrics')).text.includes('\ndeck_bus_connected 1\n'),
          'NATS to be connected',
        )
      return instance
    }
    const [one, two] = [await start(), await start()]
    const [mission, second] = [await makeMission(one), await makeMission(one)]
    const ids = [mission.id, second.id]
    const [topic, earlier] = [topicOf(mission.id), topicOf(second.id)]
    const login = await byNotify(t, database)
    const stranger: Stranger = nats ? await byNats(t, nats.url, ids) : login
    const sealed = (): string[] =>
      [...stranger.received, ...login.received]
        .map(({ payload }) => payload)
        .filter((payload) => /^[~=#]./.test(payload))

    const follow = async (on: Instance, ...topics: string[]): Promise<Client> => {
      const client = await on.connect(alice)
      await client.ask({ type: 'subscribe', topic: 'missions', chats: true })
      for (const topic of topics) await client.ask({ type: 'subscribe', topic, after: 0, presence: true })
      return client
    }
    // Changes count from the oldest transaction in the cluster, which may belong to a different test: wait until the missions are older.
    const settled = `select count(*)::integer as n from missions where age(xmin) <= age(pg_snapshot_xmin(pg_current_snapshot())::xid)`
    await until(
      async () => (await database.query(settled))[0]?.['n'] === 0,
      'the missions to be older than every open transaction',
    )
    const followers = [await follow(one, topic, earlier), await follow(two, topic, earlier)]
    const writer = await one.connect(rafael)
    const of = (client: Client, type: string, about: string = topic) =>
      client.frames.filter((frame) => frame['type'] === type && [about, undefined].includes(frame['topic'] as string))
    /** A draft's text as a follower received it. */
    const draft = (client: Client, about: string, key: string): string =>
      of(client, 'delta', about)
        .filter((frame) => frame['key'] === key)
        .reduce(
          (text, { offset, delta }) => text.slice(0, Number(offset)) + (typeof delta === 'string' ? delta : ''),
          '',
        )
    const everywhere = (what: string, holds: (client: Client) => boolean): Promise<void> =>
      until(() => followers.every(holds), what)

    await t.test("drafts can't be read by an attacker who listens", async (t) => {
      const [, there] = followers as [Client, Client]
      for (const about of [topic, earlier]) {
        await writer.ask({ type: 'stream', topic: about, key: 'reply', delta: `${secret} ` })
        await everywhere('the delta', (client) => draft(client, about, 'reply') === `${secret} `)
        writer.send({ type: 'typing', topic: about, on: true })
        await everywhere('typing', (client) => of(client, 'typing', about).length === 1)
      }
      // The attacker receives one payload of each kind, to replay later. The earlier topic's drafts and typing are over.
      t.match(await there.ask({ type: 'cancel', topic: earlier, key: 'reply' }), { type: 'ok' })
      await writer.frame(({ type }) => type === 'cancel', 'the request to stop')
      await writer.ask({ type: 'stream', topic: earlier, key: 'reply', done: true })
      writer.send({ type: 'typing', topic: earlier, on: false })
      await there.ask({ type: 'read', topic: earlier, seq: 1 })
      await everywhere('the end', (client) => of(client, 'typing', earlier).length === 2)
      await until(() => new Set(sealed().map((payload) => payload.charAt(0))).size === 3, 'a payload of each kind')
      const payloads = [...stranger.received, ...login.received].map(({ payload }) => payload)
      const decoded = payloads.map((payload) => Buffer.from(payload.slice(1), 'base64url').toString('latin1'))
      t.notMatch([...payloads, ...decoded].join('\n'), /secret|tower|"rafael"|typing/)
      await t.rejects(
        login.client.query('select key from deck.seal_key'),
        { code: '42501' },
        "the key can't be read either",
      )
    })

    await t.test(
      'replayed notifications are not delivered by an instance that did not receive the originals',
      async (t) => {
        const old = sealed()
        const sealedAt = performance.now()
        const late = await start()
        await until(
          () => performance.now() - sealedAt > 6000,
          'the payloads to be older than the allowed clock difference',
        )
        const reader = await follow(late, earlier)
        await reader.frame(({ type }) => type === 'presence', 'presence')
        const before = [of(reader, 'typing', earlier), of(reader, 'delta', earlier), of(reader, 'read', earlier)].flat()
        t.strictSame(before, [], 'nothing is in progress')
        for (const channel of await stranger.channels()) await stranger.publish(channel, old)
        writer.send({ type: 'typing', topic: earlier, on: true })
        await until(() => of(reader, 'typing', earlier).length > 0, 'the real typing frame')
        t.equal(of(reader, 'typing', earlier).length, 1)
        t.strictSame([...of(reader, 'delta', earlier), ...of(reader, 'read', earlier)], [], 'no ended draft')
        await everywhere('the same typing frame', (client) => of(client, 'typing', earlier).length === 3)
        await late.close()
      },
    )

    await t.test('10,000 forged or replayed notifications are not delivered, and end nothing', async (t) => {
      const [here, there] = followers as [Client, Client]
      const seed = Date.now() % 1_000_000
      t.comment(`seed ${seed}`)
      const notified = login.received.map(({ payload }) => payload)
      const forge = makeForger(seed, sealed(), notified, ids)
      const own = await stranger.channel(topic)
      const channels = await stranger.channels()
      const seen = followers.map((client) => client.frames.length)
      const cancels = writer.frames.filter(({ type }) => type === 'cancel').length
      const known = followers.map((client) => of(client, 'missions.changed').length)
      const [batches, each] = [40, 250]
      let text = `${secret} `
      let typed = 0
      let patched = 0
      for (let n = 0; n < batches; n++) {
        const payloads = Array.from({ length: each }, forge)
        // Most on the topic's channel, some by NOTIFY on 'deck' or the topic's channel, the rest on every channel in turn.
        await stranger.publish(own, payloads.slice(0, 150))
        await login.publish(n % 2 ? 'deck' : channelOf(topic), payloads.slice(150, 200))
        for (let i = 200; i < each; i++)
          await stranger.publish(channels[(n + i) % channels.length] ?? own, payloads.slice(i, i + 1))
        // Real traffic continues.
        t.match(await writer.ask({ type: 'stream', topic, key: 'reply', delta: `word ${n} ` }), { type: 'ok' })
        text += `word ${n} `
        t.match(await [here, there][n % 2]?.ask({ type: 'send', topic, message: `${n}` }), { type: 'ok', seq: n + 1 })
        if (n % 10 === 9) {
          writer.send({ type: 'typing', topic, on: typed++ % 2 === 1 })
          await one.request('PATCH', `/api/missions/${mission.id}`, admin, { title: `title ${patched++}` })
        }
      }
      await everywhere('the whole draft', (client) => draft(client, topic, 'reply') === text)
      await everywhere('all messages', (client) => client.events(topic).length >= batches)
      t.match(await writer.ask({ type: 'stream', topic, key: 'reply', done: true }), { message: { message: text } })
      await everywhere('the reply', (client) => client.events(topic).length > batches)
      for (const [n, client] of followers.entries()) {
        t.match(await client.ask({ type: 'ping' }), { type: 'ok' })
        t.equal(client.closed, undefined)
        t.strictSame(
          client.events(topic).map(({ seq }) => seq),
          Array.from({ length: batches + 1 }, (_, i) => i + 1),
        )
        const news = client.frames.slice(seen[n])
        t.notMatch(JSON.stringify(news), /eve"|eve /, 'nothing forged')
        const count = (type: string): number => news.filter((frame) => frame['type'] === type).length
        t.ok(count('typing') <= typed, `${count('typing')} of ${typed} times typing`)
        t.equal(count('read') + count('cancel') + count('goodbye') + count('error'), 0)
        const changed = of(client, 'missions.changed').length - (known[n] ?? 0)
        t.ok(changed <= patched + 1, `${changed} changes were reported of ${patched} and a new chat`)
        t.equal(news.filter(({ type, key }) => type === 'delta' && key !== 'reply').length, 0, 'no other draft')
        t.notOk(
          news.some(({ type, aborted }) => type === 'delta' && aborted),
          'the draft was not aborted',
        )
      }
      t.equal(writer.frames.filter(({ type }) => type === 'cancel').length, cancels, 'no cancel was delivered')
      t.equal(writer.closed, undefined)
      for (const on of [one, two]) t.equal((await on.request('GET', '/readyz')).status, 200)
      t.strictSame(errors, [], 'the logs have no error')
    })
  })

const database = await freshDatabase(t, true)
const [one, two] = [await startInstance(t, database.url), await startInstance(t, database.url)]
const { id, number } = await makeMission(one)
const followers = await Promise.all(
  [one, two].map(async (on) => {
    const client = await on.connect(alice)
    await client.ask({ type: 'subscribe', topic: 'missions' })
    return client
  }),
)
const shown = (client: Client): string[] =>
  client.frames.filter(({ type }) => type === 'missions.changed').map((frame) => JSON.stringify(frame))

void t.test('missions.changed: reaches clients that may see the mission, or could before the change', async (t) => {
  const other = await makeMission(one)
  for (const follower of followers)
    await until(() => shown(follower).some((frame) => frame.includes(other.id)), 'the new mission')
  const count = (): number[] =>
    followers.map((follower) => shown(follower).filter((frame) => frame.includes(other.id)).length)
  const before = count()
  await one.request('PATCH', `/api/missions/${other.id}`, admin, { assigned_to: 'bob' })
  await until(() => count().every((n, i) => n > (before[i] ?? 0)), 'a change for the client that loses the mission')
  const after = count()
  await one.request('PATCH', `/api/missions/${other.id}`, admin, { title: 'not yours' })
  await one.request('PATCH', `/api/missions/${other.id}`, admin, { title: 'not yours again' })
  await one.request('PATCH', `/api/missions/${other.id}`, admin, { title: 'not yours at all' })
  await one.request('PATCH', `/api/missions/${id}`, admin, { title: 'yours' })
  await until(
    () => shown(followers[1] as Client).filter((frame) => frame.includes(`"${id}"`)).length > 0,
    'a visible mission to change',
  )
  t.ok(
    count().every((n, i) => n <= (after[i] ?? 0) + 1),
    'soon no more changes',
  )
  const gone = await makeMission(one)
  await until(() => shown(followers[0] as Client).some((frame) => frame.includes(gone.id)), 'the new mission')
  const reported = shown(followers[0] as Client).filter((frame) => frame.includes(gone.id)).length
  await one.request('DELETE', `/api/missions/${gone.id}`, admin)
  await until(
    () => shown(followers[0] as Client).filter((frame) => frame.includes(gone.id)).length > reported,
    'the deletion',
  )
  t.ok(number > 0)
})
