// Tokens: HS256 by JWT_SECRET, RS256, ES256 and EdDSA by the keys of JWKS_URL. The algorithm decides which of the two is
// asked, and a key serves its own kind only: no `none`, no HMAC with a public key.
// A verified token is remembered, so that a busy client's costs a look; its end, and whether it was revoked, are looked at
// each time. Nothing of a token ever gets into an error.
import { createHash } from 'node:crypto'
import { decodeProtectedHeader, jwtVerify, SignJWT, type JWTVerifyOptions } from 'jose'
import { deny, Refusal } from '../protocol/errors.ts'
import { toActor, type Actor, type Role } from './actor.ts'
import type { Keys } from './jwks.ts'

export type Tokens = {
  /** The actor of a token; otherwise `unauthorized`, or `unavailable` where the provider's keys can't be had. */
  verify(token: string): Promise<Actor>
  /** Whether an actor is still one: its token has not ended, by this clock, and was not revoked. */
  holds(actor: Actor): boolean
  /** A token for `sub` that is valid for `seconds`; by the secret. */
  sign(
    claims: { sub: string; role: Role; missions?: (string | number)[] | '*'; jti?: string },
    seconds: number,
  ): Promise<string>
}

export type TokenOptions = {
  /** the HS256 secret; empty if not configured */
  secret?: string
  keys?: Keys
  issuer?: string
  audience?: string
  isRevoked?: (actor: Actor) => boolean
}

/** Seconds by which two clocks may differ. */
const tolerance = 5
const published = ['RS256', 'ES256', 'EdDSA']
const rejected = () => deny('unauthorized', 'the token is missing, invalid, expired or revoked')
/** Characters of a token: as many as a request's headers may have. */
const longest = 16 * 1024
/** A token as it is written, and nothing around it: what a decoder passes over would make one token many. */
const shape = /^[\w-]+\.[\w-]+\.[\w-]+$/
// Actors of tokens that were verified, by the digest of the token: 10,000 of the usual size. A key taken from the set is trusted for a
// minute more.
const remembered = { bytes: 8 * 1024 * 1024, ms: 60_000 }

export const makeTokens = ({ secret, keys, issuer, audience, isRevoked }: TokenOptions): Tokens => {
  const bytes = new TextEncoder().encode(secret)
  const hmac = secret
    ? crypto.subtle.importKey('raw', bytes, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify'])
    : undefined
  const known = new Map<string, { actor: Actor; until: number; bytes: number }>()
  let held = 0
  const forget = (name: string): void => {
    held -= known.get(name)?.bytes ?? 0
    known.delete(name)
  }
  const options: JWTVerifyOptions = {
    requiredClaims: ['exp', 'sub'],
    clockTolerance: tolerance,
    ...(issuer ? { issuer } : {}),
    ...(audience ? { audience } : {}),
  }

  const claims = async (token: string): Promise<unknown> => {
    const { alg = '' } = decodeProtectedHeader(token)
    if (alg === 'HS256' && hmac) return (await jwtVerify(token, await hmac, { ...options, algorithms: [alg] })).payload
    if (published.includes(alg) && keys)
      return (await jwtVerify(token, keys.find, { ...options, algorithms: [alg] })).payload
    throw rejected()
  }

  const remember = (name: string, token: string, actor: Actor): void => {
    // Two verified it at once.
    if (known.has(name)) return
    // The claims are what a token consists of, and a Set of them takes some times as much.
    const bytes = 500 + 4 * token.length
    for (const oldest of known.keys()) {
      if (held + bytes <= remembered.bytes) break
      forget(oldest)
    }
    held += bytes
    known.set(name, { actor, until: Date.now() + remembered.ms, bytes })
  }

  const holds = (actor: Actor, tolerated = 0): boolean =>
    Date.now() < actor.expires + tolerated * 1000 && !isRevoked?.(actor)

  return {
    holds: (actor) => holds(actor),
    async verify(token) {
      if (token.length > longest || !shape.test(token)) throw rejected()
      const name = createHash('sha256').update(token).digest('base64')
      const hit = known.get(name)
      if (hit && hit.until > Date.now()) {
        if (holds(hit.actor, tolerance)) return hit.actor
        throw rejected()
      }
      forget(name)
      let payload: unknown
      try {
        payload = await claims(token)
      } catch (error) {
        throw error instanceof Refusal ? error : rejected()
      }
      const actor = toActor(payload)
      if (!holds(actor, tolerance)) throw rejected()
      remember(name, token, actor)
      return actor
    },
    async sign(claims, seconds) {
      if (!hmac) throw new Error('There is no JWT_SECRET to sign with.')
      return new SignJWT(claims)
        .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
        .setIssuedAt()
        .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
        .sign(await hmac)
    },
  }
}
