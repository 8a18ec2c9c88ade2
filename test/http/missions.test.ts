// Missions, checklists and the server's own pages over HTTP: the exact answer of each route of the contract.
// Test runs are in test-runs.test.ts, chats in chat.test.ts, refusals in bad-input.test.ts, rights in auth/policy.test.ts.
import { connect as dial } from 'node:net'
import t from 'tap'
import { isForm, itemForm, missionForm, refused, time } from '../support/forms.ts'
import {
  admin,
  alice,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  token,
  until,
  type Json,
} from '../support/server.ts'

const { database, instance } = await startDeck(t)
const { request } = instance
const list = (value: unknown): Json[] => value as Json[]

void t.test('missions: are created, read, changed and deleted', async (t) => {
  const given = {
    title: 'Café ☕',
    client: 'Ünï',
    budget: 0,
    deadline: '2030-06-01T12:00:00.5+02:00',
    assigned_to: 'zoë',
  }
  const created = await request('POST', '/api/missions', admin, given)
  t.equal(created.status, 201)
  t.match(created.headers.get('content-type'), /^application\/json/)
  const form = missionForm({ ...given, deadline: '2030-06-01T10:00:00.5Z' })
  isForm(t, created.json, form, 'absent fields have their defaults, times are UTC')
  const { id, number } = created.json
  for (const name of [id, number, String(id).toUpperCase()])
    t.strictSame((await request('GET', `/api/missions/${name}`, admin)).json, created.json, `as ${name}`)

  const patched = await request('PATCH', `/api/missions/${number}`, admin, {
    status: 'complete',
    github_url: 'https://github.com/acme/bot',
    budget: -5,
  })
  t.equal(patched.status, 200)
  t.strictSame(patched.json, {
    ...created.json,
    status: 'complete',
    github_url: 'https://github.com/acme/bot',
    budget: -5,
    seq: 1,
  })
  const same = await request('PATCH', `/api/missions/${id}`, admin, {})
  t.strictSame([same.status, same.json], [200, patched.json], 'an empty patch changes nothing and makes no event')
  const cleared = await request('PATCH', `/api/missions/${id}`, admin, { github_url: null })
  t.strictSame(cleared.json, { ...patched.json, github_url: null, seq: 2 })
  const odd = { id: 'x', seq: 40, created_at: 'never' }
  t.strictSame(
    (await request('PATCH', `/api/missions/${id}`, admin, odd)).json,
    cleared.json,
    'fields that the server sets can not be changed',
  )

  const gone = await request('DELETE', `/api/missions/${id}`, admin)
  t.strictSame([gone.status, gone.text], [204, ''])
  for (const path of ['', '/chat', '/chat/rafael', '/dod', '/tests', '/tests/latest'])
    refused(t, await request('GET', `/api/missions/${id}${path}`, admin), 404, 'not_found', path)
  refused(t, await request('DELETE', `/api/missions/${id}`, admin), 404, 'not_found', 'deleting it again')
})

void t.test('missions: a deletion removes all rows of the mission', async (t) => {
  const { id } = await makeMission(instance)
  await request('POST', `/api/missions/${id}/chat/rafael`, admin, { message: 'hello', key: 'k' })
  await request('POST', `/api/missions/${id}/dod`, admin, { text: 'Works', category: 'tests' })
  await request('POST', `/api/missions/${id}/tests`, admin, { logs: 'ok' })
  await request('DELETE', `/api/missions/${id}/chat/rafael`, admin)
  t.equal((await request('DELETE', `/api/missions/${id}`, admin)).status, 204)
  for (const table of ['chat_messages', 'dod_items', 'test_runs'])
    t.strictSame(await database.query(`select id from ${table} where mission_id = $1`, [id]), [], table)
})

void t.test('missions: a number can be chosen; a taken number is a conflict', async (t) => {
  const taken = await makeMission(instance, { number: 2_000_000_001 })
  t.equal(taken.number, 2_000_000_001)
  const body = { title: 'x', client: 'x', budget: 1, deadline: '2030-01-01T00:00:00Z', assigned_to: 'x' }
  const again = await request('POST', '/api/missions', admin, { ...body, number: 2_000_000_001 })
  refused(t, again, 409, 'conflict', 'a taken number')
  const last = await makeMission(instance, { number: 2_147_483_647 })
  t.equal((await request('GET', '/api/missions/2147483647', admin)).json['id'], last.id)
  await request('DELETE', '/api/missions/2147483647', admin)
  await request('DELETE', '/api/missions/2000000001', admin)
})

void t.test('missions: listed in pages, each once, filtered, and only those that the token may see', async (t) => {
  const ids: string[] = []
  for (let i = 0; i < 5; i++) ids.push((await makeMission(instance, { assigned_to: i < 3 ? 'pia' : 'quentin' })).id)
  await request('PATCH', `/api/missions/${ids[0]}`, admin, { status: 'qa' })
  const pages = async (bearer: string, query = ''): Promise<string[]> => {
    const found: Json[] = []
    for (let cursor: string | null = ''; cursor !== null;) {
      const from = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`
      const { status, json } = await request('GET', `/api/missions?limit=2${query}${from}`, bearer)
      t.equal(status, 200)
      t.strictSame(Object.keys(json).sort(), ['missions', 'next'])
      const page = list(json['missions'])
      t.ok(page.length <= 2 && (page.length === 2 || json['next'] === null), 'only the last page is short')
      found.push(...page)
      cursor = json['next'] as string | null
    }
    for (const mission of found)
      isForm(t, mission, missionForm({ status: some, assigned_to: some, seq: any }), 'Mission')
    return found.map((mission) => String(mission['id']))
  }
  const some = /./
  const any = Number.isInteger
  const pia = await token({ sub: 'pia', role: 'user' })
  t.strictSame(await pages(pia), ids.slice(0, 3))
  t.strictSame(await pages(pia, '&status=active'), ids.slice(1, 3))
  t.strictSame(await pages(pia, '&assigned_to=quentin'), [])
  t.strictSame(await pages(admin, '&assigned_to=quentin'), ids.slice(3))
  const all = await pages(admin)
  t.strictSame([new Set(all).size, ids.every((id) => all.includes(id))], [all.length, true])
  t.strictSame(await pages(rafael), all, 'a citizen sees every mission')
  const narrow = await token({ sub: 'rafael', role: 'citizen', missions: [String(ids[1]).toUpperCase()] })
  t.strictSame(await pages(narrow), [ids[1]], 'or only those in its claim')
  const wider = await token({ sub: 'pia', role: 'user', missions: [String(ids[4])] })
  t.strictSame(await pages(wider), [...ids.slice(0, 3), ids[4]])
  const { json } = await request('GET', '/api/missions?limit=500', admin)
  t.strictSame([list(json['missions']).length, json['next']], [all.length, null])
})

void t.test('checklist: counts its progress; items are ticked and unticked, one by one or all at once', async (t) => {
  const { id } = await makeMission(instance)
  const dod = `/api/missions/${id}/dod`
  t.strictSame((await request('GET', dod, alice)).json, { items: [], progress: { completed: 0, total: 0 } })
  const items: Json[] = []
  for (const [n, category] of ['functional', 'non-functional', 'tests'].entries()) {
    const { status, json } = await request('POST', dod, rafael, { text: `Item ${n} ✓\r\n`, category })
    t.equal(status, 201)
    isForm(t, json, itemForm({ mission_id: id, text: `Item ${n} ✓\r\n`, category, seq: n + 1 }), 'DodItem')
    items.push(json)
  }
  const [first, second, third] = items as [Json, Json, Json]
  t.strictSame((await request('GET', dod, alice)).json, { items, progress: { completed: 0, total: 3 } })

  const ticked = await request('PATCH', `${dod}/${String(first['id']).toUpperCase()}`, alice, { completed: true })
  t.equal(ticked.status, 200)
  t.strictSame(ticked.json['progress'], { completed: 1, total: 3 })
  const { completed_at } = ticked.json['item'] as Json
  t.match(completed_at, time)
  t.strictSame(ticked.json, {
    item: { ...first, completed: true, completed_at, seq: 4 },
    progress: { completed: 1, total: 3 },
  })
  t.strictSame((await request('PATCH', `${dod}/${first['id']}`, alice, { completed: true })).json, ticked.json)
  const unticked = await request('PATCH', `${dod}/${first['id']}`, alice, { completed: false })
  t.strictSame(unticked.json, { item: { ...first, seq: 5 }, progress: { completed: 0, total: 3 } })

  const deleted = await request('DELETE', `${dod}/${second['id']}`, admin)
  t.equal(deleted.status, 200)
  t.strictSame(deleted.json, { item: { ...second, seq: 6 }, progress: { completed: 0, total: 2 } })
  refused(t, await request('DELETE', `${dod}/${second['id']}`, admin), 404, 'not_found', 'a deleted item')

  const before = (await request('GET', `/api/missions/${id}`, alice)).json
  const complete = await request('POST', `${dod}/complete`, alice)
  t.equal(complete.status, 200)
  t.strictSame(complete.json['progress'], { completed: 2, total: 2 })
  for (const [n, item] of list(complete.json['items']).entries())
    isForm(t, item, { ...(n ? third : first), completed: true, completed_at: time, seq: 7 + n }, 'a ticked item')
  t.strictSame((await request('GET', dod, alice)).json, complete.json)
  t.strictSame((await request('GET', `/api/missions/${id}`, alice)).json, { ...before, status: 'qa', seq: 1 })

  const reset = await request('POST', `${dod}/reset`, alice, {})
  t.equal(reset.status, 200)
  const untouched = [first, third].map((item, n) => ({ ...item, seq: 9 + n }))
  t.strictSame(reset.json, { items: untouched, progress: { completed: 0, total: 2 } })
  t.equal(
    (await request('GET', `/api/missions/${id}`, alice)).json['status'],
    'active',
    'a reset takes the mission out of qa',
  )
})

void t.test('checklist: can be completed when it is empty', async (t) => {
  const { id } = await makeMission(instance)
  const { status, json } = await request('POST', `/api/missions/${id}/dod/complete`, admin)
  t.strictSame([status, json], [200, { items: [], progress: { completed: 0, total: 0 } }])
  t.equal((await request('GET', `/api/missions/${id}`, admin)).json['status'], 'qa')
})

void t.test('missions: values at the limits of their ranges are accepted', async (t) => {
  const { id } = await makeMission(instance)
  const mission = `/api/missions/${id}`
  const patch = async (body: Json): Promise<Json> => (await request('PATCH', mission, admin, body)).json
  for (const budget of [2_147_483_647, -2_147_483_648, 0]) t.equal((await patch({ budget }))['budget'], budget)
  const title = '😀'.repeat(1000)
  t.equal((await patch({ title }))['title'], title)
  for (const [given, utc] of [
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00Z'],
    ['9999-12-31T23:59:59.999999Z', '9999-12-31T23:59:59.999999Z'],
    ['2028-02-29t23:59:59.120z', '2028-02-29T23:59:59.12Z'],
    ['2030-01-01T00:00:00-05:30', '2030-01-01T05:30:00Z'],
    ['2030-01-01T00:00:00+00:00', '2030-01-01T00:00:00Z'],
  ] as const)
    t.equal((await patch({ deadline: given }))['deadline'], utc, given)
  const item = await request('POST', `${mission}/dod`, admin, { text: '😀'.repeat(10_000), category: 'tests' })
  t.equal(item.status, 201)

  const summary = JSON.parse(
    `{"big":"${'x'.repeat(1024 * 1024 - 100)}","__proto__":{"a":1},"constructor":null}`,
  ) as Json
  const results = ['x'.repeat(1024 * 1024 - 100)]
  const run = await request('POST', `${mission}/tests`, admin, { summary, results: [] })
  t.equal(run.status, 201)
  t.ok(JSON.stringify((await request('GET', `${mission}/tests/latest`, alice)).json) === JSON.stringify(run.json))
  t.strictSame(Object.keys(run.json['summary'] as Json).sort(), ['__proto__', 'big', 'constructor'])
  t.equal((await request('PATCH', `${mission}/tests/${run.json['id']}`, admin, { results })).status, 200)
  const chunk = 'é'.repeat(1024 * 1024)
  const log = await request('POST', `${mission}/tests/${run.json['id']}/logs`, admin, chunk, {
    'content-type': 'text/plain',
  })
  t.equal(log.status, 200, 'a body of 2 MiB')
  t.ok((await request('GET', `${mission}/tests/${run.json['id']}/logs`, admin)).text === chunk)
})

void t.test('body: a content type without a body is accepted', async (t) => {
  const { id } = await makeMission(instance)
  const type = { 'content-type': 'application/json' }
  for (const [method, path, status] of [
    ['GET', '', 200],
    ['POST', '/dod/complete', 200],
    ['POST', '/tests/run', 202],
    ['DELETE', '/chat/rafael', 204],
    ['DELETE', '', 204],
  ] as const)
    t.equal(
      (await request(method, `/api/missions/${id}${path}`, admin, undefined, type)).status,
      status,
      `${method} ${path}`,
    )
})

void t.test("pages: the server's own pages need no token", async (t) => {
  for (const path of ['/healthz', '/readyz']) t.equal((await request('GET', path)).status, 200, path)
  for (const path of ['/docs', '/']) {
    const page = await request('GET', path)
    t.equal(page.status, 200, path)
    t.match(page.headers.get('content-type'), /^text\/html/, path)
  }
})

void t.test('static files: a path that leaves its folder is refused and is no internal error', async (t) => {
  // A raw connection: fetch would remove the dots from the path.
  const ask = (path: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const { port, hostname } = new URL(instance.url)
      const socket = dial(Number(port), hostname, () => {
        socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
      })
      let text = ''
      socket
        .on('data', (chunk) => (text += chunk.toString('latin1')))
        .on('error', reject)
        .on('close', () => resolve(text))
    })
  for (const folder of ['/docs/static', '/docs', '/assets', '/client', ''])
    for (const out of [
      '%2e%2e/x',
      '..%2fx',
      '%2e%2e%2f%2e%2e%2fpackage.json',
      '../x',
      '..%5cx',
      '%00',
      '%2e%2e',
      'x%00.js',
      '.%2e/',
      '%c0%ae%c0%ae/x',
    ]) {
      const answer = await ask(`${folder}/${out}`)
      t.match(answer, /^HTTP\/1\.1 (400|403|404|302|301|200)/, `${folder}/${out}: ${answer.split('\r\n')[0]}`)
      t.notMatch(answer, /"code":"internal"|"dependencies"/)
    }
})

void t.test('OpenAPI: describes every route of the contract', async (t) => {
  const { status, headers, json } = await request('GET', '/openapi.json')
  t.equal(status, 200)
  t.match(headers.get('content-type'), /^application\/json/)
  t.match(json['openapi'], /^3\.[01]\./)
  const m = '/api/missions/{mission}'
  const routes: Record<string, string[]> = {
    '/api/missions': ['get', 'post'],
    [m]: ['get', 'patch', 'delete'],
    [`${m}/chat`]: ['get'],
    [`${m}/chat/{citizen}`]: ['get', 'post', 'delete'],
    [`${m}/dod`]: ['get', 'post'],
    [`${m}/dod/{item}`]: ['patch', 'delete'],
    [`${m}/dod/complete`]: ['post'],
    [`${m}/dod/reset`]: ['post'],
    [`${m}/tests`]: ['get', 'post'],
    [`${m}/tests/latest`]: ['get'],
    [`${m}/tests/run`]: ['post'],
    [`${m}/tests/{run}`]: ['get', 'patch'],
    [`${m}/tests/{run}/logs`]: ['get', 'post'],
    [`${m}/tests/{a}/diff/{b}`]: ['get'],
  }
  type Operation = { parameters?: { name: string; in: string }[]; responses?: Json; requestBody?: { content: Json } }
  const paths = json['paths'] as Record<string, Record<string, Operation>>
  for (const [path, methods] of Object.entries(routes))
    for (const method of methods) {
      const operation = paths[path]?.[method]
      t.ok(Object.keys(operation?.responses ?? {}).length > 1, `${method} ${path} describes its answers`)
      const named = (operation?.parameters ?? []).filter((p) => p.in === 'path').map((p) => p.name)
      t.strictSame(
        named,
        [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name),
        `${method} ${path} describes its path`,
      )
    }
  t.strictSame(Object.keys(paths[`${m}/tests/{run}/logs`]?.['post']?.requestBody?.content ?? {}), ['text/plain'])
  const history = paths[`${m}/chat/{citizen}`]?.['get']?.parameters ?? []
  for (const name of ['after', 'before', 'limit'])
    t.ok(
      history.some((p) => p.name === name),
      name,
    )
  const schemes = (json['components'] as Json)['securitySchemes']
  t.match(Object.values(schemes as Json), [{ type: 'http', scheme: 'bearer' }])
})

void t.test('stop: an instance that stops refuses new requests and answers those that it accepted', async (t) => {
  const going = await startInstance(t, database.url)
  const { id } = await makeMission(going)
  const chat = `/api/missions/${id}/chat/rafael`
  const lock = await database.connect()
  await lock.query('begin')
  await lock.query('select from missions where id = $1 for update', [id])
  const taken = going.request('POST', chat, alice, { message: 'hello' })
  const isIdle = async (): Promise<boolean> => {
    let idle = false
    void going.app.writer.idle().then(() => (idle = true))
    await new Promise((resolve) => setImmediate(resolve))
    return idle
  }
  await until(async () => !(await isIdle()), 'the message to wait')
  const closed = going.close()
  const late = await going.request('GET', chat, alice)
  refused(t, late, 503, 'unavailable', 'late')
  t.match(late.headers.get('retry-after'), /^\d+$/)
  t.match(await going.request('GET', '/readyz'), {
    status: 503,
    json: { code: 'unavailable', detail: 'not ready: draining', checks: [{ check: 'serving', ok: false }] },
  })
  await lock.query('rollback')
  t.equal((await taken).status, 201)
  await closed
})
