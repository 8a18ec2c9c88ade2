// Tokens of identity providers and of attackers: which are accepted, and by which key.
// A provider on loopback serves the key set.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT, type CryptoKey, type JWK } from 'jose'
import t, { type Test } from 'tap'
import { toActor, toClaims } from '../../src/access/actor.ts'
import { makeKeys } from '../../src/access/jwks.ts'
import { makeTokens, type Tokens } from '../../src/access/tokens.ts'
import { alice, closed, makeMission, secret, startDeck, until, type Json } from '../support/server.ts'

const now = (): number => Math.floor(Date.now() / 1000)
const claims = (more: Json = {}): Json => ({ sub: 'alice', role: 'user', exp: now() + 600, ...more })

type Pair = { alg: string; kid: string; key: CryptoKey; publicKey: CryptoKey; jwk: JWK }
const makePair = async (alg: string, kid: string): Promise<Pair> => {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return { alg, kid, key: privateKey, publicKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}
const sign = ({ alg, kid, key }: Pick<Pair, 'alg' | 'kid' | 'key'>, more: Json = {}): Promise<string> =>
  new SignJWT(claims(more)).setProtectedHeader({ alg, kid }).sign(key)
const bySecret = (more: Json = {}, header: Json = {}, key = secret): Promise<string> =>
  new SignJWT(claims(more)).setProtectedHeader({ alg: 'HS256', ...header }).sign(new TextEncoder().encode(key))

const [rs, es, ed, next] = await Promise.all([
  makePair('RS256', 'rs'),
  makePair('ES256', 'es'),
  makePair('EdDSA', 'ed'),
  makePair('ES256', 'next'),
])

/** An identity provider that serves `keys`, or fails. */
const startProvider = async (t: Test, keys: JWK[]) => {
  const provider = { keys, down: false, asked: 0, body: undefined as string | undefined, url: '' }
  const server = createServer((_request, response) => {
    provider.asked++
    if (provider.down) response.writeHead(503).end()
    else response.end(provider.body ?? JSON.stringify({ keys: provider.keys }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  provider.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`
  return provider
}
const limits = { keysKeep: 600_000, keysTimeout: 2000, keysPause: 0, keysStale: 60_000 }
const verified = async (tokens: Tokens, token: string): Promise<string> =>
  tokens.verify(token).then(
    ({ sub }) => sub,
    ({ code }: { code: string }) => code,
  )

void t.test("tokens: RS256, ES256 and EdDSA by the provider's keys, HS256 by the secret, both at once", async (t) => {
  const { url } = await startProvider(t, [rs.jwk, es.jwk, ed.jwk])
  const tokens = makeTokens({ secret, keys: makeKeys(url, limits, () => {}) })
  for (const pair of [rs, es, ed]) t.equal(await verified(tokens, await sign(pair)), 'alice', pair.alg)
  t.equal(await verified(tokens, await bySecret()), 'alice', 'HS256')
  t.equal(await verified(makeTokens({ secret }), await sign(rs)), 'unauthorized', 'no provider')
  t.equal(
    await verified(makeTokens({ keys: makeKeys(url, limits, () => {}) }), await bySecret()),
    'unauthorized',
    'no secret',
  )
})

void t.test('tokens: each algorithm accepts its own kind of key only', async (t) => {
  const { url } = await startProvider(t, [rs.jwk, es.jwk, ed.jwk, { kty: 'oct', kid: 'oct', k: 'c2VjcmV0' }])
  const keys = makeKeys(url, limits, () => {})
  const pem = await exportSPKI(rs.publicKey)
  for (const tokens of [makeTokens({ secret, keys }), makeTokens({ keys }), makeTokens({ secret })]) {
    const bad: [name: string, token: string][] = [
      ['none', new UnsecuredJWT(claims()).encode()],
      ...['none', 'None', 'NONE', ''].map((alg): [string, string] => [
        `alg ${alg}`,
        [{ alg }, claims()].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.') + '.',
      ]),
      ['HMAC with the public key', await bySecret({}, { kid: 'rs' }, pem)],
      ['HMAC with the trimmed public key', await bySecret({}, { kid: 'rs' }, pem.trim())],
      ['HMAC with the JWK', await bySecret({}, { kid: 'rs' }, JSON.stringify(rs.jwk))],
      ['HMAC with a published oct key', await bySecret({}, { kid: 'oct' }, 'secret')],
      [
        'another HMAC',
        await new SignJWT(claims()).setProtectedHeader({ alg: 'HS512' }).sign(Buffer.from(secret.repeat(2))),
      ],
      ['RSA under the kid of ES', await sign({ ...rs, kid: 'es' })],
      ['another RSA', await sign({ ...rs, alg: 'RS512', key: (await generateKeyPair('RS512')).privateKey })],
      ["the attacker's key", await sign({ ...rs, key: (await generateKeyPair('RS256')).privateKey })],
      [
        'a key in its own header',
        await new SignJWT(claims()).setProtectedHeader({ alg: 'ES256', kid: 'next', jwk: next.jwk }).sign(next.key),
      ],
      ['an unknown kid', await sign({ ...next, kid: 'nowhere' })],
      ['a kid that is a path', await sign({ ...next, kid: '../../etc/passwd' })],
      ['a critical header', await bySecret({}, { crit: ['x'], x: 1 }).catch(() => 'a.b.c')],
    ]
    for (const [name, token] of bad) t.equal(await verified(tokens, token), 'unauthorized', name)
  }
})

void t.test('tokens: exp is required; nbf, iss and aud are checked, with 5 s for clock differences', async (t) => {
  const tokens = makeTokens({ secret })
  t.equal(await verified(tokens, await bySecret({ exp: undefined })), 'unauthorized', 'no exp')
  t.equal(await verified(tokens, await bySecret({ exp: now() - 3 })), 'alice', 'expired 3 s ago')
  t.equal(await verified(tokens, await bySecret({ exp: now() - 7 })), 'unauthorized', 'expired 7 s ago')
  t.equal(await verified(tokens, await bySecret({ nbf: now() + 3 })), 'alice', 'valid in 3 s')
  t.equal(await verified(tokens, await bySecret({ nbf: now() + 9 })), 'unauthorized', 'valid in 9 s')
  const strict = makeTokens({ secret, issuer: 'https://id.example', audience: 'deck' })
  const good = { iss: 'https://id.example', aud: 'deck' }
  t.equal(await verified(strict, await bySecret(good)), 'alice')
  t.equal(await verified(strict, await bySecret({ ...good, aud: ['other', 'deck'] })), 'alice', 'one of several')
  for (const wrong of [
    { aud: 'other' },
    { aud: undefined },
    { aud: [] },
    { iss: 'https://id.example.evil' },
    { iss: undefined },
  ])
    t.equal(await verified(strict, await bySecret({ ...good, ...wrong })), 'unauthorized', JSON.stringify(wrong))
})

void t.test('tokens: a cached token is refused after its expiry', async (t) => {
  const tokens = makeTokens({ secret })
  const token = await bySecret({ exp: now() - 3 })
  t.equal(await verified(tokens, token), 'alice')
  t.equal(await verified(tokens, token), 'alice', 'cached')
  await until(async () => (await verified(tokens, token)) === 'unauthorized', 'the refusal after its expiry')
})

void t.test('JWKS: a rotated key is fetched when a token needs it, and a removed key is refused', async (t) => {
  const provider = await startProvider(t, [rs.jwk])
  const tokens = makeTokens({ keys: makeKeys(provider.url, limits, () => {}) })
  t.equal(await verified(tokens, await sign(rs)), 'alice')
  t.equal(await verified(tokens, await sign(next)), 'unauthorized', 'not published yet')
  provider.keys = [next.jwk]
  t.equal(await verified(tokens, await sign(next)), 'alice', 'published')
  t.equal(await verified(tokens, await sign(rs, { jti: 'another' })), 'unauthorized', 'no longer published')
})

void t.test('JWKS: unknown kids do not cause more requests to the provider than the pause allows', async (t) => {
  const provider = await startProvider(t, [rs.jwk])
  const tokens = makeTokens({ keys: makeKeys(provider.url, { ...limits, keysPause: 60_000 }, () => {}) })
  for (let n = 0; n < 50; n++) t.equal(await verified(tokens, await sign({ ...next, kid: `k${n}` })), 'unauthorized')
  t.equal(provider.asked, 1)
  provider.down = true
  const cold = await startProvider(t, [rs.jwk])
  cold.down = true
  const waiting = makeTokens({ keys: makeKeys(cold.url, { ...limits, keysPause: 60_000 }, () => {}) })
  for (let n = 0; n < 50; n++) t.equal(await verified(waiting, await sign(rs, { jti: `t${n}` })), 'unavailable')
  t.equal(cold.asked, 1, 'one request, even when it fails')
})

void t.test('JWKS: while the provider is down cached keys are used; without any, unavailable', async (t) => {
  const provider = await startProvider(t, [rs.jwk])
  const errors: string[] = []
  const keys = makeKeys(provider.url, { ...limits, keysKeep: 1 }, ({ message }) => errors.push(message))
  const tokens = makeTokens({ secret, keys })
  provider.down = true
  t.equal(await verified(tokens, await sign(rs)), 'unavailable', 'no key cached')
  t.equal(await verified(tokens, await bySecret()), 'alice', 'the secret needs no provider')
  provider.down = false
  t.equal(await verified(tokens, await sign(rs)), 'alice', 'key cached')
  for (const [down, body] of [
    [true],
    [false, 'no JSON'],
    [false, '{}'],
    [false, `{"keys":[${' '.repeat(600_000)}]}`],
  ] as const) {
    provider.down = down
    provider.body = body
    t.equal(await verified(tokens, await sign(rs, { jti: `${body?.slice(0, 9)}` })), 'alice', 'the cached key is used')
  }
  t.ok(errors.length >= 5)
  t.ok(errors.every((error) => error.startsWith('JWKS_URL: ')))
  const brief = makeKeys(provider.url, { ...limits, keysKeep: 1, keysStale: 1 }, () => {})
  provider.body = undefined
  const impatient = makeTokens({ keys: brief })
  t.equal(await verified(impatient, await sign(rs)), 'alice')
  provider.down = true
  t.not(await verified(impatient, await sign(rs, { jti: 'late' })), 'alice', 'stale keys are not kept forever')
})

void t.test('JWKS_URL: HTTP and sockets accept its tokens, and answer 503 and 1013 while it is down', async (t) => {
  const provider = await startProvider(t, [es.jwk])
  provider.down = true
  const { instance } = await startDeck(t, { jwksUrl: provider.url, limits: { keysPause: 0 } })
  const { id } = await makeMission(instance)
  const token = await sign(es)
  const answer = await instance.request('GET', `/api/missions/${id}`, token)
  t.strictSame([answer.status, answer.json['code'], answer.headers.get('retry-after')], [503, 'unavailable', '5'])
  const away = await instance.connect(token)
  t.equal(await closed(away), 1013, 'not 4401: the client keeps its token')
  t.equal((await instance.request('GET', `/api/missions/${id}`, alice)).status, 200)
  provider.down = false
  t.equal((await instance.request('GET', `/api/missions/${id}`, token)).status, 200)
  t.match(await (await instance.connect(token)).frame(() => true), { type: 'welcome', sub: 'alice' })
})

void t.test('claims: toActor reverses toClaims', (t) => {
  for (const more of [{}, { missions: '*' }, { missions: [1, 'A'] }, { jti: 'x' }, { role: 'admin', missions: [] }]) {
    const actor = toActor(claims(more))
    t.strictSame(toActor(toClaims(actor)), actor)
  }
  t.end()
})

void t.test(
  'tokens: after a rotation of the secret, tokens of the former one stay valid and none is signed with it',
  async (t) => {
    const former = 'a former secret that is longer than 32 bytes'
    const before = makeTokens({ secret: former })
    const between = makeTokens({ secret, previousSecret: former })
    const after = makeTokens({ secret })
    const old = await before.sign({ sub: 'alice', role: 'user' }, 600)
    t.equal(await verified(between, old), 'alice', 'signed before the rotation')
    const fresh = await between.sign({ sub: 'alice', role: 'user' }, 600)
    t.equal(await verified(after, fresh), 'alice', 'signed with the new secret')
    t.equal(await verified(before, fresh), 'unauthorized', 'and not with the former one')
    t.equal(await verified(between, fresh), 'alice')
    t.equal(await verified(after, old), 'unauthorized', 'the end of the rotation')
    t.equal(await verified(between, await before.sign({ sub: 'alice', role: 'user' }, -60)), 'unauthorized', 'expired')
    t.equal(
      await verified(between, await bySecret({}, {}, 'a third secret that is longer than 32 bytes')),
      'unauthorized',
    )
    const onlyFormer = makeTokens({ previousSecret: former })
    t.equal(await verified(onlyFormer, old), 'alice')
    await t.rejects(onlyFormer.sign({ sub: 'alice', role: 'user' }, 600), /JWT_SECRET is not set/)
  },
)

void t.test('tokens: what the server signs has the issuer and the audience that it requires', async (t) => {
  const tokens = makeTokens({ secret, issuer: 'https://id.example', audience: 'deck' })
  t.equal(await verified(tokens, await tokens.sign({ sub: 'alice', role: 'user' }, 600)), 'alice')
  t.equal(
    await verified(tokens, await makeTokens({ secret }).sign({ sub: 'alice', role: 'user' }, 600)),
    'unauthorized',
  )
})
