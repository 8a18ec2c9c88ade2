// Sessions of people, and the single-use codes (invites) that start them. A session is valid for 30 days after its last use. Of a secret
// only the SHA-256 is stored. To end a session deletes it and revokes its tokens; it never affects later sessions of the same person.
import { createHash, randomBytes } from 'node:crypto'
import type pg from 'pg'
import type { Role } from '../access/actor.ts'
import { deny } from '../protocol/errors.ts'
import type { Audited } from './auth-store.ts'

/** The `missions` claim. */
export type MissionsClaim = (string | number)[] | '*' | undefined
/** A person who signs in. `provider`: the identity provider said so, not an invite. */
export type Person = { sub: string; role: Role; missions: MissionsClaim; provider: boolean; name?: string | undefined }
export type LiveSession = Person & { id: string }
export type NewInvite = Omit<Person, 'name' | 'provider'> & {
  by: string
  seconds: number
  provider?: boolean
  /** SHA-256 of the verifier that has to come with the code, as base64url */
  challenge?: string
}

type Row = {
  id: string
  sub: string
  role: Role
  /** JSON */
  missions: string | null
  provider: boolean
}
const toPerson = ({ missions, ...row }: Row): LiveSession => ({
  ...row,
  missions: missions === null ? undefined : (JSON.parse(missions) as MissionsClaim),
})
const digest = (secret: string): Buffer => createHash('sha256').update(secret).digest()
const makeSecret = (): string => randomBytes(32).toString('base64url')
const toJson = (missions: MissionsClaim): string | null => (missions === undefined ? null : JSON.stringify(missions))

/** Days after its last use for which a session is valid. */
export const sessionDays = 30
/** Sessions of one person, and invites that are not used yet. */
const most = { sessions: 100, invites: 1000 }

/** Parts of a statement that delete the sessions that the condition selects, and revoke their tokens. $2: who ends them. */
const ending = (condition: string): string => `
  ended as (delete from deck.sessions s where ${condition} returning s.id),
  old as (delete from deck.revocations where expires_at < now()),
  revoked as (
    insert into deck.revocations (name, by, expires_at)
    select id::text, $2::text, now() + interval '1 hour' from ended on conflict do nothing)`

/** Adds an invite. The command line does so on the database. */
export const addInvite = async (
  client: Pick<pg.Pool | pg.Client, 'query'>,
  { sub, role, missions, by, seconds, provider = false, challenge }: NewInvite,
): Promise<{ secret: string; expires_at: Date }> => {
  const secret = makeSecret()
  const { rows } = await client.query<{ expires_at: Date }>({
    text: `
      with old as (delete from deck.invites where expires_at < now()),
      put as (
        insert into deck.invites (digest, sub, role, missions, provider, challenge, by, expires_at)
        select $1::bytea, $2::text, $3::text, $4::jsonb, $5::boolean, $6::text, $7::text, now() + make_interval(secs => $8::float8)
        where (select count(*) from deck.invites where expires_at > now()) < ${most.invites}
        returning expires_at),
      noted as (
        insert into deck.audit (action, actor, detail)
        select 'invite.add', $7::text, jsonb_build_object('sub', $2::text, 'role', $3::text, 'missions', $4::jsonb) from put where $6::text is null)
      select expires_at from put`,
    values: [digest(secret), sub, role, toJson(missions), provider, challenge ?? null, by, seconds],
  })
  if (!rows[0]) throw deny('conflict', `there are ${most.invites} unused invites: wait until some are used or expire`)
  return { secret, expires_at: rows[0].expires_at }
}

/** `audit` is called after a change is committed. */
export const makeSessions = (pool: pg.Pool, audit: (line: Audited) => void) => {
  /** Ends sessions in one statement. Returns how many. */
  const stop = async (condition: string, value: unknown, by: string): Promise<number> =>
    (await pool.query(`with ${ending(condition)} select id from ended`, [value, by])).rows.length

  return {
    /** Starts a session, with a new secret. `shown`: the role in the list of people. `replaces`: the secret of the browser's former session, which ends. */
    async start({ sub, role, missions, provider, name }: Person, shown: Role, replaces?: string): Promise<string> {
      const secret = makeSecret()
      await pool.query(
        `with person as (
           insert into deck.people as p (sub, name, role) values ($2::text, $6::text, $7::text)
           on conflict (sub) do update set role = excluded.role, name = coalesce(excluded.name, p.name), last_seen = now()
           returning sub),
         put as (
           insert into deck.sessions (digest, sub, role, missions, provider) 
           select $1::bytea, sub, $3::text, $4::jsonb, $5::boolean from person)
         insert into deck.audit (action, actor, detail)
         values ('session.start', $2::text, jsonb_build_object('role', $7::text, 'provider', $5::boolean))`,
        [digest(secret), sub, role, toJson(missions), provider, name ?? null, shown],
      )
      if (replaces !== undefined) await stop('s.digest = $1', digest(replaces), sub)
      await stop(
        `s.id in (select x.id from deck.sessions x where x.sub = $1 order by x.last_used desc offset ${most.sessions})`,
        sub,
        sub,
      )
      await pool.query(`delete from deck.sessions where last_used < now() - interval '${sessionDays} days'`)
      audit({ action: 'session.start', actor: sub, detail: { role: shown, provider } })
      return secret
    },

    /** Returns the session of a secret, and notes its use. Undefined if it has ended or expired. */
    async use(secret: string): Promise<LiveSession | undefined> {
      const { rows } = await pool.query<Row>({
        name: 'use session',
        text: `
          with used as (
            update deck.sessions set last_used = now()
            where digest = $1 and last_used > now() - interval '${sessionDays} days' returning *),
          seen as (update deck.people p set last_seen = now() from used where p.sub = used.sub)
          select id, sub, role, missions, provider from used`,
        values: [digest(secret)],
      })
      return rows[0] && toPerson(rows[0])
    },

    /** Returns the session of a secret, without noting a use. */
    async find(secret: string): Promise<LiveSession | undefined> {
      const { rows } = await pool.query<Row>({
        name: 'find session',
        text: `select id, sub, role, missions, provider from deck.sessions
               where digest = $1 and last_used > now() - interval '${sessionDays} days'`,
        values: [digest(secret)],
      })
      return rows[0] && toPerson(rows[0])
    },

    /** Ends the session of a secret. Returns whether there was one. */
    end: async (secret: string, by: string): Promise<boolean> => (await stop('s.digest = $1', digest(secret), by)) > 0,

    /** Ends all sessions of a person. Returns how many. */
    async endAll(sub: string, by: string): Promise<number> {
      const { rows } = await pool.query<{ count: number }>(
        `with ${ending('s.sub = $1::text')},
         noted as (
           insert into deck.audit (action, actor, detail)
           select 'session.end', $2::text, jsonb_build_object('sub', $1::text, 'sessions', (select count(*) from ended)))
         select count(*)::integer as count from ended`,
        [sub, by],
      )
      const sessions = rows[0]?.count ?? 0
      audit({ action: 'session.end', actor: by, detail: { sub, sessions } })
      return sessions
    },

    async invite(given: NewInvite): Promise<{ secret: string; expires_at: Date }> {
      const made = await addInvite(pool, given)
      const { sub, role, by, challenge } = given
      if (challenge === undefined) audit({ action: 'invite.add', actor: by, detail: { sub, role } })
      return made
    },

    /** Returns for whom an invite is, without using it. */
    async findInvite(secret: string): Promise<Pick<Person, 'sub' | 'role'> | undefined> {
      const { rows } = await pool.query<Pick<Person, 'sub' | 'role'>>(
        'select sub, role from deck.invites where digest = $1 and challenge is null and expires_at > now()',
        [digest(secret)],
      )
      return rows[0]
    },

    /** Uses up an invite, and returns its person. `verifier`: of a code for the command line. */
    async redeem(secret: string, verifier?: string): Promise<Person | undefined> {
      const challenge = verifier === undefined ? null : digest(verifier).toString('base64url')
      const { rows } = await pool.query<Row & { valid: boolean }>(
        `delete from deck.invites where digest = $1 and challenge is not distinct from $2
         returning null as id, sub, role, missions, provider, expires_at > now() as valid`,
        [digest(secret), challenge],
      )
      if (!rows[0]?.valid) return undefined
      const { sub, role, missions, provider } = toPerson(rows[0])
      return { sub, role, missions, provider }
    },

    /** Returns whether an answer of the identity provider is used for the first time, and notes that it was used. */
    async useState(state: string, seconds: number): Promise<boolean> {
      const { rowCount } = await pool.query(
        `with old as (delete from deck.used_states where expires_at < now())
         insert into deck.used_states (digest, expires_at) values ($1, now() + make_interval(secs => $2::float8))
         on conflict do nothing`,
        [digest(state), seconds],
      )
      return rowCount === 1
    },
  }
}
export type Sessions = ReturnType<typeof makeSessions>
