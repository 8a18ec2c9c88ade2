// The client against real instances: sends and subscriptions, also across lost connections.
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { connect, type ChatEvent, type ConnectOptions, type Deck, type Feed } from '../../src/client/index.ts'
import { table } from '../../src/client/state.ts'
import { buildClient } from '../support/client-bundle.ts'
import { startWire } from '../support/socket-proxy.ts'
import { admin, alice, makeMission, rafael, startDeck, startInstance, token, until } from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)

const open = (t: Test, options: Partial<ConnectOptions> = {}): Deck => {
  const deck = connect({ url: one.url, token: alice, ...options })
  t.teardown(deck.close)
  return deck
}
const is = (deck: Deck, state: string): Promise<void> => until(() => deck.state === state, state)
/** Reads the next `count` events. Returns the text of each message, or the name of any other event. */
const texts = async (feed: Feed<ChatEvent>, count: number): Promise<string[]> => {
  const found: string[] = []
  while (found.length < count) {
    const { value } = (await feed.next()) as { value: ChatEvent }
    found.push(value.event === 'message.created' ? value.data.message : value.event)
  }
  return found
}
const numbers = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, n) => `${from + n}`)

void t.test('states: the table has every event for every state, and closed is final', (t) => {
  const states = Object.keys(table) as (keyof typeof table)[]
  const events = ['welcome', 'lost', 'due', 'end'] as const
  for (const state of states)
    for (const event of events) {
      t.ok(states.includes(table[state][event]), `${state}, ${event}`)
      if (state === 'closed' || event === 'end') t.equal(table[state][event], 'closed')
    }
  t.end()
})

void t.test('client bundle: one file of at most 13 KiB (gzip), served with an ETag', async (t) => {
  const built = readFileSync(buildClient())
  t.ok(gzipSync(built, { level: 9 }).length <= 13 * 1024, `${gzipSync(built, { level: 9 }).length} bytes`)
  const others = Array.from(built.toString().matchAll(/\b(?:from|import)\b\s*\(?["'](\w*)/g), ([, name]) => name)
  t.same(others, ['ws'], 'it imports only ws, for runtimes without WebSocket')
  const { status, text, headers } = await one.request('GET', '/client/index.js')
  t.equal(status, 200)
  t.equal(text, built.toString())
  t.match(headers.get('content-type'), /^text\/javascript/)
  const etag = headers.get('etag') ?? ''
  const again = await one.request('GET', '/client/index.js', undefined, undefined, { 'if-none-match': etag })
  t.equal(again.status, 304)
  for (const path of ['/client/other.js', '/client/..%2findex.js', '/client/constructor'])
    t.match((await one.request('GET', path)).json, { code: 'not_found' }, path)
})

void t.test(
  'send queue: messages sent while disconnected go out in order after the reconnect, and none is missed',
  async (t) => {
    const wire = await startWire(t, one.url)
    const { id, number } = await makeMission(one)
    const deck = open(t, { url: wire.url })
    const follower = open(t, { url: wire.url })
    // One topic under two names by two followers of one deck: one subscription, and the same events for both.
    const feeds = [number, id].map((mission) => follower.chat(mission, 'rafael').follow({ after: 0 }))
    const chat = deck.chat(number, 'rafael')
    await chat.send('0')
    wire.refusing = true
    wire.cut()
    await is(deck, 'waiting')
    const sent = numbers(1, 50).map((text) => chat.send(text))
    wire.target = two.url
    wire.refusing = false
    t.same(
      (await Promise.all(sent)).map(({ seq, message }) => [seq, message]),
      numbers(1, 50).map((n) => [+n + 1, n]),
    )
    await two.request('POST', `/api/missions/${id}/chat/rafael`, admin, { message: '50' })
    for (const feed of feeds) t.same(await texts(feed, 51), numbers(0, 51))
    const late = follower.chat(id, 'rafael').follow()
    await late.ready
    await chat.send('51')
    for (const feed of [late, ...feeds]) t.same(await texts(feed, 1), ['51'])
  },
)

void t.test('send queue: a message whose answer is lost is sent again with its key and stored once', async (t) => {
  const wire = await startWire(t, one.url)
  const { id } = await makeMission(one)
  const deck = open(t, { url: wire.url })
  await is(deck, 'open')
  const sent = deck.chat(id, 'rafael').send('once', { code_blocks: [{ language: 'ts', code: 'x' }] })
  wire.swallow()
  await until(async () => {
    const { json } = await one.request('GET', `/api/missions/${id}/chat/rafael`, alice)
    return json['last_seq'] === 1
  }, 'the commit')
  wire.cut()
  t.match(await sent, { seq: 1, message: 'once', code_blocks: [{ language: 'ts', code: 'x' }] })
  const { messages } = await deck.chat(id, 'rafael').history()
  t.equal(messages.length, 1)
})

void t.test('send queue: has a bound; a queued send rejects when it is aborted or the deck is closed', async (t) => {
  const deck = open(t, { url: 'http://127.0.0.1:1', queue: { messages: 3, bytes: 1000 } })
  const chat = deck.chat(47, 'rafael')
  const giving = new AbortController()
  const first = chat.send('a', { key: 'mine' })
  const second = chat.send('b', { signal: giving.signal })
  await t.rejects(chat.send('x'.repeat(1000)), { code: 'overloaded' })
  const third = chat.send('c')
  await t.rejects(chat.send('d'), { code: 'overloaded' })
  giving.abort()
  await t.rejects(second, { name: 'AbortError' })
  const fourth = chat.send('d')
  deck.close()
  await t.rejects(first, { code: 'closed', key: 'mine' })
  await t.rejects(third, { code: 'closed' })
  await t.rejects(fourth, { code: 'closed' })
  await t.rejects(chat.send('e'), { code: 'closed' })
  await t.rejects(chat.history(), { code: 'closed' })
  t.equal(await deck.closed, undefined)
  t.same(await chat.follow({ after: 0 }).next(), { done: true, value: undefined })
})

void t.test('errors: a refusal of the server is a DeckError with its code', async (t) => {
  const { id } = await makeMission(one)
  const deck = open(t)
  const citizen = open(t, { token: rafael })
  await t.rejects(deck.chat(id, 'rafael').send(''), { name: 'DeckError', code: 'bad_request' })
  await t.rejects(deck.chat(id, 'No').send('x'), { code: 'bad_request' })
  await t.rejects(citizen.chat(id, 'emma').send('x'), { code: 'forbidden' })
  await t.rejects(deck.chat(999_999, 'rafael').send('x'), { code: 'not_found' })
  await t.rejects(deck.mission('../missions').get(), { code: 'bad_request' })
  await t.rejects(deck.chat(id, 'rafael').history({ limit: 0 }), { code: 'bad_request' })
  await t.rejects(deck.tests(id).latest(), { code: 'not_found' })
  await t.rejects(deck.chat(999_999, 'rafael').follow().next(), { code: 'not_found' })
  await t.rejects(deck.chat(id, 'rafael').cancel('none'), { code: 'not_found' })
  t.throws(() => connect({ url: 'ftp://x', token: alice }), { code: 'bad_request' })
  // A message that is too large for a frame is sent by HTTP.
  const long = [{ language: null, code: '\u0001'.repeat(100_000) }]
  t.match(await deck.chat(id, 'rafael').send('long', { code_blocks: long }), { seq: 1, code_blocks: long })
})

void t.test(
  'token function: is called before each connect and each expiry; a refused string closes the deck',
  async (t) => {
    const { id } = await makeMission(one)
    let asked = 0
    const short = open(t, { token: () => (asked++, token({ sub: 'alice', role: 'user' }, 3)) })
    const session = (await short.chat(id, 'rafael').send('a'), short.welcome?.session)
    // The connection outlives its first token.
    await until(() => asked >= 4, 'fresh tokens', 15_000)
    await short.chat(id, 'rafael').send('b')
    t.equal(short.welcome?.session, session)
    t.equal(short.state, 'open')

    const refused = open(t, { token: 'ey.no.token' })
    t.match(await refused.closed, { code: 'unauthorized' })
    t.equal(refused.state, 'closed')
    await t.rejects(refused.chat(id, 'rafael').send('x'), { code: 'unauthorized' })
    const noToken = open(t, { token: 'a secret, and no token' })
    t.notMatch(JSON.stringify([await noToken.closed, String(await noToken.closed)]), /secret/)
    let tries = 0
    const twice = open(t, { token: () => (tries++, 'ey.no.token') })
    t.match(await twice.closed, { code: 'unauthorized' })
    t.equal(tries, 2)
    let third = 0
    const renewed = open(t, { token: () => (++third === 1 ? 'ey.no.token' : alice) })
    await is(renewed, 'open')
    t.equal(third, 2)
  },
)

void t.test('follow: a slow reader buffers a limited number of events and gets them all', async (t) => {
  const { id } = await makeMission(one)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     select $1, 'rafael', 'user', n::text from generate_series(0, 499) n`,
    [id],
  )
  const deck = open(t)
  const slow = deck.chat(id, 'rafael').follow({ after: 0, buffer: 20 })
  // A second follower of the same topic reads every event meanwhile.
  const quick = deck.chat(id, 'rafael').follow({ after: 0, buffer: 1000 })
  t.same(await texts(quick, 500), numbers(0, 500))
  for (let n = 0; n < 5; n++) t.same(await texts(slow, 100), numbers(n * 100, n * 100 + 100))
  await deck.chat(id, 'rafael').send('500')
  t.same(await texts(slow, 1), ['500'])
  t.same(await texts(quick, 1), ['500'])
})

void t.test('follow: ends with its signal, with break, and with an error when access is lost', async (t) => {
  const { id } = await makeMission(one)
  const deck = open(t)
  const chat = deck.chat(id, 'rafael')
  const ending = new AbortController()
  const aborted = chat.follow({ after: 0, signal: ending.signal })
  const waiting = aborted.next()
  await aborted.ready
  ending.abort()
  t.same(await waiting, { done: true, value: undefined })
  t.same(await chat.follow({ signal: ending.signal }).next(), { done: true, value: undefined })
  await t.rejects(chat.history({ signal: ending.signal }), { name: 'AbortError' })

  await chat.send('0')
  for await (const event of chat.follow({ after: 0 })) {
    t.match(event, { seq: 1, event: 'message.created', data: { message: '0', author: 'alice' } })
    break
  }
  const received: string[] = []
  const faults: unknown[] = []
  deck.on('error', (error) => faults.push(error))
  const off = chat.on('message.created', ({ data }) => received.push(data.message), { after: 0 })
  chat.on('message.created', ({ data }) => received.push(`2: ${data.message}`))
  await until(() => received.length > 0, 'the first message')
  off()
  await chat.send('1')
  await until(() => received.length > 1, 'the second message')
  t.same(received, ['0', '2: 1'])
  const mission = deck.mission(id).follow()
  const lost = chat.follow()
  await Promise.all([lost.ready, mission.ready])
  await one.request('PATCH', `/api/missions/${id}`, admin, { assigned_to: 'bob' })
  await t.rejects(lost.next(), { code: 'not_found' })
  await until(() => faults.length > 0, 'the error at the listener')
  t.match(faults, [{ code: 'not_found' }])
})

void t.test(
  'follower: receives reset, then the topic from its start, when its cursor does not match the database',
  async (t) => {
    const { id } = await makeMission(one)
    const deck = open(t)
    const chat = deck.chat(id, 'rafael')
    await chat.send('0')
    await chat.send('1')
    const { epoch } = await chat.history()
    t.same(await texts(chat.follow({ after: 2, epoch: 'another' }), 3), ['reset', '0', '1'])
    t.same(await texts(chat.follow({ after: 7, epoch }), 3), ['reset', '0', '1'])
    const other = deck.chat(id, 'emma')
    t.same(await texts(other.follow({ after: 5 }), 1), ['reset'])
    const right = chat.follow({ after: 1, epoch })
    t.same(await texts(right, 1), ['1'])
  },
)

void t.test('reply: is visible on both instances while it is written, survives cuts and is stored once', async (t) => {
  const wire = await startWire(t, one.url)
  const { id } = await makeMission(one)
  const agent = open(t, { url: wire.url, token: rafael })
  const watcher = open(t, { url: two.url })
  const seen: string[] = []
  watcher.chat(id, 'rafael').on('draft', ({ text }) => seen.push(text))
  const feed = watcher.chat(id, 'rafael').follow({ after: 0, signals: true })
  await feed.ready
  const writer = agent.chat(id, 'rafael').stream()
  const parts = Array.from({ length: 60 }, (_, n) => `word ${n} 🎛 `)
  for (const [n, part] of parts.entries()) {
    writer.write(part.slice(0, -2))
    writer.write(part.slice(-2))
    if (n % 20 === 10) {
      const before = writer.text.length
      await until(() => (seen.at(-1)?.length ?? 0) >= before - 1, 'the written text at the watcher')
      wire.target = n % 40 === 10 ? two.url : one.url
      wire.cut()
    }
  }
  const message = await writer.done()
  t.equal(message.message, parts.join(''))
  t.equal(message.key, writer.key)
  for (const text of seen) t.ok(parts.join('').startsWith(text), 'each draft is a prefix of the reply')
  for await (const event of feed) if (event.event === 'message.created') break
  t.equal((await watcher.chat(id, 'rafael').history()).messages.length, 1)
  await t.rejects(writer.done(), { code: 'conflict' })
  // A key that has become a message returns that message.
  const again = agent.chat(id, 'rafael').stream(writer.key)
  again.write('something else')
  t.same(await again.done(), message)
})

void t.test('reply: can be cancelled, aborted and taken over; the writer that lost it gets conflict', async (t) => {
  const { number, id } = await makeMission(one)
  const agent = open(t, { token: rafael })
  const rival = open(t, { url: two.url, token: rafael })
  const user = open(t, { url: two.url })
  const feed = user.chat(id, 'rafael').follow({ signals: true })
  await feed.ready
  const writer = agent.chat(number, 'rafael').stream()
  writer.write('Once upon')
  t.match((await feed.next()).value, { event: 'draft', text: 'Once upon', key: writer.key, citizen: 'rafael' })
  await user.chat(number, 'rafael').cancel(writer.key)
  await until(() => writer.signal.aborted, 'the cancel at the writer')
  t.match(writer.signal.reason, { code: 'cancelled' })
  await writer.abort()
  t.match((await feed.next()).value, { event: 'aborted', key: writer.key })

  const first = agent.chat(id, 'rafael').stream('shared')
  first.write('one')
  t.match((await feed.next()).value, { text: 'one' })
  const second = rival.chat(id, 'rafael').stream('shared')
  // Longer than the first text. A writer that continues at the stored offset would take the draft back.
  second.write('two'.padEnd(9000))
  t.match((await feed.next()).value, { text: /^two/, offset: 0 })
  await until(() => {
    // The first instance learns of the takeover when it reads the draft again.
    if (!first.signal.aborted) first.write('.')
    return first.signal.aborted
  }, 'the conflict at the first writer')
  t.match(first.signal.reason, { code: 'conflict' })
  t.throws(() => first.write('!'), { code: 'conflict' })
  await t.rejects(first.done(), { code: 'conflict' })
  t.match(await second.done({ message: 'two, whole' }), { message: 'two, whole' })
})

void t.test('client: typing, read positions, checklist, runs, logs, missions and their list', async (t) => {
  const { id, number } = await makeMission(one)
  const user = open(t)
  const root = open(t, { url: two.url, token: admin })
  const citizen = open(t, { url: two.url, token: rafael })
  const signals = user.chat(id, 'rafael').follow({ signals: true })
  const [dod, tests, mission, list] = [
    user.dod(number).follow({ after: 0 }),
    user.tests(number).follow({ after: 0 }),
    user.mission(number).follow(),
    user.missions.follow(),
  ]
  await Promise.all([signals.ready, dod.ready, tests.ready, mission.ready, list.ready])
  const chat = citizen.chat(id, 'rafael')
  await chat.send('hello')
  t.match((await signals.next()).value, { event: 'message.created', seq: 1 })
  chat.typing(true)
  t.match((await signals.next()).value, { event: 'typing', sub: 'rafael', on: true })
  t.match(await user.mission(id).channels(), [{ citizen: 'rafael', unread: 1, read_seq: 0 }])
  t.equal(await user.chat(id, 'rafael').read(1), 1)
  t.match(await user.mission(id).channels(), [{ unread: 0, read_seq: 1 }])
  t.match(await user.mission(id).search('Hello', { kind: 'message' }), {
    hits: [{ kind: 'message', seq: 1, snippet: { text: 'hello', hits: [[0, 5]] } }],
    next: null,
  })
  const { messages } = await user.chat(id, 'rafael').history({ q: 'hello', highlight: true, order: 'rank' })
  t.match(messages, [{ message: 'hello', snippet: { matches: [[0, 5]] } }])

  const item = await citizen.dod(id).add({ text: 'It runs', category: 'tests' })
  t.match((await dod.next()).value, { seq: 1, event: 'dod_item.created', data: { id: item.id } })
  t.match(await user.dod(id).set(item.id, true), { item: { completed: true }, progress: { completed: 1, total: 1 } })
  t.match(await user.dod(id).reset(), { items: [{ completed: false }] })
  const named = await citizen.dod(id).add({ text: 'It is tested', category: 'tests', test_name: 'a' })
  await t.rejects(user.dod(id).set(named.id, true), { code: 'conflict' })
  await t.rejects(user.dod(id).complete({ override: 'x' }), { code: 'forbidden' })
  const keeper = open(t, { token: admin })
  t.match(await keeper.dod(id).set(named.id, { completed: true, override: 'x' }), {
    item: { override: { by: 'root' } },
  })
  await keeper.dod(id).remove(named.id)
  t.match(await user.dod(id).complete(), { progress: { completed: 1 } })
  t.match((await mission.next()).value, { event: 'mission.updated', data: { status: 'qa' } })
  t.match((await list.next()).value, { event: 'missions.changed', mission: id })
  await t.rejects(user.dod(id).remove(item.id), { code: 'forbidden' })
  t.match(await root.dod(id).remove(item.id), { progress: { total: 0 } })
  t.match(await user.dod(id).list(), { items: [] })

  t.match(await user.tests(id).run(), { status: 'running' })
  const run = await citizen.tests(id).create({ logs: 'begin\n' })
  t.match(await user.tests(id).diff(run.id, run.id), {
    a: { id: run.id },
    newly_failing: [],
    between: { messages: [] },
  })
  const log = user.tests(number).logs(run.id)
  const followed = log.follow({ after: 0 })
  await followed.ready
  await citizen.tests(id).logs(run.id).append('end\n')
  t.match((await followed.next()).value, { event: 'log.appended', seq: 1, data: { chunk: 'begin\n' } })
  t.match((await followed.next()).value, { event: 'log.appended', seq: 2, data: { chunk: 'end\n' } })
  t.equal(await log.read(), 'begin\nend\n')
  t.match(await citizen.tests(id).update(run.id, { status: 'passed', summary: { ok: 1 } }), { status: 'passed' })
  for (const event of ['test_run.created', 'test_run.created', 'test_run.updated'])
    t.match((await tests.next()).value, { event })
  t.match(await user.tests(id).latest(), { id: run.id })
  t.match(await user.tests(id).get(run.id), { summary: { ok: 1 } })
  t.equal((await user.tests(id).list({ limit: 1 })).test_runs.length, 1)

  const made = await root.missions.create({
    title: 'Another',
    client: 'Acme',
    budget: 1,
    deadline: '2030-01-01T00:00:00Z',
    assigned_to: 'carol',
  })
  t.match(await root.mission(made.number).patch({ title: 'Other' }), { title: 'Other' })
  t.match(await root.missions.list({ assigned_to: 'carol' }), { missions: [{ title: 'Other' }], next: null })
  await root.chat(id, 'rafael').clear()
  await root.mission(made.id).remove()
  await t.rejects(root.mission(made.id).get(), { code: 'not_found' })
  t.match((await signals.next()).value, { event: 'chat.cleared', seq: 2, data: { by: 'root' } })
})
