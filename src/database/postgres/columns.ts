// SQL and types of columns that several statements read: a mission's rights, a message, a topic's latest seq.
import type { Details } from '../../protocol/activity.ts'
import { blocksOf } from '../../protocol/blocks.ts'
import type { Message, MissionRights } from '../../protocol/rows.ts'

export type MissionColumns = {
  mission_id: string | null
  number: number | null
  assigned_to: string | null
  members: string[] | null
}
/** SQL of MissionColumns, from a mission `m`; `members`: where the row has them. */
const columnsWith = (members: string): string => `m.id as mission_id, m.number, m.assigned_to, ${members} as members`
export const missionColumns = columnsWith('m.members')
/** The same with the members in one row only, that of the condition: a mission may have 200, and a page 500 rows. */
export const missionColumnsOnce = (isFirst: string): string => columnsWith(`case when ${isFirst} then m.members end`)

/** SQL: whether a mission's row may be seen by a sub, its assignee or a member, or is one of these IDs or numbers. */
export const visibleColumns = (row: string, sub: string, refs: string): string =>
  `(${row}.assigned_to = ${sub} or ${sub} = any (${row}.members) or ${row}.id::text = any (${refs}) or ${row}.number::text = any (${refs}))`

/** Returns the columns that permissions depend on; undefined if the mission does not exist. */
export const toRights = (row: MissionColumns | undefined): MissionRights | undefined =>
  row?.mission_id == null
    ? undefined
    : { id: row.mission_id, number: row.number ?? 0, assigned_to: row.assigned_to ?? '', members: row.members }

export type MessageColumns = {
  id: string
  sender: Message['sender']
  author: string | null
  message: string
  code_blocks: string | null
  created_at: string
  seq: number
  key: string | null
  in_reply_to: string | null
  /** JSON text of what its writer did and used; null for most messages */
  details: string | null
}
/**
 * SQL of the message that a message answers; null if it is not in the same chat, as after a clearing or by SQL.
 * `row`: the name or alias of chat_messages.
 */
export const repliedColumn = (row: string): string => `case when ${row}.in_reply_to is not null then (
  select r.id from chat_messages r
  where r.id = ${row}.in_reply_to and r.mission_id = ${row}.mission_id and r.citizen = ${row}.citizen) end as in_reply_to`
/** SQL of MessageColumns, from chat_messages. */
export const messageColumns = `id, sender, author, message, code_blocks::text as code_blocks, created_at, seq, key,
  ${repliedColumn('chat_messages')}, details::text as details`

/** SQL of the bytes that count for a row of MessageColumns. */
export const messageSize = (row: string): string =>
  `octet_length(${row}.message) + coalesce(octet_length(${row}.code_blocks), 0) + coalesce(octet_length(${row}.details), 0)`

/** Returns a row's message in its JSON form. */
export const toMessage = (row: MessageColumns, mission_id: string, citizen: string): Message => ({
  id: row.id,
  mission_id,
  citizen,
  sender: row.sender,
  author: row.author,
  message: row.message,
  code_blocks: blocksOf(row.code_blocks, row.message),
  created_at: row.created_at,
  seq: row.seq,
  key: row.key,
  in_reply_to: row.in_reply_to,
  ...(row.details === null ? undefined : (JSON.parse(row.details) as Details)),
})

/** SQL of a topic's latest seq; deleted rows count. The arguments are SQL. */
export const headOf = (topic: string, mission: string, citizen: string): string => `greatest(0,
  (select floor from deck.heads where topic = ${topic}),
  (select seq from chat_messages
   where mission_id = ${mission} and citizen = ${citizen} and seq is not null order by seq desc limit 1),
  (select seq from deck.events where topic = ${topic} order by seq desc limit 1))`

/** SQL of a chat's latest seq, in mission `m`; $3 is its citizen. */
export const chatHead = headOf("'missions/' || m.id || '/chat/' || $3", 'm.id', '$3')

/**
 * SQL of the citizen of a chat topic in deck.heads, in the collation of the citizen columns. With the topics' collation no index of these
 * columns can be used: the whole mission was scanned for each chat (21 s instead of 0.04 for 200 chats of 10 million messages).
 */
export const citizenOf = (topic: string): string => `deck.topic_citizen(${topic}) collate "default"`
