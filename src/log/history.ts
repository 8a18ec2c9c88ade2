// What was said, read over HTTP: a page of a chat's messages, and a mission's chats. Rows, head and the mission's assignee come
// from one statement (log/read-mission).
import type pg from 'pg'
import type { MissionRef } from '../protocol/topics.ts'
import { toMessage, type MessageColumns } from './columns.ts'
import * as sql from './history.sql.ts'
import { readMission } from './read-mission.ts'
import { makeReadChat } from './replica.ts'

/** Bytes of rows that a page of the history holds, but for one row: 500 of the longest messages, code blocks aside. */
const historyBytes = 32 * 1024 * 1024

export type HistoryQuery = { after?: number; before?: number; limit: number }

/** `main` is for reading; pages may come from a replica. */
export const makeHistory = (main: pg.Pool, { readChat } = makeReadChat(main)) => {
  return {
    /** A page of a chat's messages in ascending order, with head and epoch of the same snapshot. */
    async page(ref: MissionRef, citizen: string, { after, before, limit }: HistoryQuery) {
      const forward = after !== undefined
      const direction = forward ? 'after' : 'before'
      type Row = { head: number; found: number | null } & (MessageColumns | { seq: null })
      const read = async (pool: pg.Pool) => {
        const found = await readMission<Row>(pool, {
          ref,
          name: `history-${direction}`,
          text: sql.historyPage[direction],
          values: [citizen, after ?? 0, before ?? Number.MAX_SAFE_INTEGER, limit + 1, historyBytes],
        })
        return { ...found, head: found.rows[0]?.head ?? 0 }
      }
      const { found, mission } = await readChat(ref, citizen, read, (page) => page)
      const { rows, head, epoch } = found
      const messages = rows.flatMap((row) =>
        row.seq === null || !mission ? [] : [toMessage(row, mission.id, citizen)],
      )
      const has_more = (rows[0]?.found ?? 0) > Math.min(messages.length, limit)
      // One more than asked for was read: it is the newest of a page forward, the oldest of one backward.
      if (messages.length > limit) messages.splice(forward ? limit : 0, 1)
      return { mission, messages, last_seq: head, has_more, epoch }
    },

    /** The chats of a mission in which anything was ever said, each with its head, its newest message, and how far `sub` has read. */
    async channels(ref: MissionRef, sub: string) {
      type Row = { citizen: string | null; head: number; read_seq: number; unread: number } & (
        MessageColumns | { seq: null }
      )
      const { mission, rows } = await readMission<Row>(main, {
        ref,
        name: 'channels',
        text: sql.channelList,
        values: [sub],
      })
      const channels = rows.flatMap((row) =>
        row.citizen === null || row.head === 0 || !mission
          ? []
          : [
              {
                citizen: row.citizen,
                last_seq: row.head,
                last_message: row.seq === null ? null : toMessage(row, mission.id, row.citizen),
                read_seq: row.read_seq,
                unread: row.unread,
              },
            ],
      )
      return { mission, channels }
    },
  }
}
export type History = ReturnType<typeof makeHistory>
