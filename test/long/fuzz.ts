// 100,000 frames and bodies that are malformed, incomplete, invalid or too large, against a server process.
// Not part of `npm test`. Run:
//   npm run long
// Each gets one well-formed answer. None causes an internal error, changes a row, or stays in memory. The input is determined by a seed,
// which is printed; SEED=… sends the same input again.
import { readFileSync } from 'node:fs'
import { Agent, request as httpRequest } from 'node:http'
import t from 'tap'
import { deny, errorCodes, type ErrorCode } from '../../src/protocol/errors.ts'
import { freshDatabase } from '../support/database.ts'
import { admin, alice, door, makeMission, rafael, token, until, type Client, type Json } from '../support/server.ts'
import { spawnServer } from '../support/processes.ts'

t.setTimeout(240_000)

const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const rounds = 5
const perRound = { frames: 14_000, bodies: 6_000 }
const lanes = { frames: 16, bodies: 8 }

const database = await freshDatabase(t)
// Rate limits are off: they are not tested here.
const server = await spawnServer(t, {
  DATABASE_URL: database.url,
  RATE_LIMITS: 'off',
  MAX_EVENT_LOOP_DELAY: '0',
  LOG_LEVEL: 'warn',
})
const deck = door(t, server.url)
const { id: mission, number } = await makeMission(deck)
const here = `/api/missions/${mission}`
const chat = `missions/${mission}/chat/rafael`
const make = async (path: string, body: Json): Promise<string> =>
  String((await deck.request('POST', here + path, admin, body)).json['id'])
const item = await make('/dod', { text: 'x', category: 'tests' })
const run = await make('/tests', { logs: 'x' })
await deck.request('POST', `/api/${chat}`, alice, { message: 'the only one' })
const expired = await token({ sub: 'alice', role: 'user' }, -10)

// Input

/** Random numbers determined by a seed (mulberry32), and choices made with them. */
const makeRandom = (state: number) => {
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), 1 | state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (n: number): number => Math.floor(next() * n)
  const of = <T>(choices: readonly T[]): T => choices[below(choices.length)] as T
  return { below, of }
}
type Random = ReturnType<typeof makeRandom>

const parts = ['\n', '\0', '\ufeff', ' ', ...'{ } [ ] : , " \\ \\u null 1e5 é 😀 x < --'.split(' ')]
const garbage = ({ below, of }: Random): string => Array.from({ length: below(30) }, () => of(parts)).join('') + '"{'
const nest = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)
/** Member values (as JSON text) that are refused in every position. */
const poison = ({ below, of }: Random): string =>
  of([
    '"\\u0000"',
    '"a\\ud800"',
    '"\\udc00\\ud800"',
    '{"\\u0000":1}',
    '1e999',
    '[-1e400]',
    nest(66 + below(300)),
    nest(10_000),
  ])
const cut = ({ below }: Random, text: string): string => text.slice(0, 1 + below(text.length - 1))
const notJson = ({ of }: Random, text: string): string =>
  of([
    `${text}}`,
    `${text},`,
    text.replace('{', '{,'),
    text.replaceAll('"', "'"),
    `${text}${text}`,
    text.replace(':', '='),
    `\ufeff${text}`,
  ])
const long = ({ below }: Random): string => 'x'.repeat(10_001 + below(40_000))

const badTopics = [
  '',
  'missions',
  'missions/0',
  `missions/${mission}/chat`,
  `missions/${mission}/chat/Rafael`,
  `/${chat}`,
].concat(`${chat}/x`, `missions/${mission}/tests/1/logs`, 'x'.repeat(300), '__proto__', `missions/${number}/nothing`)
const others: unknown[] = [null, true, 0, -1, 1.5, 1e300, '', [], {}, [null], { length: 1 }]
const many = (value: unknown): unknown[] => Array.from({ length: 1000 }, () => value)
const without = (...types: string[]): unknown[] => others.filter((value) => !types.includes(typeof value))
/** Invalid values of a frame's members (undefined: the member is missing). */
const badMembers: [type: string, name: string, values: unknown[]][] = [
  ['subscribe', 'topic', [...without('string'), ...badTopics, undefined]],
  ['subscribe', 'after', [null, true, -1, 1.5, 1e300, '0', [], {}, 2 ** 53]],
  ['subscribe', 'epoch', without('string')],
  ['unsubscribe', 'topic', [...without('string'), ...badTopics]],
  ['send', 'topic', [...without('string'), ...badTopics, `missions/${mission}/dod`]],
  ['send', 'message', [...without('string'), '', undefined]],
  ['send', 'key', [true, 0, '', [], {}, 'x'.repeat(65), 'é', 'a\tb']],
  ['send', 'code_blocks', [true, 0, '', {}, [null], [{}], [{ code: 1 }], [{ code: 'x', language: 1 }], [[]], many({})]],
  ['auth', 'token', [...others, 'e30.e30.', expired, undefined]],
]
/** Valid frames that are refused for their content. */
const refused: Json[] = [
  { type: 'subscribe', topic: 'missions/2147483647/dod' },
  { type: 'subscribe', topic: chat, after: 2 ** 50 },
  { type: 'subscribe', topic: chat, epoch: 'of another time' },
  { type: 'subscribe', topic: `missions/${mission}/tests/${item}/logs` },
  { type: 'send', topic: `missions/${item}/chat/rafael`, message: 'x' },
  { type: 'send', topic: chat, message: 'x', code_blocks: [{ code: 'x'.repeat(256 * 1024 + 1) }] },
]
const goodFrames: Json[] = [
  { type: 'ping' },
  { type: 'subscribe', topic: chat, after: 0 },
  { type: 'unsubscribe', topic: chat },
  { type: 'send', topic: chat, message: 'x', key: 'a' },
  { type: 'auth', token: alice },
]

type Id = string | number | undefined
type Frame = { kind: string; text: string; id: Id }
const frameKinds = {
  garbage: (random: Random) => ({ text: garbage(random) }),
  'cut short': (random: Random, id: Id) => ({ text: cut(random, JSON.stringify({ id, ...random.of(goodFrames) })) }),
  'no JSON': (random: Random, id: Id) => ({ text: notJson(random, JSON.stringify({ id, ...random.of(goodFrames) })) }),
  'no object': ({ of }: Random) => ({
    text: of(['null', '5', '"x"', '[]', 'true', '[{"type":"ping","id":1}]', nest(20_000)]),
  }),
  'no id': ({ of }: Random) => ({
    text: `{"type":"ping","id":${of(['null', '{}', '[]', 'true', '1e999', JSON.stringify('x'.repeat(257))])}}`,
  }),
  type: ({ of }: Random, id: Id) => ({
    text: JSON.stringify({ id, type: of([...others, 'pong', 'Ping', '__proto__', 'toString']) }),
    id,
  }),
  member: ({ of }: Random, id: Id) => {
    const [type, name, values] = of(badMembers)
    const base = goodFrames.find((frame) => frame['type'] === type)
    return { text: JSON.stringify({ id, ...base, [name]: of(values) }), id }
  },
  text: (random: Random, id: Id) => {
    const text = JSON.stringify({ id, ...random.of(goodFrames) })
    return { text: `${text.slice(0, -1)},"${random.of(['x', 'topic', 'message', 'key'])}":${poison(random)}}`, id }
  },
  long: (random: Random, id: Id) => ({
    text: JSON.stringify({ id, type: 'send', topic: chat, message: long(random) }),
    id,
  }),
  refused: ({ of }: Random, id: Id) => ({ text: JSON.stringify({ id, ...of(refused) }), id }),
}
const oddIds: ((n: number) => string | number)[] = [
  (n) => n,
  (n) => -n - 0.5,
  (n) => `${n} é😀`,
  (n) => `${n} \ud800`,
  (n) => `${n} \0`,
  (n) => `${n}`.padEnd(256, '"'),
]
const makeFrame = (random: Random, n: number): Frame => {
  const kinds = Object.entries(frameKinds)
  // Large frames are rarer.
  const [kind, build] =
    random.below(100) < 3 ? (['long', frameKinds.long] as const) : random.of(kinds.filter(([k]) => k !== 'long'))
  const { text, id }: { text: string; id?: Id } = build(random, random.of(oddIds)(n))
  return { kind, text, id }
}

type Ask = { kind: string; method: string; path: string; headers: Record<string, string>; body: Buffer | undefined }
const json = { 'content-type': 'application/json' }
const plain = { 'content-type': 'text/plain' }
const newMission = { title: 'x', client: 'x', budget: 1, deadline: '2030-01-01T00:00:00Z', assigned_to: 'x' }
/** Routes that take JSON: a valid body, and invalid values of its members. */
const takers: [method: string, path: string, good: Json, bad: [name: string, values: unknown[]][]][] = [
  [
    'POST',
    '/api/missions',
    newMission,
    [
      ['title', [...without('string'), '', 'x'.repeat(1001)]],
      ['budget', [null, true, 1.5, 1e300, '1', [], {}]],
      ['deadline', [...others, '2030-02-30T00:00:00Z', '2030-01-01', 'infinity']],
      ['status', [...others, 'done']],
      ['number', [null, true, 0, -1, 1.5, 1e300, '', [], {}, number]],
      ['github_url', [true, 0, '', [], {}, 'javascript:alert(1)']],
    ],
  ],
  [
    'PATCH',
    here,
    { title: 'y' },
    [
      ['assigned_to', [...without('string'), '', 'x'.repeat(257)]],
      ['status', others],
    ],
  ],
  [
    'POST',
    `/api/${chat}`,
    { message: 'x' },
    [
      ['message', [...without('string'), '']],
      ['key', [true, 0, '', [], {}, 'x'.repeat(65), 'é']],
      ['code_blocks', [true, 0, '', {}, [null], [{}]]],
      ['sender', [...others, 'admin']],
      ['author', [true, 0, '', [], {}, 'x'.repeat(257)]],
    ],
  ],
  [
    'POST',
    `${here}/dod`,
    { text: 'y', category: 'tests' },
    [
      ['text', [...without('string'), '']],
      ['category', others],
    ],
  ],
  ['PATCH', `${here}/dod/${item}`, { completed: true }, [['completed', without('boolean')]]],
  [
    'POST',
    `${here}/tests`,
    {},
    [
      ['status', others],
      ['summary', [true, 0, '', []]],
      ['results', [true, 0, '', {}]],
    ],
  ],
  [
    'PATCH',
    `${here}/tests/${run}`,
    { status: 'failed' },
    [
      ['status', others],
      ['summary', [true, 0, '', []]],
    ],
  ],
]
const badPaths = [
  ...['0/dod', '%00', '%ff/dod', '%zz', item].map((path) => `/api/missions/${path}`),
  ...['chat/Rafael', 'tests/1', 'dod/x', `chat/rafael/${'x'.repeat(300)}`].map((path) => `${here}/${path}`),
  ...['limit=0', 'after=-1', 'limit=1&limit=2', 'before=%ff', 'after=1e3'].map((query) => `/api/${chat}?${query}`),
  '/nothing',
]
const badBytes = [[0xff], [0xc3], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80]].map((bytes) =>
  Buffer.from(bytes),
)
type Part = Partial<Omit<Ask, 'body'>> & { body?: Buffer | string }
const bodyKinds: Record<string, (random: Random, good: Json, bad: [string, unknown[]][]) => Part> = {
  garbage: (random) => ({ body: garbage(random) }),
  'cut short': (random, good) => ({ body: cut(random, JSON.stringify({ ...good, x: 1 })) }),
  'no JSON': (random, good) => ({ body: notJson(random, JSON.stringify({ ...good, x: 1 })) }),
  'no object': ({ of }) => ({ body: of(['null', '5', '"x"', '[]', 'true', '', nest(20_000)]) }),
  'not UTF-8': ({ of }, good) => ({
    body: Buffer.concat([
      Buffer.from(`${JSON.stringify({ ...good, x: 1 }).slice(0, -1)},"y":"`),
      of(badBytes),
      Buffer.from('"}'),
    ]),
  }),
  member: ({ of }, good, bad) => {
    const [name, values] = of(bad)
    return { body: JSON.stringify({ ...good, [name]: of(values) }) }
  },
  text: (random, good) => ({ body: `${JSON.stringify({ ...good, x: 1 }).slice(0, -1)},"y":${poison(random)}}` }),
  type: ({ of }, good) => ({
    body: JSON.stringify(good),
    headers: of([
      plain,
      {},
      { 'content-type': 'application/jsonx' },
      { 'content-type': 'multipart/form-data; boundary=x' },
    ]),
  }),
  path: ({ of }) => ({ method: 'GET', path: of(badPaths), headers: {} }),
  token: ({ of }, good) => ({
    body: JSON.stringify(good),
    headers: {
      ...json,
      authorization: of(['', 'Bearer', `Basic ${admin}`, `Bearer ${admin}x.y`, `Bearer ${expired}`]),
    },
  }),
  key: ({ of }) => ({
    ...{ method: 'POST', path: `/api/${chat}`, body: '{"message":"x"}' },
    headers: { ...json, 'idempotency-key': of(['', 'x'.repeat(65), '\xe9', 'a\tb']) },
  }),
  log: ({ of }) => ({
    ...{ method: 'POST', path: `${here}/tests/${run}/logs`, headers: plain },
    body: Buffer.concat([Buffer.from('a log '), of([...badBytes, Buffer.from([0])])]),
  }),
  large: () => ({ body: ' '.repeat(2 * 1024 * 1024 + 1) }),
  'left off': (_, good) => ({ body: JSON.stringify(good) }),
}
const rare = ['large', 'left off']
const makeAsk = (random: Random): Ask => {
  const [method, path, good, bad] = random.of(takers)
  const roll = random.below(1000)
  const kind =
    roll < 1 ? 'large' : roll < 10 ? 'left off' : random.of(Object.keys(bodyKinds).filter((k) => !rare.includes(k)))
  const { body, ...part } = bodyKinds[kind]?.(random, good, bad) ?? {}
  const { headers } = { headers: json, ...part }
  return {
    ...{ kind, method, path, ...part },
    headers: { authorization: `Bearer ${admin}`, ...headers },
    body: typeof body === 'string' ? Buffer.from(body) : body,
  }
}

// Answers

const kinds: Record<string, number> = {}
const codes: Record<string, number> = {}
const count = (counts: Record<string, number>, name: string): number => (counts[name] = (counts[name] ?? 0) + 1)
const faults: string[] = []
const unavailable: string[] = []
const fault = (...what: unknown[]): void => {
  if (faults.length < 10) faults.push(JSON.stringify(what).slice(0, 500))
}
const isForm = ({ code, detail }: Json): boolean =>
  errorCodes.includes(code as ErrorCode) && code !== 'internal' && typeof detail === 'string' && detail !== ''

/** Returns a function that sends frames on one socket at a time, in batches; each batch is answered before the next. */
const frameLane = async (n: number): Promise<(frames: number) => Promise<void>> => {
  const random = makeRandom(seed + n)
  const bearer = [alice, admin, rafael][n % 3] as string
  const connect = (): Promise<Client> => deck.connect(bearer)
  let client = await connect()
  let seen = 0
  let made = 0
  let withoutId = 0
  const pending = new Map<Id, string>()
  const read = (): void => {
    for (; seen < client.frames.length; seen++) {
      const answer = client.frames[seen] as Json
      const { type, id, code } = answer as { type: string; id?: Id; code?: string }
      if (type !== 'ok' && type !== 'error') continue
      const text = pending.get(id)
      if (id === undefined ? withoutId-- <= 0 : !pending.delete(id)) fault('an unexpected or second answer', answer)
      if (type === 'error') count(codes, String(code))
      if (type === 'error' ? !isForm(answer) : text !== 'ping') fault(text, answer)
    }
  }
  /** The last frame of a socket: the server reports the reason and closes the socket. */
  const end = async (): Promise<number> => {
    const { socket } = client
    const ends: [kind: string, code: number, frames: number, send: () => void][] = [
      ['binary', 4400, 1, () => socket.send('{"type":"ping","id":1}', { binary: true })],
      [
        'not UTF-8',
        1007,
        1,
        () => socket.send(Buffer.concat([Buffer.from('"'), random.of(badBytes)]), { binary: false }),
      ],
      ['over 512 KiB', 1009, 1, () => socket.send(' '.repeat(512 * 1024 + 1))],
      ['100 in a row', 4400, 100, () => Array.from({ length: 100 }, () => socket.send(garbage(random)))],
    ]
    const [kind, code, frames, send] = random.of(ends)
    kinds[`frame: ${kind}`] = (kinds[`frame: ${kind}`] ?? 0) + frames
    if (frames > 1) withoutId += frames
    send()
    await until(() => client.closed !== undefined, `the close of ${kind}`, 30_000)
    read()
    if (client.closed?.code !== code || withoutId !== 0) fault(kind, client.closed, withoutId)
    client = await connect()
    seen = 0
    return frames
  }
  return async (frames) => {
    for (let sent = 0; sent < frames;) {
      for (let i = 0; i < 40 && sent < frames; i++, sent++) {
        const { kind, text, id } = makeFrame(random, ++made)
        count(kinds, `frame: ${kind}`)
        if (id === undefined) withoutId++
        else pending.set(id, text)
        client.socket.send(text)
      }
      const id = `ping ${made}`
      pending.set(id, 'ping')
      client.send({ type: 'ping', id })
      await until(
        () => {
          read()
          return (pending.size === 0 && withoutId === 0) || client.closed !== undefined
        },
        'all answers',
        30_000,
      ).catch((error: Error) => fault(error.message, withoutId, [...pending]))
      if (client.closed || pending.size > 0 || withoutId > 0) {
        fault('closed, or not answered', client.closed, withoutId, [...pending])
        return
      }
      if (sent < frames && random.below(20) === 0) sent += await end()
    }
  }
}

const { hostname, port } = new URL(server.url)
const agent = new Agent({ keepAlive: true, maxSockets: lanes.bodies })
t.teardown(() => agent.destroy())
type Answered = { status: number; text: string }
/** Resolves with the answer, or undefined if the client disconnected in the middle of its body. */
const perform = ({ kind, method, path, headers, body }: Ask): Promise<Answered | undefined> =>
  new Promise((resolve, reject) => {
    const length = body ? { 'content-length': body.length } : {}
    const request = httpRequest({ hostname, port, method, path, agent, headers: { ...headers, ...length } })
    if (kind === 'left off') {
      request.on('error', () => resolve(undefined))
      request.write(body?.subarray(0, body.length - 1), () => request.destroy())
      return
    }
    request.on('error', reject)
    request.on('response', (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', reject)
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }))
    })
    request.end(body)
  })

/** Sends requests one after the other. */
const bodyLane = (n: number): ((bodies: number) => Promise<void>) => {
  const random = makeRandom(seed + 1000 + n)
  return async (bodies) => {
    for (let sent = 0; sent < bodies; sent++) {
      const ask = makeAsk(random)
      count(kinds, `body: ${ask.kind}`)
      const what = { ...ask, headers: Object.keys(ask.headers), body: ask.body?.subarray(0, 100).toString('latin1') }
      try {
        const answer = await perform(ask)
        if (!answer) continue
        const error = JSON.parse(answer.text) as Json
        const code = error['code'] as ErrorCode
        count(codes, `${answer.status} ${code}`)
        if (code === 'unavailable') unavailable.push(`${ask.kind}: ${ask.method} ${ask.path} ${what.body}`)
        if (!isForm(error) || (answer.status !== 415 && answer.status !== deny(code).status)) fault(answer, what)
      } catch (error) {
        fault(String(error), what)
      }
    }
  }
}

const memory = (): number => {
  try {
    return Number(/^VmRSS:\s*(\d+) kB/m.exec(readFileSync(`/proc/${server.process.pid}/status`, 'utf8'))?.[1]) / 1024
  } catch {
    return NaN
  }
}
const snapshot = async (): Promise<unknown> => {
  const tables = [
    'missions',
    'deck.heads',
    'deck.events',
    'deck.cleared_keys',
    'chat_messages',
    'dod_items',
    'test_runs',
  ]
  const rows = tables.map((table) => `select '${table}' || r::text as row from ${table} r`).join(' union all ')
  return (await database.query(`select row from (${rows}) x order by row`)).map(({ row }) => row)
}

void t.test('fuzz: 100,000 malformed frames and bodies are answered and change nothing', async (t) => {
  t.comment(`SEED=${seed}`)
  const start = performance.now()
  const before = await snapshot()
  const { pid } = server.process
  const work = [
    ...(await Promise.all(Array.from({ length: lanes.frames }, (_, n) => frameLane(n)))).map(
      (lane) => () => lane(perRound.frames / lanes.frames),
    ),
    ...Array.from({ length: lanes.bodies }, (_, n) => bodyLane(n)).map(
      (lane) => () => lane(perRound.bodies / lanes.bodies),
    ),
  ]
  const rss: number[] = [memory()]
  for (let round = 0; round < rounds && faults.length === 0; round++) {
    await Promise.all(work.map((lane) => lane()))
    rss.push(memory())
  }
  const seconds = (performance.now() - start) / 1000
  t.strictSame(faults, [], 'each got one well-formed answer, and none is internal')
  const total = Object.values(kinds).reduce((sum, n) => sum + n, 0)
  t.ok(total >= rounds * (perRound.frames + perRound.bodies), `${total} inputs`)
  t.strictSame(await snapshot(), before, 'no row was changed')
  t.equal((await deck.request('GET', '/readyz')).status, 200)
  t.equal((await (await deck.connect(alice)).ask({ type: 'ping' }))['type'], 'ok')
  t.strictSame([server.process.pid, server.process.exitCode, server.process.signalCode], [pid, null, null])
  const lines = server.output().split('\n')
  const faultLines = lines.filter((line) => /unhandled|uncaught|internal error|^\s+at /i.test(line))
  t.strictSame(faultLines.slice(0, 5), [], 'the log has no fault')
  const errors = new Set(lines.flatMap((line) => /"level":[56]0.*"msg":"([^"]*)"/.exec(line)?.[1] ?? []))
  t.strictSame([...errors], [], 'the log has no error: client errors are not logged as errors')
  const [, warm = 0] = rss
  // The smaller of the last two values, because one may be taken just before a garbage collection.
  const growth = Math.min(...rss.slice(-2)) - warm
  if (Number.isNaN(growth)) t.comment('no /proc here: memory was not checked')
  else t.ok(growth < 64, `memory grew by ${growth.toFixed(1)} MiB after the first 20,000`)
  t.comment(
    `${total} in ${seconds.toFixed(1)} s; RSS in MiB, before and after each 20,000: ${rss.map(Math.round).join(', ')}`,
  )
  t.comment(`sent: ${JSON.stringify(kinds)}`)
  t.comment(`answered: ${JSON.stringify(codes)}`)
  if (unavailable.length > 0) t.comment(`unavailable: ${JSON.stringify(unavailable.slice(0, 5))}`)
})
