// The statements that list the missions that a user may see, by number, optionally with their chats and the counts of each.
import { answerBytes } from '../bounds.ts'
import { citizenOf, headOf, visibleColumns } from '../postgres/columns.ts'
import { mostUnread } from './chat-history.sql.ts'

/**
 * Chats per mission whose unread messages are counted, and chats that are listed: those with unread messages or unfinished questions come
 * first.
 */
export const countedChats = 200
export const listedChats = 40
/** The maximum count of a chat's questions in one state. */
export const mostQuestions = 1000

/** Citizens per mission whose open requests are counted, and the maximum of these requests. */
export const requestCitizens = 40
export const mostRequests = 1000

const citizen = citizenOf('h.topic')
/**
 * $1 status, $2 assigned_to, or null
 * $3 only missions with a greater number
 * $4, $5, $6 which missions the user may see: all; those of this sub as assignee or member; those with these IDs or numbers
 * $7 maximum number of missions
 */
// The page ends before the first mission that does not fit into the response. `chatBytes`: what a mission's chats take at most.
const page = (chatBytes: number): string => `
  select y.id, y.number, y.json from (
    select x.*, sum(octet_length(x.json) + ${1 + chatBytes}) over (order by x.number rows between unbounded preceding and 1 preceding) as ahead
    from (
      select m.id, m.number, deck.mission_json(m)::text as json from missions m
      where ($1::text is null or status = $1) and ($2::text is null or assigned_to = $2) and number > $3
        and ($4 or ${visibleColumns('m', '$5', '$6')})
      order by number limit $7
    ) x
  ) y where y.ahead is null or y.ahead < ${answerBytes} order by y.number`
export const missionPage = page(0)
/** Bytes of a chat in the list: 32 for its citizen, 7 for each seq, 4 for each count, and the names. */
const chatBytes = 210
/** Bytes of a citizen's open requests in the list. */
const requestBytes = 80

/**
 * The same, each mission with its chats by name: unread messages without the user's own, questions by state, and whether something works
 * for the citizen. And the mission's open requests by citizen, with the latest seq of their topic.
 *
 * $8 the user (sub)
 */
// `limit 1` makes each lookup use all columns of its index, whatever the tables' size was when it was planned.
// Most chats have no unfinished question and end with the citizen's message: their questions are not counted
// (`offset 0`: without it the function is called before the condition is checked).
export const missionPageWithChats = `
  with listening as materialized (
    select i.citizen from (select citizen from deck.inboxes union select citizen from deck.run_workers) i where deck.listening(i.citizen))
  select p.number, p.json, c.chats, a.requests
  from (${page(listedChats * chatBytes + requestCitizens * requestBytes)}) p
  cross join lateral (
    select coalesce(json_agg(json_build_object('citizen', y.citizen, 'last_seq', y.head, 'read_seq', y.read_seq, 'unread', y.unread,
      'first_unread', y.first_unread, 'listening', y.citizen in (select l.citizen from listening l),
      'waiting', coalesce(q.waiting, 0), 'working', coalesce(q.working, 0), 'failed', coalesce(q.failed, 0)) order by y.citizen), '[]')::text as chats
    from (
      select ${citizen} as citizen, ${headOf('h.topic', 'p.id', citizen)} as head, coalesce(r.seq, 0) as read_seq, u.*, w.unfinished
      from (
        select x.topic from deck.heads x
        where x.topic > 'missions/' || p.id || '/chat/' and x.topic < 'missions/' || p.id || '/chat0'
        order by x.topic limit ${countedChats}
      ) h
      left join lateral (
        select x.seq from deck.reads x where x.mission_id = p.id and x.citizen = ${citizen} and x.sub = $8 limit 1
      ) r on true
      cross join lateral (
        select count(*)::integer as unread, min(z.seq) as first_unread from (
          select s.seq from chat_messages s
          where s.mission_id = p.id and s.citizen = ${citizen} and s.seq > coalesce(r.seq, 0) and s.author is distinct from $8
          order by s.seq limit ${mostUnread}) z
      ) u
      cross join lateral (
        select exists (
          select from deck.tasks t where t.mission_id = p.id and t.citizen = ${citizen} and t.ended is null) as unfinished
      ) w
      order by u.unread = 0 and not w.unfinished, h.topic limit ${listedChats}
    ) y
    left join lateral (
      select n.* from deck.count_questions(p.id, y.citizen, ${mostQuestions}) n
      where y.unfinished
        or y.head > (select k.upto from deck.inbox_chats k where k.citizen = y.citizen and k.mission_id = p.id)
        or (
          select s.sender from chat_messages s
          where s.mission_id = p.id and s.citizen = y.citizen and s.seq is not null order by s.seq desc limit 1) = 'user'
      offset 0
    ) q on true
  ) c
  cross join lateral (
    select json_build_object('last_seq', ${headOf("'missions/' || p.id || '/requests'", 'p.id', 'null')},
      'open', coalesce(json_agg(json_build_object('citizen', y.citizen, 'count', y.count) order by y.citizen), '[]'))::text as requests
    from (
      select x.citizen, count(*)::integer as count from (
        select r.citizen from deck.requests r where r.mission_id = p.id and r.state = 'open' limit ${mostRequests}) x
      group by x.citizen order by x.citizen limit ${requestCitizens}) y
  ) a
  order by p.number`
