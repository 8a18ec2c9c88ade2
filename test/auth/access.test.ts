// Access: tickets, revocations, token expiry, rate limits, origins and the audit.
// Two instances share one database where it matters.
import { randomUUID } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { refused } from '../support/forms.ts'
import {
  admin,
  alice,
  bob,
  closed,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  token,
  until,
  type Answer,
  type Client,
  type Instance,
  type Json,
} from '../support/server.ts'

const { database, instance } = await startDeck(t)
const other = await startInstance(t, database.url)
const mission = await makeMission(instance)
const chat = `missions/${mission.id}/chat/rafael`

/** Opens a socket with the given query and options. Returns its close code, the HTTP status of a refusal, or its welcome. */
const dial = (t: Test, { url }: Instance, query: string, options: Json = {}): Promise<number | Json> => {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/api/ws${query}`, ['deck.v1'], options)
  t.teardown(() => socket.terminate())
  return new Promise((resolve) => {
    socket.on('close', resolve).on('error', () => {})
    socket.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0))
    socket.on('message', (data: Buffer) => resolve(JSON.parse(data.toString()) as Json))
  })
}

await t.test('tickets: one opens one socket, on any instance, with the rights of its token', async (t) => {
  const ask = async (bearer: string): Promise<string> => {
    const { status, json, headers } = await instance.request('POST', '/api/tickets', bearer)
    t.strictSame([status, json['expires_in'], headers.get('cache-control')], [201, 30, 'no-store'])
    return String(json['ticket'])
  }
  const claim = await token({ sub: 'carol', role: 'user', missions: [mission.number], jti: randomUUID() })
  const ticket = await ask(claim)
  const expires_at = (await (await instance.connect(claim)).frame(() => true))['expires_at']
  t.match(await dial(t, other, `?ticket=${ticket}`), { type: 'welcome', sub: 'carol', role: 'user', expires_at })
  t.equal(await dial(t, other, `?ticket=${ticket}`), 4401, 'used twice')
  t.equal(await dial(t, instance, `?ticket=${ticket}`), 4401, 'used twice, elsewhere')
  const raced = await ask(alice)
  const answers = await Promise.all([instance, other, instance, other].map((at) => dial(t, at, `?ticket=${raced}`)))
  t.equal(answers.filter((answer) => answer === 4401).length, 3, 'four sockets at once: one opens')
  for (const wrong of ['', 'x', `${ticket}x`, alice, '%00', "'; drop table deck.tickets; --"])
    t.equal(await dial(t, instance, `?ticket=${encodeURIComponent(wrong)}`), 4401, wrong.slice(0, 9))
  const late = await ask(alice)
  await database.query(`update deck.tickets set expires_at = now() - interval '1 second'`)
  t.equal(await dial(t, instance, `?ticket=${late}`), 4401, 'expired')
  refused(t, await instance.request('POST', '/api/tickets'), 401, 'unauthorized', 'without a token')
  refused(
    t,
    await instance.request('GET', `/api/missions?ticket=${await ask(alice)}`),
    401,
    'unauthorized',
    'for sockets only',
  )
  const [stored] = await database.query('select string_agg(t::text, $1) as text from deck.tickets t', [' '])
  t.notMatch(String(stored?.['text']), /deck_ticket_/, 'only a digest is stored')
})

await t.test('tokens: one in the URL is refused, even with a good token in the header', async (t) => {
  for (const query of [
    `?token=${alice}`,
    `?access_token=${alice}`,
    `?jwt=${alice}`,
    `?x=1&anything=${alice}`,
    `?a=1&a=${alice}`,
  ]) {
    refused(t, await instance.request('GET', `/api/missions${query}`), 401, 'unauthorized', 'in the URL alone')
    refused(t, await instance.request('GET', `/api/missions${query}`, alice), 401, 'unauthorized', 'besides the header')
    t.equal(await dial(t, instance, query), 4401)
    t.equal(await dial(t, instance, query, { headers: { authorization: `Bearer ${alice}` } }), 4401)
  }
})

await t.test('jti: a token whose jti is too long to revoke, or not storable, is refused', async (t) => {
  const ask = async (jti: string) =>
    instance.request('GET', '/api/missions', await token({ sub: 'erin', role: 'user', jti }))
  for (const jti of ['x'.repeat(1025), 'é'.repeat(513), '😀'.repeat(257), 'x\0', '\ud800', 'x'.repeat(8000)]) {
    refused(t, await ask(jti), 401, 'unauthorized', `${Buffer.byteLength(jti)} bytes`)
    const socket = await instance.connect(await token({ sub: 'erin', role: 'user', jti }))
    t.equal(await closed(socket), 4401)
  }
  for (const jti of ['x'.repeat(1024), 'é'.repeat(512), '😀'.repeat(256)]) {
    t.equal((await ask(jti)).status, 200)
    await database.query('select deck.revoke($1)', [jti])
    await until(async () => (await ask(jti)).status === 401, 'the longest jti to be revoked')
    await database.query('select deck.unrevoke($1)', [jti])
    await until(async () => (await ask(jti)).status === 200, 'the jti to be accepted again')
  }
  await database.query('delete from deck.audit')
})

await t.test(
  'revocation: closes and blocks a sub or jti at once on every instance, until it is unrevoked',
  async (t) => {
    const [sub, jti] = [`sub ${randomUUID()}`, `jti ${randomUUID()}`]
    const bySub = await token({ sub, role: 'user', missions: '*' })
    const byJti = await token({ sub: 'dave', role: 'user', missions: '*', jti })
    const sibling = await token({ sub: 'dave', role: 'user', missions: '*', jti: `${jti} 2` })
    const clients = await Promise.all(
      [instance, other].flatMap((at) => [bySub, byJti, sibling].map((bearer) => at.connect(bearer))),
    )
    for (const client of clients) t.match(await client.ask({ type: 'subscribe', topic: chat }), { type: 'ok' })
    const { json } = await instance.request('POST', '/api/tickets', bySub)
    await database.query('select deck.revoke($1), deck.revoke($2)', [sub, jti])
    const [one, two, stays, three, four, staysToo] = clients as [Client, Client, Client, Client, Client, Client]
    for (const client of [one, two, three, four]) {
      t.equal(await closed(client), 4401)
      t.match(client.frames.at(-1), { type: 'goodbye', reason: 'token revoked' })
    }
    for (const at of [instance, other]) {
      for (const bearer of [bySub, byJti, await token({ sub, role: 'admin' })]) {
        refused(t, await at.request('GET', '/api/missions', bearer), 401, 'unauthorized', 'over HTTP')
        t.equal(await closed(await at.connect(bearer)), 4401, 'a socket')
      }
      t.equal((await at.request('GET', '/api/missions', sibling)).status, 200, 'another token of the sub')
    }
    t.equal(await dial(t, other, `?ticket=${String(json['ticket'])}`), 4401, 'a ticket from before the revocation')
    for (const client of [stays, staysToo]) {
      t.match(await client.ask({ type: 'ping' }), { type: 'ok' })
      t.match(
        await client.ask({ type: 'auth', token: byJti }),
        { type: 'error', code: 'unauthorized' },
        'a revoked token is refused as a fresh one',
      )
    }
    const late = await startInstance(t, database.url)
    refused(t, await late.request('GET', '/api/missions', bySub), 401, 'unauthorized', 'an instance that starts later')
    await database.query('select deck.unrevoke($1)', [sub])
    await until(
      async () => (await other.request('GET', '/api/missions', bySub)).status === 200,
      'the sub to be accepted again',
    )
    t.strictSame(
      await database.query(
        `select action, detail ->> 'name' as name from deck.audit where action like '%revoke' order by id`,
      ),
      [
        { action: 'revoke', name: sub },
        { action: 'revoke', name: jti },
        { action: 'unrevoke', name: sub },
      ],
    )
  },
)

await t.test('socket: receives one goodbye before its token expires, one before a fresh token expires', async (t) => {
  const short = (seconds: number) => token({ sub: 'alice', role: 'user' }, seconds)
  const patient = await startInstance(t, database.url, { limits: { tokenWarning: 1000 } })
  const client = await patient.connect(await short(3))
  const goodbyes = () => client.frames.filter(({ type }) => type === 'goodbye').length
  t.match(await client.ask({ type: 'ping' }), { type: 'ok' })
  t.equal(goodbyes(), 0, 'not yet')
  t.match(await client.frame(({ type }) => type === 'goodbye'), { reason: 'token expires', retry_after: 0 })
  t.equal(client.closed, undefined, 'the goodbye is sent before the close')
  t.match(await client.ask({ type: 'auth', token: await short(3) }), { type: 'ok' })
  t.equal(await closed(client), 4401)
  t.equal(goodbyes(), 2)
  const strict = await instance.connect(await token({ sub: 'alice', role: 'user' }, -2))
  t.equal(await closed(strict), 4401, 'sockets have no clock tolerance')
  t.notOk(strict.frames.some(({ type }) => type === 'welcome'))
})

await t.test(
  'subscriptions: end with one not_found per topic when SQL re-assigns the mission, on both instances',
  async (t) => {
    const { id } = await makeMission(instance)
    const topics = [`missions/${id}`, `missions/${id}/dod`, `missions/${id}/tests`, `missions/${id}/chat/rafael`]
    const clients = await Promise.all([instance, other].map((at) => at.connect(alice)))
    for (const client of clients)
      for (const topic of topics) t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
    await database.query(`update missions set assigned_to = 'bob' where id = $1`, [id])
    const ends = (client: Client) => client.frames.filter(({ type, code }) => type === 'error' && code === 'not_found')
    await until(() => clients.every((client) => ends(client).length === topics.length), 'the ends')
    for (const client of clients) t.strictSame(new Set(ends(client).map(({ topic }) => topic)), new Set(topics))
    const before = clients.map(({ frames }) => frames.length)
    await database.query(
      `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'secret')`,
      [id],
    )
    await database.query(`insert into test_runs (mission_id, status) values ($1, 'running')`, [id])
    await database.query(`update missions set title = 'secret' where id = $1`, [id])
    const follower = await other.connect(bob)
    t.match(await follower.ask({ type: 'subscribe', topic: `missions/${id}/chat/rafael`, after: 0 }), { type: 'ok' })
    await until(() => follower.events(`missions/${id}/chat/rafael`).length === 1, 'the event at the new assignee')
    for (const client of clients) {
      t.match(await client.ask({ type: 'ping' }), { type: 'ok' })
      t.match(await client.ask({ type: 'subscribe', topic: topics[3] }), { type: 'error', code: 'not_found' })
      t.notMatch(JSON.stringify(client.frames), /secret/)
    }
    t.strictSame(
      clients.map(({ frames }) => frames.length - 2),
      before,
      'only the two answers',
    )
  },
)

await t.test('audit: actions with more than a user’s rights are in the audit and in the log', async (t) => {
  const lines: string[] = []
  const watched = await startInstance(t, database.url, { logLevel: 'info' }, (line) => lines.push(line))
  const { id, number } = await makeMission(watched)
  const path = `/api/missions/${id}/chat/rafael`
  const say = (bearer: string, more: Json) => watched.request('POST', path, bearer, { message: 'x', ...more })
  for (const [bearer, more] of [
    [alice, {}],
    [alice, { author: 'bob', sender: 'citizen' }],
    [rafael, {}],
    [admin, {}],
    [admin, { author: 'root', sender: 'user' }],
    [admin, { author: 'alice', key: 'once' }],
    [admin, { author: 'alice', key: 'once' }],
    [admin, { sender: 'citizen' }],
  ] as const)
    t.ok((await say(bearer, more)).status < 202)
  const socket = await watched.connect(admin)
  t.match(await socket.ask({ type: 'send', topic: path.slice(5), message: 'x', author: null }), { type: 'ok' })
  t.equal((await watched.request('DELETE', path, admin)).status, 204)
  refused(t, await watched.request('DELETE', path, alice), 403, 'forbidden')
  t.equal((await watched.request('DELETE', `/api/missions/${id}`, admin)).status, 204)
  const bySql = await makeMission(watched)
  await database.query('delete from missions where id = $1', [bySql.id])

  const found = await database.query('select action, actor, detail from deck.audit where mission_id = $1 order by id', [
    id,
  ])
  const as = (seq: number, author: string | null, sender = 'user') => ({
    action: 'message.as',
    actor: 'root',
    detail: { seq, author, sender, citizen: 'rafael' },
  })
  const expected = [
    as(6, 'alice'),
    as(7, 'root', 'citizen'),
    as(8, null),
    { action: 'chat.clear', actor: 'root', detail: { seq: 9, citizen: 'rafael' } },
    { action: 'mission.delete', actor: 'root', detail: { number, title: 'Telegram Notifier', client: 'Acme Corp' } },
  ]
  t.strictSame(found, expected)
  const [sql] = await database.query(
    'select action, actor = session_user as login from deck.audit where mission_id = $1',
    [bySql.id],
  )
  t.strictSame(sql, { action: 'mission.delete', login: true }, 'a deletion by SQL names the login')
  const logged = lines.map((line) => (JSON.parse(line) as Json)['audit'] as Json | undefined).filter(Boolean)
  t.strictSame(
    logged.map((line) => [line?.['action'], line?.['actor'], line?.['mission']]),
    expected.map(({ action, actor }) => [action, actor, id]),
  )
})

await t.test('rate limits: limit requests of one subject and bad tokens, without affecting others', async (t) => {
  const limited = await startInstance(t, database.url, {
    limits: { requestsPerMinute: 5, authFailuresPerMinute: 5, anonymousPerMinute: 5 },
  })
  const get = (bearer?: string, path = '/api/missions'): Promise<Answer> => limited.request('GET', path, bearer)
  for (let n = 0; n < 5; n++) t.equal((await get(alice)).status, 200)
  const answer = await get(alice)
  refused(t, answer, 429, 'rate_limited', 'the sixth')
  t.ok(Number(answer.headers.get('retry-after')) > 0 && Number(answer.headers.get('retry-after')) <= 60)
  t.equal(await dial(t, limited, '', { headers: { authorization: `Bearer ${alice}` } }), 429, 'sockets count as well')
  t.equal((await get(bob)).status, 200, 'another subject')
  for (let n = 0; n < 5; n++) refused(t, await get('a.b.c'), 401, 'unauthorized')
  refused(t, await get('a.b.c'), 429, 'rate_limited', 'bad tokens from one address')
  refused(
    t,
    await limited.request('GET', '/api/missions', 'a.b.c', undefined, { 'x-forwarded-for': '10.1.2.3' }),
    429,
    'rate_limited',
    'a forged X-Forwarded-For',
  )
  t.equal(await dial(t, limited, ''), 429, 'sockets as well')
  t.equal((await get(bob)).status, 200, 'a good token is still accepted')
  for (let n = 0; n < 5; n++) t.equal((await get(undefined, '/')).status, 200)
  refused(t, await get(undefined, '/'), 429, 'rate_limited', 'the page')
  refused(t, await get(undefined, '/nowhere'), 429, 'rate_limited', 'an unknown path')
  for (let n = 0; n < 9; n++) t.equal((await get(undefined, '/healthz')).status, 200, 'health checks are never limited')
})

await t.test('X-Forwarded-For: counts only if it comes from a trusted proxy', async (t) => {
  const limits = { authFailuresPerMinute: 2 }
  const behind = await startInstance(t, database.url, { limits, trustedProxies: ['127.0.0.1'] })
  const elsewhere = await startInstance(t, database.url, { limits, trustedProxies: ['10.0.0.0/8'] })
  const ask = async (at: Instance, from: string): Promise<number> =>
    (await at.request('GET', '/api/missions', 'a.b.c', undefined, { 'x-forwarded-for': from })).status
  for (const [from, status] of [
    ['203.0.113.1', 401],
    ['203.0.113.1', 401],
    ['203.0.113.1', 429],
    ['198.51.100.7, 203.0.113.1', 429],
    ['203.0.113.2', 401],
    ['2001:db8::1', 401],
    ['2001:db8::2', 401],
    ['2001:db8::3', 429],
    ['2001:db8:0:1::1', 401],
  ] as const)
    t.equal(await ask(behind, from), status, from)
  for (const [n, status] of [401, 401, 429].entries()) t.equal(await ask(elsewhere, `203.0.113.${n}`), status)
})

await t.test('rate limits: the sockets of a subject share its frames, without affecting others', async (t) => {
  const limited = await startInstance(t, database.url, {
    limits: { subjectFramesPerSecond: 1, subjectFramesBurst: 20 },
  })
  const mine = await Promise.all([1, 2, 3].map(() => limited.connect(alice)))
  const theirs = await limited.connect(bob)
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, n) => mine[n % 3]?.ask({ type: 'ping' }) ?? Promise.resolve<Json>({})),
  )
  const limitedOnes = answers.filter((answer) => answer['code'] === 'rate_limited')
  t.ok(limitedOnes.length >= 35 && limitedOnes.length <= 40, `${limitedOnes.length} of 60`)
  t.ok(limitedOnes.every((answer) => answer['retry_after'] === 1))
  t.match(await theirs.ask({ type: 'ping' }), { type: 'ok' })
  t.ok(mine.every(({ closed }) => closed === undefined))
})

await t.test('rate limits: a good token works while one address sends 1,000 bad tokens a second', async (t) => {
  const limited = await startInstance(t, database.url, {
    limits: { authFailuresPerMinute: 1000, writeDeadline: 60_000 },
  })
  const client = await limited.connect(alice)
  const good: number[] = []
  const statuses = new Map<string, number>()
  // Ten connections with ten requests each, every 100 ms. They are cheap to send, so the load is on the server.
  const ten = (n: number): string =>
    Array.from({ length: 10 }, (_, i) => {
      const bad = `${alice.slice(0, -6)}${String(n * 10 + i).padStart(6, 'A')}`
      return `GET /api/missions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${bad}\r\n\r\n`
    }).join('')
  const lines = Array.from({ length: 10 }, () => connect(Number(new URL(limited.url).port), '127.0.0.1'))
  t.teardown(() => lines.forEach((line) => line.destroy()))
  for (const line of lines)
    line.on('data', (data: Buffer) => {
      for (const [, status = ''] of data.toString('latin1').matchAll(/HTTP\/1\.1 (\d+)/g))
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
    })
  const answered = (): number => [...statuses.values()].reduce((a, b) => a + b, 0)
  const attack = async (): Promise<number> => {
    const begun = performance.now()
    for (let n = 0; n < 30; n++) {
      lines.forEach((line, i) => line.write(ten(n * 10 + i)))
      // A slow machine needs longer for a hundred requests. Waiting for its answers prevents an ever longer queue.
      const due = (n + 1) * 100
      await until(() => performance.now() - begun >= due && answered() >= due, 'the next tenth of a second')
    }
    return (performance.now() - begun) / 1000
  }
  let over = false
  const worker = (async () => {
    while (!over) {
      good.push((await limited.request('GET', `/api/missions/${mission.id}`, alice)).status)
      t.match(await client.ask({ type: 'send', topic: chat, message: 'on' }), { type: 'ok' })
    }
  })()
  const seconds = await attack()
  over = true
  await worker
  t.comment(`3,000 bad tokens in ${seconds.toFixed(1)} s; ${good.length} good requests and messages meanwhile`)
  t.strictSame(Object.fromEntries(statuses), { 401: 1000, 429: 2000 })
  t.ok(good.length > 0 && good.every((status) => status === 200), 'the good token was always accepted')
})

await t.test('origins: only allowed ones get CORS headers; no cookies, and a strict CSP on every page', async (t) => {
  const friendly = await startInstance(t, database.url, { allowedOrigins: new Set(['https://deck.example']) })
  const preflight = (origin: string): Promise<Answer> =>
    friendly.request('OPTIONS', '/api/missions', undefined, undefined, {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,content-type,idempotency-key',
    })
  const allowed = await preflight('https://deck.example')
  t.equal(allowed.status, 204)
  t.equal(allowed.headers.get('access-control-allow-origin'), 'https://deck.example')
  t.match(allowed.headers.get('access-control-allow-headers'), /authorization.*idempotency-key/)
  t.match(allowed.headers.get('access-control-allow-methods'), /GET, POST, PUT, PATCH, DELETE/)
  t.match(allowed.headers.get('vary'), /origin/i)
  for (const origin of ['https://evil.example', 'https://deck.example.evil.example', 'http://deck.example', 'null']) {
    const foreign = await preflight(origin)
    t.equal(foreign.headers.get('access-control-allow-origin'), null, origin)
    const { headers } = await friendly.request('GET', '/api/missions', alice, undefined, { origin })
    t.equal(headers.get('access-control-allow-origin'), null, origin)
    t.equal(
      await dial(t, friendly, '', { origin, headers: { authorization: `Bearer ${alice}` } }),
      403,
      `a socket from ${origin}`,
    )
  }
  for (const path of ['/', '/docs/', '/healthz', '/api/missions', '/openapi.json', '/nowhere']) {
    const { headers } = await friendly.request('GET', path, alice, undefined, { origin: 'https://deck.example' })
    t.equal(headers.get('access-control-allow-origin'), 'https://deck.example', path)
    t.equal(headers.get('access-control-allow-credentials'), null)
    t.equal(headers.get('set-cookie'), null)
    t.equal(headers.get('x-content-type-options'), 'nosniff', path)
    t.match(headers.get('content-security-policy'), /default-src '(none|self)'/, path)
  }
  const page = (await friendly.request('GET', '/')).headers.get('content-security-policy') ?? ''
  t.notMatch(page, /unsafe/)
})

await t.test('roles and names: only those of the token count', async (t) => {
  const path = `/api/missions/${mission.id}`
  const smuggled = {
    cookie: `token=${admin}; role=admin; authorization=Bearer ${admin}; sub=root`,
    'x-role': 'admin',
    'x-user': 'root',
    'x-forwarded-user': 'root',
    'x-original-url': '/api/missions',
    'x-http-method-override': 'DELETE',
    'proxy-authorization': `Bearer ${admin}`,
    'sec-websocket-protocol': `deck.v1, bearer.${admin}`,
  }
  refused(
    t,
    await instance.request('GET', path, undefined, undefined, smuggled),
    401,
    'unauthorized',
    'without a token',
  )
  refused(t, await instance.request('GET', path, bob, undefined, smuggled), 404, 'not_found', 'bob stays bob')
  refused(t, await instance.request('DELETE', path, alice, undefined, smuggled), 403, 'forbidden', 'alice stays alice')
  const body = { message: 'x', role: 'admin', sub: 'root', sender: 'citizen', author: 'root', isAdmin: true }
  const { json } = await instance.request('POST', `${path}/chat/rafael`, alice, body, smuggled)
  t.match(json, { sender: 'user', author: 'alice' })
  const twice = (tokens: string[]): Promise<number> =>
    new Promise((resolve, reject) => {
      const headers = ['host', 'x', ...tokens.flatMap((text) => ['authorization', `Bearer ${text}`])]
      httpRequest(instance.url + path, { headers }, (response) => {
        response.resume()
        resolve(response.statusCode ?? 0)
      })
        .on('error', reject)
        .end()
    })
  t.equal(await twice([alice]), 200)
  t.equal(await twice([alice, admin]), 401, 'two tokens are refused')
  t.equal(await twice([bob, admin]), 401)
})

await t.test('prototype pollution: __proto__ and constructor in JSON are ordinary members', async (t) => {
  const evil =
    '{"message":"x","__proto__":{"sender":"citizen","role":"admin"},"constructor":{"prototype":{"role":"admin"}}}'
  const headers = { 'content-type': 'application/json' }
  const { status, json } = await instance.request('POST', `/api/${chat}`, alice, evil, headers)
  t.strictSame([status, json['sender'], json['author']], [201, 'user', 'alice'])
  const run = await instance.request('POST', `/api/missions/${mission.id}/tests`, admin, `{"summary":${evil}}`, headers)
  t.equal(run.status, 201)
  const client = await instance.connect(alice)
  client.socket.send(`{"type":"send","id":"p","topic":"${chat}",${evil.slice(1)}`)
  t.match(await client.frame(({ id }) => id === 'p'), { type: 'ok', message: { sender: 'user', author: 'alice' } })
  const plain: Json = {}
  t.strictSame([plain['role'], plain['sender']], [undefined, undefined])
  const polluted = await token({
    sub: 'bob',
    role: 'user',
    ...(JSON.parse('{"__proto__":{"role":"admin"}}') as object),
  })
  t.equal((await instance.request('DELETE', `/api/missions/${mission.id}`, polluted)).status, 404)
})
