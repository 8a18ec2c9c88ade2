// Fairness: a subject with many requests does not delay other subjects. Long reads take turns, each subject has a limited number
// of pending answers, and the bytes of answers that it does not read are counted.
import { connect } from 'node:net'
import { setImmediate as tick } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import type { Pending } from '../../src/database/write/pending-message.ts'
import { makeQueue } from '../../src/database/write/fair-queue.ts'
import { makeTurns } from '../../src/database/postgres/mutex.ts'
import { alice, bob, makeMission, startDeck, until, type Answer } from '../support/server.ts'

void t.test('turns: run one statement of each waiting subject in turn, even after a failure', async (t) => {
  const turns = makeTurns()
  const done: string[] = []
  const piece = (who: string, n: number, fails = false) =>
    turns(who)(async () => {
      await tick()
      done.push(`${who}${n}`)
      if (fails) throw new Error('the statement failed')
      return n
    })
  const many = Array.from({ length: 5 }, (_, n) => piece('a', n))
  const failing = piece('b', 0, true)
  const next = piece('b', 1)
  await tick()
  const late = piece('c', 0)
  await t.rejects(failing, /the statement failed/)
  const atOnce = turns('d')(() => {
    throw new Error('at once')
  })
  await t.rejects(atOnce, /at once/)
  t.strictSame(await Promise.all([...many, next, late]), [0, 1, 2, 3, 4, 1, 0])
  t.strictSame(done, ['a0', 'a1', 'b0', 'a2', 'c0', 'b1', 'a3', 'a4'])
})

void t.test('fair queue: a batch has a message of each author, in the order of each', (t) => {
  const sent = fc.array(
    fc.record({ author: fc.constantFrom('a', 'b', 'c'), bytes: fc.integer({ min: 200, max: 300_000 }) }),
  )
  fc.assert(
    fc.property(sent, fc.integer({ min: 3, max: 20 }), fc.integer({ min: 1, max: 4 }), (given, most, mebibytes) => {
      const queue = makeQueue()
      const all = given.map(
        ({ author, bytes }, n) => ({ entry: { author }, bytes, n }) as unknown as Pending & { n: number },
      )
      all.forEach(queue.push)
      const taken: (Pending & { n: number })[] = []
      while (queue.size > 0) {
        const waiting = new Set(all.filter((one) => !taken.includes(one)).map(({ entry }) => entry.author))
        const batch = queue.take(most, mebibytes * 1024 * 1024) as (Pending & { n: number })[]
        taken.push(...batch)
        const size = batch.reduce((sum, { bytes }) => sum + bytes, 0)
        if (batch.length === 0 || batch.length > most || size > mebibytes * 1024 * 1024) return false
        if (waiting.size !== new Set(batch.map(({ entry }) => entry.author)).size) return false
      }
      const order = (list: typeof taken, of: string) =>
        list.filter(({ entry }) => entry.author === of).map(({ n }) => n)
      return ['a', 'b', 'c'].every((of) => order(taken, of).join() === order(all, of).join())
    }),
  )
  t.pass()
  t.end()
})

void t.test('answers: one at a time for each subject; a limited number wait without delaying others', async (t) => {
  const { instance, database } = await startDeck(t, { poolMax: 12, limits: { answersWaiting: 3 } })
  const { id } = await makeMission(instance, { assigned_to: 'bob' })
  const mine = await makeMission(instance)
  const path = `/api/missions/${mine.id}/chat/rafael`
  t.equal((await instance.request('POST', path, alice, { message: 'x' })).status, 201)
  // Reads of this chat wait.
  const lock = await database.connect()
  await lock.query('begin; lock table chat_messages in access exclusive mode')
  const answers: Answer[] = []
  const asked = Array.from({ length: 8 }, async () => answers.push(await instance.request('GET', path, alice)))
  await until(() => answers.length === 4, 'the refused requests')
  for (const answer of answers)
    t.match([answer.status, answer.json['code'], answer.headers.get('retry-after')], [429, 'rate_limited', '1'])
  t.equal((await instance.request('GET', `/api/missions/${id}/tests`, bob)).status, 200, 'another subject is answered')
  await lock.query('commit')
  await Promise.all(asked)
  t.equal(answers.filter(({ status }) => status === 200).length, 4)
  t.equal((await instance.request('GET', path, alice)).status, 200)
})

void t.test('database connections: a subject that reads and searches leaves one to others', async (t) => {
  const { instance, database } = await startDeck(t, { poolMax: 6 })
  const { id } = await makeMission(instance, { assigned_to: 'bob' })
  const mine = await makeMission(instance)
  const path = `/api/missions/${mine.id}/chat/rafael`
  t.equal((await instance.request('POST', path, alice, { message: 'x' })).status, 201)
  // Reads and searches of chats wait.
  const lock = await database.connect()
  await lock.query('begin; lock table chat_messages in access exclusive mode')
  const asked = [path, `${path}?q=x`, `/api/missions/${mine.id}/search?q=x`].map((one) =>
    instance.request('GET', one, alice),
  )
  await until(
    async () =>
      (
        await database.query(
          `select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
        )
      ).length >= 1,
    'a statement to wait for the lock',
  )
  t.equal((await instance.request('GET', `/api/missions/${id}/tests`, bob)).status, 200, 'another subject is answered')
  const waiting = await database.query(
    `select query from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database() and query not like '%pg_stat_activity%'`,
  )
  t.ok(waiting.length <= 1, `${waiting.length} statements wait`)
  await lock.query('commit')
  for (const { status } of await Promise.all(asked)) t.equal(status, 200)
})

void t.test('turns: two subjects search at a time, each with one statement', async (t) => {
  const turns = makeTurns(2)
  const done: string[] = []
  const release: (() => void)[] = []
  const slow = turns('a')(async () => {
    await new Promise<void>((resolve) => release.push(resolve))
    done.push('a0')
  })
  const next = turns('a')(() => Promise.resolve(done.push('a1')))
  await turns('b')(() => Promise.resolve(done.push('b0')))
  await turns('b')(() => Promise.resolve(done.push('b1')))
  t.strictSame(done, ['b0', 'b1'], 'b does not wait for a')
  release[0]?.()
  await Promise.all([slow, next])
  t.strictSame(done, ['b0', 'b1', 'a0', 'a1'])
})

void t.test('answers: a request whose client disconnected leaves the queue', async (t) => {
  const { instance, database } = await startDeck(t)
  const { id } = await makeMission(instance)
  const path = `/api/missions/${id}/chat/rafael`
  const lock = await database.connect()
  await lock.query('begin; lock table chat_messages in access exclusive mode')
  const gone = new AbortController()
  const headers = { authorization: `Bearer ${alice}` }
  const asked = Array.from({ length: 20 }, () => fetch(instance.url + path, { headers, signal: gone.signal }))
  await until(
    async () =>
      (
        await database.query(
          `select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
        )
      ).length >= 1,
    'a statement to wait for the lock',
  )
  gone.abort()
  await Promise.allSettled(asked)
  await lock.query('commit')
  const after = await Promise.all(Array.from({ length: 20 }, () => instance.request('GET', path, alice)))
  t.ok(after.every(({ status }) => status === 200))
})

void t.test('answers: unread bytes count for their subject, and connections that stay unread are closed', async (t) => {
  const limits = { answersUnread: 8 * 1024 * 1024, httpSilence: 10_000 }
  const { instance, database } = await startDeck(t, { limits })
  const { id } = await makeMission(instance)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, code_blocks)
     select $1, 'rafael', 'user', 'x', jsonb_build_array(jsonb_build_object('language', null, 'code', repeat('x', 90000)))
     from generate_series(1, 50)`,
    [id],
  )
  const path = `/api/missions/${id}/chat/rafael?limit=500`
  const { port } = new URL(instance.url)
  const sockets = Array.from({ length: 4 }, () => {
    const socket = connect(Number(port), '127.0.0.1')
    socket.on('error', () => {})
    socket.pause()
    // Two responses are more than the kernel's buffers take.
    socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${alice}\r\n\r\n`.repeat(2))
    return socket
  })
  t.teardown(() => sockets.forEach((socket) => socket.destroy()))
  const plain = { 'accept-encoding': 'identity' }
  await until(
    async () => (await instance.request('GET', `/api/missions/${id}`, alice, undefined, plain)).status === 429,
    'the unread bytes to exceed the limit',
  )
  const other = await instance.request('GET', '/api/missions', bob)
  t.equal(other.status, 200, 'another subject is answered')
  await until(
    async () => (await instance.request('GET', `/api/missions/${id}`, alice, undefined, plain)).status === 200,
    'the unread connections to be closed',
  )
})
