// Members of missions: people who see a mission as its assignee does. Triggers of deck.members audit each change.
import type pg from 'pg'
import { deny } from '../protocol/errors.ts'
import type { Member } from '../protocol/rows.ts'
import type { MissionRef } from '../protocol/topics.ts'
import type { Audited } from './auth-store.ts'
import { perMission } from './bounds.ts'
import { actAs, type Allow, type Transactions } from './postgres/transaction.ts'
import { readMission, selectMission } from './read/read-mission.ts'

/** A mission's members, by name. A mission without members yields one row whose `sub` is null. $3: the maximum number of members. */
const members = selectMission({
  columns: 'x.*',
  joins: `
  left join lateral (
    select t.sub, deck.iso(t.since at time zone 'utc') as since from deck.members t
    where t.mission_id = m.id and t.ended is null order by t.sub limit $3
  ) x on true
  order by x.sub`,
})

/** `pool` is for reads. `audit` is called after a change is committed. */
export const makeMembers = (
  pool: pg.Pool,
  { transaction, enter }: Pick<Transactions, 'transaction' | 'enter'>,
  audit: (line: Audited) => void,
) => ({
  async list(ref: MissionRef) {
    const { mission, rows } = await readMission<{ sub: string | null; since: string }>(pool, {
      ref,
      name: 'members',
      text: members,
      values: [perMission.members],
    })
    return { mission, members: rows.flatMap(({ sub, since }): Member[] => (sub === null ? [] : [{ sub, since }])) }
  },

  /** Makes a person a member of a mission. Rejects with `conflict` if the mission has too many. */
  async put(ref: MissionRef, allow: Allow, sub: string, by: string): Promise<void> {
    const mission = await transaction(async (client) => {
      const id = await enter(client, ref, allow, 'for no key update')
      await actAs(client, by)
      const { rows } = await client.query<{ count: number }>(
        'select count(*)::integer as count from deck.members where mission_id = $1 and ended is null and sub <> $2',
        [id, sub],
      )
      if ((rows[0]?.count ?? 0) >= perMission.members)
        throw deny('conflict', `a mission has up to ${perMission.members} members`)
      await client.query(
        `insert into deck.members as x (mission_id, sub) values ($1, $2)
         on conflict (mission_id, sub) do update set since = now(), ended = null where x.ended is not null`,
        [id, sub],
      )
      await client.query('commit')
      return id
    })
    audit({ action: 'member.put', actor: by, mission, detail: { sub } })
  },

  /** Ends a person's membership of a mission, if it is a member. */
  async remove(ref: MissionRef, allow: Allow, sub: string, by: string): Promise<void> {
    const mission = await transaction(async (client) => {
      const id = await enter(client, ref, allow, 'for no key update')
      await actAs(client, by)
      await client.query(`update deck.members set ended = now() where mission_id = $1 and sub = $2 and ended is null`, [
        id,
        sub,
      ])
      // Lists were told of these long ago.
      await client.query(`delete from deck.members where mission_id = $1 and ended < now() - interval '1 hour'`, [id])
      await client.query('commit')
      return id
    })
    audit({ action: 'member.delete', actor: by, mission, detail: { sub } })
  },
})
export type Members = ReturnType<typeof makeMembers>
