// Forms of signing in: sessions' tokens, invites, people, keys of citizens, and the audit log.
import Type, { type Static } from './typebox.ts'

const Time = (description: string) => Type.String({ description, format: 'date-time' })
/** Missions in a claim: with more UUIDs a token would not fit into the header of a request. */
export const claimedMissions = 200
const Missions = Type.Union(
  [
    Type.Literal('*'),
    Type.Array(Type.Union([Type.String({ minLength: 1, maxLength: 36 }), Type.Integer()]), {
      maxItems: claimedMissions,
    }),
  ],
  { description: 'the missions that the token may see, by UUID or number; "*" for all' },
)
const Days = (fallback: number) =>
  Type.Integer({ minimum: 1, maximum: 365, description: `days for which it is valid; ${fallback} if left out` })
const Role = Type.Enum(['user', 'citizen', 'admin'])

export const invitedDays = 7
export const keyDays = 365

export const NewInvite = Type.Object({
  sub: Type.String({ minLength: 1, maxLength: 256, description: 'user ID of the person' }),
  role: Role,
  missions: Type.Optional(Missions),
  days: Type.Optional(Days(invitedDays)),
})
export type NewInvite = Static<typeof NewInvite>
export const Invite = Type.Object({
  link: Type.String({ description: 'for one use; opening it does not use it up' }),
  expires_at: Time('when the link expires'),
})

export const NewKey = Type.Object({ missions: Type.Optional(Missions), days: Type.Optional(Days(keyDays)) })
export type NewKey = Static<typeof NewKey>
export const MadeKey = Type.Object({
  id: Type.String({ description: "the key's UUID, the jti of its token" }),
  token: Type.String({ description: "a citizen's token; it is shown only here" }),
})
export const CitizenKey = Type.Object({
  id: Type.String(),
  missions: Type.Union([Missions, Type.Null()]),
  by: Type.String({ description: 'who made it' }),
  created_at: Time('when it was made'),
  expires_at: Time('when it expires'),
})
export type CitizenKey = Static<typeof CitizenKey>

export const SeenPerson = Type.Object({
  sub: Type.String(),
  name: Type.Union([Type.String(), Type.Null()]),
  role: Role,
  last_seen: Time('when it last signed in or renewed a token'),
  sessions: Type.Integer({ description: 'sessions that are open' }),
})
export type SeenPerson = Static<typeof SeenPerson>

export const AuditEntry = Type.Object({
  id: Type.Integer(),
  at: Time('when it was done'),
  action: Type.String({ description: 'such as mission.delete' }),
  actor: Type.String({ description: 'sub of a token, or login of the database' }),
  mission_id: Type.Union([Type.String(), Type.Null()]),
  detail: Type.Record(Type.String(), Type.Unknown()),
  db_user: Type.String({ description: 'login of the database' }),
})
export type AuditEntry = Static<typeof AuditEntry>

export const SessionToken = Type.Object({
  token: Type.String({ description: 'a token of ten minutes; its `sid` is the session' }),
  expires_at: Time('when the token expires'),
})

export const LoginOptions = Type.Object({
  login: Type.Boolean({
    description: 'whether /auth/login leads to a sign-in provider; if not, people need an invite',
  }),
  sub: Type.Union([Type.String(), Type.Null()], { description: "whose session the request's cookie is" }),
})
export const Logout = Type.Object({ url: Type.String({ description: "where the provider's own session ends" }) })
