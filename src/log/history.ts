// What was said, read over HTTP: a page of a chat's messages, and a mission's chats. Rows, head and the mission's assignee come
// from one statement, as in log/store.
import type pg from 'pg'
import type { MissionRef } from '../protocol/topics.ts'
import { makeReadChat } from './replica.ts'
import {
  citizenOf,
  headOf,
  missionByRef,
  refValues,
  toMessage,
  toRights,
  type MessageColumns,
  type MissionColumns,
} from './store.ts'

/** Bytes of rows that a page of the history holds, but for one row: 500 of the longest messages, code blocks aside. */
const historyBytes = 32 * 1024 * 1024

/** Unread messages are counted up to here. */
export const mostUnread = 1000

export type HistoryQuery = { after?: number; before?: number; limit: number }

const citizen = citizenOf('h.topic')
export const channelList = `
  select m.id as mission_id, m.number, m.assigned_to, substr(h.topic, 52) as citizen, c.*,
    ${headOf('h.topic', 'm.id', citizen)} as head, coalesce(r.seq, 0) as read_seq, u.unread
  from ${missionByRef} m
  left join deck.heads h on h.topic > 'missions/' || m.id || '/chat/' and h.topic < 'missions/' || m.id || '/chat0'
  left join lateral (
    select id, sender, author, message, code_blocks, created_at, seq, key
    from chat_messages where mission_id = m.id and citizen = ${citizen} and seq is not null
    order by seq desc limit 1
  ) c on true
  left join deck.reads r on r.mission_id = m.id and r.citizen = ${citizen} and r.sub = $3
  cross join lateral (
    select count(*)::integer as unread from (
      select from chat_messages where mission_id = m.id and citizen = ${citizen} and seq > coalesce(r.seq, 0)
      limit ${mostUnread}) x
  ) u
  order by h.topic`

type Row = MissionColumns & { head: number; epoch: string; found: number | null } & (MessageColumns | { seq: null })

/** `main` is for reading; pages may come from a replica. */
export const makeHistory = (main: pg.Pool, { readChat } = makeReadChat(main)) => {
  return {
    /** A page of a chat's messages in ascending order, with head and epoch of the same snapshot. */
    async page(ref: MissionRef, citizen: string, { after, before, limit }: HistoryQuery) {
      const forward = after !== undefined
      const direction = forward ? 'asc' : 'desc'
      const read = async (pool: pg.Pool): Promise<Row[]> => {
        const { rows } = await pool.query<Row>({
          name: forward ? 'history-after' : 'history-before',
          // Offset 0 keeps epoch and head from being moved among the columns, and computed for each row.
          text: `
          select m.id as mission_id, m.number, m.assigned_to, h.*, c.*
          from ${missionByRef} m
          cross join lateral (
            select deck.epoch() as epoch, ${headOf("'missions/' || m.id || '/chat/' || $3", 'm.id', '$3')} as head
            offset 0
          ) h
          left join lateral (
            select s.* from (
              select u.*, (count(*) over ())::integer as found, v.size,
                sum(v.size) over (order by u.seq ${direction} rows unbounded preceding) as through
              from (
                select id, sender, author, message, code_blocks::text as code_blocks, created_at, seq, key
                from chat_messages
                where mission_id = m.id and citizen = $3 and seq > $4 and seq < $5
                order by seq ${direction} limit $6
              ) u, lateral (select octet_length(u.message) + coalesce(octet_length(u.code_blocks), 0) as size) v
            ) s where s.through - s.size < $7
          ) c on true
          order by c.seq`,
          values: [...refValues(ref), citizen, after ?? 0, before ?? Number.MAX_SAFE_INTEGER, limit + 1, historyBytes],
        })
        return rows
      }
      const { found: rows, mission } = await readChat(ref, citizen, read, ([row]) => ({
        mission: toRights(row),
        head: row?.head ?? 0,
        epoch: row?.epoch ?? '',
      }))
      const messages = rows.flatMap((row) =>
        row.seq === null || !mission ? [] : [toMessage(row, mission.id, citizen)],
      )
      const has_more = (rows[0]?.found ?? 0) > Math.min(messages.length, limit)
      // One more than asked for was read: it is the newest of a page forward, the oldest of one backward.
      if (messages.length > limit) messages.splice(forward ? limit : 0, 1)
      return { mission, messages, last_seq: rows[0]?.head ?? 0, has_more, epoch: rows[0]?.epoch ?? '' }
    },

    /** The chats of a mission in which anything was ever said, each with its head, its newest message, and how far `sub` has read. */
    async channels(ref: MissionRef, sub: string) {
      const { rows } = await main.query<
        MissionColumns & { citizen: string | null; head: number; read_seq: number; unread: number } & (
            MessageColumns | { seq: null }
          )
      >({
        name: 'channels',
        text: channelList,
        values: [...refValues(ref), sub],
      })
      const mission = toRights(rows[0])
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
