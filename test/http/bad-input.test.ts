// Refusals over HTTP: input in a wrong form, out of range or that Postgres can't store gets an error with a fitting code.
// A refusal changes nothing and is never an internal error.
import { once } from 'node:events'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { refused } from '../support/forms.ts'
import { admin, alice, makeMission, startDeck, token, type Answer, type Json } from '../support/server.ts'

const { instance } = await startDeck(t)
const { request } = instance
const { id } = await makeMission(instance)
const mission = `/api/missions/${id}`
const chat = `${mission}/chat/rafael`
const item = `${mission}/dod/${(await request('POST', `${mission}/dod`, admin, { text: 'x', category: 'tests' })).json['id']}`
const run = `${mission}/tests/${(await request('POST', `${mission}/tests`, admin, {})).json['id']}`
const newMission: Json = { title: 'x', client: 'x', budget: 1, deadline: '2030-01-01T00:00:00Z', assigned_to: 'x' }

const snapshot = async (): Promise<string> => {
  const paths = ['/api/missions', mission, chat, `${mission}/chat`, `${mission}/dod`, `${mission}/tests`, `${run}/logs`]
  return (await Promise.all(paths.map((path) => request('GET', path, admin)))).map(({ text }) => text).join('\n')
}
const before = await snapshot()
/** A test after which every row must be unchanged. */
const unchanged = (name: string, work: (t: Test) => Promise<void>): Promise<unknown> =>
  t.test(name, async (t) => {
    await work(t)
    t.equal(await snapshot(), before, 'nothing was changed')
  })

const text = { 'content-type': 'text/plain' }
const json = { 'content-type': 'application/json' }
/** The routes that take JSON, each with a valid body. */
const takers: [method: string, path: string, body: Json][] = [
  ['POST', '/api/missions', newMission],
  ['PATCH', mission, { title: 'x' }],
  ['POST', chat, { message: 'x' }],
  ['POST', `${mission}/dod`, { text: 'x', category: 'tests' }],
  ['PATCH', item, { completed: true }],
  ['POST', `${mission}/tests`, { status: 'passed' }],
  ['PATCH', run, { status: 'passed' }],
]

void unchanged('body: a wrong form is bad_request', async (t) => {
  const wrong: Record<string, Json[]> = {
    [`POST ${chat}`]: [
      {},
      ...[null, 5, true, [], {}, ''].map((message) => ({ message })),
      ...['', 'x'.repeat(65), 'é', 'a\nb', '\u007f', 5, true, {}, ['k']].map((key) => ({ message: 'x', key })),
    ],
    [`POST ${mission}/dod`]: [
      {},
      { text: 'x' },
      { category: 'tests' },
      ...[null, 5, ''].map((text) => ({ text, category: 'tests' })),
      ...[null, 5, '', 'other', 'Tests', ['tests']].map((category) => ({ text: 'x', category })),
      ...[5, '', 'x'.repeat(1001), ['a']].map((test_name) => ({ text: 'x', category: 'tests', test_name })),
    ],
    [`PATCH ${item}`]: [
      {},
      ...[null, 0, 1, 'true', [], {}].map((completed) => ({ completed })),
      ...[5, '', 'x'.repeat(1001), ['a']].map((test_name) => ({ test_name })),
      ...[null, 5, '', 'x'.repeat(1001), ['a']].map((override) => ({ completed: true, override })),
      { override: 'x' },
    ],
    ...Object.fromEntries(
      [`POST ${mission}/tests`, `PATCH ${run}`].map((route) => [
        route,
        [
          ...[null, 5, '', 'done', 'RUNNING', ['passed']].map((status) => ({ status })),
          ...[5, 'x', true, [], [{}]].map((summary) => ({ summary })),
          ...[5, 'x', true, {}, { 0: 1, length: 1 }].map((results) => ({ results })),
        ],
      ]),
    ),
    ...Object.fromEntries(
      ['POST /api/missions', `PATCH ${mission}`].map((route) => [
        route,
        [
          ...['title', 'client', 'assigned_to'].flatMap((name) =>
            [null, 5, '', [], {}].map((value) => ({ [name]: value })),
          ),
          ...[null, '300', 1.5, 2_147_483_648, -2_147_483_649, 1e300, [1]].map((budget) => ({ budget })),
          ...[null, '', 'done', 'Active', 5].map((status) => ({ status })),
          ...['', 'github.com/x', 'javascript:alert(1)', 'ftp://x', 'https://', 'https://a b', 5].map((url) => ({
            github_url: url,
          })),
          ...[
            null,
            '',
            'tomorrow',
            5,
            '2030-01-01',
            '2030-01-01T00:00:00',
            '01.01.2030',
            'infinity',
            '2030-13-01T00:00:00Z',
          ].map((deadline) => ({ deadline })),
          ...[
            '2030-02-30T00:00:00Z',
            '2030-01-01T24:00:01Z',
            '2030-01-01T24:00:00Z',
            '2030-01-01T00:61:00Z',
            '2030-01-01T00:00:00+25:00',
          ].map((deadline) => ({ deadline })),
          ...['2030-01-01T00:00:00+0200', '10000-01-01T00:00:00Z', '0000-01-01T00:00:00Z', '-0001-01-01T00:00:00Z'].map(
            (deadline) => ({ deadline }),
          ),
          ...['0001-01-01T00:00:00+01:00', '9999-12-31T23:59:59-01:00'].map((deadline) => ({ deadline })),
        ].map((part) => (route.startsWith('POST') ? { ...newMission, ...part } : part)),
      ]),
    ),
  }
  wrong['POST /api/missions']?.push(
    ...Object.keys(newMission).map((name) => ({ ...newMission, [name]: undefined })),
    ...[null, 0, -1, 1.5, 2_147_483_648, '5'].map((number) => ({ ...newMission, number })),
  )
  wrong[`POST ${mission}/tests`]?.push(...[5, {}, ['x']].map((logs) => ({ logs })))
  for (const [route, bodies] of Object.entries(wrong)) {
    const [method = '', path = ''] = route.split(' ')
    for (const body of bodies)
      refused(t, await request(method, path, admin, body), 400, 'bad_request', `${route} ${JSON.stringify(body)}`)
  }
  for (const [method, path] of takers)
    for (const body of ['null', '[]', '"x"', '5', 'true', '[{"message":"x"}]', ''])
      refused(t, await request(method, path, admin, body, json), 400, 'bad_request', `${method} ${path} ${body}`)
})

void unchanged('body: text that is no JSON is bad_request', async (t) => {
  const bodies = [
    '{',
    '{"message":"x"',
    '{"message":"x",}',
    "{'message':'x'}",
    '{"message":"x"}{}',
    '\uFEFF{"message":"x"}',
  ]
  const raw = [
    '{"message":"a\nb"}',
    '{"message":"\\x41"}',
    '{"message":NaN}',
    'message=x',
    '['.repeat(100_000),
    '{"message":1e999',
  ]
  for (const body of [...bodies, ...raw])
    refused(t, await request('POST', chat, alice, body, json), 400, 'bad_request', body.slice(0, 30))
  const deep = `{"status":"passed","results":${'['.repeat(5000)}${']'.repeat(5000)}}`
  refused(t, await request('POST', `${mission}/tests`, admin, deep, json), 400, 'bad_request', 'nested too deep')
  const huge = '{"status":"passed","summary":{"n":1e200000}}'
  refused(t, await request('PATCH', run, admin, huge, json), 400, 'bad_request', 'a number that Postgres can not hold')
})

void unchanged('body: bytes that are not UTF-8 are bad_request', async (t) => {
  const bad = [[0xff], [0xc3], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe9, 0x20], [0x80]]
  for (const bytes of bad) {
    const name = Buffer.from(bytes).toString('hex')
    const body = Buffer.concat([Buffer.from('{"message":"a'), Buffer.from(bytes), Buffer.from('"}')])
    refused(t, await request('POST', chat, alice, body, json), 400, 'bad_request', name)
    refused(t, await request('POST', `${run}/logs`, admin, Buffer.from(bytes), text), 400, 'bad_request', `log ${name}`)
  }
  const utf16 = Buffer.from('{"message":"x"}', 'utf16le')
  refused(t, await request('POST', chat, alice, utf16, json), 400, 'bad_request', 'UTF-16')
})

void unchanged('text: characters that Postgres can not store are bad_request in every field', async (t) => {
  // Written as escapes, because UTF-8 can't encode lone surrogates.
  for (const odd of ['\\u0000', '\\ud800', '\\udfff', '\\udc00\\ud800', 'a\\ud83d', '\\ud83d\\ud83d\\ude00']) {
    const bodies: [method: string, path: string, body: string][] = [
      ['POST', chat, `{"message":"${odd}"}`],
      ['POST', chat, `{"message":"a${odd}b"}`],
      ['POST', chat, `{"message":"x","key":"${odd}"}`],
      ['POST', chat, `{"message":"x","author":"${odd}"}`],
      ['POST', chat, `{"message":"x","code_blocks":[{"code":"${odd}"}]}`],
      ['POST', chat, `{"message":"x","code_blocks":[{"code":"x","language":"${odd}"}]}`],
      ['POST', `${mission}/dod`, `{"text":"${odd}","category":"tests"}`],
      ['POST', `${mission}/tests`, `{"logs":"${odd}"}`],
      ['POST', `${mission}/tests`, `{"summary":{"a":{"b":["${odd}"]}}}`],
      ['POST', `${mission}/tests`, `{"summary":{"a":{"${odd}":1}}}`],
      ['PATCH', run, `{"results":["${odd}"]}`],
      ['PATCH', run, `{"results":[{"${odd}":1}]}`],
      ...['title', 'client', 'assigned_to'].flatMap((name): [string, string, string][] => [
        ['PATCH', mission, `{"${name}":"${odd}"}`],
        [
          'POST',
          '/api/missions',
          `${JSON.stringify({ ...newMission, [name]: undefined }).slice(0, -1)},"${name}":"${odd}"}`,
        ],
      ]),
      ['PATCH', mission, `{"github_url":"https://x/${odd}"}`],
    ]
    for (const [method, path, body] of bodies)
      refused(t, await request(method, path, admin, body, json), 400, 'bad_request', `${method} ${path} ${body}`)
  }
  refused(t, await request('POST', `${run}/logs`, admin, 'a\0b', text), 400, 'bad_request', 'U+0000 in a log')
  for (const odd of ['%00', 'a%00', '%ff', '%ed%a0%80', '%c0%80', '%zz'])
    for (const path of [
      `/api/missions?assigned_to=${odd}`,
      `/api/missions?cursor=${odd}`,
      `${mission}/tests?cursor=${odd}`,
    ])
      refused(t, await request('GET', path, admin), 400, 'bad_request', path)
  for (const odd of ['%00', '%ff', 'a%00', '%ed%a0%80', '%'])
    for (const path of [`/api/missions/${odd}`, `${mission}/chat/${odd}`, `${mission}/tests/${odd}`])
      refused(t, await request('GET', path, admin), 400, 'bad_request', path)
})

void unchanged('messages: have 1 to 10,000 characters', async (t) => {
  const long = [
    'x'.repeat(10_001),
    '😀'.repeat(10_001),
    'e\u0301'.repeat(5000) + 'e',
    '\n'.repeat(10_001),
    '👨‍👩‍👧'.repeat(2001),
  ]
  for (const message of ['', ...long])
    refused(t, await request('POST', chat, alice, { message }), 400, 'bad_request', `${[...message].length} characters`)
  refused(
    t,
    await request('POST', `${mission}/dod`, admin, { text: 'x'.repeat(10_001), category: 'tests' }),
    400,
    'bad_request',
  )
  for (const name of ['title', 'client', 'assigned_to'])
    refused(t, await request('PATCH', mission, admin, { [name]: 'x'.repeat(1001) }), 400, 'bad_request', name)
})

void unchanged('idempotency key: 1 to 64 printable ASCII characters, in the header as well', async (t) => {
  for (const key of ['', 'x'.repeat(65), 'é', 'a\tb'])
    refused(
      t,
      await request('POST', chat, alice, { message: 'x' }, { 'idempotency-key': key }),
      400,
      'bad_request',
      key,
    )
  const two = await request('POST', chat, alice, { message: 'x', key: 'a' }, { 'idempotency-key': 'b' })
  refused(t, two, 400, 'bad_request', 'two keys')
})

void unchanged('body: a wrong content type is 415', async (t) => {
  const types = [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/xml',
  ]
  for (const [method, path, body] of takers)
    for (const type of [...types, 'application/jsonx', 'text/json', 'junk', '']) {
      const answer = await request(method, path, admin, Buffer.from(JSON.stringify(body)), { 'content-type': type })
      refused(t, answer, 415, 'bad_request', `${method} ${path} ${type}`)
    }
  for (const [method, path, body] of takers)
    refused(
      t,
      await request(method, path, admin, Buffer.from(JSON.stringify(body))),
      415,
      'bad_request',
      `${path} none`,
    )
  for (const type of ['application/json', 'application/octet-stream', 'text/html', ''])
    refused(
      t,
      await request('POST', `${run}/logs`, admin, '{}', { 'content-type': type }),
      415,
      'bad_request',
      `logs ${type}`,
    )
})

void unchanged('body: over 2 MiB is too_large', async (t) => {
  const limit = 2 * 1024 * 1024
  const pad = (size: number): string => '{"message":""}'.padEnd(size)
  refused(t, await request('POST', chat, alice, pad(limit), json), 400, 'bad_request', '2 MiB, with an empty message')
  for (const [n, size] of [limit + 1, 3 * limit, 20 * limit].entries()) {
    refused(t, await request('POST', chat, alice, pad(size), json), 413, 'too_large', `JSON ${n}`)
    refused(t, await request('POST', `${run}/logs`, admin, 'x'.repeat(size), text), 413, 'too_large', `text ${n}`)
  }
  const response = await fetch(instance.url + chat, {
    method: 'POST',
    headers: { ...json, authorization: `Bearer ${alice}` },
    body: new Blob([pad(2 * limit)]).stream(),
    duplex: 'half',
  })
  const answer = { status: response.status, headers: response.headers, text: '', json: (await response.json()) as Json }
  refused(t, answer, 413, 'too_large', 'of unknown length')
})

void unchanged('test runs: summary and results have at most 1 MiB each', async (t) => {
  const big = 'x'.repeat(1024 * 1024)
  for (const [method, path] of [
    ['POST', `${mission}/tests`],
    ['PATCH', run],
  ] as const)
    for (const body of [{ summary: { big } }, { results: [big] }, { summary: { big: '\u0001'.repeat(200_000) } }])
      refused(t, await request(method, path, admin, body), 400, 'bad_request', `${method} ${Object.keys(body)[0]}`)
})

void unchanged('query: values in a wrong form are bad_request', async (t) => {
  const numbers = ['', '-1', '1.5', '1e1', '0x10', '+1', ' 1', 'abc', '9'.repeat(17), '1,2', 'null', 'NaN', '[]']
  for (const value of numbers) {
    for (const name of ['after', 'before', 'limit'])
      refused(
        t,
        await request('GET', `${chat}?${name}=${encodeURIComponent(value)}`, alice),
        400,
        'bad_request',
        `${name}=${value}`,
      )
    for (const list of ['/api/missions', `${mission}/tests`])
      refused(
        t,
        await request('GET', `${list}?limit=${encodeURIComponent(value)}`, alice),
        400,
        'bad_request',
        `${list} ${value}`,
      )
  }
  for (const list of [chat, '/api/missions', `${mission}/tests`])
    for (const query of ['limit=0', 'limit=501', 'limit=1&limit=2'])
      refused(t, await request('GET', `${list}?${query}`, alice), 400, 'bad_request', `${list} ${query}`)
  refused(t, await request('GET', `${chat}?after=1&after=2`, alice), 400, 'bad_request', 'after twice')
  refused(t, await request('GET', `/api/missions?status=done`, alice), 400, 'bad_request', 'status')
  const junk = ['', 'x', '0', '-1', '%27', 'null', '99999999999', 'e30', 'MjAyNi0xMy00NSB4', 'x'.repeat(3000)]
  const dates = ['2026-99-99T00:00:00Z', '2026-01-01T99:99Z', '99999-01-01T00:00:00Z', '2026-01-01T00:00:00Z']
  for (const cursor of [...junk, ...dates.map((at) => Buffer.from(`${at} ${'-'.repeat(36)}`).toString('base64url'))]) {
    refused(t, await request('GET', `${mission}/tests?cursor=${cursor}`, alice), 400, 'bad_request', `tests ${cursor}`)
    if (cursor !== '' && !/^\d+$/.test(cursor))
      refused(
        t,
        await request('GET', `/api/missions?cursor=${cursor}`, alice),
        400,
        'bad_request',
        `missions ${cursor}`,
      )
  }
})

void unchanged('path: an impossible name is bad_request, an unknown route is not_found', async (t) => {
  for (const name of [
    '0',
    '-1',
    '1.5',
    '047',
    '2147483648',
    '99999999999999999999',
    'abc',
    '%20',
    `${id}0`,
    id.replaceAll('-', ''),
    `{${id}}`,
  ])
    for (const path of ['', '/chat', '/chat/rafael', '/dod', '/tests', '/tests/latest'])
      refused(t, await request('GET', `/api/missions/${name}${path}`, admin), 400, 'bad_request', `${name}${path}`)
  for (const name of ['Rafael', '1st', '_x', 'a.b', 'a b', 'é', 'x'.repeat(33), '-x', 'x%0a'])
    for (const method of ['GET', 'DELETE'])
      refused(t, await request(method, `${mission}/chat/${name}`, admin), 400, 'bad_request', `${method} ${name}`)
  for (const name of ['1', 'x', `${id}0`]) {
    refused(t, await request('GET', `${mission}/tests/${name}`, admin), 400, 'bad_request', `run ${name}`)
    refused(
      t,
      await request('PATCH', `${mission}/dod/${name}`, admin, { completed: true }),
      400,
      'bad_request',
      `item ${name}`,
    )
  }
  const routes = [
    'GET /nothing',
    'GET /api',
    'GET /api/nothing',
    `PUT ${mission}`,
    `POST ${mission}`,
    `DELETE ${mission}/tests`,
    `PATCH ${chat}`,
    `OPTIONS ${chat}`,
  ]
  for (const route of routes) {
    const [method = '', path = ''] = route.split(' ')
    refused(t, await request(method, path, admin), 404, 'not_found', route)
  }
  for (const path of ['/api/ws', `${chat}/ws`])
    refused(t, await request('GET', path, admin), 400, 'bad_request', `${path} without an upgrade`)
})

void unchanged('HTTP: text that is no HTTP and a header that is too large get the same form of error', async (t) => {
  const { port, hostname } = new URL(instance.url)
  const say = async (bytes: string): Promise<Answer> => {
    const socket = connect(Number(port), hostname)
    let got = ''
    socket.on('data', (data: Buffer) => (got += data.toString()))
    socket.on('error', () => undefined)
    socket.write(bytes)
    await once(socket, 'close')
    const [head = '', body = ''] = got.split('\r\n\r\n')
    const headers = new Headers(
      head
        .split('\r\n')
        .slice(1)
        .map((line) => line.split(': ') as [string, string]),
    )
    return { status: Number(head.split(' ')[1]), headers, text: got, json: JSON.parse(body || '{}') as Json }
  }
  refused(t, await say('what?\r\n\r\n'), 400, 'bad_request', 'no HTTP')
  refused(t, await say('GET / HTTP/1.1\r\nbad header\r\n\r\n'), 400, 'bad_request', 'a bad header')
  refused(
    t,
    await say(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`),
    431,
    'bad_request',
    'a large header',
  )
  t.equal((await request('GET', '/healthz')).status, 200, 'the server keeps running')
})

void unchanged('errors: contain no secret', async (t) => {
  const stranger = await token({ sub: 'secret-sub', role: 'user' })
  const answers = [await request('GET', mission, stranger), await request('GET', '/api/missions', `${stranger}x`)]
  for (const { text } of answers) t.notMatch(text, /secret-sub|eyJ|select|at .*\.[tj]s/)
})

void unchanged('body: a large one with a million faults gets a short 400', async (t) => {
  const million = (part: string): string => `[${Array(500_000).fill(part).join(',')}]`
  for (const [what, body] of [
    ['a million bad blocks', `{"message":"x","code_blocks":${million('{}')}}`],
    ['a million numbers', `{"message":"x","code_blocks":${million('0')}}`],
    ['a million levels', `${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}`],
  ] as const) {
    const answer = await request('POST', chat, alice, body, json)
    refused(t, answer, 400, 'bad_request', what)
    t.ok(answer.text.length < 300, `${answer.text.length} characters`)
  }
})

void unchanged('body: far too large gets 413, even while the client still sends it', async (t) => {
  const body = Buffer.alloc(8 * 1024 * 1024, 'x')
  for (let n = 0; n < 20; n++) refused(t, await request('POST', chat, alice, body, json), 413, 'too_large')
})

void unchanged('upgrade: is refused on a path that is no socket', async (t) => {
  for (const path of ['/healthz', chat, '/nothing']) {
    const { socket } = await instance.connect(alice, path).catch((error: Error) => ({ socket: error.message }))
    t.match(socket, /40[04]/, path)
  }
})
