// Random input: bad frames, requests and bytes between good ones.
// Each input is answered once, in the documented form and never with `internal`. A refused input changes nothing, and the server
// keeps running. A failure prints its seed and path: give them to fc.assert to repeat it.
// Texts have placeholders (@mission, @long10001) that are expanded when they are sent.
import { once } from 'node:events'
import { Agent, request as httpRequest } from 'node:http'
import { connect as connectTcp } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { deny, errorCodes, type ErrorCode } from '../../src/protocol/errors.ts'
import {
  admin,
  alice,
  bob,
  makeMission,
  rafael,
  startDeck,
  token,
  until,
  type Client,
  type Json,
} from '../support/server.ts'

// Housekeeping changes rows by itself, so it is off here.
const { database, instance } = await startDeck(t, { limits: { tidyEvery: 3_600_000 } })
const { request } = instance
const { hostname, port } = new URL(instance.url)
const { json: openapi } = await request('GET', '/openapi.json')
const short = await token({ sub: 'alice', role: 'user', missions: [] })

const hold = (holds: boolean, what: string): void => {
  if (!holds) throw new Error(what.length > 2000 ? `${what.slice(0, 2000)} …` : what)
}
const isRefusal = ({ code, detail }: Json): boolean =>
  errorCodes.includes(code as ErrorCode) && code !== 'internal' && typeof detail === 'string' && detail !== ''
const healthy = async (): Promise<void> => hold((await request('GET', '/healthz')).status === 200, 'not healthy')

// Texts

type Names = Record<string, string>
const expand = (text: string, names: Names = {}): string =>
  text
    .replace(/@([a-z]+)/g, (all, name: string) => names[name] ?? all)
    .replace(/@long(\d+)/g, (_, n: string) => 'x'.repeat(Math.min(Number(n), 300_000)))
    .replace(/@deep(\d+)/g, (_, n: string) => '['.repeat(Number(n) % 100_000) + ']'.repeat(Number(n) % 100_000))

type Weighted<T> = [weight: number, arbitrary: fc.Arbitrary<T>]
const some = <T>(...weighted: Weighted<T>[]): fc.Arbitrary<T> =>
  fc.oneof(...weighted.map(([weight, arbitrary]) => ({ weight, arbitrary })))

const unit = some(
  [6, fc.string({ unit: 'grapheme', minLength: 1, maxLength: 1 })],
  [6, fc.string({ unit: 'binary', minLength: 1, maxLength: 1 })],
  [1, fc.integer({ min: 0xd800, max: 0xdfff }).map((n) => String.fromCharCode(n))],
  [1, fc.constant('\0')],
)
const oddText = some(
  [5, fc.string({ unit, maxLength: 12 })],
  [
    1,
    fc.constantFrom('', '@long65', '@long257', '@long10000', '@long10001', '@long300000', '```\n@long40\n', '\ufeff'),
  ],
)
const goodText = some(
  [5, fc.string({ unit: 'binary', minLength: 1, maxLength: 30 }).filter((s) => !s.includes('\0'))],
  [1, fc.constantFrom('@long10000', '```js\n@long40\n```', '~~~ py x\n', 'e\u0301')],
)
const numbers = ['1e999', '-1e999', '-0', '1e-999', '1e300', '9007199254740993', '0.1', '-1', '2147483648', '0', '1']
/** Any JSON value as text, also values that JavaScript can't represent. */
const jsonText = some(
  [4, fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.stringify(value))],
  [3, oddText.map((text) => JSON.stringify(text))],
  [2, fc.constantFrom(...numbers, 'null', '{}', '[]', '{"__proto__":{"id":1}}', '{"a\\u0000":1}', '{"\\udfff":1}')],
  [1, fc.constantFrom('@deep63', '@deep64', '@deep65', '@deep3000', '@deep20000')],
)

/** The members of an object, as text. */
type Members = [name: string, value: string][]
const write = (members: Members): string =>
  `{${members.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(',')}}`
const toMembers = (value: Json): Members =>
  Object.entries(value).flatMap(([name, value]): Members => {
    const text = JSON.stringify(value) as string | undefined
    return text === undefined ? [] : [[name, text]]
  })

/** The same members with one changed, missing, added or repeated. */
const changed = (good: fc.Arbitrary<Json>): fc.Arbitrary<string> =>
  fc
    .tuple(good.map(toMembers), fc.nat(9), fc.constantFrom('replace', 'drop', 'add', 'twice'), oddText, jsonText)
    .map(([members, at, how, name, value]) => {
      const i = at % members.length
      const [old = ''] = members[i] ?? []
      if (how === 'replace') return write(members.with(i, [old, value]))
      if (how === 'drop') return write(members.toSpliced(i, 1))
      return write(members.toSpliced(at, 0, [how === 'add' ? name : old, value]))
    })

/** A text that is cut short, or with a part replaced. */
const damaged = (good: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc
    .tuple(good, fc.nat(1000), fc.nat(3), fc.option(fc.oneof(oddText, fc.constantFrom('"', '{', ',', '\\', '\\u0000'))))
    .map(([text, at, length, instead]) => {
      const i = at % text.length
      return instead === null ? text.slice(0, i) : text.slice(0, i) + instead + text.slice(i + length)
    })

// Frames

type Frame = { text: string; good: boolean }
const citizens = ['rafael', 'emma']
const goodId = some<string | number>(
  [3, fc.nat(1000)],
  [1, fc.double({ noNaN: true, noDefaultInfinity: true })],
  [1, fc.string({ unit: 'binary', maxLength: 20 }).filter((s) => !s.includes('\0'))],
)
const mission = fc.constantFrom('@mission', '@number')
const chatTopic = fc
  .tuple(mission, fc.constantFrom(...citizens))
  .map(([mission, citizen]) => `missions/${mission}/chat/${citizen}`)
const anyTopic = fc.oneof(
  chatTopic,
  fc.tuple(mission, fc.constantFrom('', '/dod', '/tests')).map(([mission, rest]) => `missions/${mission}${rest}`),
)
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined })
const code_blocks = optional(fc.array(fc.record({ language: fc.option(goodText), code: goodText }), { maxLength: 2 }))
const key = optional(some([1, fc.constantFrom('a', 'b', 'c')], [2, fc.stringMatching(/^[\x20-\x7e]{1,64}$/)]))
const goodFrame: fc.Arbitrary<Json> = some<Json>(
  [1, fc.record({ type: fc.constant('ping'), id: goodId })],
  [2, fc.record({ type: fc.constant('subscribe'), id: goodId, topic: anyTopic, after: optional(fc.constant(0)) })],
  [1, fc.record({ type: fc.constant('unsubscribe'), id: goodId, topic: anyTopic })],
  [1, fc.record({ type: fc.constant('auth'), id: goodId, token: fc.constant('@token') })],
  [4, fc.record({ type: fc.constant('send'), id: goodId, topic: chatTopic, message: goodText, key, code_blocks })],
)
const frame: fc.Arbitrary<Frame> = some<Frame>(
  [4, goodFrame.map((frame) => ({ text: write(toMembers(frame)), good: true }))],
  [6, changed(goodFrame).map((text) => ({ text, good: false }))],
  [3, damaged(goodFrame.map((frame) => JSON.stringify(frame))).map((text) => ({ text, good: false }))],
  [2, fc.oneof(oddText, jsonText).map((text) => ({ text, good: false }))],
)

type Id = string | number | undefined
/** The expected answer to a frame: one with this id, an error without an id (undefined), or possibly none ('maybe'). */
const expectation = (text: string): { id: Id } | 'maybe' => {
  let value: unknown
  try {
    // Parses the text as the server receives it: UTF-8 can't encode half a surrogate pair.
    value = JSON.parse(Buffer.from(text).toString())
  } catch {
    return { id: undefined }
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { id: undefined }
  if (!('id' in value)) return 'maybe'
  const { id } = value
  const isId = (typeof id === 'number' && Number.isFinite(id)) || (typeof id === 'string' && id.length <= 256)
  return { id: isId ? id : undefined }
}

/** How a socket ends: a frame over 512 KiB, bytes that are no UTF-8, a binary frame, only bad frames. */
const ends: [code: number, end: (client: Client) => void][] = [
  [1009, ({ socket }) => socket.send(' '.repeat(512 * 1024 + 1))],
  [1007, ({ socket }) => socket.send(Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), { binary: false })],
  [4400, ({ socket }) => socket.send('{"type":"ping","id":1}', { binary: true })],
  [4400, ({ socket }) => Array.from({ length: 100 }, () => socket.send('{}'))],
]

await t.test('fuzz: random frames are answered once, and chats have exactly the messages answered ok', async (t) => {
  let sent = 0
  let saved = 0
  const run = async (
    frames: Frame[],
    asAdmin: boolean,
    query: string | undefined,
    end: (typeof ends)[number] | null,
  ) => {
    const { id, number } = await makeMission(instance)
    const bearer = asAdmin ? admin : alice
    const names = { mission: id, number: String(number), token: bearer }
    const path = query === undefined ? '/api/ws' : `/api/missions/${id}/chat/rafael/ws?${query}`
    const client = await instance.connect(bearer, path)
    await client.frame(({ type }) => type === 'welcome', 'the welcome')

    const good = new Map<Id, number>()
    const wanted = new Map<Id, number>()
    const count = (map: Map<Id, number>, id: Id) => map.set(id, (map.get(id) ?? 0) + 1)
    let maybe = query === undefined ? 0 : 1
    for (const { text, good: isGood } of frames) {
      const whole = expand(text, names)
      // Larger frames close the socket: `ends` has one.
      if (Buffer.byteLength(whole) > 512 * 1024) continue
      client.socket.send(whole)
      const expected = expectation(whole)
      if (expected === 'maybe') maybe++
      else count(wanted, expected.id)
      if (expected !== 'maybe' && isGood) count(good, expected.id)
    }
    sent += frames.length

    const asked = new Set<unknown>()
    const ask = async (frame: Json): Promise<Json> => {
      const answer = await client.ask(frame)
      asked.add(answer['id'])
      return answer
    }
    const answers = (): Json[] =>
      client.frames.filter(({ type, id }) => (type === 'ok' || type === 'error') && !asked.has(id))
    const tally = (): Map<Id, number> => {
      const found = new Map<Id, number>()
      for (const { id } of answers()) count(found, id as Id)
      return found
    }
    const complete = (found: Map<Id, number>): boolean => [...wanted].every(([id, n]) => (found.get(id) ?? 0) >= n)
    await ask({ type: 'ping' })
    // The checks below report the missing answers.
    await until(() => complete(tally()) || client.closed !== undefined, 'all answers').catch(() => {})
    // Earlier messages of this socket are saved before these, so none is in transit afterwards.
    const last = await Promise.all(
      citizens.map((citizen) => ask({ type: 'send', topic: `missions/${id}/chat/${citizen}`, message: 'last' })),
    )
    hold(client.closed === undefined, `closed: ${JSON.stringify(client.closed)}`)

    for (const answer of answers()) {
      if (answer['type'] === 'error') hold(isRefusal(answer), JSON.stringify(answer))
      if (answer['id'] === undefined) hold(answer['type'] === 'error' && !answer['topic'], JSON.stringify(answer))
    }
    const found = tally()
    for (const id of new Set([...wanted.keys(), ...found.keys()])) {
      const [n = 0, most = 0] = [found.get(id), (wanted.get(id) ?? 0) + (id === undefined ? maybe : 0)]
      hold(n >= (wanted.get(id) ?? 0) && n <= most, `${JSON.stringify(id)}: ${n} answers for ${most} frames`)
    }
    for (const [id, n] of good) {
      const given = answers().filter((answer) => answer['id'] === id)
      const oks = given.filter(({ type }) => type === 'ok').length
      hold(oks >= n, `${oks} of ${n} good frames were answered ok: ${JSON.stringify(given)}`)
    }

    const answered = new Map<unknown, Json>()
    for (const { message } of [...answers(), ...last])
      if (message !== undefined) answered.set((message as Json)['id'], message as Json)
    const { json } = await request('GET', `/api/missions/${id}/chat`, admin)
    for (const { citizen } of json['channels'] as { citizen: string }[]) {
      const chat = await request('GET', `/api/missions/${id}/chat/${citizen}?after=0&limit=500`, admin)
      for (const [n, message] of (chat.json['messages'] as Json[]).entries()) {
        hold(message['seq'] === n + 1, `${citizen}: ${JSON.stringify(message)} is number ${n + 1}`)
        const expected = answered.get(message['id'])
        // A frame without an id gets no ok.
        if (expected === undefined && maybe-- > 0) continue
        hold(
          JSON.stringify(expected) === JSON.stringify(message),
          `${JSON.stringify(expected)}, stored is ${JSON.stringify(message)}`,
        )
        answered.delete(message['id'])
        saved++
      }
    }
    hold(answered.size === 0, `answered ok, but missing: ${JSON.stringify([...answered.values()])}`)

    if (end) {
      end[1](client)
      await until(() => client.closed !== undefined, `the close with ${end[0]}`)
      hold(client.closed?.code === end[0], `closed with ${client.closed?.code} instead of ${end[0]}`)
    } else client.close()
    await healthy()
  }
  const after = fc.oneof(
    fc.constantFrom('', 'after=0', 'after=1', 'after=-1', 'after=0&after=0'),
    fc.webQueryParameters(),
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(frame, { minLength: 40, maxLength: 80, size: 'max' }),
      fc.boolean(),
      optional(after),
      fc.option(fc.constantFrom(...ends)),
      run,
    ),
    { numRuns: 25, endOnFailure: true },
  )
  t.pass(`${sent} frames, ${saved} messages`)
})

// Requests

type Ask = {
  method: string
  path: string
  headers: Record<string, string | string[]>
  body: Uint8Array | string | null
}
const text = { 'content-type': 'text/plain' }
const json = { 'content-type': 'application/json' }

const routes: [path: string, method: string][] = [
  ...Object.entries(openapi['paths'] as Record<string, Json>).flatMap(([path, operations]) =>
    Object.keys(operations).map((method): [string, string] => [path, method.toUpperCase()]),
  ),
  ['/', 'GET'],
  ['/api/ws', 'GET'],
  ['/api/missions/{mission}/chat/{citizen}/ws', 'GET'],
  ['/docs', 'GET'],
  ['/openapi.json', 'GET'],
  ['/nothing', 'GET'],
]
const status = optional(fc.constantFrom('running', 'passed', 'failed'))
const object = optional(fc.option(fc.dictionary(goodText, fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3 })))
const results = optional(fc.option(fc.array(fc.jsonValue({ maxDepth: 2 }), { maxLength: 3 })))
const missionFields = {
  title: goodText,
  client: goodText,
  budget: fc.integer({ min: -2_147_483_648, max: 2_147_483_647 }),
  deadline: fc
    .date({ noInvalidDate: true, min: new Date(0), max: new Date('9999-12-31') })
    .map((at) => at.toISOString()),
  assigned_to: fc.constantFrom('alice', 'bob'),
  github_url: optional(fc.constantFrom('https://github.com/x', null)),
}
/** Valid bodies, by the end of the path. */
const goodBodies: [path: RegExp, body: fc.Arbitrary<Json>][] = [
  [/missions$/, fc.record(missionFields)],
  [/\{mission\}$/, fc.record(missionFields, { requiredKeys: [] })],
  [/\{citizen\}$/, fc.record({ message: goodText, key, code_blocks })],
  [/dod$/, fc.record({ text: goodText, category: fc.constantFrom('functional', 'non-functional', 'tests') })],
  [/\{item\}$/, fc.record({ completed: fc.boolean() })],
  [/tests$/, fc.record({ status, summary: object, results, logs: optional(goodText) })],
  [/\{run\}$/, fc.record({ status, summary: object, results })],
]
const anyObject = fc.dictionary(goodText, fc.jsonValue({ maxDepth: 2 }), { minKeys: 1, maxKeys: 4 })

// Characters that a header or a path of HTTP can have.
const latin1 = (from: number, maxLength: number): fc.Arbitrary<string> =>
  fc.string({
    unit: fc
      .integer({ min: from, max: 0xff })
      .filter((n) => n !== 0x7f)
      .map((n) => String.fromCharCode(n)),
    maxLength,
  })
const encoded = oddText.map((text) => encodeURIComponent(text.toWellFormed()).replaceAll('%40', '@'))
const oddSegments = '%00 %ff % %zz %ed%a0%80 .. %2e%2e%2f * 0 2147483648 @long201 @long20000 Rafael latest'
  .split(' ')
  .concat('', '00000000-0000-4000-8000-000000000000')
const oddSegment = some([2, encoded], [2, latin1(0x21, 8)], [3, fc.constantFrom(...oddSegments)])
const queryNames = ['after', 'before', 'limit', 'cursor', 'status', 'assigned_to', '__proto__', 'after[]', '']
const queryValues = ' 0 1 -1 500 501 1e3 9007199254740991 9007199254740993 %00 %ff active'.split(' ')
const query = fc.oneof(
  fc
    .array(
      fc
        .tuple(
          fc.oneof(fc.constantFrom(...queryNames), encoded),
          fc.oneof(fc.constantFrom(...queryValues), encoded, fc.base64String({ maxLength: 60 })),
        )
        .map((pair) => pair.join('=')),
      { maxLength: 3 },
    )
    .map((pairs) => pairs.join('&')),
  latin1(0x21, 20),
)

const methods = ['GET', 'POST', 'PATCH', 'DELETE', 'PUT', 'HEAD', 'OPTIONS', 'TRACE', 'PROPFIND']
const authorization = some<string | string[] | undefined>(
  [9, fc.constant(`Bearer ${admin}`)],
  [4, fc.constantFrom(...[alice, rafael, bob, short].map((token) => `Bearer ${token}`))],
  [
    2,
    fc.oneof(
      fc.constantFrom<(string | string[] | undefined)[]>(undefined, '', 'Bearer', 'Bearer  ', `bearer ${alice}`, [
        `Bearer ${alice}`,
        `Bearer ${admin}`,
      ]),
      fc.constantFrom(`Basic ${admin}`, admin, `Bearer ${admin} x`, `Bearer @long9000`, 'Bearer e30.e30.', 'Bearer ..'),
      damaged(fc.constant(`Bearer ${alice}`)).map((text) => text.replace(/[^\x20-\x7e]/g, '~')),
      latin1(0x20, 30),
    ),
  ],
)
const idempotencyKey = some<string | string[] | undefined>(
  [6, fc.constant(undefined)],
  [2, latin1(0x20, 70)],
  [1, fc.constantFrom<(string | string[])[]>('', 'a', '@long65', ['a', 'b'])],
)
const contentTypes = ['application/json; charset=utf-16', 'application/JSON', 'application/jsonx', 'x', '', ';']

const bodyOf = (good: fc.Arbitrary<Json>) => {
  const asText = good.map((body) => JSON.stringify(body))
  return some<{ body: Ask['body']; type: Names }>(
    [6, asText.map((body) => ({ body, type: json }))],
    [5, changed(good).map((body) => ({ body, type: json }))],
    [2, damaged(asText).map((body) => ({ body, type: json }))],
    [2, fc.oneof(jsonText, oddText).map((body) => ({ body, type: json }))],
    [1, fc.uint8Array({ maxLength: 40 }).map((body) => ({ body, type: json }))],
    [
      1,
      fc
        .tuple(asText, fc.nat(1000), fc.constantFrom([0xff], [0xc3], [0xed, 0xa0, 0x80], [0]))
        .map(([text, at, bytes]) => {
          const body = Buffer.from(text)
          const i = at % body.length
          return { body: Buffer.concat([body.subarray(0, i), Buffer.from(bytes), body.subarray(i)]), type: json }
        }),
    ],
    [2, fc.oneof(oddText, fc.uint8Array({ maxLength: 40 })).map((body) => ({ body, type: text }))],
    [
      2,
      fc
        .tuple(asText, fc.constantFrom(...contentTypes))
        .map(([body, type]) => ({ body, type: { 'content-type': type } })),
    ],
    [1, asText.map((body) => ({ body, type: {} }))],
    [2, fc.constantFrom({ body: null, type: {} }, { body: null, type: json })],
  )
}
const anAsk: fc.Arbitrary<Ask> = fc.constantFrom(...routes).chain(([path, usual]) =>
  fc
    .record({
      method: some([7, fc.constant(usual)], [1, fc.constantFrom(...methods)]),
      mission,
      odd: some([4, fc.constant(null)], [1, fc.tuple(fc.nat(9), oddSegment)]),
      query: some([3, fc.constant(null)], [1, query]),
      authorization,
      idempotencyKey,
      chunked: fc.boolean(),
      sent: bodyOf(goodBodies.find(([end]) => end.test(path))?.[1] ?? anyObject),
    })
    .map(({ method, mission, odd, query, authorization, idempotencyKey, chunked, sent: { body, type } }) => {
      let segments = path
        .replace('{mission}', mission)
        .replace('{citizen}', 'rafael')
        .replace('{item}', '@item')
        .replace('{run}', '@run')
        .split('/')
        .slice(1)
      if (odd) segments = segments.with(odd[0] % segments.length, odd[1])
      const headers: Ask['headers'] = { ...type }
      if (authorization !== undefined) headers['authorization'] = authorization
      if (idempotencyKey !== undefined) headers['idempotency-key'] = idempotencyKey
      if (body !== null && chunked) headers['transfer-encoding'] = 'chunked'
      return { method, path: `/${segments.join('/')}${query === null ? '' : `?${query}`}`, headers, body }
    }),
)

type Answered = { status: number; type: string; text: string }
const agent = new Agent({ keepAlive: true, maxSockets: 1 })
t.teardown(() => agent.destroy())
const perform = ({ method, path, headers, body }: Ask, names: Names): Promise<Answered> =>
  new Promise((resolve, reject) => {
    const bytes = typeof body === 'string' ? Buffer.from(expand(body, names)) : body
    const length = bytes && !headers['transfer-encoding'] ? { 'content-length': bytes.length } : {}
    const whole = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name, typeof value === 'string' ? expand(value, names) : value]),
    )
    const request = httpRequest({
      ...{ hostname, port, method, agent },
      path: expand(path, names),
      headers: { ...whole, ...length },
    })
    // Node answers a text that is no request with a body, even for HEAD.
    request.on('error', (error: NodeJS.ErrnoException) =>
      method === 'HEAD' && error.code === 'HPE_CLOSED_CONNECTION'
        ? resolve({ status: 400, type: '', text: '' })
        : reject(error),
    )
    request.on('response', (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          type: response.headers['content-type'] ?? '',
          text: Buffer.concat(chunks).toString(),
        }),
      )
    })
    request.end(bytes ?? undefined)
  })

/** A hash of the rows that a client can see or write: all missions and heads, and the other tables' rows of the mission. */
const snapshot = async (mission: string): Promise<string> => {
  const tables = [
    'missions',
    'deck.heads',
    'deck.cleared_keys',
    'chat_messages',
    'dod_items',
    'test_runs',
    'deck.events',
  ]
  const rows = tables.map((table, n) => {
    const own =
      n < 2 ? 'true' : n < 6 ? 'mission_id = $1' : `topic between 'missions/' || $1 and 'missions/' || $1 || '~'`
    return `select '${table}' || r::text as row from ${table} r where ${own}`
  })
  const text = `select md5(string_agg(row, '' order by row)) as all from (${rows.join(' union all ')}) x`
  const [found] = await database.query(text.replaceAll('$1', `'${mission}'`))
  return String(found?.['all'])
}
/** Further statuses of a code. */
const statuses: Partial<Record<ErrorCode, number[]>> = { bad_request: [415, 431] }
const holdForm = ({ status, type, text }: Answered, what: string): void => {
  hold(/^application\/json/.test(type), what)
  const error = JSON.parse(text) as Json
  const code = error['code'] as ErrorCode
  hold(isRefusal(error) && Object.keys(error).length === 2, what)
  hold(status === deny(code).status || (statuses[code] ?? []).includes(status), what)
}

await t.test('fuzz: random requests are answered in the documented form, and a refusal changes nothing', async (t) => {
  const counts: Record<string, number> = {}
  const run = async (asks: Ask[]): Promise<void> => {
    const { id, number } = await makeMission(instance)
    const here = `/api/missions/${id}`
    const item = await request('POST', `${here}/dod`, admin, { text: 'x', category: 'tests' })
    const made = await request('POST', `${here}/tests`, admin, { logs: 'x' })
    const names = {
      mission: id,
      number: String(number),
      item: String(item.json['id']),
      run: String(made.json['id']),
    }
    let before = await snapshot(id)
    for (const ask of asks) {
      const answer = await perform(ask, names).catch((error: Error) => {
        throw new Error(`${error.message}: ${JSON.stringify({ ...ask, names })}`)
      })
      const { status } = answer
      const what = JSON.stringify({ ...ask, names, ...answer })
      counts[status] = (counts[status] ?? 0) + 1
      hold(status >= 200 && status < 500, what)
      if (status >= 400 && ask.method !== 'HEAD') holdForm(answer, what)
      const after = await snapshot(id)
      hold(after === before || (status < 300 && ['POST', 'PUT', 'PATCH', 'DELETE'].includes(ask.method)), what)
      before = after
    }
    await healthy()
  }
  const asks = fc.array(anAsk, { minLength: 20, maxLength: 30, size: 'max' })
  await fc.assert(fc.asyncProperty(asks, run), { numRuns: 25, endOnFailure: true })
  t.ok((counts[200] ?? 0) + (counts[201] ?? 0) > 50 && (counts[400] ?? 0) > 50, 'both good and bad requests')
  t.comment(JSON.stringify(counts))
})

await t.test('fuzz: random bytes never get an internal error', async (t) => {
  const { id } = await makeMission(instance)
  const body = '{"message":"x","key":"a"}'
  const head = `Host: x\r\nAuthorization: Bearer ${alice}\r\nContent-Type: application/json\r\n`
  const chat = `/api/missions/${id}/chat/rafael`
  const whole = fc.constantFrom(
    `GET ${chat}?after=0 HTTP/1.1\r\n${head}\r\n`,
    `POST ${chat} HTTP/1.1\r\n${head}Content-Length: ${body.length}\r\n\r\n${body}`,
    `POST ${chat} HTTP/1.1\r\n${head}Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: x\r\n\r\nGET ${chat} HTTP/1.1\r\n${head}\r\n`,
  )
  const bytes = fc
    .tuple(
      whole,
      fc.array(
        fc.tuple(fc.nat(), fc.nat(30), fc.oneof(latin1(0x20, 5), fc.constantFrom('\r\n', '\n', '\0', ':', '0'))),
        {
          minLength: 1,
          maxLength: 4,
        },
      ),
    )
    .map(([text, edits]) =>
      edits.reduce<string>((text, [at, length, instead]) => {
        const i = at % text.length
        return text.slice(0, i) + instead + text.slice(i + (length < 5 ? length : 0))
      }, text),
    )
  const run = async (bytes: string, reset: boolean): Promise<void> => {
    const socket = connectTcp(Number(port), hostname)
    let got = ''
    socket.setEncoding('latin1').on('data', (data: string) => (got += data))
    // A reset is a valid answer.
    socket.on('error', () => {})
    await once(socket, 'connect')
    if (reset) socket.write(bytes, 'latin1', () => socket.resetAndDestroy())
    else socket.end(bytes, 'latin1')
    await once(socket, 'close')
    for (const answer of got.split(/HTTP\/1\.1 (?=\d{3} )/).slice(1)) {
      hold(Number(answer.slice(0, 3)) < 500, got)
      // Node answers bytes that it does not pass on itself, without a body.
      const [, error] = /\r\n\r\n(\{.*\})$/s.exec(answer) ?? []
      if (error && !answer.startsWith('2')) hold(isRefusal(JSON.parse(error) as Json), got)
    }
  }
  await fc.assert(fc.asyncProperty(bytes, fc.boolean(), run), { numRuns: 300, endOnFailure: true })
  await healthy()
  t.pass('300 connections')
})
