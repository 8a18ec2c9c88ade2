// Messages and run logs that are taken back: their words are removed (db/functions/redaction.sql).
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import type { Message, MissionRights } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import type { Audited } from '../auth-store.ts'
import { messageColumns, toMessage, type MessageColumns } from '../postgres/columns.ts'
import { quoted, type Allow, type Transactions } from '../postgres/transaction.ts'

/** What decides who may take a message back. `asker`: the author of the question that it answers. */
export type Authors = Pick<Message, 'sender' | 'author'> & { asker: string | null }

/** `audit` is called after a change is committed. */
export const makeRedaction = (
  { transaction, enter, settle }: Pick<Transactions, 'transaction' | 'enter' | 'settle'>,
  audit: (line: Audited) => void,
) => ({
  /** Takes a message back and returns it. Again: returns it, and changes nothing. */
  async message(
    ref: MissionRef,
    allow: (mission: MissionRights | undefined, authors?: Authors) => void,
    { citizen, id, reason }: { citizen: string; id: string; reason: string | undefined },
    by: string,
  ): Promise<Message> {
    const { mission, row, done } = await transaction(async (client: pg.PoolClient) => {
      const { rows: found } = await client.query<Authors & { mission_id: string }>(
        `select c.mission_id, c.sender, c.author, q.author as asker
         from chat_messages c
         left join chat_messages q on q.id = c.in_reply_to and q.mission_id = c.mission_id and q.citizen = c.citizen
         where c.id = $1 and c.citizen = $2 and c.seq is not null`,
        [id, citizen],
      )
      let authors: Authors | undefined
      const mission = await enter(client, ref, (m) => {
        if (found[0]?.mission_id === m?.id) authors = found[0]
        allow(m, authors)
      })
      if (!authors) throw deny('not_found', 'no such message')
      const { rows: redacted } = await client.query<{ done: boolean | null }>(
        'select deck.redact_message($1, $2, $3, $4, $5) as done',
        [mission, citizen, id, by, reason],
      )
      const { done = null } = redacted[0] ?? {}
      if (done === null) throw deny('not_found', 'no such message')
      await settle(client, `select '' as json`)
      const { rows } = await client.query<MessageColumns>(`select ${messageColumns} from chat_messages where id = $1`, [
        id,
      ])
      return { mission, row: rows[0], done }
    })
    if (!row) throw deny('not_found', 'no such message')
    if (done) audit({ action: 'message.redact', actor: by, mission, detail: { citizen, id, seq: row.seq, reason } })
    return toMessage(row, mission, citizen)
  },

  /** Empties a run's log, and returns the run. Again: changes nothing. */
  async log(ref: MissionRef, allow: Allow, { run, reason }: { run: string; reason: string | undefined }, by: string) {
    const { mission, json, done } = await transaction(async (client) => {
      const mission = await enter(client, ref, allow)
      const { rows } = await client.query<{ done: boolean | null }>('select deck.redact_log($1, $2, $3, $4) as done', [
        mission,
        run,
        by,
        reason,
      ])
      const { done = null } = rows[0] ?? {}
      if (done === null) throw deny('not_found', 'no such test run')
      const json = await settle(
        client,
        `select deck.test_run_json(t)::text as json from test_runs t where id = ${quoted(run)}`,
      )
      return { mission, json, done }
    })
    if (done) audit({ action: 'log.redact', actor: by, mission, detail: { run, reason } })
    return json
  },
})
export type Redaction = ReturnType<typeof makeRedaction>
