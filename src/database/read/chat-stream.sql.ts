// The statement of database/read/chat-stream.
import { chatHead, messageColumns, messageSize, missionColumns } from '../postgres/columns.ts'
import { epochColumn, missionByRef } from './read-mission.ts'

/**
 * A page of a chat in ascending order. Unlike in selectMission's statements, only the first of up to 500 rows has rights, epoch and head.
 *
 * $1, $2 the mission
 * $3 citizen
 * $4 only messages with a greater seq
 * $5 only messages with a smaller seq
 * $6 maximum number of messages
 * $7 maximum bytes, except the last message
 */
export const replayPage = `
  select h.*, c.id, c.sender, c.author, c.message, c.code_blocks, c.created_at, c.seq, c.key, c.in_reply_to, c.details
  from ${missionByRef} m
  left join lateral (
    select s.* from (
      select u.*, sum(${messageSize('u')})
        over (order by u.seq rows between unbounded preceding and 1 preceding) as ahead
      from (
        select ${messageColumns}
        from chat_messages
        where mission_id = m.id and citizen = $3 and seq > $4 and seq < $5
        order by seq limit $6
      ) u
    ) s where s.ahead is null or s.ahead < $7
  ) c on true
  left join lateral (
    select ${missionColumns}, ${epochColumn}, ${chatHead} as head
    where c.ahead is null offset 0
  ) h on true
  order by c.seq`
