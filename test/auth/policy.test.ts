// The policy: every route and every frame with every kind of token, on visible and on hidden missions.
// A route or frame without a row in these tables fails.
// A hidden mission answers like a missing one, before any other check. A refusal changes nothing.
import { randomUUID } from 'node:crypto'
import { SignJWT, UnsecuredJWT } from 'jose'
import t from 'tap'
import type { Role } from '../../src/access/actor.ts'
import { clientFrames, type FrameType } from '../../src/protocol/client-frames.ts'
import { refused } from '../support/forms.ts'
import {
  admin,
  alice,
  bob,
  makeMission,
  rafael,
  secret,
  startDeck,
  token,
  type Answer,
  type Json,
} from '../support/server.ts'

const { database, instance } = await startDeck(t)
const { request } = instance

/** `waiting`, `failed`: questions. `request`, `open`: requests to people. */
type Place = {
  mission: string
  item: unknown
  run: unknown
  waiting: unknown
  failed: unknown
  request: unknown
  open: unknown
}
type Action = { method: string; path: (place: Place) => string; body?: unknown; status: number; may: Role[] }
const everyone: Role[] = ['user', 'citizen', 'admin']
// The deletion of the mission is last, because the other actions need the mission.
const actions: Action[] = [
  ...['', '/chat', '/chat/rafael', '/chat/sofia', '/dod', '/tests', '/tests/latest'].map((path) => ({
    method: 'GET',
    path: ({ mission }: Place) => mission + path,
    status: 200,
    may: everyone,
  })),
  { method: 'GET', path: (p) => `${p.mission}/search?q=x`, status: 200, may: everyone },
  { method: 'GET', path: (p) => `${p.mission}/tests/${p.run}`, status: 200, may: everyone },
  { method: 'GET', path: (p) => `${p.mission}/tests/${p.run}/logs`, status: 200, may: everyone },
  { method: 'GET', path: (p) => `${p.mission}/tests/${p.run}/task`, status: 200, may: everyone },
  { method: 'GET', path: (p) => `${p.mission}/tests/${p.run}/diff/${p.run}`, status: 200, may: everyone },
  // Not one of the first ten, which `snapshot` compares: its horizon changes.
  { method: 'GET', path: (p) => `${p.mission}/timeline`, status: 200, may: everyone },
  { method: 'POST', path: (p) => `${p.mission}/chat/rafael`, body: { message: 'x' }, status: 201, may: everyone },
  {
    method: 'POST',
    path: (p) => `${p.mission}/chat/sofia`,
    body: { message: 'x' },
    status: 201,
    may: ['user', 'admin'],
  },
  { method: 'GET', path: (p) => `${p.mission}/chat/emma/messages/${p.waiting}`, status: 200, may: everyone },
  { method: 'GET', path: (p) => `${p.mission}/chat/emma/questions`, status: 200, may: everyone },
  {
    method: 'POST',
    path: (p) => `${p.mission}/chat/emma/questions/${p.waiting}/cancel`,
    status: 200,
    may: ['user', 'admin'],
  },
  {
    method: 'POST',
    path: (p) => `${p.mission}/chat/emma/questions/${p.failed}/retry`,
    status: 200,
    may: ['user', 'admin'],
  },
  { method: 'DELETE', path: (p) => `${p.mission}/chat/rafael`, status: 204, may: ['admin'] },
  {
    method: 'POST',
    path: (p) => `${p.mission}/dod`,
    body: { text: 'x', category: 'tests' },
    status: 201,
    may: ['citizen', 'admin'],
  },
  {
    method: 'PATCH',
    path: (p) => `${p.mission}/dod/${p.item}`,
    body: { completed: true },
    status: 200,
    may: ['user', 'admin'],
  },
  {
    method: 'PATCH',
    path: (p) => `${p.mission}/dod/${p.item}`,
    body: { completed: false, test_name: 'x' },
    status: 200,
    may: ['admin'],
  },
  {
    method: 'PATCH',
    path: (p) => `${p.mission}/dod/${p.item}`,
    body: { completed: true, override: 'x' },
    status: 200,
    may: ['admin'],
  },
  {
    method: 'POST',
    path: (p) => `${p.mission}/dod/complete`,
    body: { override: 'x' },
    status: 200,
    may: ['admin'],
  },
  { method: 'POST', path: (p) => `${p.mission}/dod/complete`, status: 200, may: ['user', 'admin'] },
  { method: 'POST', path: (p) => `${p.mission}/dod/reset`, status: 200, may: ['user', 'admin'] },
  { method: 'DELETE', path: (p) => `${p.mission}/dod/${p.item}`, status: 200, may: ['admin'] },
  { method: 'POST', path: (p) => `${p.mission}/tests/run`, status: 202, may: everyone },
  { method: 'POST', path: (p) => `${p.mission}/tests`, body: {}, status: 201, may: ['citizen', 'admin'] },
  { method: 'POST', path: (p) => `${p.mission}/tests/${p.run}/cancel`, status: 200, may: everyone },
  {
    method: 'PATCH',
    path: (p) => `${p.mission}/tests/${p.run}`,
    body: { status: 'passed' },
    status: 200,
    may: ['citizen', 'admin'],
  },
  {
    method: 'POST',
    path: (p) => `${p.mission}/tests/${p.run}/logs`,
    body: 'x',
    status: 200,
    may: ['citizen', 'admin'],
  },
  { method: 'GET', path: (p) => `${p.mission}/requests`, status: 200, may: everyone },
  { method: 'GET', path: (p) => `${p.mission}/requests/${p.request}`, status: 200, may: everyone },
  {
    method: 'POST',
    path: (p) => `${p.mission}/requests`,
    body: { citizen: 'rafael', kind: 'approve', title: 'x' },
    status: 201,
    may: ['citizen', 'admin'],
  },
  {
    method: 'POST',
    path: (p) => `${p.mission}/requests/${p.request}/answer`,
    body: { answer: true },
    status: 200,
    may: ['user', 'admin'],
  },
  { method: 'POST', path: (p) => `${p.mission}/requests/${p.open}/withdraw`, status: 200, may: ['citizen', 'admin'] },
  // (Written by an admin: what authors may is in test/http/redaction.test.ts.)
  { method: 'POST', path: (p) => `${p.mission}/chat/emma/messages/${p.waiting}/redact`, status: 200, may: ['admin'] },
  { method: 'POST', path: (p) => `${p.mission}/tests/${p.run}/logs/redact`, status: 200, may: ['admin'] },
  { method: 'GET', path: (p) => `${p.mission}/members`, status: 200, may: everyone },
  { method: 'PUT', path: (p) => `${p.mission}/members/zoe`, status: 204, may: ['admin'] },
  { method: 'DELETE', path: (p) => `${p.mission}/members/zoe`, status: 204, may: ['admin'] },
  { method: 'PATCH', path: (p) => p.mission, body: { title: 'New' }, status: 200, may: ['admin'] },
  { method: 'DELETE', path: (p) => p.mission, status: 204, may: ['admin'] },
]
const act = ({ method, path, body }: Action, place: Place, bearer?: string): Promise<Answer> =>
  request(method, path(place), bearer, body, typeof body === 'string' ? { 'content-type': 'text/plain' } : {})

const makePlace = async (): Promise<Place & { id: string; number: number }> => {
  const made = await makeMission(instance)
  const mission = `/api/missions/${made.id}`
  const item = (await request('POST', `${mission}/dod`, admin, { text: 'x', category: 'tests' })).json['id']
  const run = (await request('POST', `${mission}/tests`, admin, { logs: 'log' })).json['id']
  const ask = { citizen: 'rafael', kind: 'approve', title: 'x' }
  const asked = (await request('POST', `${mission}/requests`, admin, ask)).json['id']
  const open = (await request('POST', `${mission}/requests`, admin, ask)).json['id']
  await request('POST', `${mission}/chat/rafael`, admin, { message: 'x' })
  const [waiting, failed] = await Promise.all(
    ['x', 'y'].map(async (message) => (await request('POST', `${mission}/chat/emma`, admin, { message })).json['id']),
  )
  await database.query(
    `insert into deck.tasks (id, citizen, mission_id, seq, at, attempt)
     select id, citizen, mission_id, seq, at, 5 from chat_messages where id = $1`,
    [failed],
  )
  return { ...made, mission, item, run, waiting, failed, request: asked, open }
}
/** Reads everything that a mission shows, by the first ten actions. */
const snapshot = async (place: Place): Promise<string> =>
  (await Promise.all(actions.slice(0, 10).map((action) => act(action, place, admin))))
    .map(({ text }) => text)
    .join('\n')

const exp = 600
void t.test('policy: each role may do what the contract allows on visible missions, and nothing else', async (t) => {
  const seeing: [name: string, role: Role, bearer: (place: { id: string; number: number }) => Promise<string>][] = [
    ['the user it is assigned to', 'user', () => Promise.resolve(alice)],
    ['that user with an empty claim', 'user', () => token({ sub: 'alice', role: 'user', missions: [] }, exp)],
    ['a user with its UUID', 'user', ({ id }) => token({ sub: 'u', role: 'user', missions: [1, id] }, exp)],
    [
      'a user with its UUID in capitals',
      'user',
      ({ id }) => token({ sub: 'u', role: 'user', missions: [id.toUpperCase()] }),
    ],
    ['a user with its number', 'user', ({ number }) => token({ sub: 'u', role: 'user', missions: [number] })],
    [
      'a member',
      'user',
      async ({ id }) => {
        await request('PUT', `/api/missions/${id}/members/${encodeURIComponent('ö/1')}`, admin)
        return token({ sub: 'ö/1', role: 'user' })
      },
    ],
    ['a user with *', 'user', () => token({ sub: 'u', role: 'user', missions: '*' })],
    ['a citizen', 'citizen', () => Promise.resolve(rafael)],
    [
      'a citizen with its number',
      'citizen',
      ({ number }) => token({ sub: 'rafael', role: 'citizen', missions: [number] }),
    ],
    ['a citizen with *', 'citizen', () => token({ sub: 'rafael', role: 'citizen', missions: '*' })],
    ['an admin', 'admin', () => Promise.resolve(admin)],
    ['an admin with an empty claim', 'admin', () => token({ sub: 'root', role: 'admin', missions: [] })],
  ]
  await Promise.all(
    seeing.map(async ([name, role, make]) => {
      const place = await makePlace()
      const bearer = await make(place)
      for (const action of actions) {
        const what = `${name}: ${action.method} ${action.path({ ...place, mission: '' })}`
        if (action.may.includes(role)) t.equal((await act(action, place, bearer)).status, action.status, what)
        else {
          const before = await snapshot(place)
          refused(t, await act(action, place, bearer), 403, 'forbidden', what)
          t.equal(await snapshot(place), before, `${what} changes nothing`)
        }
      }
      const body = { title: 'x', client: 'x', budget: 1, deadline: '2030-01-01T00:00:00Z', assigned_to: 'alice' }
      const created = await request('POST', '/api/missions', bearer, body)
      if (role === 'admin') t.equal(created.status, 201)
      else refused(t, created, 403, 'forbidden', `${name}: POST /api/missions`)
    }),
  )
})

/** The registry of citizens, their keys, people and the audit log, which belong to no mission. */
const registry: { method: string; path: string; body?: unknown; status: number; may: Role[] }[] = [
  { method: 'GET', path: '/api/citizens', status: 200, may: everyone },
  { method: 'PUT', path: '/api/citizens/:name', body: { title: 'x' }, status: 201, may: ['admin'] },
  { method: 'DELETE', path: '/api/citizens/:name', status: 204, may: ['admin'] },
  { method: 'POST', path: '/api/citizens/:name/keys', body: {}, status: 201, may: ['admin'] },
  { method: 'GET', path: '/api/citizens/:name/keys', status: 200, may: ['admin'] },
  { method: 'DELETE', path: '/api/citizens/:name/keys/:key', status: 404, may: ['admin'] },
  { method: 'POST', path: '/api/invites', body: { sub: 'x', role: 'admin' }, status: 201, may: ['admin'] },
  { method: 'GET', path: '/api/people', status: 200, may: ['admin'] },
  { method: 'DELETE', path: '/api/people/:sub/sessions', status: 204, may: ['admin'] },
  { method: 'GET', path: '/api/audit', status: 200, may: ['admin'] },
]
/** Takes the cookie of a session, or no credential at all, and never a token: test/auth/sessions.test.ts. */
const signIn = ['GET /auth', 'POST /auth/token', 'POST /auth/logout']
const signInPages = ['GET /auth/invite', 'POST /auth/invite', 'GET /auth/login', 'GET /auth/callback'].concat(
  'GET /auth/cli',
  'POST /auth/cli',
  'POST /auth/cli/session',
)

/** What each role may do by MCP is in test/http/mcp.test.ts. */
const mcp = ['POST /mcp']
const mcpOpen = ['', '/mcp']
  .map((path) => `GET /.well-known/oauth-protected-resource${path}`)
  .concat('GET /mcp', 'DELETE /mcp')

void t.test(
  'policy: every role reads the registry of citizens; only an admin changes it, or has to do with keys, people and the audit',
  async (t) => {
    const tokens: [role: Role, bearer: string][] = [
      ['user', alice],
      ['user', await token({ sub: 'u', role: 'user', missions: '*' })],
      ['citizen', rafael],
      ['citizen', await token({ sub: 'zoe', role: 'citizen', missions: [] })],
      ['admin', admin],
    ]
    const read = async (): Promise<string> => (await request('GET', '/api/citizens', admin)).text
    for (const [role, bearer] of tokens)
      for (const { method, path, body, status, may } of registry) {
        const before = await read()
        const named = path.replace(':name', 'zoe').replace(':key', randomUUID())
        const answer = await request(method, named, bearer, body)
        if (may.includes(role)) t.equal(answer.status, status, `${role}: ${method} ${path}`)
        else {
          refused(t, answer, 403, 'forbidden', `${role}: ${method} ${path}`)
          t.equal(await read(), before, 'nothing is changed')
        }
      }
  },
)

/** Every route of the server, except those that Fastify adds (HEAD, preflights). */
const routes = (): string[] => {
  const found: string[] = []
  const path: string[] = []
  for (const line of instance.app.http.printRoutes({ commonPrefix: false }).split('\n')) {
    const [, indent = '', segment = '', methods = ''] = /^([│ ]*)[├└]── (\S+) \(([A-Z, ]+)\)$/.exec(line) ?? []
    if (!segment) continue
    path.length = indent.length / 4
    path.push(segment)
    for (const method of methods.split(', '))
      // Two routes have different names for the same segment.
      if (!['HEAD', 'OPTIONS'].includes(method))
        found.push(`${method} ${path.join('')}`.replace(/:run\|:a(?=\/diff)/, ':a').replace(':run|:a', ':run'))
  }
  return found.sort()
}

void t.test('policy: every route has a row, or needs no mission or no token', async (t) => {
  const place = {
    mission: '/api/missions/:mission',
    item: ':item',
    run: ':run',
    waiting: ':question',
    failed: ':question',
    request: ':request',
    open: ':request',
  }
  const rows = actions.map(
    ({ method, path }) =>
      `${method} ${path(place)
        .replace(/chat\/(rafael|sofia|emma)(?=$|\/questions|\/messages)/, 'chat/:citizen')
        .replace('messages/:question', 'messages/:message')
        .replace('members/zoe', 'members/:sub')
        .replace(/\?.*/, '')
        .replace(/:run\/diff\/:run$/, ':a/diff/:b')}`,
  )
  const withoutMission = [
    'GET /api/missions',
    'POST /api/missions',
    'GET /api/requests',
    'GET /api/limits',
    'POST /api/tickets',
  ].concat(registry.map(({ method, path }) => `${method} ${path}`))
  // Who may use an inbox is in test/live/inbox-http.test.ts.
  const inboxes = [
    'GET /api/inbox/:citizen',
    'POST /api/inbox/:citizen/claim',
    ...['renew', 'draft', 'reply', 'done', 'release'].map((call) => `POST /api/inbox/:citizen/tasks/:task/${call}`),
  ]
  withoutMission.push(...inboxes)
  const sockets = ['GET /api/ws', 'GET /api/missions/:mission/chat/:citizen/ws']
  const open = [
    '/',
    '/deck',
    '/deck/',
    '/deck/*',
    '/assets/:file',
    '/healthz',
    '/readyz',
    '/metrics',
    '/openapi.json',
    '/asyncapi.json',
    '/client/:file',
    '/docs',
    '/docs/',
    '/docs/*',
    '/docs/json',
    '/docs/yaml',
  ]
    .concat('/docs/static/index.html', '/docs/static/swagger-initializer.js')
    .map((path) => `GET ${path}`)
  t.strictSame(
    routes(),
    [
      ...new Set([...rows, ...withoutMission, ...sockets, ...open, ...signIn, ...signInPages, ...mcp, ...mcpOpen]),
    ].sort(),
  )
  const { json } = await request('GET', '/openapi.json')
  const documented = Object.entries(json['paths'] as Record<string, Json>).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`),
  )
  const hidden = [...sockets, ...open, ...signInPages, ...mcp, ...mcpOpen].filter(
    (route) => !/(healthz|readyz|metrics)$/.test(route),
  )
  t.strictSame(
    documented.sort(),
    routes().filter((route) => !hidden.includes(route)),
    'every route of the API is documented',
  )
  for (const route of [...new Set([...rows, ...withoutMission, ...mcp])]) {
    const [method = '', path = ''] = route.split(' ')
    refused(t, await request(method, path.replace(/:\w+/g, 'x')), 401, 'unauthorized', `${route} without a token`)
  }
  const { mission } = await makePlace()
  t.equal((await request('HEAD', mission, alice)).status, 200)
  t.equal((await request('HEAD', mission, bob)).status, 404)
  t.equal((await request('HEAD', mission)).status, 401)
})

void t.test('missions: the list has visible missions only', async (t) => {
  const mine = await makePlace()
  const place = await makePlace()
  await request('PATCH', place.mission, admin, { assigned_to: 'carol' })
  const list = async (bearer: string, query = ''): Promise<unknown[]> => {
    const { json } = await request('GET', `/api/missions?limit=500${query}`, bearer)
    return (json['missions'] as Json[]).map(({ id }) => id)
  }
  for (const [name, bearer] of [
    ['a user without missions', bob],
    ['a user', alice],
    ['a citizen with other missions', await token({ sub: 'rafael', role: 'citizen', missions: [mine.id] })],
    ['a user with other missions', await token({ sub: 'bob', role: 'user', missions: [mine.number] })],
  ] as const)
    for (const query of ['', '&assigned_to=carol', '&status=active'])
      t.notOk((await list(bearer, query)).includes(place.id), `${name} ${query}`)
  t.strictSame(await list(bob), [])
  t.strictSame(await list(await token({ sub: 'bob', role: 'user', missions: [mine.number] })), [mine.id])
  t.equal((await request('GET', `/api/missions?limit=1&cursor=${mine.number}`, bob)).json['next'], null)
  for (const bearer of [admin, rafael, await token({ sub: 'carol', role: 'user' })])
    t.ok((await list(bearer)).includes(place.id))
})

type Asked = { frame: Json; seen: Record<Role, string>; unseen: string | Record<Role, string> }
const topics = (place: Place): string[] =>
  ['', '/chat/rafael', '/chat/sofia', '/dod', '/tests', `/tests/${place.run}/logs`].map(
    (path) => place.mission.slice('/api/'.length) + path,
  )
const all = (answer: string): Record<Role, string> => ({ user: answer, citizen: answer, admin: answer })
// An inbox belongs to a citizen, not to a mission.
const inbox = (answer: string): Omit<Asked, 'frame'> => {
  const answers = { ...all('forbidden'), citizen: answer }
  return { seen: answers, unseen: answers }
}
const frames: Record<FrameType, (place: Place, bearer: string) => Asked[]> = {
  subscribe: (place) =>
    topics(place).flatMap((topic) => [
      { frame: { topic }, seen: all('ok'), unseen: 'not_found' },
      { frame: { topic, after: 0 }, seen: all('ok'), unseen: 'not_found' },
    ]),
  // The answer does not depend on the mission.
  unsubscribe: (place) => topics(place).map((topic) => ({ frame: { topic }, seen: all('ok'), unseen: 'ok' })),
  send: (place) => {
    const [, rafaels = '', sofias = ''] = topics(place)
    const message = 'x'
    return [
      { frame: { topic: rafaels, message }, seen: all('ok'), unseen: 'not_found' },
      { frame: { topic: sofias, message }, seen: { ...all('ok'), citizen: 'forbidden' }, unseen: 'not_found' },
      { frame: { topic: rafaels, message, sender: 'citizen', author: 'z' }, seen: all('ok'), unseen: 'not_found' },
    ]
  },
  stream: (place) => {
    const [, rafaels = '', sofias = ''] = topics(place)
    const key = randomUUID()
    return [
      { frame: { topic: rafaels, key, delta: 'x' }, seen: all('ok'), unseen: 'not_found' },
      { frame: { topic: sofias, key, delta: 'x' }, seen: { ...all('ok'), citizen: 'forbidden' }, unseen: 'not_found' },
    ]
  },
  cancel: (place) =>
    topics(place)
      .slice(1, 2)
      .map((topic) => ({ frame: { topic, key: 'none' }, seen: all('not_found'), unseen: 'not_found' })),
  typing: (place) => {
    const [, rafaels = '', sofias = ''] = topics(place)
    return [
      { frame: { topic: rafaels, on: true }, seen: all('ok'), unseen: 'not_found' },
      { frame: { topic: sofias, on: true }, seen: { ...all('ok'), citizen: 'forbidden' }, unseen: 'not_found' },
    ]
  },
  read: (place) =>
    topics(place)
      .slice(1, 3)
      .map((topic) => ({ frame: { topic, seq: 1 }, seen: all('ok'), unseen: 'not_found' })),
  work: () => [{ frame: { credit: 0 }, ...inbox('ok') }],
  done: () => [{ frame: { task: randomUUID() }, ...inbox('conflict') }],
  release: () => [{ frame: { task: randomUUID() }, ...inbox('conflict') }],
  auth: (_place, bearer) => [
    { frame: { token: bearer }, seen: all('ok'), unseen: 'ok' },
    { frame: { token: `${bearer}x` }, seen: all('unauthorized'), unseen: 'unauthorized' },
  ],
  ping: () => [{ frame: {}, seen: all('ok'), unseen: 'ok' }],
}

void t.test('policy: every frame has a row, with the answer to each role on visible and hidden missions', async (t) => {
  t.strictSame(Object.keys(frames).sort(), Object.keys(clientFrames).sort())
  const place = await makePlace()
  const gone = { ...place, mission: `/api/missions/${randomUUID()}` }
  const tokens: [name: string, role: Role, seen: boolean, bearer: string][] = [
    ['the user it is assigned to', 'user', true, alice],
    ['a user with its number', 'user', true, await token({ sub: 'u', role: 'user', missions: [place.number] })],
    ['a citizen', 'citizen', true, rafael],
    ['an admin', 'admin', true, admin],
    ['another user', 'user', false, bob],
    ['a citizen without it', 'citizen', false, await token({ sub: 'rafael', role: 'citizen', missions: [] })],
  ]
  for (const [name, role, seen, bearer] of tokens) {
    const client = await instance.connect(bearer)
    for (const [type, row] of Object.entries(frames))
      for (const { frame: asked, ...answers } of row(place, bearer)) {
        const answer = await client.ask({ type, ...asked })
        const want = seen
          ? answers.seen[role]
          : typeof answers.unseen === 'string'
            ? answers.unseen
            : answers.unseen[role]
        const what = `${name}: ${type} ${JSON.stringify(asked['topic'] ?? '').slice(47)}`
        t.equal(answer['type'] === 'ok' ? 'ok' : answer['code'], want, what)
        if (want === 'ok' && type === 'send') {
          const author = role === 'admin' && 'author' in asked ? 'z' : client.frames[0]?.['sub']
          const sender = role === 'citizen' || (role === 'admin' && 'author' in asked) ? 'citizen' : 'user'
          t.match(answer['message'], { author, sender }, `${what}: its author`)
        }
      }
    // A hidden mission gets the answer of a missing one.
    if (!seen)
      for (const type of ['subscribe', 'send', 'typing', 'read'] as const) {
        const [hidden, missing] = await Promise.all(
          [place, gone].map(async (at) => {
            const [first] = frames[type](at, bearer)
            return client.ask({ type, ...first?.frame })
          }),
        )
        t.strictSame({ ...hidden, id: 0 }, { ...missing, id: 0 }, `${name}: ${type}`)
      }
  }
  t.equal((await (await instance.connect(alice)).ask({ type: 'auth', token: bob }))['code'], 'forbidden', 'another sub')
})

void t.test('not_found: a hidden mission gets the same answer as a missing one', async (t) => {
  const place = await makePlace()
  const other = await makePlace()
  const blind: [name: string, bearer: string][] = [
    ['a user', bob],
    ['a user with other missions', await token({ sub: 'bob', role: 'user', missions: [other.id, other.number] })],
    ['a user whose name differs in case', await token({ sub: 'Alice', role: 'user' })],
    ['a citizen with other missions', await token({ sub: 'rafael', role: 'citizen', missions: [other.id] })],
    ['a citizen without missions', await token({ sub: 'rafael', role: 'citizen', missions: [] })],
    ['a citizen named like the assignee', await token({ sub: 'alice', role: 'citizen', missions: [] })],
  ]
  const before = await snapshot(place)
  for (const [name, bearer] of blind) {
    const [answers, missing] = await Promise.all([
      Promise.all(actions.map((action) => act(action, place, bearer))),
      Promise.all(actions.map((action) => act(action, { ...place, mission: `/api/missions/${randomUUID()}` }, bearer))),
    ])
    for (const [n, answer] of answers.entries()) {
      refused(t, answer, 404, 'not_found', `${name}: ${actions[n]?.method} ${actions[n]?.path(place)}`)
      t.equal(answer.text, missing[n]?.text, 'the answer for a missing mission')
    }
  }
  t.equal(await snapshot(place), before, 'nothing was changed')
  const gone = { ...place, mission: '/api/missions/2147483646' }
  for (const action of actions) refused(t, await act(action, gone, admin), 404, 'not_found', action.path(gone))
})

void t.test('messages: sender and author come from the token; an admin may set them', async (t) => {
  const { mission } = await makePlace()
  const post = async (bearer: string, more: Json, citizen = 'rafael'): Promise<unknown> => {
    const { status, json } = await request('POST', `${mission}/chat/${citizen}`, bearer, { message: 'x', ...more })
    return status === 201 ? [json['sender'], json['author']] : status
  }
  t.strictSame(await post(alice, {}), ['user', 'alice'])
  t.strictSame(await post(alice, { sender: 'citizen', author: 'rafael' }), ['user', 'alice'])
  t.strictSame(await post(alice, { sender: null, author: 5 }), ['user', 'alice'])
  t.strictSame(await post(rafael, {}), ['citizen', 'rafael'])
  t.strictSame(await post(rafael, { sender: 'user', author: 'alice' }), ['citizen', 'rafael'])
  t.strictSame(await post(admin, {}), ['user', 'root'])
  t.strictSame(await post(admin, { sender: 'citizen' }), ['citizen', 'root'])
  t.strictSame(await post(admin, { author: 'zoë 😀' }), ['user', 'zoë 😀'])
  t.strictSame(await post(admin, { sender: 'citizen', author: null }), ['citizen', null])
  for (const more of [{ sender: 'admin' }, { sender: 1 }, { author: '' }, { author: 5 }, { author: 'x'.repeat(257) }])
    t.equal(await post(admin, more), 400, JSON.stringify(more))
})

void t.test('assignment: a change moves the rights at once', async (t) => {
  const { id, mission } = await makePlace()
  const post = async (bearer: string): Promise<number> =>
    (await request('POST', `${mission}/chat/rafael`, bearer, { message: 'x' })).status
  const both = async (): Promise<number[]> => [await post(alice), await post(bob)]
  t.strictSame(await both(), [201, 404])
  await request('PATCH', mission, admin, { assigned_to: 'bob' })
  t.strictSame(await both(), [404, 201], 'by HTTP')
  await database.query(`update missions set assigned_to = 'alice' where id = $1`, [id])
  t.strictSame(await both(), [201, 404], 'by SQL')
  const claim = await token({ sub: 'bob', role: 'user', missions: [id] })
  await request('PATCH', mission, admin, { assigned_to: 'carol' })
  t.equal(await post(claim), 201, 'a claim does not depend on the assignment')
})

void t.test('tokens: every route refuses a missing or invalid one', async (t) => {
  const place = await makePlace()
  const sign = (claims: Json, key = secret, alg = 'HS256'): Promise<string> =>
    new SignJWT(claims).setProtectedHeader({ alg }).sign(new TextEncoder().encode(key))
  const now = Math.floor(Date.now() / 1000)
  const good = { sub: 'alice', role: 'user', exp: now + 600 }
  const bad: [name: string, bearer: string][] = [
    ['none', ''],
    ['junk', 'junk'],
    ['three parts without content', 'a.b.c'],
    ['expired', await sign({ ...good, exp: now - 7 })],
    ['without exp', await sign({ ...good, exp: undefined })],
    ['an exp that is text', await sign({ ...good, exp: `${now + 600}` }).catch(() => 'junk')],
    ['not yet valid', await sign({ ...good, nbf: now + 600 })],
    ['another secret', await sign(good, 'another secret that is longer than 32 bytes')],
    ['another algorithm', await sign(good, secret, 'HS512')],
    ['unsigned', new UnsecuredJWT(good).encode()],
    ['cut short', (await sign(good)).slice(0, -2)],
    ['without sub', await sign({ ...good, sub: undefined })],
    ['an empty sub', await sign({ ...good, sub: '' })],
    ['U+0000 in sub', await sign({ ...good, sub: 'a\0' })],
    ['without role', await sign({ ...good, role: undefined })],
    ['another role', await sign({ ...good, role: 'root' })],
    ['roles', await sign({ ...good, role: ['admin'] })],
    ['missions that are no list', await sign({ ...good, missions: 'all' })],
    ['missions that are null', await sign({ ...good, missions: null })],
    ['missions that are no names', await sign({ ...good, missions: [{}] })],
  ]
  for (const [name, bearer] of bad)
    for (const path of [place.mission, '/api/missions'])
      refused(t, await request('GET', path, bearer), 401, 'unauthorized', name)
  for (const action of actions) refused(t, await act(action, place), 401, 'unauthorized', action.path(place))
  for (const authorization of [alice, `Basic ${alice}`, 'Bearer', `Bearer ${alice}, Bearer ${alice}`])
    refused(
      t,
      await request('GET', place.mission, '', undefined, { authorization }),
      401,
      'unauthorized',
      authorization.slice(0, 6),
    )
  const query = await request('GET', `${place.mission}?token=${alice}&access_token=${alice}`)
  refused(t, query, 401, 'unauthorized', 'a token in the URL')
  const lower = await request('GET', place.mission, '', undefined, { authorization: `bearer ${alice}` })
  t.equal(lower.status, 200, 'the scheme in either case')
  const far = await sign({ ...good, exp: 1e18 })
  t.equal((await request('GET', place.mission, far)).status, 200, 'an exp beyond the range of dates')
  const socket = await instance.connect(far)
  t.match((await socket.frame((frame) => frame['type'] === 'welcome'))['expires_at'], /^9999-/)
})
