// Sessions by invite, on two instances: cookies, tokens of ten minutes, signing out, and ending sessions.
import { createHash } from 'node:crypto'
import { decodeJwt } from 'jose'
import t from 'tap'
import { isForm, refused, time } from '../support/forms.ts'
import {
  admin,
  alice,
  closed,
  makeMission,
  rafael,
  secret,
  startDeck,
  startInstance,
  until,
  type Json,
} from '../support/server.ts'
import { invite, makeBrowser, signedIn } from '../support/sign-in.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)
const { request } = one

const cookieOf = (response: Response): string => response.headers.getSetCookie()[0] ?? ''

void t.test('sessions: an invite signs in once, and opening its link uses nothing up', async (t) => {
  const { status, json } = await request('POST', '/api/invites', admin, { sub: 'anna@example.com', role: 'user' })
  t.equal(status, 201)
  isForm(t, json, { link: /^http.*\/auth\/invite\?code=[\w-]{43}$/, expires_at: time }, 'an invite')
  const days = (Date.parse(String(json['expires_at'])) - Date.now()) / 86_400_000
  t.ok(days > 6.9 && days < 7.1, '7 days')
  const link = String(json['link'])
  const browser = makeBrowser(one)
  for (let n = 0; n < 3; n++) {
    const page = await browser.fetch(link)
    t.equal(page.status, 200)
    t.match(await page.text(), /<form method="post">.*Sign in as anna@example\.com/)
    t.match(page.headers.get('content-security-policy'), /form-action 'self'.*frame-ancestors 'none'/)
    t.equal((await browser.fetch(link, { method: 'HEAD' })).status, 200)
  }
  t.equal(browser.cookies.size, 0)
  // On the other instance.
  const there = makeBrowser(two)
  const redeemed = await there.post(link.replace(one.url, two.url), {
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: '',
  })
  t.equal(redeemed.status, 303)
  t.equal(redeemed.headers.get('location'), '/')
  t.equal(decodeJwt(await there.token()).sub, 'anna@example.com')
  t.equal((await browser.post(link)).status, 404, 'a second time')
  t.equal((await browser.fetch(link)).status, 404)
  t.equal(browser.cookies.size, 0)
})

void t.test('sessions: an invite that is redeemed twice at once signs in once', async (t) => {
  const link = await invite(one, admin, { sub: 'twice', role: 'user' })
  const answers = await Promise.all(
    [one, two, one, two].map((at) => makeBrowser(at).post(link.replace(one.url, at.url))),
  )
  t.strictSame(answers.map(({ status }) => status).sort(), [303, 404, 404, 404])
})

void t.test('sessions: an expired invite signs nobody in', async (t) => {
  const link = await invite(one, admin, { sub: 'late', role: 'user', days: 1 })
  await database.query(`update deck.invites set expires_at = now() - interval '1 s' where sub = 'late'`)
  t.equal((await makeBrowser(one).fetch(link)).status, 404)
  t.equal((await makeBrowser(one).post(link)).status, 404)
})

void t.test('sessions: invites have bounds, and only admins make them', async (t) => {
  const good = { sub: 'x', role: 'user' }
  for (const days of [1, 365]) t.equal((await request('POST', '/api/invites', admin, { ...good, days })).status, 201)
  for (const bad of [
    { days: 0 },
    { days: 366 },
    { days: 1.5 },
    { days: '7' },
    { days: null },
    { role: 'root' },
    { role: undefined },
    { sub: '' },
    { sub: undefined },
    { sub: 'x'.repeat(257) },
    { sub: 'a\0' },
    { role: 'citizen', sub: 'No Citizen' },
    { missions: 'all' },
    { missions: ['x'] },
    { missions: [1.5] },
    { missions: {} },
  ])
    refused(
      t,
      await request('POST', '/api/invites', admin, { ...good, ...bad }),
      400,
      'bad_request',
      JSON.stringify(bad),
    )
  for (const bearer of [alice, rafael])
    refused(t, await request('POST', '/api/invites', bearer, good), 403, 'forbidden')
})

void t.test('sessions: a token has the rights of the invite, ten minutes, and the session as its sid', async (t) => {
  const mission = await makeMission(one)
  const browser = await signedIn(one, admin, { sub: 'guest', role: 'user', missions: [mission.number] })
  const response = await browser.post('/auth/token')
  t.equal(response.status, 200)
  t.equal(response.headers.get('cache-control'), 'no-store')
  const json = (await response.json()) as { token: string; expires_at: string }
  isForm(t, json, { token: /^[\w-]+\.[\w-]+\.[\w-]+$/, expires_at: time }, 'the answer')
  const { exp = 0, iat = 0, sid, sub, role } = decodeJwt<Json>(json.token)
  t.strictSame([exp - iat, sub, role], [600, 'guest', 'user'])
  t.ok(Math.abs(exp * 1000 - Date.parse(json.expires_at)) <= 1000)
  t.match(sid, /^[0-9a-f-]{36}$/)
  t.equal((await two.request('GET', `/api/missions/${mission.id}`, json.token)).status, 200)
  refused(t, await request('GET', `/api/missions/${(await makeMission(one)).id}`, json.token), 404, 'not_found')
})

void t.test('sessions: the cookie is HttpOnly, Lax, for /auth only, and Secure except on loopback', async (t) => {
  const link = await invite(one, admin, { sub: 'cookie', role: 'user' })
  const answer = await makeBrowser(one).post(link)
  t.match(cookieOf(answer), /^deck_session=[\w-]{43}; Path=\/auth; Max-Age=2592000; HttpOnly; SameSite=Lax$/)
  const outside = await startInstance(t, database.url, { publicUrl: 'https://deck.example' })
  const far = await invite(outside, admin, { sub: 'cookie', role: 'user' })
  t.match(far, /^https:\/\/deck\.example\/auth\/invite\?code=/)
  const { pathname, search } = new URL(far)
  const headers = { origin: 'https://deck.example' }
  const secure = await makeBrowser(outside).post(pathname + search, { headers })
  t.equal(secure.status, 303)
  t.match(cookieOf(secure), /; Path=\/auth; .*HttpOnly; SameSite=Lax; Secure$/)
})

void t.test('sessions: only a hash of the cookie is stored', async (t) => {
  const browser = await signedIn(one, admin, { sub: 'hash', role: 'user' })
  const cookie = browser.cookies.get('deck_session') ?? ''
  const rows = await database.query(`select * from deck.sessions where sub = 'hash'`)
  t.equal(rows.length, 1)
  t.same(rows[0]?.['digest'], createHash('sha256').update(cookie).digest())
  const all = await database.query(`select to_jsonb(s)::text as text from deck.sessions s
    union all select to_jsonb(i)::text from deck.invites i union all select to_jsonb(a)::text from deck.audit a`)
  t.notOk(all.some(({ text }) => String(text).includes(cookie)))
})

void t.test('CSRF: a POST under /auth without the server’s own Origin is refused and changes nothing', async (t) => {
  const browser = await signedIn(one, admin, { sub: 'csrf', role: 'user' })
  const link = await invite(one, admin, { sub: 'csrf', role: 'admin' })
  const { port } = new URL(one.url)
  for (const origin of [
    undefined,
    'null',
    '',
    'https://evil.example',
    `http://evil.example:${port}`,
    `http://127.0.0.1:${Number(port) + 1}`,
    `http://127.0.0.1:${port}.evil.example`,
    `http://127.0.0.1:${port}/`,
    `http://x@127.0.0.1:${port}`,
    'http://127.0.0.1',
  ])
    for (const path of ['/auth/token', '/auth/logout', link, '/auth/cli', '/auth/cli/session']) {
      const response = await browser.fetch(path, {
        method: 'POST',
        headers: {
          ...(origin === undefined ? {} : { origin }),
          referer: `${one.url}/`,
          'sec-fetch-site': 'same-origin',
          'x-forwarded-host': 'evil.example',
        },
      })
      t.equal(response.status, 403, `${path} from ${origin}`)
      t.equal(response.headers.get('access-control-allow-credentials'), null)
      t.strictSame(response.headers.getSetCookie(), [])
    }
  t.ok(await browser.token(), 'the session goes on')
  t.equal((await makeBrowser(one).fetch(link)).status, 200, 'the invite is not used')
})

void t.test('CORS: credentials are never allowed, for listed origins either', async (t) => {
  const friendly = await startInstance(t, database.url, { allowedOrigins: new Set(['https://app.example']) })
  const browser = await signedIn(friendly, admin, { sub: 'cors', role: 'user' })
  for (const path of ['/auth/token', '/auth/logout']) {
    const headers = { origin: 'https://app.example' }
    t.equal((await browser.fetch(path, { method: 'POST', headers })).status, 403)
    const preflight = await browser.fetch(path, {
      method: 'OPTIONS',
      headers: { ...headers, 'access-control-request-method': 'POST' },
    })
    t.equal(preflight.headers.get('access-control-allow-credentials'), null)
  }
})

void t.test('cookie scope: the API and sockets refuse the cookie alone on every route', async (t) => {
  const browser = await signedIn(one, admin, { sub: 'root2', role: 'admin' })
  const { json } = await request('GET', '/openapi.json')
  let tried = 0
  for (const [path, methods] of Object.entries(json['paths'] as Record<string, Json>))
    for (const method of Object.keys(methods)) {
      if (!path.startsWith('/api/')) continue
      const response = await browser.fetch(path.replace(/\{\w+\}/g, 'x'), {
        method: method.toUpperCase(),
        headers: { origin: one.url },
      })
      t.equal(response.status, 401, `${method} ${path}`)
      tried++
    }
  t.ok(tried > 40)
  const cookie = `deck_session=${browser.cookies.get('deck_session')}`
  const upgrade = await fetch(`${one.url}/api/ws`, { headers: { cookie, origin: one.url } })
  t.ok([400, 401, 404, 426].includes(upgrade.status), 'no socket')
  refused(t, await request('GET', '/api/missions', browser.cookies.get('deck_session')), 401, 'unauthorized')
})

void t.test('fixation: a cookie that the browser brings along never becomes the session', async (t) => {
  const planted = 'A'.repeat(43)
  const browser = makeBrowser(one, new Map([['deck_session', planted]]))
  t.equal((await browser.post('/auth/token')).status, 401)
  t.equal((await browser.post(await invite(one, admin, { sub: 'fixed', role: 'user' }))).status, 303)
  t.not(browser.cookies.get('deck_session'), planted)
  t.equal((await makeBrowser(one, new Map([['deck_session', planted]])).post('/auth/token')).status, 401)
  // Somebody else's session in the same browser ends.
  const former = await signedIn(one, admin, { sub: 'attacker', role: 'user' })
  const theirs = await former.token()
  const shared = makeBrowser(one, new Map(former.cookies))
  t.equal((await shared.post(await invite(one, admin, { sub: 'victim', role: 'user' }))).status, 303)
  t.equal(decodeJwt(await shared.token()).sub, 'victim')
  t.equal((await former.post('/auth/token')).status, 401)
  refused(t, await request('GET', '/api/missions', theirs), 401, 'unauthorized')
})

void t.test('sessions: two tabs that renew at once both get a token', async (t) => {
  const browser = await signedIn(one, admin, { sub: 'tabs', role: 'user' })
  const tokens = await Promise.all(
    Array.from({ length: 20 }, (_, n) => makeBrowser(n % 2 ? one : two, new Map(browser.cookies)).token()),
  )
  for (const token of tokens) t.equal((await two.request('GET', '/api/missions', token)).status, 200)
  t.equal(new Set(tokens.map((token) => decodeJwt(token)['sid'])).size, 1)
})

void t.test(
  'sessions: signing out ends the session, its tokens and sockets on both instances, and nothing else',
  async (t) => {
    const browser = await signedIn(one, admin, { sub: 'leaver', role: 'user' })
    const other = await signedIn(two, admin, { sub: 'leaver', role: 'user' })
    const token = await browser.token()
    const kept = await other.token()
    const sockets = await Promise.all([one, two].map((at) => at.connect(token)))
    const stays = await one.connect(kept)
    const out = await browser.post('/auth/logout')
    t.equal(out.status, 204)
    t.match(cookieOf(out), /^deck_session=; Path=\/auth; Max-Age=0; /)
    t.equal(browser.cookies.size, 0)
    for (const at of [one, two]) refused(t, await at.request('GET', '/api/missions', token), 401, 'unauthorized')
    for (const socket of sockets) t.equal(await closed(socket), 4401)
    t.equal((await browser.post('/auth/token')).status, 401)
    t.equal((await browser.post('/auth/logout')).status, 204, 'again')
    t.equal((await one.request('GET', '/api/missions', kept)).status, 200, 'the other session')
    t.equal(stays.closed, undefined)
  },
)

void t.test(
  'people: an admin sees who has signed in, ends all sessions of one, who may sign in again at once',
  async (t) => {
    const sub = 'ö/anna@example.com'
    const browsers = [
      await signedIn(one, admin, { sub, role: 'user' }),
      await signedIn(two, admin, { sub, role: 'user' }),
    ]
    const tokens = await Promise.all(browsers.map((browser) => browser.token()))
    const sockets = await Promise.all(tokens.flatMap((token) => [one.connect(token), two.connect(token)]))
    const seen = async (): Promise<Json | undefined> =>
      ((await two.request('GET', '/api/people?limit=500', admin)).json['people'] as Json[]).find(
        (row) => row['sub'] === sub,
      )
    isForm(t, await seen(), { sub, name: null, role: 'user', last_seen: time, sessions: 2 }, 'a person')
    t.equal((await two.request('DELETE', `/api/people/${encodeURIComponent(sub)}/sessions`, admin)).status, 204)
    for (const token of tokens)
      for (const at of [one, two]) refused(t, await at.request('GET', '/api/missions', token), 401, 'unauthorized')
    for (const socket of sockets) t.equal(await closed(socket), 4401)
    for (const browser of browsers) t.equal((await browser.post('/auth/token')).status, 401)
    t.match(await seen(), { sessions: 0 })
    const again = await signedIn(one, admin, { sub, role: 'user' })
    for (const at of [one, two]) t.equal((await at.request('GET', '/api/missions', await again.token())).status, 200)
    t.equal((await request('DELETE', '/api/people/nobody/sessions', admin)).status, 204)
    for (const bearer of [alice, rafael]) {
      refused(t, await request('GET', '/api/people', bearer), 403, 'forbidden')
      refused(t, await request('DELETE', `/api/people/${encodeURIComponent(sub)}/sessions`, bearer), 403, 'forbidden')
    }
  },
)

void t.test('people: the list is paged by sub', async (t) => {
  await database.query(`insert into deck.people (sub, role) select 'zz' || n, 'user' from generate_series(1, 120) n`)
  const found: unknown[] = []
  for (let cursor: unknown = 'zz'; typeof cursor === 'string';) {
    const { json } = await request('GET', `/api/people?limit=50&cursor=${encodeURIComponent(cursor)}`, admin)
    found.push(...(json['people'] as { sub: string }[]).map(({ sub }) => sub).filter((sub) => sub.startsWith('zz')))
    cursor = json['next']
  }
  t.equal(found.length, 120)
  t.equal(new Set(found).size, 120)
  for (const limit of [0, 501, 'x'])
    refused(t, await request('GET', `/api/people?limit=${limit}`, admin), 400, 'bad_request')
})

void t.test('sessions: one lasts 30 days from its last use', async (t) => {
  const browser = await signedIn(one, admin, { sub: 'absent', role: 'user' })
  const age = (days: number) =>
    database.query(`update deck.sessions set last_used = now() - make_interval(days => $1) where sub = 'absent'`, [
      days,
    ])
  await age(29)
  t.ok(await browser.token())
  await age(29)
  t.ok(await browser.token(), 'the use before has extended it')
  await age(31)
  t.equal((await browser.post('/auth/token')).status, 401)
  t.equal((await browser.fetch('/auth/cli?port=4000&state=1234567890123456&challenge=' + 'x'.repeat(43))).status, 401)
})

void t.test('sessions: a revoked sub gets no token, until it is let in again', async (t) => {
  const browser = await signedIn(one, admin, { sub: 'revoked', role: 'user' })
  await database.query(`select deck.revoke('revoked')`)
  await until(async () => (await browser.post('/auth/token')).status === 401, 'no token')
  t.pass('no token')
  await database.query(`select deck.unrevoke('revoked')`)
  await until(async () => (await browser.post('/auth/token')).status === 200, 'a token')
  t.pass('a token again')
})

void t.test('sessions: a server without JWT_SECRET has none, and says so', async (t) => {
  const keyless = await startInstance(t, database.url, { jwtSecret: '', jwtSecretPrevious: secret })
  refused(t, await keyless.request('POST', '/api/invites', admin, { sub: 'x', role: 'user' }), 409, 'conflict')
  refused(t, await keyless.request('POST', '/api/citizens/rafael/keys', admin, {}), 409, 'conflict')
  t.equal((await makeBrowser(keyless).post('/auth/token')).status, 404)
})

void t.test('audit: invites, sign-ins and ended sessions are in the list that admins read', async (t) => {
  await signedIn(one, admin, { sub: 'audited', role: 'admin', missions: '*' })
  await request('DELETE', '/api/people/audited/sessions', admin)
  const { json } = await request('GET', '/api/audit?limit=500', admin)
  const mine = (json['entries'] as { actor: string; action: string; detail: Json }[]).filter(
    ({ actor, detail }) => actor === 'audited' || detail['sub'] === 'audited',
  )
  t.match(mine, [
    { action: 'session.end', actor: 'root', detail: { sessions: 1 } },
    { action: 'session.start', actor: 'audited', detail: { role: 'admin', provider: false } },
    { action: 'invite.add', actor: 'root', detail: { role: 'admin', missions: '*' } },
  ])
  const page = await request('GET', '/api/audit?limit=2', admin)
  const first = page.json['entries'] as Json[]
  t.equal(first.length, 2)
  const next = await request('GET', `/api/audit?limit=2&cursor=${String(page.json['next'])}`, admin)
  t.ok(Number((next.json['entries'] as Json[])[0]?.['id']) < Number(first[1]?.['id']))
  for (const query of ['limit=0', 'limit=501', 'cursor=x', 'cursor=0', 'cursor=-1'])
    refused(t, await request('GET', `/api/audit?${query}`, admin), 400, 'bad_request', query)
  for (const bearer of [alice, rafael]) refused(t, await request('GET', '/api/audit', bearer), 403, 'forbidden')
})
