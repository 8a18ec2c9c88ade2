// The main job at full size, with figures: two server processes on one database. Not part of `npm test`. Run:
//   npm run long
// Every printed figure is also asserted. Figures depend on the machine, so important ones are compared side by side.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { freshDatabase, type FreshDatabase } from '../support/database.ts'
import { admin, alice, door, makeMission, until, type Client, type Door } from '../support/server.ts'
import { spawnServer } from '../support/processes.ts'

t.setTimeout(900_000)

const database = await freshDatabase(t)
const [a, b] = (await Promise.all([1, 2].map(() => spawnServer(t, { DATABASE_URL: database.url })))).map(({ url }) =>
  door(t, url),
) as [Door, Door]

const p99 = (times: number[]): number => times.toSorted((x, y) => x - y)[Math.floor(times.length * 0.99)] ?? 0
const ms = (value: number): string => `${value.toFixed(1)} ms`
const seqs = (client: Client, topic: string): number[] => client.events(topic).map(({ seq }) => seq)
const isGapless = (found: number[], from = 1): boolean => found.every((seq, i) => seq === from + i)

/** Sends one message after the other while `running()`. Returns the times and errors, and a promise of the end. */
const sender = (client: Client, topic: string, running: () => boolean) => {
  const times: number[] = []
  const errors: { code: string; after: number }[] = []
  let sent = 0
  const done = (async () => {
    while (running()) {
      const start = performance.now()
      const answer = await client.ask({ type: 'send', topic, message: `message ${sent++}`, key: randomUUID() })
      const took = performance.now() - start
      if (answer['type'] === 'ok') times.push(took)
      else errors.push({ code: String(answer['code']), after: took })
    }
  })()
  return { times, errors, done }
}
const forMs = (duration: number): (() => boolean) => {
  const end = performance.now() + duration
  return () => performance.now() < end
}
const count = async (database: FreshDatabase, text: string, values: unknown[] = []): Promise<number> =>
  Number(Object.values((await database.query(text, values))[0] ?? {})[0])

void t.test('main job: 4 subscribers on 2 instances receive 20,000 messages of 20 topics in order', async (t) => {
  const missions = await Promise.all([1, 2, 3, 4].map(() => makeMission(a)))
  const topics = missions.flatMap(({ id }) =>
    ['emma', 'inna', 'rafael', 'sofia', 'maya'].map((c) => `missions/${id}/chat/${c}`),
  )
  const subscribers = await Promise.all([a, b, a, b].map((instance) => instance.connect(alice)))
  for (const client of subscribers) for (const topic of topics) await client.ask({ type: 'subscribe', topic, after: 0 })
  const start = performance.now()
  await Promise.all(
    Array.from({ length: 10 }, async (_, n) => {
      const client = await (n % 2 ? a : b).connect(alice)
      const each = 2000
      let next = 0
      const lane = async (): Promise<void> => {
        while (next < each) {
          const i = next++
          const answer = await client.ask({ type: 'send', topic: topics[(i + n) % 20], message: `${n}.${i}` })
          if (answer['type'] !== 'ok') throw new Error(JSON.stringify(answer))
        }
      }
      await Promise.all(Array.from({ length: 16 }, lane))
    }),
  )
  const took = performance.now() - start
  const total = (client: Client): number => topics.reduce((sum, topic) => sum + client.events(topic).length, 0)
  await until(() => subscribers.every((client) => total(client) >= 20_000), 'all messages', 60_000)
  for (const client of subscribers) {
    t.equal(total(client), 20_000, 'nothing missing, nothing duplicated')
    for (const topic of topics) t.ok(isGapless(seqs(client, topic)), topic)
  }
  const order = (client: Client): string =>
    JSON.stringify(topics.map((topic) => client.events(topic).map(({ data }) => data['id'])))
  for (const client of subscribers) t.equal(order(client), order(subscribers[0] as Client), 'the same order')
  t.comment(
    `20,000 messages to 4 subscribers of 20 topics on 2 instances in ${ms(took)}: 0 lost, 0 duplicated, 0 out of order`,
  )
})

void t.test(
  'main job: 64 senders to one topic stay gapless and fast beside SQL transactions of up to 10 s',
  async (t) => {
    const { id } = await makeMission(a)
    const topic = `missions/${id}/chat/rafael`
    const watcher = await b.connect(alice)
    await watcher.ask({ type: 'subscribe', topic, after: 0 })
    const clients = await Promise.all(Array.from({ length: 64 }, (_, n) => (n % 2 ? a : b).connect(alice)))
    const load = async (duration: number): Promise<number[]> => {
      const running = forMs(duration)
      const senders = clients.map((client) => sender(client, topic, running))
      await Promise.all(senders.map(({ done }) => done))
      t.strictSame(
        senders.flatMap(({ errors }) => errors),
        [],
        'no error',
      )
      return senders.flatMap(({ times }) => times)
    }
    let committed = 0
    let rolledBack = 0
    let stop = true
    const write = async (n: number): Promise<void> => {
      const client = await database.connect()
      while (!stop) {
        await client.query('begin')
        await client.query(
          `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'sql')`,
          [id],
        )
        // The longest transaction lasts as long as the load.
        await client.query('select pg_sleep($1)', [n === 0 ? 10 : Math.random() * 3])
        const good = Math.random() < 0.6
        await client.query(good ? 'commit' : 'rollback')
        if (good) committed++
        else rolledBack++
      }
    }
    await load(3000)
    const without: number[] = []
    const beside: number[] = []
    // In turn, because the machine's speed drifts.
    for (let round = 0; round < 2; round++) {
      without.push(...(await load(10_000)))
      stop = false
      const writers = Array.from({ length: 6 }, (_, n) => write(n))
      beside.push(...(await load(10_000)))
      stop = true
      await Promise.all(writers)
    }
    const rows = await database.query('select seq from chat_messages where mission_id = $1 order by seq', [id])
    t.ok(isGapless(rows.map(({ seq }) => Number(seq))), 'the table holds 1…n')
    await until(() => seqs(watcher, topic).length >= rows.length, 'the watcher to have every message', 30_000)
    t.ok(isGapless(seqs(watcher, topic)), 'the watcher holds 1…n')
    t.comment(
      `p99 of 64 senders: ${ms(p99(without))} alone (${without.length} messages), ${ms(p99(beside))} beside SQL (${beside.length}); ` +
        `${committed} SQL transactions committed, ${rolledBack} rolled back; 1…${rows.length} without a gap`,
    )
  },
)

void t.test('main job: rows inserted with SQL reach subscribers: a run, a message, 1,000 rows at once', async (t) => {
  const { id } = await makeMission(a)
  const client = await b.connect(alice)
  const [chat, tests] = [`missions/${id}/chat/rafael`, `missions/${id}/tests`]
  for (const topic of [chat, tests]) await client.ask({ type: 'subscribe', topic })
  await database.query(`insert into test_runs (mission_id, status) values ($1, 'running')`, [id])
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'citizen', 'hi')`,
    [id],
  )
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) select $1, 'rafael', 'user', 'n ' || n from generate_series(1, 1000) n`,
    [id],
  )
  await until(() => client.events(chat).length === 1001 && client.events(tests).length === 1, 'all events')
  t.ok(isGapless(seqs(client, chat)))
  t.equal(client.events(chat)[1000]?.data['message'], 'n 1000')
  t.comment('1 test run, 1 message and 1,000 rows by SQL: all on the socket, in order')
})

void t.test('main job: a mission deleted while 50 senders write to it ends cleanly for all', async (t) => {
  const { id } = await makeMission(a)
  const topic = `missions/${id}/chat/rafael`
  const clients = await Promise.all(Array.from({ length: 50 }, (_, n) => (n % 2 ? a : b).connect(admin)))
  const watcher = await b.connect(alice)
  await watcher.ask({ type: 'subscribe', topic: `missions/${id}` })
  await watcher.ask({ type: 'subscribe', topic })
  let deleted = false
  const senders = clients.map((client) => sender(client, topic, () => !deleted))
  await until(() => senders.every(({ times }) => times.length > 5), 'all senders to write')
  const { status } = await a.request('DELETE', `/api/missions/${id}`, admin)
  await until(() => senders.every(({ errors }) => errors.length > 0), 'all senders to be refused')
  deleted = true
  await Promise.all(senders.map(({ done }) => done))
  t.equal(status, 204)
  t.strictSame([...new Set(senders.flatMap(({ errors }) => errors.map(({ code }) => code)))], ['not_found'])
  await watcher.frame((frame) => frame['event'] === 'mission.deleted')
  await watcher.frame((frame) => frame['type'] === 'error' && frame['topic'] === topic)
  t.equal(await count(database, 'select count(*) from chat_messages where mission_id = $1', [id]), 0)
  t.comment(
    '50 senders: every send was answered, the last with not_found; followers received mission.deleted, then not_found',
  )
})

void t.test('main job: 1,000 keys used on both instances at once give 1,000 rows and equal answers', async (t) => {
  const { id } = await makeMission(a)
  const topic = `missions/${id}/chat/rafael`
  const [x, y] = await Promise.all([a.connect(alice), b.connect(alice)])
  let equal = 0
  for (let round = 0; round < 1000; round += 50)
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        const frame = { type: 'send', topic, message: 'once', key: randomUUID() }
        const [one, two] = await Promise.all([x.ask(frame), y.ask({ ...frame, message: 'or the other' })])
        if (one['type'] === 'ok' && JSON.stringify({ ...one, id: 0 }) === JSON.stringify({ ...two, id: 0 })) equal++
        else t.comment(JSON.stringify([one, two]))
      }),
    )
  t.equal(await count(database, 'select count(*) from chat_messages where mission_id = $1', [id]), 1000)
  t.equal(equal, 1000)
  t.comment(`1,000 keys through both instances at once: 1,000 rows, ${equal} equal answers`)
})

void t.test('main job: an open delete of a mission and an open keyed INSERT do not delay other missions', async (t) => {
  const [held, other] = await Promise.all([makeMission(a), makeMission(a)])
  const clients = await Promise.all(Array.from({ length: 32 }, (_, n) => (n % 2 ? a : b).connect(alice)))
  const load = async (duration: number): Promise<number[]> => {
    const running = forMs(duration)
    const senders = clients.map((client) => sender(client, `missions/${other.id}/chat/rafael`, running))
    await Promise.all(senders.map(({ done }) => done))
    t.strictSame(
      senders.flatMap(({ errors }) => errors),
      [],
    )
    return senders.flatMap(({ times }) => times)
  }
  await load(3000)
  const without: number[] = []
  const beside: number[] = []
  const heldSenders: ReturnType<typeof sender>[] = []
  const [deleter, inserter, writer] = await Promise.all([database.connect(), database.connect(), a.connect(alice)])
  // In turn, because the machine's speed drifts.
  for (let round = 0; round < 2; round++) {
    without.push(...(await load(10_000)))
    const key = `open ${round}`
    await inserter.query('begin')
    await inserter.query(
      `insert into chat_messages (mission_id, citizen, sender, message, author, key) values ($1, 'rafael', 'user', 'open', 'alice', $2)`,
      [other.id, key],
    )
    await deleter.query('begin')
    await deleter.query('delete from missions where id = $1', [held.id])
    const clients = await Promise.all(Array.from({ length: 8 }, (_, n) => (n % 2 ? a : b).connect(alice)))
    const until9s = forMs(9_000)
    heldSenders.push(...clients.map((client) => sender(client, `missions/${held.id}/chat/rafael`, until9s)))
    beside.push(...(await load(10_000)))
    const keyed = await writer.ask({ type: 'send', topic: `missions/${other.id}/chat/rafael`, message: 'mine', key })
    t.equal(keyed['type'], 'ok', 'the same key, while the INSERT is open')
    await t.rejects(inserter.query('commit'), { code: '23505' }, 'the INSERT fails at its commit')
    await deleter.query('rollback')
    await Promise.all(heldSenders.map(({ done }) => done))
  }
  const errors = heldSenders.flatMap(({ errors }) => errors)
  const slowest = Math.max(...errors.map(({ after }) => after))
  t.ok(errors.length > 0 && errors.every(({ code }) => code === 'unavailable'))
  t.ok(slowest < 5000, 'an answer within 5 s')
  t.comment(
    `senders to another mission: p99 ${ms(p99(without))} without, ${ms(p99(beside))} beside the open transactions; ` +
      `senders to the held mission: ${errors.length} × unavailable, the slowest after ${ms(slowest)}`,
  )
})

void t.test(
  'main job: 1,000 SQL transactions in opposite order beside API traffic cause no deadlock error',
  async (t) => {
    const [m, n] = await Promise.all([makeMission(a), makeMission(a)])
    const clients = await Promise.all(Array.from({ length: 16 }, (_, i) => (i % 2 ? a : b).connect(admin)))
    let done = false
    const senders = clients.map((client, i) =>
      sender(client, `missions/${(i % 4 < 2 ? m : n).id}/chat/rafael`, () => !done),
    )
    const items = (async () => {
      let failed = 0
      while (!done) {
        const { status } = await a.request('POST', `/api/missions/${m.id}/dod`, admin, { text: 'x', category: 'tests' })
        if (status !== 201) failed++
      }
      return failed
    })()
    const statements = (id: string) => [
      `insert into chat_messages (mission_id, citizen, sender, message) values ('${id}', 'rafael', 'user', 'sql')`,
      `insert into dod_items (mission_id, text, category) values ('${id}', 'sql', 'tests')`,
      `insert into test_runs (mission_id, status) values ('${id}', 'running')`,
    ]
    const forward = [...statements(m.id), ...statements(n.id)]
    let failures = 0
    await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        const client = await database.connect()
        for (let round = 0; round < 50; round++)
          await client
            .query(['begin', ...(i % 2 ? forward : forward.toReversed()), 'commit'].join(';'))
            .catch(async (error: Error) => {
              failures++
              t.comment(error.message)
              await client.query('rollback')
            })
      }),
    )
    done = true
    await Promise.all(senders.map((s) => s.done))
    t.equal(failures, 0)
    t.equal(await items, 0)
    t.strictSame(
      senders.flatMap(({ errors }) => errors),
      [],
    )
    for (const { id } of [m, n]) {
      const rows = await database.query('select seq from chat_messages where mission_id = $1 order by seq', [id])
      t.ok(isGapless(rows.map(({ seq }) => Number(seq))))
    }
    const sent = senders.reduce((sum, { times }) => sum + times.length, 0)
    t.comment(`1,000 transactions in opposite orders beside ${sent} messages and checklist items by the API: 0 errors`)
  },
)

void t.test('main job: single inserts are as fast after an insert of 100,000 rows as before', async (t) => {
  const { id } = await makeMission(a)
  const single = async (): Promise<number> => {
    const times: number[] = []
    for (let i = 0; i < 500; i++) {
      const start = performance.now()
      await database.query(
        `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'one')`,
        [id],
      )
      times.push(performance.now() - start)
    }
    return times.toSorted((x, y) => x - y)[250] ?? 0
  }
  await single()
  const before = await single()
  const start = performance.now()
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     select $1, 'rafael', 'user', 'row ' || n || repeat('x', 150) from generate_series(1, 100000) n`,
    [id],
  )
  const took = performance.now() - start
  const after = await single()
  t.equal(await count(database, 'select max(seq) from chat_messages where mission_id = $1', [id]), 101_500)
  t.comment(
    `100,000 rows by SQL in ${ms(took)} (${Math.round(100_000_000 / took)} rows/s); median single INSERT ${ms(before)} before, ${ms(after)} after`,
  )
})

void t.test('main job: 200 senders on one instance cause far fewer commits than messages', async (t) => {
  const missions = await Promise.all([1, 2, 3, 4, 5].map(() => makeMission(a)))
  const clients = await Promise.all(Array.from({ length: 200 }, () => a.connect(alice)))
  const commits = (): Promise<number> =>
    count(database, 'select xact_commit from pg_stat_database where datname = current_database()')
  await database.query('select pg_stat_force_next_flush()').catch(() => undefined)
  const [before, start] = [await commits(), performance.now()]
  const running = forMs(10_000)
  const senders = clients.map((client, n) => sender(client, `missions/${missions[n % 5]?.id}/chat/rafael`, running))
  await Promise.all(senders.map(({ done }) => done))
  const seconds = (performance.now() - start) / 1000
  // The statistics of the server's sessions arrive within a second of their last report.
  let after = await commits()
  await until(
    async () => after === (after = await commits()) && performance.now() - start > seconds * 1000 + 1500,
    'the statistics',
  )
  const messages = senders.reduce((sum, { times }) => sum + times.length, 0)
  t.strictSame(
    senders.flatMap(({ errors }) => errors),
    [],
  )
  t.ok(after - before < messages / 3)
  t.comment(
    `200 senders: ${Math.round(messages / seconds)} messages/s, ${Math.round((after - before) / seconds)} commits/s (all of the database)`,
  )
})
