// Signing in with an OpenID Connect provider: the certified oidc-provider, in this process. Each attack has a test of its name.
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { decodeJwt, exportJWK, generateKeyPair, type JWK } from 'jose'
import Provider from 'oidc-provider'
import t, { type Test } from 'tap'
import type { Config } from '../../src/config/index.ts'
import { makeLogins, localPath } from '../../src/integrations/sign-in/login-state.ts'
import { toPerson } from '../../src/integrations/sign-in/provider.ts'
import { freshDatabase } from '../support/database.ts'
import {
  admin,
  closed,
  makeMission,
  secret,
  startInstance,
  until,
  type Instance,
  type Json,
} from '../support/server.ts'
import { makeBrowser, signedIn, type Browser } from '../support/sign-in.ts'

const database = await freshDatabase(t, true)
const clientSecret = 'a client secret for tests'

/** A provider on loopback. `claims`: of each account. `redirects`: the addresses to which it may send browsers. */
const startProvider = async (t: Test) => {
  const claims: Record<string, Json> = {}
  const redirects: string[] = []
  let keys: JWK[] = []
  const newKey = async (): Promise<JWK> => {
    const { privateKey } = await generateKeyPair('RS256', { extractable: true })
    return { ...(await exportJWK(privateKey)), use: 'sig', alg: 'RS256', kid: `k${keys.length}` }
  }
  keys = [await newKey()]
  let handler: ReturnType<Provider['callback']> | undefined
  const state = { down: false, asked: 0, skew: 0, change: undefined as ((body: string) => string) | undefined }
  const server: Server = createServer((request, response) => {
    state.asked++
    if (state.down) return void request.socket.destroy()
    const { change } = state
    if (change && request.url === '/token') {
      const end = response.end.bind(response)
      response.end = ((body: unknown) => {
        const text = change(String(body))
        response.setHeader('content-length', Buffer.byteLength(text))
        return end(text)
      }) as typeof response.end
    }
    void handler?.(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const make = (): void => {
    const provider = new Provider(issuer, {
      jwks: { keys },
      clients: [
        {
          client_id: 'deck',
          client_secret: clientSecret,
          redirect_uris: redirects,
          post_logout_redirect_uris: redirects.map((address) => address.replace('auth/callback', '')),
        },
      ],
      claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'role', 'missions'] },
      findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub, ...claims[sub] }) }),
      features: { devInteractions: { enabled: false } },
      interactions: { url: (_context, { uid }) => `/interaction/${uid}` },
      pkce: { required: () => true },
      cookies: { keys: ['x'] },
      ttl: { IdToken: 10 },
    })
    provider.use(async (context, next): Promise<void> => {
      const [, uid] = /^\/interaction\/([\w-]+)$/.exec(context.path) ?? []
      if (!uid) return void (await next())
      const details = await provider.interactionDetails(context.req, context.res)
      const account = details.session?.accountId ?? String(context.headers['x-account'])
      if (context.headers['x-deny'])
        return provider.interactionFinished(context.req, context.res, { error: 'access_denied' })
      const grant = new provider.Grant({ accountId: account, clientId: 'deck' })
      grant.addOIDCScope('openid email profile')
      const grantId = await grant.save()
      return provider.interactionFinished(context.req, context.res, {
        login: { accountId: account },
        consent: { grantId },
      })
    })
    const callback = provider.callback()
    handler = callback
  }
  make()
  return {
    issuer,
    claims,
    state,
    allow(at: Instance): void {
      redirects.push(`${at.url}/auth/callback`)
      make()
    },
    async rotate(): Promise<void> {
      keys = [{ ...(await newKey()), kid: `k${Math.random()}` }]
      make()
    },
  }
}

const provider = await startProvider(t)
const settings = (more: Json = {}): Pick<Config, 'provider'> => ({
  provider: {
    issuer: provider.issuer,
    clientId: 'deck',
    clientSecret,
    subClaim: 'email',
    admins: new Set(['boss@example.com']),
    roleClaim: 'role',
    missionsClaim: 'missions',
    ...more,
  },
})
const one = await startInstance(t, database.url, settings())
const two = await startInstance(t, database.url, settings())
for (const at of [one, two]) provider.allow(at)
const person = (name: string, more: Json = {}): string => {
  provider.claims[name] = { email: `${name}@example.com`, email_verified: true, name, ...more }
  return name
}

/** Follows the provider's redirects as an account signs in there. Returns the address to which it sends the browser back. */
const atProvider = async (address: string, account: string, headers: Record<string, string> = {}): Promise<string> => {
  const browser = makeBrowser({ url: provider.issuer })
  let next = address
  for (let n = 0; n < 10 && next.startsWith(provider.issuer); n++) {
    const response = await browser.fetch(next, { headers: { 'x-account': account, ...headers } })
    const location = response.headers.get('location')
    if (!location) throw new Error(`${response.status}: ${await response.text()}`)
    next = new URL(location, next).href
  }
  return next
}
const begin = async (browser: Browser, query = ''): Promise<string> => {
  const response = await browser.fetch(`/auth/login${query}`)
  const location = response.headers.get('location')
  if (response.status !== 303 || !location) throw new Error(`${response.status}: ${await response.text()}`)
  return location
}
const signIn = async (
  at: Instance,
  account: string,
  query = '',
): Promise<{ browser: Browser; answer: Response; back: string }> => {
  const browser = makeBrowser(at)
  const back = await atProvider(await begin(browser, query), account)
  return { browser, answer: await browser.fetch(back), back }
}
/** The callback is refused, and signs nobody in. */
const isRefused = async (t: Test, browser: Browser, answer: Response, what: string, status = 400): Promise<void> => {
  t.equal(answer.status, status, what)
  t.match(answer.headers.get('content-type'), /html/)
  t.notOk(browser.cookies.has('deck_session'), `${what}: no session`)
  t.equal((await browser.post('/auth/token')).status, 401, what)
}

void t.test('OIDC: a person signs in by code and PKCE, with the rights that the claims map to', async (t) => {
  const mission = await makeMission(one)
  for (const [name, more, role, missions] of [
    ['plain', {}, 'user', undefined],
    ['boss', {}, 'admin', undefined],
    ['root', { role: 'admin' }, 'admin', undefined],
    ['lists', { role: ['staff', 'citizen'], missions: [mission.id] }, 'citizen', [mission.id]],
    ['unknown', { role: 'owner', missions: 'all' }, 'user', undefined],
    ['star', { missions: '*' }, 'user', '*'],
  ] as const) {
    const address = new URL(await begin(makeBrowser(one)))
    t.equal(address.searchParams.get('code_challenge_method'), 'S256')
    t.equal(address.searchParams.get('response_type'), 'code')
    const { browser, answer } = await signIn(one, person(name, more))
    t.equal(answer.status, 303, name)
    t.equal(answer.headers.get('location'), '/')
    const claims = decodeJwt<Json>(await browser.token())
    t.match(claims, { sub: `${name}@example.com`, role })
    t.same(claims['missions'], missions)
    t.equal((await two.request('GET', '/api/missions', await browser.token())).status, 200)
  }
  const { json } = await one.request('GET', '/api/people', admin)
  t.match(
    (json['people'] as Json[]).find(({ sub }) => sub === 'boss@example.com'),
    { name: 'boss', role: 'admin', sessions: 1 },
  )
})

void t.test('OIDC: one instance begins a sign-in and another ends it', async (t) => {
  // Both have one address, as behind a load balancer.
  const publicUrl = one.url
  const [a, b] = await Promise.all([1, 2].map(() => startInstance(t, database.url, { ...settings(), publicUrl })))
  if (!a || !b) throw new Error('no instances')
  const browser = makeBrowser(a)
  const back = await atProvider(await begin(browser), person('moved'))
  t.equal((await makeBrowser(b, browser.cookies).fetch(back.replace(one.url, b.url))).status, 303)
})

void t.test('OIDC: an address that is not verified, or a missing claim, signs nobody in', async (t) => {
  for (const more of [
    { email_verified: false },
    { email_verified: undefined },
    { email_verified: 'true' },
    { email: undefined },
  ]) {
    const { browser, answer } = await signIn(one, person('unverified', more))
    await isRefused(t, browser, answer, JSON.stringify(more))
  }
  const other = {
    issuer: 'x',
    clientId: 'x',
    clientSecret: '',
    admins: new Set<string>(),
    roleClaim: '',
    missionsClaim: '',
  }
  t.match(toPerson({ nick: 'ö' }, { ...other, subClaim: 'nick' }), { sub: 'ö', role: 'user', missions: undefined })
  for (const nick of ['', 'x'.repeat(257), 'a\0', 5, null, ['x']])
    t.throws(() => toPerson({ nick }, { ...other, subClaim: 'nick' }), { message: /no valid claim/ })
  t.end()
})

void t.test('OIDC: a refusal at the provider gets a page, and no session', async (t) => {
  const browser = makeBrowser(one)
  const back = await atProvider(await begin(browser), person('denied'), { 'x-deny': '1' })
  t.match(back, /error=access_denied/)
  await isRefused(t, browser, await browser.fetch(back), 'access_denied')
})

void t.test(
  'replayed state: an answer of the provider is accepted once, also at the same time and on another instance',
  async (t) => {
    const { browser, back } = await signIn(one, person('replayed'))
    t.ok(await browser.token())
    const again = makeBrowser(one, new Map(browser.cookies))
    again.cookies.delete('deck_session')
    await isRefused(t, again, await again.fetch(back), 'the same answer again')
    const late = makeBrowser(one)
    const answer = await atProvider(await begin(late), person('replayed'))
    const results = await Promise.all(
      [1, 2, 3, 4].map(async () => (await makeBrowser(one, new Map(late.cookies)).fetch(answer)).status),
    )
    t.strictSame(results.sort(), [303, 400, 400, 400])
  },
)

void t.test('replayed code: a code of another sign-in is refused', async (t) => {
  const first = makeBrowser(one)
  const used = new URL(await atProvider(await begin(first), person('coder')))
  t.equal((await first.fetch(used.href)).status, 303)
  const second = makeBrowser(one)
  const mine = new URL(await atProvider(await begin(second), person('coder')))
  mine.searchParams.set('code', used.searchParams.get('code') ?? '')
  await isRefused(t, second, await second.fetch(mine.href), 'a used code')
  // A code that was not used, but belongs to the attacker's own sign-in.
  const attacker = new URL(await atProvider(await begin(makeBrowser(one)), person('attacker')))
  const victim = makeBrowser(one)
  const theirs = new URL(await atProvider(await begin(victim), person('victim')))
  theirs.searchParams.set('code', attacker.searchParams.get('code') ?? '')
  await isRefused(t, victim, await victim.fetch(theirs.href), 'an injected code')
})

void t.test('login CSRF: an answer that another browser began is refused', async (t) => {
  const attacker = makeBrowser(one)
  const back = await atProvider(await begin(attacker), person('attacker'))
  const victim = makeBrowser(one)
  await isRefused(t, victim, await victim.fetch(back), 'without a cookie')
  await begin(victim)
  await isRefused(t, victim, await victim.fetch(back), 'with a cookie of its own')
  for (const state of ['', 'x', '.'.repeat(10), `${'a'.repeat(22)}.9999999999..${'a'.repeat(43)}`]) {
    await begin(victim)
    await isRefused(t, victim, await victim.fetch(`/auth/callback?code=x&state=${state}`), `a forged state ${state}`)
  }
  await isRefused(t, victim, await victim.fetch('/auth/callback?code=x&state=a&state=b'), 'two states')
})

void t.test('mix-up: an answer with the issuer of another provider is refused', async (t) => {
  const browser = makeBrowser(one)
  const back = new URL(await atProvider(await begin(browser), person('mixed')))
  t.equal(back.searchParams.get('iss'), provider.issuer)
  back.searchParams.set('iss', 'https://evil.example')
  await isRefused(t, browser, await browser.fetch(back.href), 'another issuer')
  const second = makeBrowser(one)
  const without = new URL(await atProvider(await begin(second), person('mixed')))
  without.searchParams.delete('iss')
  await isRefused(t, second, await second.fetch(without.href), 'no issuer')
})

void t.test('forged ID token: a token with another signature, nonce or audience is refused', async (t) => {
  t.teardown(() => (provider.state.change = undefined))
  const stranger = await generateKeyPair('RS256')
  const { SignJWT } = await import('jose')
  for (const [what, forge] of [
    ['signature', (token: string) => `${token.slice(0, -8)}AAAAAAAA`],
    [
      'no signature',
      (token: string) => `${Buffer.from('{"alg":"none"}').toString('base64url')}.${token.split('.')[1]}.`,
    ],
  ] as const) {
    provider.state.change = (body) => {
      const json = JSON.parse(body) as { id_token?: string }
      return JSON.stringify(json.id_token ? { ...json, id_token: forge(json.id_token) } : json)
    }
    const { browser, answer } = await signIn(one, person('forged'))
    await isRefused(t, browser, answer, what)
  }
  let signed = ''
  for (const claims of [{}, { nonce: 'x' }, { aud: 'x' }]) {
    const browser = makeBrowser(one)
    const back = await atProvider(await begin(browser), person('forged'))
    const base = {
      iss: provider.issuer,
      sub: 'forged',
      aud: 'deck',
      exp: Math.floor(Date.now() / 1000) + 60,
      iat: Math.floor(Date.now() / 1000),
      ...claims,
    }
    signed = await new SignJWT(base).setProtectedHeader({ alg: 'RS256', kid: 'k0' }).sign(stranger.privateKey)
    provider.state.change = (body) => JSON.stringify({ ...(JSON.parse(body) as Json), id_token: signed })
    await isRefused(t, browser, await browser.fetch(back), JSON.stringify(claims))
  }
})

void t.test('open redirect: a sign-in returns only to paths of this server', async (t) => {
  for (const evil of [
    'https://evil.example/',
    '//evil.example',
    '/\\evil.example',
    '\\/evil.example',
    '/\t/evil.example',
    '/.//evil.example',
    '/..//evil.example',
    '/%2e//evil.example',
    '/x/..//evil.example',
    'javascript:alert(1)',
    'evil.example',
    ' //evil.example',
    `/${'x'.repeat(1000)}`,
  ]) {
    t.equal(localPath(evil), '/', evil)
    const { answer } = await signIn(one, person('redirected'), `?return=${encodeURIComponent(evil)}`)
    t.equal(answer.headers.get('location'), '/', evil)
  }
  const { answer } = await signIn(
    one,
    person('redirected'),
    `?return=${encodeURIComponent('/deck/47/rafael?at=x#token=y')}`,
  )
  t.equal(answer.headers.get('location'), '/deck/47/rafael?at=x')
  const twice = await makeBrowser(one).fetch('/auth/login?return=/a&return=/b')
  t.equal(twice.status, 303)
})

void t.test('fixation: signing in makes a new session, and ends the one that the browser had', async (t) => {
  const guest = await signedIn(one, admin, { sub: 'guest', role: 'user' })
  const [planted, theirs] = [guest.cookies.get('deck_session'), await guest.token()]
  const victim = makeBrowser(one, new Map(guest.cookies))
  t.equal((await victim.fetch(await atProvider(await begin(victim), person('fixed')))).status, 303)
  t.not(victim.cookies.get('deck_session'), planted)
  t.equal((await guest.post('/auth/token')).status, 401)
  t.equal((await one.request('GET', '/api/missions', theirs)).status, 401)
})

void t.test('OIDC: two tabs that sign in at once both succeed', async (t) => {
  const browser = makeBrowser(one)
  const [first, second] = [await begin(browser), await begin(browser)]
  const backs = [await atProvider(first, person('tabs')), await atProvider(second, person('tabs'))]
  for (const back of backs) t.equal((await browser.fetch(back)).status, 303)
  t.ok(await browser.token())
})

void t.test(
  'cookie scope: the cookie of a sign-in is HttpOnly, Lax and for /auth only, and lives ten minutes',
  async (t) => {
    const response = await makeBrowser(one).fetch('/auth/login')
    t.match(response.headers.getSetCookie(), [
      /^deck_login=[\w-]{43}; Path=\/auth; Max-Age=600; HttpOnly; SameSite=Lax$/,
    ])
  },
)

void t.test('rotation: a sign-in succeeds right after the provider has replaced its keys', async (t) => {
  for (let n = 0; n < 2; n++) {
    t.equal((await signIn(one, person('rotated'))).answer.status, 303)
    await provider.rotate()
  }
  t.equal((await signIn(one, person('rotated'))).answer.status, 303)
})

void t.test(
  'clock skew: a provider whose clock differs by up to 30 s signs people in, by minutes it does not',
  async (t) => {
    const real = Date.now
    t.teardown(() => {
      Date.now = real
      provider.state.change = undefined
    })
    // The provider's ID tokens are valid for 10 s. After it has issued one, this server's clock is another.
    for (const [seconds, status] of [
      [-20, 303],
      [30, 303],
      [300, 400],
    ] as const) {
      const browser = makeBrowser(one)
      const back = await atProvider(await begin(browser), person('skewed'))
      provider.state.change = (body) => {
        Date.now = () => real() + seconds * 1000
        return body
      }
      const { status: found } = await browser.fetch(back)
      Date.now = real
      t.equal(found, status, `${seconds} s`)
    }
  },
)

void t.test('expiry: a sign-in that takes longer than ten minutes is refused', (t) => {
  const logins = makeLogins([secret])
  const now = Date.now()
  const { state, nonce, verifier } = logins.begin('browser', '/deck', now)
  t.match(logins.find('browser', state, now + 599_000), { nonce, verifier, returnTo: '/deck' })
  t.equal(logins.find('browser', state, now + 601_000), undefined)
  t.equal(logins.find('other', state, now), undefined)
  const rotated = makeLogins(['a new secret', secret])
  t.match(rotated.find('browser', state, now), { nonce, verifier }, 'the secret was rotated meanwhile')
  t.equal(makeLogins(['a new secret']).find('browser', state, now), undefined)
  t.end()
})

void t.test(
  'a provider that is down: the server starts, a login gets a page that says so, sessions go on',
  async (t) => {
    const { browser } = await signIn(one, person('patient'))
    const waiting = makeBrowser(one)
    const back = await atProvider(await begin(waiting), person('patient'))
    provider.state.down = true
    t.teardown(() => (provider.state.down = false))
    const started = await startInstance(t, database.url, settings())
    const login = await makeBrowser(started).fetch('/auth/login')
    t.equal(login.status, 503)
    t.match(login.headers.get('content-type'), /html/)
    t.match(await login.text(), /provider can not be reached/)
    t.ok(login.headers.get('retry-after'))
    t.ok(await browser.token(), 'a session gets tokens')
    t.equal((await waiting.fetch(back)).status, 503, 'in the middle of a sign-in')
    t.equal((await started.request('GET', '/readyz')).status, 200)
    provider.state.down = false
    await until(async () => (await makeBrowser(started).fetch('/auth/login')).status === 303, 'the provider is back')
    t.equal((await signIn(one, person('patient'))).answer.status, 303)
  },
)

void t.test('OIDC: signing out ends the session, its sockets, and leads to the provider', async (t) => {
  const { browser } = await signIn(one, person('leaver'))
  const token = await browser.token()
  const sockets = await Promise.all([one, two].map((at) => at.connect(token)))
  const out = await browser.post('/auth/logout')
  t.equal(out.status, 200)
  const url = new URL(((await out.json()) as { url: string }).url)
  t.equal(url.origin, provider.issuer)
  t.equal(url.searchParams.get('post_logout_redirect_uri'), `${one.url}/`)
  for (const socket of sockets) t.equal(await closed(socket), 4401)
  for (const at of [one, two]) t.equal((await at.request('GET', '/api/missions', token)).status, 401)
})

void t.test('OIDC: a person leaves OIDC_ADMINS and is no admin at the next renewal', async (t) => {
  const { browser } = await signIn(one, person('boss'))
  t.equal(decodeJwt<Json>(await browser.token()).role, 'admin')
  const later = await startInstance(t, database.url, settings({ admins: new Set() }))
  t.equal(decodeJwt<Json>(await makeBrowser(later, browser.cookies).token()).role, 'user')
})

void t.test('OIDC: without a provider /auth/login says how to sign in', async (t) => {
  const plain = await startInstance(t, database.url)
  t.match((await plain.request('GET', '/auth')).json, { login: false })
  t.match((await one.request('GET', '/auth')).json, { login: true })
  for (const path of ['/auth/login', '/auth/callback?code=x&state=y'])
    t.equal((await makeBrowser(plain).fetch(path)).status, 404)
})

void t.test(
  'PUBLIC_URL: it is the address of the callback; without it Host under the scheme of a trusted proxy',
  async (t) => {
    const redirectOf = async (at: Instance, headers: Record<string, string>): Promise<string | null> => {
      const response = await makeBrowser(at).fetch('/auth/login', { headers })
      return new URL(response.headers.get('location') ?? 'x:').searchParams.get('redirect_uri')
    }
    const forged = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'evil.example' }
    const fixed = await startInstance(t, database.url, { ...settings(), publicUrl: 'https://deck.example' })
    t.equal(await redirectOf(fixed, forged), 'https://deck.example/auth/callback')
    t.equal(await redirectOf(one, forged), `${one.url}/auth/callback`)
    const behind = await startInstance(t, database.url, { ...settings(), trustedProxies: ['127.0.0.1'] })
    t.equal(await redirectOf(behind, forged), `${behind.url.replace('http:', 'https:')}/auth/callback`)
  },
)
