// Writing while the connection to Postgres fails: every send is answered by the deadline, and an `ok` is stored once. An error without
// `maybe` means that nothing was saved. The server recovers by itself when Postgres is back.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { freshDatabase } from '../support/database.ts'
import {
  admin,
  alice,
  makeMission,
  startInstance,
  until,
  type Client,
  type Instance,
  type Json,
  realDeadlines,
} from '../support/server.ts'
import { startProxy } from '../support/database-proxy.ts'

const database = await freshDatabase(t)
const proxy = await startProxy(t)
const instance = await startInstance(t, proxy.url(database.url), { limits: realDeadlines })
const { id } = await makeMission(instance)
const topic = `missions/${id}/chat/rafael`
const client = await instance.connect(alice)

/** The longest time for an answer, in ms: the server's deadline of 4 s, and a margin for a busy machine. */
const bound = 10_000

type Answer = { status: number; code: unknown; maybe: boolean; retryAfter: number; seq: number; after: number }
type Ways = Record<string, (message: string, key?: string) => Promise<Answer>>
const waysOf = (instance: Instance, client: Client): Ways => ({
  async socket(message, key) {
    const begun = performance.now()
    const answer = await client.ask({ type: 'send', topic, message, ...(key ? { key } : {}) })
    return {
      status: answer['type'] === 'ok' ? 201 : 503,
      code: answer['code'],
      maybe: answer['maybe'] === true,
      retryAfter: Number(answer['retry_after']),
      seq: Number(answer['seq']),
      after: performance.now() - begun,
    }
  },
  async http(message, key) {
    const begun = performance.now()
    const body = { message, ...(key ? { key } : {}) }
    const { status, json, headers } = await instance.request('POST', `/api/${topic}`, alice, body)
    return {
      status,
      code: json['code'],
      maybe: json['maybe'] === true,
      retryAfter: Number(headers.get('retry-after')),
      seq: Number(json['seq']),
      after: performance.now() - begun,
    }
  },
})
const ways = waysOf(instance, client)
const rows = async (message: string): Promise<Json[]> =>
  database.query('select seq::int, key from chat_messages where mission_id = $1 and message = $2', [id, message])
const healed = async (): Promise<void> => {
  proxy.heal()
  await until(async () => (await instance.request('GET', '/readyz')).status === 200, 'ready again', 20_000)
}

/** Sends over the socket and over HTTP, with and without a key, at once. */
const everyWay = (
  through = ways,
): Promise<{ answer: Answer; text: string; key: string | undefined; send: (typeof ways)[string] }[]> =>
  Promise.all(
    Object.values(through).flatMap((send) =>
      [undefined, randomUUID()].map(async (key) => {
        const text = randomUUID()
        return { answer: await send(text, key), text, key, send }
      }),
    ),
  )

await t.test('writer: returns unavailable and saves nothing when Postgres is down, then recovers', async (t) => {
  proxy.refusing = true
  proxy.cut()
  await until(async () => (await instance.request('GET', '/readyz')).status === 503, '/readyz to return 503')
  const sent = (await Promise.all(Array.from({ length: 10 }, () => everyWay()))).flat()
  for (const { answer } of sent) {
    // The error distinguishes a message that never reached Postgres from one that may have.
    t.match(answer, { status: 503, code: 'unavailable', maybe: false })
    t.ok(answer.retryAfter > 0 && answer.after < bound, `${answer.after} ms`)
  }
  await healed()
  for (const { text } of sent) t.strictSame(await rows(text), [])
  for (const { answer } of await everyWay()) t.equal(answer.status, 201)
})

await t.test('writer: looks up a batch whose answer was lost after the commit, and answers as usual', async (t) => {
  for (let round = 0; round < 4; round++) {
    const lost = proxy.loseAnswer()
    const sent = await everyWay()
    await lost
    for (const { answer, text, key, send } of sent) {
      t.match(answer, { status: 201, maybe: false })
      t.match(await rows(text), [{ seq: answer.seq, key: key ?? null }])
      if (key) t.equal((await send('another text', key)).seq, answer.seq, 'the same key gets the first seq')
    }
  }
  await healed()
})

await t.test("writer: returns unavailable, keyless with maybe, when a lost answer can't be looked up", async (t) => {
  // Sent together, so that the lost answer belongs to all of them.
  await everyWay()
  proxy.loseAnswer().then(
    () => proxy.blackHole('new'),
    () => {},
  )
  const sent = await everyWay()
  await healed()
  t.ok(sent.some(({ answer }) => answer.maybe))
  for (const { answer, text, key, send } of sent) {
    t.match(answer, { status: 503, code: 'unavailable' })
    t.ok(answer.after < bound, `${answer.after} ms`)
    const there = await rows(text)
    t.ok(there.length <= 1)
    if (there.length === 1) t.equal(answer.maybe, key === undefined)
    if (key) t.equal((await send(text, key)).seq, (await rows(text))[0]?.['seq'], 'a keyed send is safe to repeat')
  }
})

await t.test('writer: gives up a dead connection in time to send the batch on a second connection', async (t) => {
  // Each of two dead connections is given up after 2 s. With the default deadline, a busy machine has no time for a third.
  const patient = await startInstance(t, proxy.url(database.url), { limits: { writeDeadline: 30_000 } })
  const through = waysOf(patient, await patient.connect(alice))
  await everyWay(through)
  proxy.blackHole('none')
  const sent = (await Promise.all(Array.from({ length: 5 }, () => everyWay(through)))).flat()
  for (const { answer, text } of sent) {
    t.match(answer, { status: 201 })
    t.match(await rows(text), [{ seq: answer.seq }])
  }
  await healed()
})

await t.test('subscriptions and reads: are answered when Postgres hangs, and work again when it is back', async (t) => {
  proxy.blackHole('new')
  const begun = performance.now()
  const [subscribed, read] = await Promise.all([
    client.ask({ type: 'subscribe', topic, after: 0 }),
    instance.request('GET', `/api/${topic}`, alice),
  ])
  t.match(subscribed, { type: 'error', code: 'unavailable', retry_after: Number })
  t.match(read, { status: 503, json: { code: 'unavailable' } })
  t.ok(performance.now() - begun < 8000)
  await healed()
  t.match(await client.ask({ type: 'subscribe', topic, after: 0 }), { type: 'ok' })
  const [{ n } = {}] = await database.query('select count(*)::int as n from chat_messages where mission_id = $1', [id])
  await until(() => client.events(topic).length === n, 'all messages')
})

await t.test('writer: retries deadlocks and serialization failures without an error to the client', async (t) => {
  await database.query(`
    create sequence trips;
    create function trip() returns trigger language plpgsql as $$
    begin
      case nextval('public.trips') % 3
        when 1 then raise serialization_failure;
        when 2 then raise deadlock_detected;
        else return new;
      end case;
    end $$;
    create trigger trip before insert on chat_messages for each row execute function trip();
    create trigger trip before insert on dod_items for each row execute function trip()`)
  for (let n = 0; n < 3; n++)
    for (const send of Object.values(ways)) {
      const text = randomUUID()
      const answer = await send(text)
      t.match(answer, { status: 201 })
      t.match(await rows(text), [{ seq: answer.seq }])
    }
  const item = { text: 'x', category: 'tests' }
  t.match(await instance.request('POST', `/api/missions/${id}/dod`, admin, item), { status: 201 })
  await database.query('drop trigger trip on chat_messages; drop trigger trip on dod_items')
})

await t.test('writer: its queue is bounded in bytes; beyond the bound a send is refused at once', async (t) => {
  const small = await startInstance(t, proxy.url(database.url), { limits: { queueBytes: 100_000 } })
  const many = await small.connect(alice)
  const sent = Array.from({ length: 40 }, () => many.ask({ type: 'send', topic, message: 'x'.repeat(9000) }))
  const answers = await Promise.all(sent)
  const refused = answers.filter(({ code }) => code === 'unavailable')
  t.ok(refused.length >= 30 && refused.length < 40, `${refused.length} refused`)
  t.ok(refused.every((answer) => Number(answer['retry_after']) > 0 && answer['maybe'] === undefined))
})
