// The actor of a token: its claims, checked once. Errors never contain claims.
import Type, { Compile, type Static } from '../protocol/typebox.ts'
import { deny } from '../protocol/errors.ts'
import { storable } from '../protocol/text.ts'

export const roles = ['user', 'citizen', 'admin'] as const
export type Role = (typeof roles)[number]

/** The bearer of a valid token. `missions`: the IDs and numbers in the claim; undefined without the claim. */
export type Actor = {
  readonly sub: string
  readonly role: Role
  readonly missions: ReadonlySet<string> | '*' | undefined
  /** when the token expires, in ms since 1970 */
  readonly expires: number
  /** The token's `jti`, if it has one. */
  readonly token: string | undefined
  /** The token's `sid`, if it has one: the session that it belongs to. */
  readonly session: string | undefined
}

const Claims = Type.Object({
  sub: Type.String({ minLength: 1, maxLength: 256 }),
  role: Type.Enum(roles),
  exp: Type.Number(),
  jti: Type.Optional(Type.String({ maxLength: 1024 })),
  sid: Type.Optional(Type.String({ maxLength: 1024 })),
  missions: Type.Optional(
    Type.Union([Type.Literal('*'), Type.Array(Type.Union([Type.String(), Type.Integer()]), { maxItems: 10_000 })]),
  ),
})
export type Claims = Static<typeof Claims>
const check = Compile(Claims)

/** Returns the actor of a verified token's claims. Throws `unauthorized` if a claim is missing or invalid. */
export const toActor = (claims: unknown): Actor => {
  if (!check.Check(claims) || !storable(claims.sub))
    throw deny('unauthorized', 'the token lacks a claim: sub, role (user, citizen or admin) and exp are required')
  const { sub, role, exp, missions, jti, sid } = claims
  // A token that can't be revoked is refused: deck.revocations holds a `jti` or a `sid` of up to 1,024 bytes.
  for (const [name, value] of Object.entries({ jti, sid }))
    if (value !== undefined && (Buffer.byteLength(value) > 1024 || !storable(value)))
      throw deny('unauthorized', `the claim ${name} has over 1,024 bytes, or a character that Postgres can not store`)
  return {
    sub,
    role,
    missions: Array.isArray(missions) ? new Set(missions.map((m) => String(m).toLowerCase())) : missions,
    // Limited to the range of a Date.
    expires: Math.min(exp * 1000, Date.UTC(9999, 11, 31)),
    token: jti,
    session: sid,
  }
}

/** Returns claims from which `toActor` makes the same actor. */
export const toClaims = ({ sub, role, missions, expires, token, session }: Actor): Claims => ({
  sub,
  role,
  exp: expires / 1000,
  ...(missions === undefined ? {} : { missions: missions === '*' ? missions : [...missions] }),
  ...(token === undefined ? {} : { jti: token }),
  ...(session === undefined ? {} : { sid: session }),
})
