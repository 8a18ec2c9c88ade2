// A streamed history that breaks in the middle never looks complete. Readers that are slow, stall or disconnect do not
// affect other readers.
import { connect, Socket } from 'node:net'
import t from 'tap'
import { refused } from '../support/forms.ts'
import { admin, alice, startDeck, startInstance, token, until } from '../support/server.ts'
import { begin, lines, long, longChat, range, seqs } from '../support/stream-readers.ts'

const { database, instance } = await startDeck(t)
const { request } = instance

void t.test('streamed history: is reset when the reader loses its right in mid-stream', async (t) => {
  const revoked = await token({ sub: 'alice', role: 'user', jti: 'shut-out' })
  const short = await token({ sub: 'alice', role: 'user' }, 3)
  const end = Date.now() + 3000
  const ends: [what: string, bearer: string, end: (id: string) => Promise<unknown>][] = [
    ['an expired token', short, () => until(() => Date.now() >= end, 'the expiry')],
    ['a re-assignment', alice, (id) => database.query(`update missions set assigned_to = 'bob' where id = $1`, [id])],
    ['a deleted mission', admin, (id) => request('DELETE', `/api/missions/${id}`, admin)],
    [
      'a revoked token',
      revoked,
      async () => {
        await database.query(`select deck.revoke('shut-out')`)
        await until(async () => (await request('GET', '/api/missions', revoked)).status === 401, 'the revocation')
      },
    ],
    ['a changed epoch', alice, () => database.query(`update deck.epoch_salt set salt = salt || 'x'`)],
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

void t.test('streamed history: is reset when the database fails in mid-stream, also over HTTP/1.0', async (t) => {
  const { chat } = await longChat(instance, database)
  const reader = await begin(instance, chat)
  const { hostname, port } = new URL(instance.url)
  const old = connect(Number(port), hostname)
  t.teardown(() => old.destroy())
  // Node's HTTP client may report a reset as a normal end if data arrived with it, so the server's resets are counted.
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
  }, 'both streams to end')
  const { text, whole } = await rest
  t.notOk(whole)
  t.ok(seqs(text).length < long)
  t.equal(resets().length, 2, 'both streams were reset')
  await lock.query('rollback')
  const last = seqs(text).at(-1) ?? 0
  const { text: more } = await (await begin(instance, `${chat}?after=${last}`)).rest()
  t.strictSame(seqs(more), range(last + 1, long), 'the history can be read on from the last message')
})

void t.test('streamed history: slow readers hold no connection, and a subject may have 16 streams', async (t) => {
  const { chat } = await longChat(instance, database)
  // All readers share one connection.
  const small = await startInstance(t, database.url, { poolMax: 4 })
  const slow = await Promise.all(range(1, 16).map(() => begin(small, chat)))
  t.equal((await small.request('GET', chat, alice)).status, 200, 'other requests are answered')
  refused(t, await small.request('GET', chat, alice, undefined, lines), 503, 'unavailable', 'the 17th stream')
  const other = await begin(small, chat, admin)
  t.strictSame(seqs((await other.rest()).text), range(1, long), 'a different subject reads at full speed')
  const [patient, ...others] = slow
  for (const { response } of others) response.destroy()
  t.ok((await patient?.rest())?.whole, 'a slow reader gets the whole history in the end')
  await until(async () => (await small.request('HEAD', chat, alice, undefined, lines)).status === 200, 'a free stream')
})

void t.test('streamed history: a reader that reads nothing for too long is cut off', async (t) => {
  const { chat } = await longChat(instance, database)
  let cut = false
  const hasty = await startInstance(
    t,
    database.url,
    { limits: { silence: 300 } },
    (line) => (cut ||= line.includes('a streamed response was aborted')),
  )
  const reader = await begin(hasty, chat)
  await until(() => cut, 'the cut')
  t.notOk((await reader.rest()).whole)
})

void t.test('streamed history: a stop waits for no disconnected reader, and cuts the remaining ones', async (t) => {
  const { chat } = await longChat(instance, database)
  const calm = await startInstance(t, database.url, { limits: { writeDeadline: 20_000 } })
  const { response } = await begin(calm, chat)
  response.destroy()
  const since = performance.now()
  await calm.close()
  t.ok(performance.now() - since < 10_000, 'a disconnected reader does not delay the stop')

  const hasty = await startInstance(t, database.url, { limits: { writeDeadline: 500 } })
  const reader = await begin(hasty, chat)
  await hasty.close()
  t.notOk((await reader.rest()).whole)
})
