// Keys of citizens: tokens that an admin makes and revokes. The id of a key is its token's jti. The token itself is not stored.
import type pg from 'pg'
import type { Signed } from '../access/tokens.ts'
import { deny } from '../protocol/errors.ts'
import type { CitizenKey } from '../protocol/people.ts'
import type { Audited } from './auth-store.ts'
import { registry } from './bounds.ts'

/** `audit` is called after a change is committed. */
export const makeCitizenKeys = (pool: pg.Pool, audit: (line: Audited) => void) => ({
  /** Adds a key. Returns its id. Rejects with `conflict` if the citizen has too many. */
  async add(citizen: string, missions: Signed['missions'], days: number, by: string): Promise<string> {
    const { rows } = await pool.query<{ id: string }>(
      `with old as (delete from deck.citizen_keys where expires_at < now()),
       put as (
         insert into deck.citizen_keys (citizen, missions, by, expires_at)
         select $1::text, $2::jsonb, $3::text, now() + make_interval(days => $4::integer)
         where (select count(*) from deck.citizen_keys where citizen = $1::text and expires_at > now()) < $5::integer
         returning id),
       noted as (
         insert into deck.audit (action, actor, detail)
         select 'key.add', $3::text, jsonb_build_object('id', id, 'citizen', $1::text, 'missions', $2::jsonb) from put)
       select id from put`,
      [citizen, missions === undefined ? null : JSON.stringify(missions), by, days, registry.keys],
    )
    const id = rows[0]?.id
    if (id === undefined) throw deny('conflict', `a citizen has up to ${registry.keys} keys: delete one`)
    audit({ action: 'key.add', actor: by, detail: { id, citizen } })
    return id
  },

  /** Returns a citizen's keys that are valid, the newest first. */
  async list(citizen: string): Promise<CitizenKey[]> {
    const { rows } = await pool.query<Omit<CitizenKey, 'missions'> & { missions: string | null }>(
      `select id, missions, by, deck.iso(created_at at time zone 'utc') as created_at, deck.iso(expires_at at time zone 'utc') as expires_at
       from deck.citizen_keys where citizen = $1 and expires_at > now() order by citizen_keys.created_at desc, id`,
      [citizen],
    )
    return rows.map(({ missions, ...row }) => ({
      ...row,
      missions: missions === null ? null : (JSON.parse(missions) as CitizenKey['missions']),
    }))
  },

  /** Revokes a key until its token has expired. Rejects with `not_found` if the citizen has no such key. */
  async remove(citizen: string, id: string, by: string): Promise<void> {
    const { rowCount } = await pool.query(
      `with gone as (delete from deck.citizen_keys where citizen = $1 and id = $2 returning id, expires_at),
       old as (delete from deck.revocations where expires_at < now()),
       revoked as (
         insert into deck.revocations (name, by, expires_at) select id::text, $3::text, expires_at + interval '1 hour' from gone
         on conflict do nothing),
       noted as (
         insert into deck.audit (action, actor, detail)
         select 'key.delete', $3::text, jsonb_build_object('id', id, 'citizen', $1::text) from gone)
       select from gone`,
      [citizen, id, by],
    )
    if (rowCount === 0) throw deny('not_found', 'the citizen has no such key')
    audit({ action: 'key.delete', actor: by, detail: { id, citizen } })
  },
})
export type CitizenKeys = ReturnType<typeof makeCitizenKeys>
