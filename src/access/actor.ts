// Whom a token stands for: its claims, checked once. Nothing of them gets into an error.
import Type, { Compile, type Static } from '../protocol/typebox.ts'
import { deny } from '../protocol/errors.ts'
import { storable } from '../protocol/text.ts'

export const roles = ['user', 'citizen', 'admin'] as const
export type Role = (typeof roles)[number]

/** The bearer of a valid token. `missions`: those that the claim names, by id or number; undefined without the claim. */
export type Actor = {
  readonly sub: string
  readonly role: Role
  readonly missions: ReadonlySet<string> | '*' | undefined
  /** When the token ends, in ms since 1970. */
  readonly expires: number
  /** The token's own name (`jti`), if it has one. */
  readonly token: string | undefined
}

const Claims = Type.Object({
  sub: Type.String({ minLength: 1, maxLength: 256 }),
  role: Type.Enum(roles),
  exp: Type.Number(),
  jti: Type.Optional(Type.String({ maxLength: 1024 })),
  missions: Type.Optional(
    Type.Union([Type.Literal('*'), Type.Array(Type.Union([Type.String(), Type.Integer()]), { maxItems: 10_000 })]),
  ),
})
export type Claims = Static<typeof Claims>
const check = Compile(Claims)

/** The actor of a verified token's claims; otherwise `unauthorized`. */
export const toActor = (claims: unknown): Actor => {
  if (!check.Check(claims) || !storable(claims.sub))
    throw deny('unauthorized', 'the token lacks a claim: sub, role (user, citizen or admin) and exp are required')
  const { sub, role, exp, missions, jti } = claims
  // What can't be revoked is not accepted: deck.revocations holds names of up to 1,024 bytes.
  if (jti !== undefined && (Buffer.byteLength(jti) > 1024 || !storable(jti)))
    throw deny('unauthorized', 'the claim jti has over 1,024 bytes, or a character that Postgres can not hold')
  return {
    sub,
    role,
    missions: Array.isArray(missions) ? new Set(missions.map((m) => String(m).toLowerCase())) : missions,
    // As far as a time can be told.
    expires: Math.min(exp * 1000, Date.UTC(9999, 11, 31)),
    token: jti,
  }
}

/** The claims that give this actor again. */
export const toClaims = ({ sub, role, missions, expires, token }: Actor): Claims => ({
  sub,
  role,
  exp: expires / 1000,
  ...(missions === undefined ? {} : { missions: missions === '*' ? missions : [...missions] }),
  ...(token === undefined ? {} : { jti: token }),
})
