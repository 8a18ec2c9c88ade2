// Streamed histories that break in the middle are never taken for whole ones; readers who are slow, stall or go away cost
// nobody else anything.
import { connect, Socket } from 'node:net'
import t from 'tap'
import { refused } from '../support/forms.ts'
import { admin, alice, startDeck, startInstance, token, until } from '../support/server.ts'
import { begin, lines, long, longChat, range, seqs } from '../support/stream-readers.ts'

const { database, instance } = await startDeck(t)
const { request } = instance

void t.test('what ends a right in mid-stream ends the stream by a reset', async (t) => {
  const revoked = await token({ sub: 'alice', role: 'user', jti: 'shut-out' })
  const short = await token({ sub: 'alice', role: 'user' }, 3)
  const end = Date.now() + 3000
  const ends: [what: string, bearer: string, end: (id: string) => Promise<unknown>][] = [
    ['a token that ends', short, () => until(() => Date.now() >= end, 'its end')],
    ['a re-assignment', alice, (id) => database.query(`update missions set assigned_to = 'bob' where id = $1`, [id])],
    ['a deleted mission', admin, (id) => request('DELETE', `/api/missions/${id}`, admin)],
    [
      'a revoked token',
      revoked,
      async () => {
        await database.query(`select deck.revoke('shut-out')`)
        await until(async () => (await request('GET', '/api/missions', revoked)).status === 401, 'it is known')
      },
    ],
    ['another epoch', alice, () => database.query(`update deck.epoch_salt set salt = salt || 'x'`)],
  ]
  for (const [what, bearer, cut] of ends) {
    const { id, chat } = await longChat(instance, database)
    const reader = await begin(instance, chat, bearer)
    await cut(id)
    const { text, whole } = await reader.rest()
    t.notOk(whole, what)
    const { length } = seqs(text)
    t.ok(length > 0 && length < long, `${what}: ${length} messages`)
  }
})

void t.test('a database that fails in mid-stream ends it by a reset, over HTTP/1.0 too', async (t) => {
  const { chat } = await longChat(instance, database)
  const reader = await begin(instance, chat)
  const { hostname, port } = new URL(instance.url)
  const old = connect(Number(port), hostname)
  t.teardown(() => old.destroy())
  // A client of Node may be told of a reset as of an end, where data came with it.
  const resets = t.capture(Socket.prototype, 'resetAndDestroy', Socket.prototype.resetAndDestroy)
  old.on('error', () => {})
  const ended = new Promise((resolve) => old.once('close', resolve))
  old.write(`GET ${chat} HTTP/1.0\r\nauthorization: Bearer ${alice}\r\naccept: ${lines.accept}\r\n\r\n`)
  await new Promise((resolve) => old.once('readable', resolve))

  const lock = await database.connect()
  await lock.query('begin')
  await lock.query('lock table chat_messages in access exclusive mode')
  old.resume()
  const rest = reader.rest()
  let going = 2
  for (const end of [rest, ended]) void end.then(() => going--)
  await until(async () => {
    await lock.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = 'mission-deck server' and wait_event_type = 'Lock'`,
    )
    return going === 0
  }, 'both ends, one after the other')
  const { text, whole } = await rest
  t.notOk(whole)
  t.ok(seqs(text).length < long)
  t.equal(resets().length, 2, 'no end that could be taken for one')
  await lock.query('rollback')
  const last = seqs(text).at(-1) ?? 0
  const { text: more } = await (await begin(instance, `${chat}?after=${last}`)).rest()
  t.strictSame(seqs(more), range(last + 1, long), 'and can be gone on from where it was')
})

void t.test('slow readers hold no connection, and 16 of one sub are served', async (t) => {
  const { chat } = await longChat(instance, database)
  // One connection for all who read.
  const small = await startInstance(t, database.url, { poolMax: 4 })
  const slow = await Promise.all(range(1, 16).map(() => begin(small, chat)))
  t.equal((await small.request('GET', chat, alice)).status, 200, 'others are answered')
  refused(t, await small.request('GET', chat, alice, undefined, lines), 503, 'unavailable', 'the 17th')
  const other = await begin(small, chat, admin)
  t.strictSame(seqs((await other.rest()).text), range(1, long), 'another sub reads at its own pace')
  const [patient, ...others] = slow
  for (const { response } of others) response.destroy()
  t.ok((await patient?.rest())?.whole, 'a slow one gets all in the end')
  await until(async () => (await small.request('HEAD', chat, alice, undefined, lines)).status === 200, 'room again')
})

void t.test('a reader that takes nothing for long is cut off', async (t) => {
  const { chat } = await longChat(instance, database)
  let cut = false
  const hasty = await startInstance(
    t,
    database.url,
    { limits: { silence: 300 } },
    (line) => (cut ||= line.includes('a stream was cut')),
  )
  const reader = await begin(hasty, chat)
  await until(() => cut, 'the cut')
  t.notOk((await reader.rest()).whole)
})

void t.test('a stop waits for no reader that went away, and cuts those that are left', async (t) => {
  const { chat } = await longChat(instance, database)
  const calm = await startInstance(t, database.url, { limits: { writeDeadline: 20_000 } })
  const { response } = await begin(calm, chat)
  response.destroy()
  const since = performance.now()
  await calm.close()
  t.ok(performance.now() - since < 10_000, 'who went away is no work')

  const hasty = await startInstance(t, database.url, { limits: { writeDeadline: 500 } })
  const reader = await begin(hasty, chat)
  await hasty.close()
  t.notOk((await reader.rest()).whole)
})
