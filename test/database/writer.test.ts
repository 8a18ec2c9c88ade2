// The writer: batches under load and with faults: an invalid entry, a held lock, a deleted mission, a broken connection.
// Every entry gets one correct answer, and the other entries are not delayed.
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import type { Entry, Written } from '../../src/database/write/pending-message.ts'
import { Refusal } from '../../src/protocol/errors.ts'
import type { FreshDatabase } from '../support/database.ts'
import { admin, alice, makeMission, startDeck, until, type Instance, type Json } from '../support/server.ts'

const entry = (mission: string, more: Partial<Entry> & { citizen?: string } = {}): Entry => {
  const { citizen = 'rafael', ...given } = more
  return {
    topic: `missions/${mission}/chat/${citizen}`,
    id: randomUUID(),
    sender: 'user',
    author: 'alice',
    assigned: null,
    message: 'hi',
    code_blocks: null,
    key: null,
    reply_to: null,
    ...given,
  }
}

type Saved = { seq: number; id: string; seen: boolean }
type Outcome = Saved | { code: string; maybe: boolean }
const outcome = (written: Promise<Written>): Promise<Outcome> =>
  written.then(
    ({ seq, message, seen }) => ({ seq, id: (JSON.parse(message) as { id: string }).id, seen }),
    (error: unknown) => {
      if (!(error instanceof Refusal)) throw error
      return { code: error.code, maybe: error.extra.maybe === true }
    },
  )
const saved = (outcomes: Outcome[]) => outcomes.filter((o): o is Saved => 'seq' in o)

/** Asserts that a chat's seqs are 1 to n without a gap. Returns the message IDs. */
const sound = async (t: Test, database: FreshDatabase, mission: string, citizen = 'rafael'): Promise<string[]> => {
  const rows = await database.query(
    'select id, seq::int from chat_messages where mission_id = $1 and citizen = $2 order by seq',
    [mission, citizen],
  )
  const seqs = rows.map(({ seq }) => seq)
  if (seqs.some((seq, i) => seq !== i + 1))
    t.strictSame(
      seqs,
      Array.from(seqs, (_, i) => i + 1),
    )
  return rows.map(({ id }) => String(id))
}

const numbers = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

/** Terminates the connections with this name whose current or last statement matches. Returns one row for each. */
const kill = (database: FreshDatabase, name: string, statement: string) =>
  database.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and application_name = $1 and query like $2`,
    [`mission-deck ${name}`, statement],
  )

const { instance, database } = await startDeck(t)
const { writer } = instance.app
const post = (to: Instance, mission: string, body: Json, citizen = 'rafael') =>
  to.request('POST', `/api/missions/${mission}/chat/${citizen}`, alice, body)

await t.test('writer: two hundred concurrent senders need far fewer batches than messages', async (t) => {
  const { id } = await makeMission(instance)
  const before = { ...writer.stats() }
  const clients = await Promise.all(numbers(20).map(() => instance.connect(alice)))
  const topic = `missions/${id}/chat/rafael`
  const answers = await Promise.all(
    numbers(200).map(async (n) => {
      const seqs: unknown[] = []
      while (seqs.length < 10) {
        const answer = await clients[n % 20]?.ask({ type: 'send', topic, message: `of ${n}` })
        seqs.push(answer?.['seq'])
      }
      return seqs as number[]
    }),
  )
  t.ok(
    answers.every((seqs) => seqs.every((seq, i) => i === 0 || seq > (seqs[i - 1] ?? 0))),
    'each sender’s messages in order',
  )
  t.strictSame(
    answers.flat().sort((a, b) => a - b),
    numbers(2000).map((n) => n + 1),
  )
  const after = writer.stats()
  t.equal(after.entries - before.entries, 2000)
  t.ok(after.batches - before.batches < 500, `${after.batches - before.batches} batches`)
  await sound(t, database, id)
})

await t.test('writer: an invalid entry fails alone, not its batch', async (t) => {
  const { id } = await makeMission(instance)
  const poison = [{ sender: 'robot' as 'user' }, { message: '' }, { message: 'x'.repeat(10_001) }, { id: 'no uuid' }]
  const outcomes = await Promise.all(
    numbers(60).map((n) =>
      outcome(writer.append(entry(id, { citizen: n % 2 ? 'emma' : 'rafael', ...poison[n - 20] }))),
    ),
  )
  t.match(outcomes.slice(20, 24), [
    { code: 'bad_request' },
    { code: 'bad_request' },
    { code: 'bad_request' },
    { code: String },
  ])
  t.equal(saved(outcomes).length, 56)
  t.strictSame(
    saved(outcomes.filter((_, n) => n % 2 === 0)).map(({ seq }) => seq),
    numbers(28).map((n) => n + 1),
  )
  t.equal((await sound(t, database, id)).length, 28)
  t.equal((await sound(t, database, id, 'emma')).length, 28)
})

await t.test('writer: the first messages of many new chats share batches', async (t) => {
  const values = `select 'New', 'Acme', 1, '2030-01-01', 'active', 'alice' from generate_series(1, 400) returning id`
  const rows = await database.query(
    `insert into missions (title, client, budget, deadline, status, assigned_to) ${values}`,
  )
  const before = writer.stats().batches
  const outcomes = await Promise.all(rows.map(({ id }) => outcome(writer.append(entry(String(id))))))
  t.strictSame(new Set(outcomes.map((o) => ('seq' in o ? o.seq : o.code))), new Set([1]))
  t.ok(writer.stats().batches - before < 40, `${writer.stats().batches - before} batches`)
})

await t.test(
  'writer: an open deletion of a mission does not delay other missions, and its own senders get 503 within 5 s',
  async (t) => {
    const [a, b] = [await makeMission(instance), await makeMission(instance)]
    // Existing chats and new ones.
    for (const { id } of [a, b]) await post(instance, id, { message: 'first' })
    const open = await database.connect()
    await open.query('begin')
    await open.query('delete from missions where id = $1', [a.id])
    const begun = performance.now()
    const toA = Promise.all(
      numbers(40).map(async (n) => {
        const { status, json } = await post(instance, a.id, { message: 'to A' }, n % 2 ? 'rafael' : `new${n}`)
        return { status, code: json['code'], after: performance.now() - begun }
      }),
    )
    const toB = await Promise.all(
      numbers(60).map((n) => post(instance, b.id, { message: 'to B' }, n % 2 ? 'rafael' : `new${n}`)),
    )
    t.ok(
      toB.every(({ status }) => status === 201),
      'all to B',
    )
    t.ok(performance.now() - begun < 3500, `to B: ${performance.now() - begun} ms`)
    for (const { status, code, after } of await toA) {
      t.strictSame([status, code], [503, 'unavailable'])
      t.ok(after < 5000, `${after} ms`)
    }
    t.ok((await post(instance, b.id, { message: 'still' })).status === 201)
    const asked = performance.now()
    const waiting = [post(instance, a.id, { message: 'later' }), post(instance, a.id, { message: 'later' }, 'emma')]
    // Long enough that the lock was refused to them.
    for (let n = 0; n < 50 && performance.now() - asked < 1000; n++)
      await post(instance, b.id, { message: 'meanwhile' }, `meanwhile${n}`)
    await open.query('rollback')
    t.strictSame(
      (await Promise.all(waiting)).map(({ status }) => status),
      [201, 201],
    )
    await sound(t, database, a.id)
    await sound(t, database, b.id)
  },
)

await t.test('writer: an open transaction that has numbered its messages delays only their chat', async (t) => {
  const [a, b] = [await makeMission(instance), await makeMission(instance)]
  const open = await database.connect()
  await open.query('begin')
  await open.query(`insert into chat_messages (mission_id, sender, message) values ($1, 'user', 'open')`, [a.id])
  await open.query('set constraints all immediate')
  const late = [outcome(writer.append(entry(a.id))), outcome(writer.append(entry(a.id)))]
  const beside = numbers(20).map((n) => outcome(writer.append(entry(a.id, { citizen: `c${n}` }))))
  t.strictSame(await outcome(writer.append(entry(b.id, { id: randomUUID() }))).then((o) => 'seq' in o && o.seq), 1)
  t.strictSame(
    new Set((await Promise.all(beside)).map((o) => 'seq' in o && o.seq)),
    new Set([1]),
    'the mission’s other chats',
  )
  await open.query('commit')
  t.match(await Promise.all(late), [{ seq: 2 }, { seq: 3 }])
  await sound(t, database, a.id)
})

await t.test('writer: when a mission is deleted during writes, all fifty senders get not_found', async (t) => {
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  const clients = await Promise.all(numbers(10).map(() => instance.connect(alice)))
  let count = 0
  const senders = numbers(50).map(async (n) => {
    for (;;) {
      const answer = await clients[n % 10]?.ask({ type: 'send', topic, message: 'x' })
      if (answer?.['type'] !== 'ok') return answer?.['code']
      count++
    }
  })
  await until(() => count > 500, 'the senders to write')
  t.equal((await instance.request('DELETE', `/api/missions/${id}`, admin)).status, 204)
  t.strictSame(new Set(await Promise.all(senders)), new Set(['not_found']))
  t.strictSame(await database.query('select id from chat_messages where mission_id = $1', [id]), [])
})

await t.test('idempotency key: concurrent senders of one key get the same message, which is saved once', async (t) => {
  const { id } = await makeMission(instance)
  const outcomes = await Promise.all(
    numbers(300).map((n) => outcome(writer.append(entry(id, { key: `key ${n % 3}`, message: `${n}` })))),
  )
  for (const k of numbers(3)) {
    const same = saved(outcomes.filter((_, n) => n % 3 === k))
    t.equal(same.length, 100)
    t.equal(new Set(same.map((o) => `${o.seq} ${o.id}`)).size, 1)
    t.equal(same.filter(({ seen }) => !seen).length, 1)
  }
  t.equal((await sound(t, database, id)).length, 3)
})

for (const [who, count] of [
  ['many senders', 30],
  // Each of its messages is a batch of one.
  ['one sender', 1],
] as const)
  await t.test(`writer: cut connections lose no acknowledged message and duplicate none, ${who}`, async (t) => {
    const { id } = await makeMission(instance)
    let stop = false
    let cuts = 0
    let done = 0
    const senders = numbers(count).map(async (n) => {
      const sent: [Entry, Outcome][] = []
      while (!stop) {
        const made = entry(id, { citizen: `c${n % 3}`, key: n % 2 ? randomUUID() : null })
        const result = await outcome(writer.append(made))
        if ('seq' in result) done++
        sent.push([made, result])
      }
      return sent
    })
    // A cut hits before the statement or between it and its result. A message must be saved before the next cut.
    while (cuts < 25) {
      const before = done
      const cut = (await kill(database, 'server', '%deck.append_message%')).length
      cuts += cut
      if (cut > 0) await until(() => done > before, 'the next message to be saved')
    }
    stop = true
    const sent = (await Promise.all(senders)).flat()
    const rows = new Set((await Promise.all(numbers(3).map((c) => sound(t, database, id, `c${c}`)))).flat())
    const wrong = sent.filter(([{ id }, o]) => ('seq' in o ? !rows.has(id) || o.id !== id : !o.maybe && rows.has(id)))
    t.strictSame(wrong, [], 'an ok means stored, an error means not stored unless it has maybe')
    t.ok(saved(sent.map(([, o]) => o)).length > sent.length * 0.9, `${sent.length} sent`)
    const seqs = new Set(sent.flatMap(([{ topic }, o]) => ('seq' in o ? [`${topic} ${o.seq}`] : [])))
    t.equal(seqs.size, saved(sent.map(([, o]) => o)).length, 'no seq is assigned twice')
  })

await t.test('writer: a sender’s messages to a topic keep their order across cuts and locks', async (t) => {
  const { id } = await makeMission(instance)
  const outcomes: Promise<Outcome>[] = []
  let cuts = 0
  const open = await database.connect()
  for (const n of numbers(400)) {
    outcomes.push(outcome(writer.append(entry(id, { citizen: n % 4 ? 'rafael' : 'emma', message: `${n}` }))))
    if (n % 100 === 50) cuts += (await kill(database, 'server', '%deck.append_message%')).length
    if (n % 100 === 20) {
      await open.query('begin')
      await open.query('select from missions where id = $1 for update', [id])
    }
    if (n % 100 === 70) await open.query('commit')
    if (n % 10 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  const all = saved(await Promise.all(outcomes))
  t.equal(all.length, 400)
  t.comment(`${cuts} connections cut`)
  const rows = await database.query(
    'select message::int as n from chat_messages where mission_id = $1 order by citizen, seq',
    [id],
  )
  const order = rows.map(({ n }) => Number(n))
  t.strictSame(
    order,
    [...order].sort((a, b) => Number(a % 4 > 0) - Number(b % 4 > 0) || a - b),
  )
})

await t.test('writer: a full queue refuses new messages at once and saves the queued ones', async (t) => {
  const { instance, database } = await startDeck(t, { limits: { queue: 50 } })
  const { id } = await makeMission(instance)
  const outcomes = await Promise.all(
    numbers(200).map((n) => outcome(instance.app.writer.append(entry(id, { author: n < 150 ? 'alice' : 'bob' })))),
  )
  t.equal(saved(outcomes).length, 50)
  t.equal(saved(outcomes.slice(0, 150)).length, 25, 'one author may hold half of the queue')
  t.match(outcomes[199], { code: 'unavailable', maybe: false })
  t.equal((await sound(t, database, id)).length, 50)
})
