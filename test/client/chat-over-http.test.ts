// The client without a socket: the whole history of a chat as an iterator, and its live events, also across cut connections.
import t, { type Test } from 'tap'
import { connect, type ChatEvent, type ConnectOptions, type Message } from '../../src/client/index.ts'
import { startWire } from '../support/socket-proxy.ts'
import { admin, alice, bob, makeMission, rafael, startDeck, until } from '../support/server.ts'
import { fill, long, longChat, newChat, range } from '../support/stream-readers.ts'

const { database, instance } = await startDeck(t)

/** A deck whose sockets never open. */
class NoSocket {
  addEventListener(type: string, listener: (event: { code: number }) => void): void {
    if (type === 'close') setImmediate(listener, { code: 1006 })
  }
  send(): void {}
  close(): void {}
}
const open = (t: Test, options: Partial<ConnectOptions> = {}) => {
  const deck = connect({ url: instance.url, token: alice, WebSocket: NoSocket, ...options })
  t.teardown(() => deck.close())
  return deck
}
/** Requests uncompressed answers. A compressed chat of one letter would arrive before the test can cut it. */
const plainly = () => {
  let asked = 0
  const fetcher = (url: string, init: RequestInit) => {
    asked++
    return fetch(url, { ...init, headers: { ...(init.headers as object), 'accept-encoding': 'identity' } })
  }
  return { fetch: fetcher, asked: () => asked }
}
const gather = async <T>(from: AsyncIterable<T>): Promise<T[]> => {
  const found: T[] = []
  for await (const item of from) found.push(item)
  return found
}
const seqsOf = (found: { seq: number }[]): number[] => found.map(({ seq }) => seq)

void t.test('messages(): reads the whole history, or with bounds and filters, until the loop ends', async (t) => {
  const { id } = await newChat(instance)
  await fill(database, id, 700)
  const chat = open(t).chat(id, 'rafael')
  t.strictSame(seqsOf(await gather(chat.messages())), range(1, 700))
  t.strictSame(seqsOf(await gather(chat.messages({ after: 10, before: 651 }))), range(11, 650))
  t.strictSame(seqsOf(await gather(chat.messages({ q: '"n 7"' }))), [7])
  t.strictSame(await gather(chat.messages({ before: 1 })), [])
  const { messages } = await chat.history({ before: 3 })
  t.strictSame(await gather(chat.messages({ before: 3 })), messages, 'the same rows as a page')
  let count = 0
  for await (const message of chat.messages()) if ((count = message.seq) === 5) break
  t.equal(count, 5)
  await t.rejects(gather(open(t, { token: bob }).chat(id, 'rafael').messages()), { code: 'not_found' })
  const stop = new AbortController()
  stop.abort(new Error('enough'))
  await t.rejects(gather(chat.messages({ signal: stop.signal })), /enough/)
})

void t.test('messages(): resumes after a cut, up to the latest seq of its start', async (t) => {
  const { id } = await longChat(instance, database)
  const wire = await startWire(t, instance.url)
  const found: Message[] = []
  const { fetch, asked } = plainly()
  for await (const message of open(t, { url: wire.url, fetch }).chat(id, 'rafael').messages()) {
    found.push(message)
    if (message.seq === 1) await fill(database, id, 3)
    if (message.seq === 100) wire.cut()
  }
  t.strictSame([seqsOf(found), asked()], [range(1, long), 2])
})

void t.test('messages(): rejects with conflict when the epoch changed during a cut', async (t) => {
  const { id } = await longChat(instance, database)
  const wire = await startWire(t, instance.url)
  const { fetch } = plainly()
  await t.rejects(
    async () => {
      for await (const { seq } of open(t, { url: wire.url, fetch }).chat(id, 'rafael').messages())
        if (seq === 50) {
          await database.query(`update deck.epoch_salt set salt = salt || 'x'`)
          wire.cut()
        }
    },
    { code: 'conflict' },
  )
})

void t.test('events(): follows a chat without a socket across a cut and a changed epoch', async (t) => {
  const { id } = await makeMission(instance)
  const wire = await startWire(t, instance.url)
  const say = (message: string) => instance.request('POST', `/api/missions/${id}/chat/rafael`, rafael, { message })
  const deck = open(t, { url: wire.url })
  const found: ChatEvent[] = []
  const stop = new AbortController()
  await say('1')
  const following = (async () => {
    for await (const event of deck.chat(id, 'rafael').events({ after: 0, signal: stop.signal })) found.push(event)
  })()
  const names = () => found.map(({ event, seq }) => `${seq} ${event}`)
  await until(() => found.length === 1, 'the first event')
  await say('2')
  await until(() => found.length === 2, 'a live event')
  wire.cut()
  await say('3')
  await instance.request('DELETE', `/api/missions/${id}/chat/rafael`, admin)
  await say('5')
  await until(() => found.at(-1)?.seq === 5, 'the events since the cut')
  t.strictSame(
    names().filter((name) => !name.startsWith('3')),
    ['1 message.created', '2 message.created', '4 chat.cleared', '5 message.created'],
  )
  t.match(found[0], { event: 'message.created', data: { message: '1', sender: 'citizen', seq: 1 } })
  found.length = 0
  await database.query(`update deck.epoch_salt set salt = salt || 'x'`)
  wire.cut()
  await until(() => found.length >= 3, 'the topic from its start')
  t.strictSame(names(), ['5 reset', '4 chat.cleared', '5 message.created'])
  stop.abort()
  await following
  t.not(deck.state, 'open', 'the deck had no socket')
  await t.rejects(gather(open(t, { token: bob }).chat(id, 'rafael').events()), { code: 'not_found' })
})

void t.test('logs(): reads the whole log of a run, or its last lines', async (t) => {
  const { id } = await makeMission(instance)
  const tests = open(t, { token: rafael }).tests(id)
  const run = await tests.create({ logs: 'one\ntwo\nthree\n' })
  t.equal(await tests.logs(run.id).read(), 'one\ntwo\nthree\n')
  t.equal(await tests.logs(run.id).read({ tail: 2 }), 'two\nthree\n')
})
