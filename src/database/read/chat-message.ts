// Reads one message of a chat by its ID. Message and rights come from one statement (database/read/read-mission).
import type pg from 'pg'
import type { Message, MissionRights } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { messageColumns, toMessage, type MessageColumns } from '../postgres/columns.ts'
import { readMission, selectMission } from './read-mission.ts'

/**
 * $1, $2 the mission
 * $3 citizen
 * $4 the message's ID
 */
const text = selectMission({
  columns: 'c.*',
  joins: `
  left join lateral (
    select ${messageColumns} from chat_messages where id = $4 and mission_id = m.id and citizen = $3 and seq is not null
  ) c on true`,
})

export const makeMessageReader = (main: pg.Pool) => {
  type Row = MessageColumns | { seq: null }
  /** Returns the message; undefined if the chat has no message with this ID. */
  return async (
    ref: MissionRef,
    citizen: string,
    id: string,
  ): Promise<{ mission: MissionRights | undefined; message: Message | undefined }> => {
    const { mission, rows } = await readMission<Row>(main, { ref, name: 'chat-message', text, values: [citizen, id] })
    const row = rows[0]
    return { mission, message: mission && row?.seq != null ? toMessage(row, mission.id, citizen) : undefined }
  }
}
export type MessageReader = ReturnType<typeof makeMessageReader>
