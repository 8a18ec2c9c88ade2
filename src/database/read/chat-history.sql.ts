// The statements of database/read/chat-history, about one mission (database/read/read-mission).
import { chatHead, citizenOf, headOf, messageColumns, messageSize, repliedColumn } from '../postgres/columns.ts'
import { epochColumn, selectMission } from './read-mission.ts'

/** The maximum counts of unread messages, and of questions in each state. */
export const mostUnread = 1000
export const mostQuestions = 1000

/**
 * A page of a chat in ascending order, starting at the newest or the oldest message. `found` counts the rows without the limit of bytes.
 *
 * $1, $2 the mission
 * $3 citizen
 * $4 only messages with a greater seq
 * $5 only messages with a smaller seq
 * $6 maximum number of messages
 * $7 maximum bytes, except the last message read
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
      ) u, lateral (select ${messageSize('u')} as size) v
    ) s where s.through - s.size < $7
  ) c on true
  order by c.seq`,
  })
export const historyPage = { after: pageOf('asc'), before: pageOf('desc') }

/** Characters of a chat's newest message, and bytes of its blocks and of its details, that the list of chats shows. */
export const shown = { characters: 300, blockBytes: 4096, detailBytes: 256 }

const citizen = citizenOf('h.topic')
/**
 * A page of a mission's chats, sorted by their newest message, newest first. Each has its latest seq, how far the user has read, the counts
 * of its questions, and its newest message. A long message is shortened, unless its code blocks must be parsed from it.
 *
 * $1, $2 the mission
 * $3 the user (sub)
 * $4, $5 at and topic of the previous page's last chat, or null
 * $6 maximum number of chats
 */
// `limit 1` keeps each lookup on all columns of its index. A plain join that was planned while the tables were small reads all messages of
// the mission for each chat.
export const channelList = selectMission({
  columns: `deck.topic_citizen(h.topic) as citizen, h.topic, h.last, c.*,
    ${headOf('h.topic', 'm.id', citizen)} as head, coalesce(r.seq, 0) as read_seq, u.unread,
    deck.listening(${citizen}) as listening, q.waiting, q.working, q.failed`,
  joins: `
  left join lateral (
    select x.topic, coalesce(n.at, timestamp '0001-01-01') as last, n.seq as newest
    from deck.heads x
    left join lateral (
      select s.seq, s.at from chat_messages s
      where s.mission_id = m.id and s.citizen = ${citizenOf('x.topic')} and s.seq is not null
      order by s.seq desc limit 1
    ) n on true
    where x.topic > 'missions/' || m.id || '/chat/' and x.topic < 'missions/' || m.id || '/chat0'
      and ($4::timestamp is null or (coalesce(n.at, timestamp '0001-01-01'), x.topic) < ($4::timestamp, $5::text))
    order by 2 desc, 1 desc limit $6
  ) h on true
  left join lateral (
    select s.id, s.sender, s.author,
      case when s.code_blocks is null then s.message else left(s.message, ${shown.characters + 1}) end as message,
      octet_length(s.code_blocks::text) > ${shown.blockBytes} as heavy,
      octet_length(s.details::text) > ${shown.detailBytes} as bulky,
      case when octet_length(s.details::text) <= ${shown.detailBytes} then s.details::text end as details,
      case when octet_length(s.code_blocks::text) > ${shown.blockBytes} then '[]' else s.code_blocks::text end as code_blocks,
      s.created_at, s.seq, s.key, ${repliedColumn('s')}
    from chat_messages s where s.mission_id = m.id and s.citizen = ${citizen} and s.seq = h.newest limit 1
  ) c on true
  left join lateral (
    select x.seq from deck.reads x where x.mission_id = m.id and x.citizen = ${citizen} and x.sub = $3 limit 1
  ) r on true
  cross join lateral (
    select count(*)::integer as unread from (
      select from chat_messages where mission_id = m.id and citizen = ${citizen} and seq > coalesce(r.seq, 0)
      limit ${mostUnread}) x
  ) u
  cross join lateral deck.count_questions(m.id, ${citizen}, ${mostQuestions}) q
  order by h.last desc, h.topic desc`,
})
