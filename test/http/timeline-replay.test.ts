// Timeline replay: the same events at their original pace. A cut replay can be resumed; a lost right ends it.
// test/long/time-machine.ts replays a recorded mission of ten minutes.
import { get, type IncomingMessage } from 'node:http'
import t, { type Test } from 'tap'
import { connect, type TimelineEvent } from '../../src/client/index.ts'
import { toCursor } from '../../src/protocol/timeline.ts'
import { startWire } from '../support/socket-proxy.ts'
import { refused } from '../support/forms.ts'
import {
  admin,
  alice,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  token,
  until,
  type Instance,
  type Json,
} from '../support/server.ts'
import { longChat } from '../support/stream-readers.ts'

const { instance, database } = await startDeck(t, { limits: { commentEvery: 100, rightsEvery: 50 } })
const { request } = instance

type Event = { id: string; event: string; data: Json; at: number }
/** Reads a replay as it arrives. `ended` becomes 'whole', or 'cut' when the connection breaks. */
const open = async (
  t: Test,
  id: string,
  {
    query = '',
    bearer = alice,
    headers = {},
    from = instance,
  }: { query?: string; bearer?: string; headers?: Record<string, string>; from?: Instance } = {},
) => {
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const response = await fetch(`${from.url}/api/missions/${id}/timeline${query}`, {
    headers: { accept: 'text/event-stream', authorization: `Bearer ${bearer}`, ...headers },
    signal: stop.signal,
  })
  const events: Event[] = []
  const comments: string[] = []
  const state = { events, comments, status: response.status, text: '', ended: '' }
  void (async () => {
    let rest = ''
    try {
      for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
        const parts = (rest + Buffer.from(bytes).toString()).split('\n\n')
        state.text += Buffer.from(bytes).toString()
        rest = parts.pop() ?? ''
        for (const part of parts) {
          const [, id, event, data] = /^id: (.*)\nevent: (.*)\ndata: (.*)$/.exec(part) ?? []
          if (id !== undefined && event && data)
            events.push({ id, event, data: JSON.parse(data) as Json, at: performance.now() })
          else comments.push(part)
        }
      }
      state.ended = 'whole'
    } catch {
      state.ended = 'cut'
    }
  })()
  return state
}
const ended = async (state: { ended: string }): Promise<string> => {
  await until(() => state.ended !== '', 'the end')
  return state.ended
}
const timeline = async (id: string, query = ''): Promise<Json[]> =>
  (await request('GET', `/api/missions/${id}/timeline?limit=500${query}`, alice)).json['events'] as Json[]

/** A mission with one message for each of these seconds after 10:00:00. */
const makePast = async (seconds: number[]): Promise<string> => {
  const { id } = await makeMission(instance)
  const client = await database.connect()
  await client.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     select $1, 'c' || n % 3, 'user', n::text from generate_series(1, $2::integer) n`,
    [id, seconds.length],
  )
  // Numbering alone sets `at`, so this test switches it off.
  await client.query(`begin; set local deck.numbering = '0'`)
  await client.query(
    `update chat_messages set at = timestamp '2026-01-01 10:00:00' + s * interval '1 second'
     from unnest($2::double precision[]) with ordinality as x (s, n) where mission_id = $1 and message = n::text`,
    [id, seconds],
  )
  await client.query('commit')
  return id
}

void t.test(
  'timeline replay: sends the timeline event by event, then `end`, and resumes after any event',
  async (t) => {
    const id = await makePast(Array.from({ length: 250 }, (_, n) => n / 10))
    const whole = await timeline(id)
    const state = await open(t, id)
    t.equal(await ended(state), 'whole')
    const last = state.events.pop()
    t.same(
      state.events.map(({ data }) => data),
      whole,
    )
    t.same(
      state.events.map(({ event }) => event),
      whole.map(({ event }) => event),
    )
    t.match(last, { event: 'end', data: { cursor: last?.id, horizon: /Z$/ } })
    for (const n of [0, 99, 100, 248, 249]) {
      const headers = { 'last-event-id': state.events[n]?.id ?? '' }
      const again = await open(t, id, { headers, query: `?cursor=${state.events[5]?.id}` })
      await ended(again)
      t.same(
        again.events.slice(0, -1).map(({ data }) => data),
        whole.slice(n + 1),
        `after ${n}`,
      )
      t.same(await timeline(id, `&cursor=${headers['last-event-id']}`), whole.slice(n + 1))
    }
    const behind = await open(t, id, { headers: { 'last-event-id': last?.id ?? '' } })
    await ended(behind)
    t.same(
      behind.events.map(({ event }) => event),
      ['end'],
    )
  },
)

void t.test('timeline replay: sends events at their pace and shortens a long gap', async (t) => {
  // At speed 60: 0.1 s between events, a gap of an hour, and two events within the same second.
  const id = await makePast([0, 6, 12, 12.01, 18, 3618, 3624])
  const state = await open(t, id, { query: '?speed=60&gap=0.3' })
  t.equal(await ended(state), 'whole')
  const [first] = state.events
  const times = state.events.map(({ at }) => at - (first?.at ?? 0))
  for (const [n, due] of [0, 100, 200, 200, 300, 600, 700].entries()) {
    // A slow machine may be late, so only the lower limit is tight.
    t.ok((times[n] ?? 0) > due - 60 && (times[n] ?? 0) < due + 2000, `event ${n} at ${times[n]}, due at ${due}`)
  }
  const some = await open(t, id, { query: '?speed=1000&from=2026-01-01T10:00:12Z&to=2026-01-01T10:00:18Z' })
  await ended(some)
  t.same(
    some.events.map(({ data }) => (data['data'] as Json | undefined)?.['message']),
    ['3', '4', undefined],
  )
})

void t.test(
  'timeline replay: sends comments while no event is due, and ends with the token, the rights or the mission',
  async (t) => {
    const ends: [what: string, bearer: () => Promise<string>, end: (id: string) => Promise<unknown>, why: RegExp][] = [
      ['an expired token', () => token({ sub: 'alice', role: 'user' }, 2), () => Promise.resolve(), /expired/],
      [
        'a re-assignment',
        () => Promise.resolve(alice),
        (id) => database.query(`update missions set assigned_to = 'bob' where id = $1`, [id]),
        /no such mission/,
      ],
      [
        'a deletion',
        () => Promise.resolve(alice),
        (id) => request('DELETE', `/api/missions/${id}`, admin),
        /no such mission/,
      ],
    ]
    for (const [what, bearer, end, why] of ends) {
      const id = await makePast([0, 3600])
      const state = await open(t, id, { query: '?speed=1&gap=3600', bearer: await bearer() })
      await until(() => state.comments.length > 2, 'comments')
      t.equal(state.events.length, 1, what)
      await end(id)
      t.equal(await ended(state), 'whole')
      t.match(state.comments.at(-1), why)
      t.equal(state.events.length, 1, 'the stream does not send `end`')
    }
  },
)

void t.test('timeline replay: ends at once when the instance stops, and sends `retry` for a reconnect', async (t) => {
  const other = await startInstance(t, database.url)
  const id = await makePast([0, 3600])
  const state = await open(t, id, { query: '?speed=1&gap=3600', from: other })
  await until(() => state.events.length === 1, 'the first event')
  await other.close()
  t.equal(await ended(state), 'whole')
  t.match(state.text, /retry: \d{4}\n: restart\n\n$/)
})

void t.test('timeline replay: refuses a bad query before it sends anything', async (t) => {
  const id = await makePast([0])
  const epoch = (await request('GET', `/api/missions/${id}/timeline`, alice)).json['epoch']
  const place = { at: '2026-01-01T10:00:00Z', topic: '/dod', seq: 1 }
  const good = toCursor(String(epoch), place)
  const ask = (query: string, accept = 'text/event-stream', more = {}) =>
    request('GET', `/api/missions/${id}/timeline?${query}`, alice, undefined, { accept, ...more })
  for (const query of [
    'speed=0',
    'speed=1001',
    'speed=-1',
    'speed=x',
    'speed=1e3',
    'gap=3601',
    'limit=5',
    'order=desc',
    'from=x',
    'to=2026-01-01',
    'logs=1',
    'cursor=x',
  ])
    refused(t, await ask(query), 400, 'bad_request', query)
  refused(t, await ask('', undefined, { 'last-event-id': '7' }), 400, 'bad_request', 'an event ID in a foreign format')
  for (const [query, accept] of [
    ['speed=1', 'application/json'],
    ['gap=1', 'application/json'],
    ['speed=1', 'application/x-ndjson'],
    ['limit=1', 'application/x-ndjson'],
    ['limit=0', 'application/json'],
    ['order=up', 'application/json'],
  ] as const)
    refused(t, await ask(query, accept), 400, 'bad_request', `${query} ${accept}`)
  for (const cursor of [toCursor('other', place), toCursor('', place)])
    for (const accept of ['application/json', 'application/x-ndjson', 'text/event-stream']) {
      const { status, json } = await ask(`cursor=${cursor}`, accept)
      t.match({ status, json }, { status: 409, json: { code: 'conflict', epoch } }, accept)
    }
  for (const wrong of [
    { ...place, at: 'now' },
    { ...place, topic: '/x' },
    { ...place, seq: -1 },
    { ...place, at: '2026-99-01T00:00:00Z' },
  ])
    refused(
      t,
      await ask(`cursor=${toCursor(String(epoch), wrong)}`, 'application/json'),
      400,
      'bad_request',
      JSON.stringify(wrong),
    )
  t.equal((await ask(`cursor=${good}`, 'application/json')).status, 200)
})

void t.test('timeline replay: resets a reader that reads nothing, with little of the replay sent', async (t) => {
  const other = await startInstance(t, database.url, { limits: { silence: 300 } })
  const { id } = await longChat(other, database)
  const before = await request('GET', '/api/missions?limit=1', alice)
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const headers = { accept: 'text/event-stream', authorization: `Bearer ${alice}` }
    get(`${other.url}/api/missions/${id}/timeline`, { agent: false, headers }, resolve).on('error', reject)
  })
  response.on('error', () => {})
  t.equal(before.status, 200, 'other requests are answered meanwhile')
  const count = async () => (await other.request('GET', '/metrics')).text.match(/^deck_event_streams (\d+)$/m)?.[1]
  await until(async () => (await count()) === '0', 'the reset')
  let bytes = 0
  try {
    for await (const chunk of response) bytes += (chunk as Buffer).length
  } catch {}
  t.ok(bytes < 8_000_000, `${bytes} of 10,000,000 bytes`)
})

void t.test('timeline replay: a subject has up to 32 at a time, and a new one after they end', async (t) => {
  const id = await makePast([0, 3600])
  const states = await Promise.all(Array.from({ length: 33 }, () => open(t, id, { query: '?speed=1&gap=3600' })))
  t.same(states.map(({ status }) => status).sort(), [...Array.from({ length: 32 }, () => 200), 503])
  await request('DELETE', `/api/missions/${id}`, admin)
  await Promise.all(states.map(ended))
  const next = await makePast([0])
  t.equal((await open(t, next)).status, 200)
})

void t.test(
  'client: a replay over a connection that is cut ends in the current state; `at` reads past states',
  async (t) => {
    const { id } = await makeMission(instance)
    const wire = await startWire(t, instance.url)
    const deck = connect({ url: wire.url, token: alice })
    const agent = connect({ url: instance.url, token: rafael })
    t.teardown(deck.close)
    t.teardown(agent.close)
    const dod = agent.dod(id)
    const items = [await dod.add({ text: 'a', category: 'tests' }), await dod.add({ text: 'b', category: 'tests' })]
    for (let n = 0; n < 150; n++) await agent.chat(id, 'rafael').send(`${n}`)
    await deck.dod(id).set(items[1]?.id ?? '', true)
    const run = await agent.tests(id).create({ logs: 'x' })
    await agent.tests(id).update(run.id, { status: 'passed' })

    const found: TimelineEvent[] = []
    let cuts = 0
    for await (const event of deck.replay(id, { speed: 1 })) {
      found.push(event)
      if (found.length % 50 === 0) cuts += wire.cut()
    }
    t.ok(cuts > 1)
    const pages: TimelineEvent[] = []
    for await (const { events } of deck.timeline(id, { limit: 40 })) pages.push(...events)
    t.same(
      found.map(({ topic, seq }) => [topic, seq]),
      pages.map(({ topic, seq }) => [topic, seq]),
    )
    const last = new Map<string, unknown>()
    for (const { event, data } of found)
      if (event.startsWith('dod') || event.startsWith('test')) last.set((data as { id: string }).id, data)
    t.strictSame(
      (await deck.dod(id).list()).items,
      items.map(({ id }) => last.get(id)),
    )
    t.strictSame(await deck.tests(id).latest(), last.get(run.id))
    const { at } = found[1] ?? { at: '' }
    t.strictSame(await deck.dod(id).list({ at }), { items, progress: { completed: 0, total: 2 } })
    t.equal((await deck.mission(id).get({ at })).id, id)
    t.same((await deck.tests(id).list({ at })).test_runs, [])
    const stop = new AbortController()
    const received: unknown[] = []
    for await (const event of deck.replay(id, { signal: stop.signal })) {
      received.push(event)
      stop.abort()
    }
    t.ok(received.length < found.length)
  },
)
