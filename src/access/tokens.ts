// Tokens: HS256 by JWT_SECRET, RS256, ES256 and EdDSA by the keys of JWKS_URL. The algorithm decides which of the two is
// asked, and a key serves its own kind only: no `none`, no HMAC with a public key.
// A verified token is remembered, so that a busy client's costs a look; its end, and whether it was revoked, are looked at
// each time. Nothing of a token ever gets into an error.
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
  /** of HS256; empty if there is none */
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
// Of 1 KB each: 10 MB. A key taken from the set is trusted for a minute more at the most.
const remembered = { tokens: 10_000, ms: 60_000 }

export const makeTokens = ({ secret, keys, issuer, audience, isRevoked }: TokenOptions): Tokens => {
  const bytes = new TextEncoder().encode(secret)
  const hmac = secret
    ? crypto.subtle.importKey('raw', bytes, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify'])
    : undefined
  const known = new Map<string, { actor: Actor; until: number }>()
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

  const remember = (token: string, actor: Actor): void => {
    if (known.size >= remembered.tokens) for (const oldest of known.keys()) if (known.delete(oldest)) break
    known.set(token, { actor, until: Date.now() + remembered.ms })
  }

  const holds = (actor: Actor, tolerated = 0): boolean =>
    Date.now() < actor.expires + tolerated * 1000 && !isRevoked?.(actor)

  return {
    holds: (actor) => holds(actor),
    async verify(token) {
      const hit = known.get(token)
      if (hit && hit.until > Date.now()) {
        if (holds(hit.actor, tolerance)) return hit.actor
        throw rejected()
      }
      known.delete(token)
      let payload: unknown
      try {
        payload = await claims(token)
      } catch (error) {
        throw error instanceof Refusal ? error : rejected()
      }
      const actor = toActor(payload)
      if (!holds(actor, tolerance)) throw rejected()
      remember(token, actor)
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
