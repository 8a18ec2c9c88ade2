// Whom a token stands for. HS256 with JWT_SECRET; the algorithm is pinned, `exp` is required.
// Nothing of a token ever gets into an error.
import { jwtVerify, SignJWT } from 'jose'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { deny } from '../protocol/errors.ts'
import { storable } from '../protocol/text.ts'

export type Role = 'user' | 'citizen' | 'admin'

/** The bearer of a valid token. `missions`: those that the claim names, by id or number; undefined without the claim. */
export type Actor = {
  readonly sub: string
  readonly role: Role
  readonly missions: ReadonlySet<string> | '*' | undefined
  /** When the token ends, in ms since 1970. */
  readonly expires: number
}

const Claims = Compile(
  Type.Object({
    sub: Type.String({ minLength: 1, maxLength: 256 }),
    role: Type.Union([Type.Literal('user'), Type.Literal('citizen'), Type.Literal('admin')]),
    exp: Type.Number(),
    missions: Type.Optional(
      Type.Union([Type.Literal('*'), Type.Array(Type.Union([Type.String(), Type.Integer()]), { maxItems: 10_000 })]),
    ),
  }),
)

export type Tokens = {
  /** The actor of a token; otherwise `unauthorized`. */
  verify(token: string): Promise<Actor>
  /** A token for `sub` that is valid for `seconds`. */
  sign(claims: { sub: string; role: Role; missions?: (string | number)[] | '*' }, seconds: number): Promise<string>
}

export const makeTokens = (secret: string): Tokens => {
  const key = new TextEncoder().encode(secret)
  return {
    async verify(token) {
      let payload: unknown
      try {
        ;({ payload } = await jwtVerify(token, key, {
          algorithms: ['HS256'],
          requiredClaims: ['exp', 'sub'],
        }))
      } catch {
        throw deny('unauthorized', 'the token is missing, invalid or expired')
      }
      if (!Claims.Check(payload) || !storable(payload.sub))
        throw deny('unauthorized', 'the token lacks a claim: sub, role (user, citizen or admin) and exp are required')
      const { sub, role, exp, missions } = payload
      return {
        sub,
        role,
        missions: Array.isArray(missions) ? new Set(missions.map((m) => String(m).toLowerCase())) : missions,
        // As far as a time can be told.
        expires: Math.min(exp * 1000, Date.UTC(9999, 11, 31)),
      }
    },
    sign: (claims, seconds) =>
      new SignJWT(claims)
        .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
        .setIssuedAt()
        .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
        .sign(key),
  }
}
