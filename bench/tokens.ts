// The cost of verifying a token: a new one with each algorithm, and a cached one. CPU of one thread.
//   npx tap --reporter=tap bench/tokens.ts
import { generateKeyPair, SignJWT } from 'jose'
import t from 'tap'
import { makeTokens } from '../src/access/tokens.ts'

const secret = 'x'.repeat(32)
const rounds = 5000
const bytes = new TextEncoder().encode(secret)

const measure = async (name: string, alg: string, distinct: number): Promise<void> => {
  const pair = alg === 'HS256' ? { privateKey: bytes, publicKey: bytes } : await generateKeyPair(alg)
  const keys = { find: () => Promise.resolve(pair.publicKey), warm: () => Promise.resolve() }
  const tokens = makeTokens({ secret, keys })
  const given = await Promise.all(
    Array.from({ length: distinct }, (_, n) =>
      new SignJWT({ sub: 'alice', role: 'user', jti: `${n}` })
        .setProtectedHeader({ alg })
        .setExpirationTime('2h')
        .sign(pair.privateKey),
    ),
  )
  await tokens.verify(given[0] ?? '')
  const before = process.cpuUsage()
  for (let n = 1; n < rounds; n++) await tokens.verify(given[n % distinct] ?? '')
  const { user, system } = process.cpuUsage(before)
  t.comment(`${name}: ${((user + system) / rounds).toFixed(1)} us`)
}
for (const alg of ['HS256', 'RS256', 'ES256', 'EdDSA']) await measure(alg, alg, rounds)
await measure('remembered', 'HS256', 1)
