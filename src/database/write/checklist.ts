// Checklists: the API's reads and changes of items. Rows are returned as the database's JSON text.
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import type { DodPatch, NewDodItem } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import type { Audited } from '../auth-store.ts'
import { answerBytes, perMission } from '../bounds.ts'
import { noEvidence, sqlState } from '../postgres/errors.ts'
import { readMission, selectMission } from '../read/read-mission.ts'
import { actAs, assignments, plain, quoted, type Allow, type Transactions } from '../postgres/transaction.ts'

const progress = `(select jsonb_build_object('completed', count(*) filter (where completed), 'total', count(*))
  from dod_items where mission_id = m.id)`
// Returns items until the response is full, at least one, because SQL writers may add any number. The progress counts all items.
const items = `(select coalesce(jsonb_agg(x.json order by x.ordinal) filter (where x.upto <= ${answerBytes} or x.n = 1), '[]') from (
    select d.ordinal, i.json, sum(octet_length(i.json::text) + 2) over w as upto, row_number() over w as n
    from dod_items d cross join lateral deck.dod_item_json(d) i (json) where d.mission_id = m.id window w as (order by d.ordinal)) x)`

const checklist = selectMission({
  columns: `jsonb_build_object('items', ${items}, 'progress', ${progress})::text as json`,
})

/** `pool` is for reads. `audit` is called after a change is committed. */
export const makeChecklistChanges = (
  pool: pg.Pool,
  { transaction, enter, settle, write }: Transactions,
  audit: (line: Audited) => void,
) => {
  /**
   * A change that Postgres refuses if items lack evidence. The refused transaction had the items locked, so that a concurrent test run
   * could not update their evidence. The evidence is evaluated again here rather than by the next housekeeping.
   */
  const provable = async (change: (client: pg.PoolClient) => Promise<string>): Promise<string> => {
    try {
      return await transaction(change)
    } catch (error) {
      if (sqlState(error) === noEvidence) await write('select deck.weigh_again()')
      throw error
    }
  }

  return {
    async checklist(ref: MissionRef) {
      const { mission, rows } = await readMission<{ json: string }>(pool, { ref, name: 'checklist', text: checklist })
      return { mission, json: rows[0]?.json ?? '' }
    },

    addItem: (ref: MissionRef, allow: Allow, { text, category, test_name }: NewDodItem): Promise<string> =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        const { rows: held } = await client.query<{ items: number; bytes: number }>(
          `select count(*)::integer as items, coalesce(sum(octet_length(text)), 0)::integer as bytes
           from dod_items where mission_id = $1`,
          [mission],
        )
        const { items = 0, bytes = 0 } = held[0] ?? {}
        if (items >= perMission.items || bytes + Buffer.byteLength(text) > perMission.itemBytes)
          throw deny('conflict', `a mission has up to ${perMission.items} items, with 1 MiB of text in all`)
        const { rows } = await client.query<{ id: string }>(
          'insert into dod_items (mission_id, text, category, test_name) values ($1, $2, $3, $4) returning id',
          [mission, text, category, test_name],
        )
        return settle(
          client,
          `select deck.dod_item_json(d)::text as json from dod_items d where id = ${quoted(rows[0]?.id ?? '')}`,
        )
      }),

    /** Changes an item in the name of `by`, or deletes it (null). Returns the JSON text of { item, progress }. */
    async changeItem(ref: MissionRef, allow: Allow, item: string, patch: DodPatch | null, by: string): Promise<string> {
      let mission = ''
      const row = await provable(async (client) => {
        mission = await enter(client, ref, allow)
        const read = `select jsonb_build_object('item', i.data, 'progress', ${progress})::text as json
                      from missions m, deck.events i where m.id = ${quoted(mission)}`
        if (patch === null) {
          const gone = await client.query('delete from dod_items where id = $1 and mission_id = $2', [item, mission])
          if (gone.rowCount === 0) throw deny('not_found', 'no such item')
          // This transaction holds the topic's head, so the topic's last event is the deletion that was just numbered.
          const topic = quoted(`missions/${mission}/dod`)
          return settle(
            client,
            `${read} and i.topic = ${topic} and i.seq = (select max(seq) from deck.events where topic = ${topic})`,
          )
        }
        if (patch.override !== undefined) await actAs(client, by)
        const { text, values } = assignments([
          ['completed', plain, patch.completed],
          ['test_name', plain, patch.test_name],
          ['override_reason', plain, patch.override],
        ])
        const { rowCount } = await client.query(
          `update dod_items set ${text} where id = $1 and mission_id = ${quoted(mission)}`,
          [item, ...values],
        )
        if (rowCount === 0) throw deny('not_found', 'no such item')
        return settle(
          client,
          `select jsonb_build_object('item', deck.dod_item_json(d), 'progress', ${progress})::text as json
           from missions m, dod_items d where m.id = ${quoted(mission)} and d.id = ${quoted(item)}`,
        )
      })
      if (patch?.override !== undefined) audit({ action: 'dod.override', actor: by, mission, detail: { item } })
      return row
    },

    /**
     * Ticks all items and sets the mission's status to 'qa', or unticks all and sets 'qa' back to 'active'. Returns the JSON text of
     * { items, progress }. `override` also ticks items that lack evidence, in the name of `by`; without it they make the call reject.
     */
    async changeAllItems(
      ref: MissionRef,
      allow: Allow,
      completed: boolean,
      override: string | undefined,
      by: string,
    ): Promise<string> {
      let mission = ''
      const list = await provable(async (client) => {
        mission = await enter(client, ref, allow)
        if (override !== undefined) await actAs(client, by)
        await client.query(
          `update dod_items
           set completed = $2, override_reason = case when $2 and evidence_status <> 'passed' then $3 end
           where mission_id = $1 and completed is distinct from $2`,
          [mission, completed, override],
        )
        // Unticking takes a mission out of QA; the status 'complete' stays.
        await client.query(
          completed
            ? `update missions set status = 'qa' where id = $1 and status <> 'qa'`
            : `update missions set status = 'active' where id = $1 and status = 'qa'`,
          [mission],
        )
        return settle(
          client,
          `select jsonb_build_object('items', ${items}, 'progress', ${progress})::text as json from missions m where id = ${quoted(mission)}`,
        )
      })
      if (override !== undefined) audit({ action: 'dod.override', actor: by, mission })
      return list
    },
  }
}
export type ChecklistChanges = ReturnType<typeof makeChecklistChanges>
