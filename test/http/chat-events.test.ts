// A chat as an event stream: its history, then live events, in order, without a gap and from the reader's seq.
// It ends with the token, the rights or the server. A reader that stalls does not delay others.
import { createServer, get, request as ask, type IncomingMessage, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import { connect as connectTcp, type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { refused } from '../support/forms.ts'
import {
  admin,
  alice,
  bob,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  token,
  until,
  type Json,
} from '../support/server.ts'
import type { Door } from '../support/server.ts'
import { fill, newChat, range } from '../support/stream-readers.ts'

const accept = { accept: 'text/event-stream' }
const { database, instance } = await startDeck(t)
const { request } = instance

type Received = { id: number; event: string; data: Json }
type Reader = {
  response: IncomingMessage
  events: Received[]
  comments: string[]
  retries: number[]
  /** Whether the stream ended. The body ends with its connection, so Node's client can't see a cut. */
  over: boolean
  seqs(): number[]
}

/** Adds a block to its reader. Fails unless it is an event, a comment or a retry time. */
const take = (t: Test, block: string, { events, comments, retries }: Reader): void => {
  const event = /^id: (\d+)\nevent: ([a-z_.]+)\ndata: ([^\r\n]+)$/.exec(block)
  const other = /^(?:retry: (\d+)\n)?: ([^\r\n]*)$/.exec(block)
  if (event) events.push({ id: Number(event[1]), event: event[2] ?? '', data: JSON.parse(event[3] ?? '') as Json })
  else if (other) {
    if (other[1] !== undefined) retries.push(Number(other[1]))
    comments.push(other[2] ?? '')
  } else t.fail('no event, comment or retry time', { block })
}

const follow = async (
  t: Test,
  { url }: Door,
  path: string,
  { bearer = alice, lazy = false, ...headers }: { bearer?: string; lazy?: boolean; 'last-event-id'?: string } = {},
): Promise<Reader> => {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const all = { ...accept, authorization: `Bearer ${bearer}`, ...headers }
    get(url + path, { agent: false, headers: all }, resolve).on('error', reject)
  })
  t.teardown(() => response.destroy())
  t.equal(response.statusCode, 200)
  const reader: Reader = {
    response,
    events: [],
    comments: [],
    retries: [],
    over: false,
    seqs: () => reader.events.map(({ id }) => id),
  }
  let rest = ''
  response.on('error', () => {}).on('close', () => (reader.over = true))
  const read = (): void => {
    response.setEncoding('utf8').on('data', (chunk: string) => {
      const blocks = (rest + chunk).split('\n\n')
      rest = blocks.pop() ?? ''
      for (const block of blocks) take(t, block, reader)
    })
  }
  if (!lazy) read()
  return reader
}

const has = (reader: Reader, count: number, what = 'the events'): Promise<void> =>
  until(() => reader.events.length >= count, what)
const ended = (reader: Reader, what: string): Promise<void> => until(() => reader.over, what)
const say = async (chat: string, message: string): Promise<Json> =>
  (await request('POST', chat, alice, { message })).json

void t.test('event stream: sends history, then live events, in order, without a gap, on two instances', async (t) => {
  const other = await startInstance(t, database.url)
  const { id, number, chat } = await newChat(instance)
  await fill(database, id, 450, `E'n\\n' || n || E'\\r\\n\\ndata: x\\r\\u2028😀'`)
  const readers = await Promise.all(
    [instance, other].flatMap((door) => [
      follow(t, door, `${chat}?after=0`),
      follow(t, door, `/api/missions/${number}/chat/rafael?after=120`, { bearer: rafael }),
    ]),
  )
  const write = async (door: Door, path: string): Promise<void> => {
    for (let n = 0; n < 50; n++) await door.request('POST', path, alice, { message: `live\n${n}` })
  }
  await Promise.all([write(instance, chat), write(other, chat), fill(database, id, 50)])
  for (const [n, reader] of readers.entries()) {
    await until(() => reader.seqs().at(-1) === 600, 'all of it')
    t.strictSame(reader.seqs(), range(n % 2 ? 121 : 1, 600))
    t.ok(reader.events.every(({ event, data, id }) => event === 'message.created' && data['seq'] === id))
  }
  const { json } = await request('GET', `${chat}?after=0&limit=500`, alice)
  t.strictSame(
    readers[0]?.events.slice(0, 500).map(({ data }) => data),
    json['messages'],
    'the rows of the history',
  )
  const { headers } = readers[0]?.response as IncomingMessage
  t.match(headers, {
    'content-type': /^text\/event-stream/,
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
    'deck-last-seq': '450',
    'deck-epoch': json['epoch'],
  })
  t.notOk(headers['content-encoding'])
  t.ok(headers['x-content-type-options'], 'with the security headers')
})

type Middleware = (request: IncomingMessage, response: ServerResponse, next: () => void) => void
const compression = createRequire(import.meta.url)('compression') as (options: {
  threshold: number
  filter: () => boolean
}) => Middleware

void t.test('streams: pass a proxy with the compression middleware of Express without delay', async (t) => {
  // The middleware compresses every answer unless its headers forbid it.
  const compress = compression({ threshold: 0, filter: () => true })
  const proxy = createServer((request, response) => {
    compress(request, response, () => {
      const { method, url, headers } = request
      const onward = ask(instance.url + url, { method, headers, agent: false }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      })
      request.pipe(onward.on('error', () => response.destroy()))
      response.on('close', () => onward.destroy())
    })
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    proxy.close()
    proxy.closeAllConnections()
  })
  const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
  const read = async (path: string, wanted: Record<string, string>) => {
    const headers = { authorization: `Bearer ${alice}`, ...wanted }
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      get(url + path, { agent: false, headers }, resolve).on('error', reject)
    })
    t.teardown(() => answer.destroy())
    let text = ''
    answer
      .on('error', () => {})
      .setEncoding('utf8')
      .on('data', (chunk: string) => (text += chunk))
    return { headers: answer.headers, text: () => text }
  }
  const { id, chat } = await newChat(instance)
  await request('POST', chat, alice, { message: 'the history' })
  const packed = { 'accept-encoding': 'gzip' }
  t.equal((await read('/api/missions', packed)).headers['content-encoding'], 'gzip', 'a page is compressed')

  const events = await read(chat, { ...accept, ...packed })
  await until(() => events.text().includes('the history'), 'the history')
  await request('POST', chat, alice, { message: 'what comes live' })
  await until(() => events.text().includes('what comes live'), 'an event')
  // The last event is half an hour after the first ones.
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, created_at)
     select $1, 'rafael', 'user', 'much later', (now() at time zone 'utc') + interval '30 minutes'`,
    [id],
  )
  const replay = await read(`/api/missions/${id}/timeline?speed=0.1&gap=3600`, { ...accept, ...packed })
  await until(() => replay.text().includes('the history'), 'the first event of a replay')
  const lines = await read(chat, { accept: 'application/x-ndjson' })
  await until(() => lines.text().includes('what comes live'), 'the lines')
  for (const { headers } of [events, replay, lines]) {
    t.match(headers, { 'cache-control': 'no-cache, no-transform', 'x-accel-buffering': 'no' })
    t.notOk(headers['content-encoding'])
  }
})

void t.test('event stream: begins with the newest 50; Last-Event-ID resumes and overrides after', async (t) => {
  const { id, chat } = await newChat(instance)
  const none = await follow(t, instance, chat)
  await fill(database, id, 70)
  const newest = await follow(t, instance, chat)
  const resumed = await follow(t, instance, `${chat}?after=5`, { 'last-event-id': '67' })
  const zero = await follow(t, instance, `${chat}?after=69`, { 'last-event-id': '0' })
  const late = await follow(t, instance, `${chat}?after=70`)
  await say(chat, 'the last')
  for (const reader of [none, newest, resumed, zero, late])
    await until(() => reader.seqs().at(-1) === 71, 'the last message')
  t.strictSame(none.seqs(), range(1, 71), 'an empty chat: all later messages')
  t.strictSame(newest.seqs(), range(21, 71))
  t.strictSame(resumed.seqs(), [68, 69, 70, 71])
  t.strictSame(zero.seqs(), range(1, 71))
  t.strictSame(late.seqs(), [71])
})

void t.test('event stream: chat.cleared is sent live and to a reader that resumes from an earlier seq', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 3)
  const live = await follow(t, instance, chat)
  await has(live, 3)
  t.equal((await request('DELETE', chat, admin)).status, 204)
  await say(chat, 'anew')
  await has(live, 5)
  const cleared = { id: 4, event: 'chat.cleared', data: { mission_id: id, citizen: 'rafael', by: 'root', seq: 4 } }
  t.match(live.events[3], cleared)
  const resumed = await follow(t, instance, chat, { 'last-event-id': '2' })
  await has(resumed, 2)
  t.match(resumed.events, [cleared, { id: 5, event: 'message.created' }])
  const anew = await follow(t, instance, chat)
  await has(anew, 1)
  t.strictSame(anew.seqs(), [5], 'the newest messages')
})

void t.test(
  'event stream: gets events only; a socket that subscribes later on its instance gets the whole draft',
  async (t) => {
    const elsewhere = await startInstance(t, database.url)
    const { id, chat } = await newChat(instance)
    const topic = `missions/${id}/chat/rafael`
    const beside = `missions/${id}/chat/emma`
    const reader = await follow(t, instance, chat)
    const writer = await elsewhere.connect(rafael)
    const first = await instance.connect(alice)
    await first.ask({ type: 'subscribe', topic, presence: true })
    t.match(await writer.ask({ type: 'stream', topic, key: 'k', delta: 'one ' }), { type: 'ok' })
    await first.frame(({ type }) => type === 'delta', 'the delta')
    await first.ask({ type: 'unsubscribe', topic })
    t.match(await writer.ask({ type: 'stream', topic, key: 'k', delta: 'two ' }), { type: 'ok' })
    // When the later message on `beside` arrives, this instance has already skipped the second delta.
    await until(
      async () => (await database.query(`select from deck.drafts where text = 'one two '`)).length === 1,
      'the draft',
    )
    await first.ask({ type: 'subscribe', topic: beside })
    await elsewhere.request('POST', `/api/${beside}`, alice, { message: 'by the way' })
    await until(() => first.events(beside).length === 1, 'the later message')
    const second = await instance.connect(alice)
    await second.ask({ type: 'subscribe', topic, presence: true })
    await second.ask({ type: 'typing', topic, on: true })
    const text = (): string =>
      second.frames
        .filter(({ type }) => type === 'delta')
        .reduce((all, { offset, delta }) => all.slice(0, Number(offset)) + String(delta), '')
    await until(() => text() === 'one two ', 'the text so far')
    await writer.ask({ type: 'stream', topic, key: 'k', done: true })
    await has(reader, 1)
    t.match(reader.events, [{ id: 1, event: 'message.created', data: { message: 'one two ', key: 'k' } }])
    await until(() => second.events(topic).length === 1, 'the event')
    t.strictSame(reader.events[0]?.data, second.events(topic)[0]?.data, 'the same row')
    const people = await second.frame(({ type }) => type === 'presence', 'the presence')
    t.match(people['subs'], [{ sub: 'alice', sockets: 1 }], 'a reader of a stream is not in the presence')
  },
)

void t.test('event stream: sends comments at its interval while there are no events', async (t) => {
  const { chat } = await newChat(instance)
  const talking = await startInstance(t, database.url, { limits: { commentEvery: 100 } })
  const since = performance.now()
  const reader = await follow(t, talking, chat)
  await until(() => reader.comments.length >= 5, 'comments')
  const most = (performance.now() - since) / 100 + 1
  t.ok(reader.comments.length <= most, `${reader.comments.length} of ${most}`)
  t.strictSame(reader.events, [])
})

void t.test('event stream: ends within 2 s of the loss of access and delivers nothing later', async (t) => {
  const revoked = await token({ sub: 'alice', role: 'user', jti: 'out' })
  const short = await token({ sub: 'alice', role: 'user' }, 2)
  const end = Date.now() + 2000
  const ends: [what: string, bearer: string, why: RegExp, end: (id: string) => Promise<unknown>][] = [
    ['an expired token', short, /token/, () => until(() => Date.now() >= end, 'its expiry')],
    ['a revoked token', revoked, /token/, () => database.query(`select deck.revoke('out')`)],
    [
      'a re-assignment',
      alice,
      /no such mission/,
      (id) => database.query(`update missions set assigned_to = 'bob' where id = $1`, [id]),
    ],
    ['a deleted mission', admin, /no such mission/, (id) => request('DELETE', `/api/missions/${id}`, admin)],
    ['another epoch', alice, /epoch/, () => database.query(`update deck.epoch_salt set salt = salt || 'x'`)],
  ]
  for (const [what, bearer, why, cut] of ends) {
    const { id, chat } = await newChat(instance)
    await fill(database, id, 3)
    const reader = await follow(t, instance, `${chat}?after=1`, { bearer })
    await has(reader, 2)
    await cut(id)
    const since = performance.now()
    // A re-assigned mission must not deliver the new row. The read for this row finds the new epoch.
    if (!what.startsWith('a deleted') && !what.endsWith('token')) await fill(database, id, 1)
    await ended(reader, what)
    const took = performance.now() - since
    t.ok(took < 2000, `${what}: ${Math.round(took)} ms`)
    t.match(reader.comments.at(-1), why)
    t.strictSame(reader.seqs(), [2, 3], what)
  }
  await until(
    async () => (await request('GET', '/metrics')).text.includes('\ndeck_event_streams 0\n'),
    'no stream to be left',
  )
})

void t.test('event stream: a reader that reads nothing is cut, delays no other, and can resume', async (t) => {
  const { id, chat } = await newChat(instance)
  const cuts: string[] = []
  const bounded = await startInstance(t, database.url, { limits: { outboxBytes: 3_000_000 } }, (line) => {
    if (line.includes('an event stream was reset')) cuts.push((JSON.parse(line) as { why: string }).why)
  })
  const lazy = await follow(t, bounded, `${chat}?after=0`, { lazy: true })
  const quick = await follow(t, bounded, `${chat}?after=0`)
  let count = 0
  let most = 0
  const waiting = async (): Promise<number> => {
    const { text } = await bounded.request('GET', '/metrics')
    return Number(/^deck_outbox_bytes (\d+)/m.exec(text)?.[1])
  }
  while (cuts.length === 0 && count < 6000) {
    await fill(database, id, 50, `rpad(n || ' ', 10000, 'x')`)
    count += 50
    await until(() => quick.events.length === count, 'the quick reader to have it')
    most = Math.max(most, await waiting())
  }
  t.strictSame(cuts, ['too slow'])
  t.ok(most > 0 && most <= 2 * 3_000_000, `${most} bytes waited`)
  t.equal(await waiting(), 0, 'its buffer is freed')
  t.strictSame(quick.seqs(), range(1, count))
  lazy.response.resume()
  await ended(lazy, 'the cut')
  const back = await follow(t, bounded, chat, { 'last-event-id': String(count - 30) })
  await has(back, 30)
  t.strictSame(back.seqs(), range(count - 29, count))
})

void t.test('event stream: a reader that stalls while it catches up is cut', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 1500, `rpad(n || ' ', 10000, 'x')`)
  const cuts: string[] = []
  // (Longer than a busy machine holds up the reader that reads.)
  const hasty = await startInstance(t, database.url, { limits: { silence: 2000, commentEvery: 500 } }, (line) => {
    if (line.includes('an event stream was reset')) cuts.push(line)
  })
  const lazy = await follow(t, hasty, `${chat}?after=0`, { lazy: true })
  const patient = await follow(t, hasty, `${chat}?after=0`)
  await until(() => cuts.length === 1, 'the cut')
  t.match(cuts[0], /stalled/)
  await has(patient, 1500)
  t.strictSame([patient.seqs(), patient.over], [range(1, 1500), false])
  lazy.response.resume()
  await ended(lazy, 'the end')
})

void t.test('event stream: ends at once when the instance stops, with retry times spread over seconds', async (t) => {
  const { id, chat } = await newChat(instance)
  const calm = await startInstance(t, database.url, { limits: { writeDeadline: 20_000 } })
  const readers = await Promise.all(range(1, 10).map(() => follow(t, calm, chat)))
  await fill(database, id, 1)
  await Promise.all(readers.map((reader) => has(reader, 1)))
  const since = performance.now()
  await calm.close()
  t.ok(performance.now() - since < 5000, `${Math.round(performance.now() - since)} ms`)
  for (const reader of readers) await ended(reader, 'the end')
  const waits = readers.map(({ retries }) => retries)
  t.ok(
    waits.every(([wait = 0]) => wait >= 1000 && wait <= 5000),
    JSON.stringify(waits),
  )
  t.ok(new Set(waits.flat()).size > 3, 'not all at once')
  t.strictSame(
    readers.map((reader) => reader.seqs()),
    range(1, 10).map(() => [1]),
  )
})

void t.test('event stream: a bad request is refused before anything is streamed', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 2)
  const ask = (path: string, bearer?: string, more: Record<string, string> = {}) =>
    request('GET', path, bearer, undefined, { ...accept, ...more })
  for (const query of [
    '?before=2',
    '?limit=10',
    '?limit=10&after=1',
    '?after=-1',
    '?after=x',
    '?after=9007199254740992',
  ])
    refused(t, await ask(chat + query, alice), 400, 'bad_request', query)
  for (const last of ['x', '-1', '1.5', '1e3', '9007199254740992', '99999999999999999'])
    refused(t, await ask(chat, alice, { 'last-event-id': last }), 400, 'bad_request', `Last-Event-ID ${last}`)
  const { json: page } = await request('GET', chat, alice)
  const conflict = { code: 'conflict', seq: 2, epoch: page['epoch'] }
  for (const [path, headers] of [
    [`${chat}?after=3`, {}],
    [`${chat}?after=1`, { 'last-event-id': '3' }],
    [`${chat}?after=1&epoch=another`, {}],
    [`${chat}?epoch=another`, {}],
  ] as const) {
    const answer = await ask(path, alice, headers)
    t.equal(answer.status, 409, path)
    t.match(answer.json, conflict)
  }
  refused(t, await ask(chat), 401, 'unauthorized', 'no token')
  refused(
    t,
    await ask(chat, await token({ sub: 'alice', role: 'user' }, -2)),
    401,
    'unauthorized',
    'a token that just expired',
  )
  refused(t, await ask(chat, bob), 404, 'not_found', "another user's mission")
  refused(t, await ask(`/api/missions/${crypto.randomUUID()}/chat/rafael`, admin), 404, 'not_found', 'no mission')
  refused(t, await ask(`/api/missions/${id}/chat/Rafael`, admin), 400, 'bad_request', 'no name')
  const known = await follow(t, instance, `${chat}?after=1&epoch=${String(page['epoch'])}`)
  await has(known, 1)
  t.strictSame(known.seqs(), [2])
  const head = await request('HEAD', chat, alice, undefined, accept)
  t.strictSame([head.status, head.text, head.headers.get('deck-last-seq')], [200, '', '2'], 'HEAD streams nothing')
  t.match(head.headers.get('content-type'), /^text\/event-stream/)
})

void t.test('event stream: limited for each subject and in all; an ended stream frees its place', async (t) => {
  const { id } = await makeMission(instance)
  const chat = `/api/missions/${id}/chat/rafael`
  const small = await startInstance(t, database.url, { limits: { streams: 3, streamsPerSubject: 2 } })
  const [first] = await Promise.all([follow(t, small, chat), follow(t, small, chat)])
  const ask = (bearer: string) => small.request('GET', chat, bearer, undefined, accept)
  refused(t, await ask(alice), 503, 'unavailable', "alice's third stream")
  refused(
    t,
    await small.request('GET', chat, bob, undefined, accept),
    404,
    'not_found',
    'a refused request takes no place',
  )
  await follow(t, small, chat, { bearer: admin })
  refused(t, await ask(rafael), 503, 'unavailable', 'the fourth stream')
  first?.response.destroy()
  await until(async () => (await small.request('HEAD', chat, alice, undefined, accept)).status === 200, 'room again')
  t.equal((await small.request('GET', chat, alice)).status, 200, 'pages do not count')
})

void t.test('event stream: HTTP/1.0 clients can read it, and the body has events only', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 2)
  const { hostname, port } = new URL(instance.url)
  const old = connectTcp(Number(port), hostname)
  t.teardown(() => old.destroy())
  let text = ''
  old.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  old.write(`GET ${chat} HTTP/1.0\r\nauthorization: Bearer ${alice}\r\naccept: text/event-stream\r\n\r\n`)
  await until(() => /id: 2\n[^]*\n\n$/.test(text), 'the history')
  const [head = '', body = ''] = text.split('\r\n\r\n')
  t.match(head, /connection: close/i)
  t.notMatch(head, /transfer-encoding|content-length/i)
  t.match(body, /^id: 1\nevent: message\.created\ndata: \{.*\}\n\nid: 2\nevent: message\.created\ndata: \{.*\}\n\n$/)
})
