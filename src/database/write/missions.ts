// Missions: the API's reads and changes, and clearing their chats. Rows are returned as the database's JSON text.
import type pg from 'pg'
import type { Visible } from '../../access/policy.ts'
import type { MissionPatch, NewMission } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import type { Audited } from '../auth-store.ts'
import { fittingTexts } from '../bounds.ts'
import { missionPage, missionPageWithChats } from '../read/mission-list.sql.ts'
import { readMission, selectMission } from '../read/read-mission.ts'
import { actAs, assignments, plain, quoted, utc, type Allow, type Transactions } from '../postgres/transaction.ts'

const oneMission = selectMission({
  columns: 'deck.mission_json(t)::text as json',
  joins: 'join missions t on t.id = m.id',
})

/** `pool` is for reads. `audit` is called after a change is committed. */
export const makeMissionChanges = (
  pool: pg.Pool,
  { transaction, enter, settle, write }: Transactions,
  audit: (line: Audited) => void,
) => {
  const missionRow = (id: string): string =>
    `select deck.mission_json(m)::text as json from missions m where id = ${quoted(id)}`

  return {
    /** `chats`: adds each mission's chats with the unread counts of the user `sub`, and its open requests. */
    async listMissions(
      filter: { status?: string; assigned_to?: string; after?: number; limit: number },
      see: Visible,
      chats?: { sub: string },
    ) {
      const { rows } = await pool.query<{ number: number; json: string; chats?: string; requests?: string }>({
        name: chats ? 'missions-chats' : 'missions',
        text: chats ? missionPageWithChats : missionPage,
        values: [
          filter.status,
          filter.assigned_to,
          filter.after ?? 0,
          see.all,
          see.sub,
          see.refs,
          filter.limit + 1,
          ...(chats ? [chats.sub] : []),
        ],
      })
      const texts = rows
        .slice(0, filter.limit)
        .map(({ json, chats, requests }) =>
          chats === undefined ? json : `${json.slice(0, -1)},"chats":${chats},"requests":${requests}}`,
        )
      const page = fittingTexts(texts, (text) => text)
      return {
        rows: page,
        next: rows.length > page.length ? String(rows[page.length - 1]?.number) : null,
      }
    },

    createMission: (given: NewMission): Promise<string> =>
      transaction(async (client) => {
        const { rows } = await client.query<{ id: string }>(
          `insert into missions (number, title, client, budget, deadline, status, assigned_to, github_url)
           values ($1, $2, $3, $4, ${utc('$5')}, $6, $7, $8) returning id`,
          [
            given.number,
            given.title,
            given.client,
            given.budget,
            given.deadline,
            given.status ?? 'active',
            given.assigned_to,
            given.github_url,
          ],
        )
        return settle(client, missionRow(rows[0]?.id ?? ''))
      }),

    changeMission: (ref: MissionRef, allow: Allow, patch: MissionPatch): Promise<string> =>
      transaction(async (client) => {
        const id = await enter(client, ref, allow)
        const { text, values } = assignments([
          ['title', plain, patch.title],
          ['client', plain, patch.client],
          ['budget', plain, patch.budget],
          ['deadline', utc, patch.deadline],
          ['status', plain, patch.status],
          ['assigned_to', plain, patch.assigned_to],
          ['github_url', plain, patch.github_url],
        ])
        if (text) await client.query(`update missions set ${text} where id = $1`, [id, ...values])
        return settle(client, missionRow(id))
      }),

    async deleteMission(ref: MissionRef, allow: Allow, by: string): Promise<void> {
      const mission = await transaction(async (client) => {
        const id = await enter(client, ref, allow, 'for update')
        await actAs(client, by)
        await client.query('delete from missions where id = $1', [id])
        await settle(client, `select 'gone' as json`)
        return id
      })
      audit({ action: 'mission.delete', actor: by, mission })
    },

    async mission(ref: MissionRef) {
      const { mission, rows } = await readMission<{ json: string }>(pool, { ref, name: 'mission', text: oneMission })
      return { mission, json: rows[0]?.json ?? '' }
    },

    async clearChat(ref: MissionRef, allow: Allow, citizen: string, by: string): Promise<void> {
      const { id, cleared } = await transaction(async (client) => {
        const id = await enter(client, ref, allow)
        const { rows } = await client.query<{ cleared: number }>(
          `with done as materialized (select deck.clear_chat($1, $2, $3) as cleared),
           noted as (
             insert into deck.audit (action, actor, mission_id, detail)
             select 'chat.clear', $3, $1, jsonb_build_object('citizen', $2::text, 'seq', cleared) from done)
           select cleared from done`,
          [id, citizen, by],
        )
        await client.query('commit')
        return { id, cleared: rows[0]?.cleared }
      })
      audit({ action: 'chat.clear', actor: by, mission: id, detail: { citizen, seq: cleared } })
      // Removes messages that were locked by another transaction while the chat was cleared. No head is held while this waits.
      await write('select deck.remove_messages($1, $2, $3, false)', [id, citizen, cleared])
    },
  }
}
export type MissionChanges = ReturnType<typeof makeMissionChanges>
