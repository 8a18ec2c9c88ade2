// Tokens: HS256 with JWT_SECRET (JWT_SECRET_PREVIOUS still verifies); RS256, ES256 and EdDSA with the keys of JWKS_URL. The algorithm decides which key is used, so `none`
// and HMAC with a public key are refused.
// A verified token is cached. Its expiry and its revocation are checked at each use. Errors never contain any part of a token.
import { createHash } from 'node:crypto'
import { decodeProtectedHeader, errors, jwtVerify, SignJWT, type CryptoKey, type JWTVerifyOptions } from 'jose'
import { deny, Refusal } from '../protocol/errors.ts'
import { toActor, type Actor, type Role } from './actor.ts'
import type { Keys } from './jwks.ts'

/** The claims of a token that this server signs. `sid`: the session that the token belongs to. */
export type Signed = { sub: string; role: Role; missions?: (string | number)[] | '*'; jti?: string; sid?: string }

export type Tokens = {
  /** Resolves with a token's actor. Rejects with `unauthorized`, or with `unavailable` if the provider's keys can't be fetched. */
  verify(token: string): Promise<Actor>
  /** Returns whether an actor's token is neither expired (by this clock) nor revoked. */
  holds(actor: Actor): boolean
  /** Resolves with an HS256 token that is valid for `seconds`. Rejects without JWT_SECRET. */
  sign(claims: Signed, seconds: number): Promise<string>
}

export type TokenOptions = {
  /** the HS256 secret; empty if not configured */
  secret?: string
  /** the former HS256 secret: verifies, and never signs; empty if not configured */
  previousSecret?: string
  keys?: Keys
  issuer?: string
  audience?: string
  isRevoked?: (actor: Actor) => boolean
}

/** Clock skew in seconds that is tolerated. */
const tolerance = 5
const published = ['RS256', 'ES256', 'EdDSA']
const rejected = () => deny('unauthorized', 'the token is missing, invalid, expired or revoked')
/** Maximum characters of a token: the limit of a request's headers. */
const longest = 16 * 1024
/** Exactly a token: characters that decoders ignore would give one token many cache entries. */
const shape = /^[\w-]+\.[\w-]+\.[\w-]+$/
// Limits of the cache of verified tokens, by digest: 10,000 of the usual size. After a key is removed from the key set, cached tokens
// stay valid for up to a minute.
const remembered = { bytes: 8 * 1024 * 1024, ms: 60_000 }

const toHmac = (secret: string | undefined): Promise<CryptoKey> | undefined =>
  secret
    ? crypto.subtle.importKey('raw', Buffer.from(secret), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify'])
    : undefined

export const makeTokens = ({ secret, previousSecret, keys, issuer, audience, isRevoked }: TokenOptions): Tokens => {
  const hmac = toHmac(secret)
  const verifying = [hmac, toHmac(previousSecret)].filter((key) => key !== undefined)
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
    if (alg === 'HS256' && verifying.length > 0) {
      for (const key of verifying)
        try {
          return (await jwtVerify(token, await key, { ...options, algorithms: [alg] })).payload
        } catch (error) {
          if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error
        }
      throw rejected()
    }
    if (published.includes(alg) && keys)
      return (await jwtVerify(token, keys.find, { ...options, algorithms: [alg] })).payload
    throw rejected()
  }

  const remember = (name: string, token: string, actor: Actor): void => {
    // Two requests verified the token at the same time.
    if (known.has(name)) return
    // An estimate: a Set of the claims takes a multiple of the size of the token.
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
      if (!hmac) throw new Error('JWT_SECRET is not set: tokens can not be signed.')
      return new SignJWT({ ...claims, ...(issuer ? { iss: issuer } : {}), ...(audience ? { aud: audience } : {}) })
        .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
        .setIssuedAt()
        .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
        .sign(await hmac)
    },
  }
}
