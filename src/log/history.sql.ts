// The statements of log/history, about one mission (log/read-mission).
import { chatHead, citizenOf, headOf, messageColumns } from './columns.ts'
import { epochColumn, selectMission } from './read-mission.ts'

/** Unread messages are counted up to here. */
export const mostUnread = 1000

/**
 * A page of a chat in ascending order, from its newest or its oldest message on. `found` counts the rows before the limit of bytes.
 *
 * $1, $2 the mission
 * $3 citizen
 * $4 the seq that all messages are above
 * $5 the seq that all messages are below
 * $6 messages at most
 * $7 bytes at most, except the last message read
 */
const pageOf = (direction: 'asc' | 'desc'): string =>
  selectMission({
    once: `${epochColumn}, ${chatHead} as head`,
    columns: 'c.*',
    joins: `
  left join lateral (
    select s.* from (
      select u.*, (count(*) over ())::integer as found, v.size,
        sum(v.size) over (order by u.seq ${direction} rows unbounded preceding) as through
      from (
        select ${messageColumns}
        from chat_messages
        where mission_id = m.id and citizen = $3 and seq > $4 and seq < $5
        order by seq ${direction} limit $6
      ) u, lateral (select octet_length(u.message) + coalesce(octet_length(u.code_blocks), 0) as size) v
    ) s where s.through - s.size < $7
  ) c on true
  order by c.seq`,
  })
export const historyPage = { after: pageOf('asc'), before: pageOf('desc') }

const citizen = citizenOf('h.topic')
/**
 * A mission's chats in the order of their topics, each with its head, its newest message, and how far a subject has read.
 *
 * $1, $2 the mission
 * $3 the subject
 */
export const channelList = selectMission({
  columns: `deck.topic_citizen(h.topic) as citizen, c.*,
    ${headOf('h.topic', 'm.id', citizen)} as head, coalesce(r.seq, 0) as read_seq, u.unread`,
  joins: `
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
  order by h.topic`,
})
