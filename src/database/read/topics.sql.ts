// The statements of database/read/topics about several topics at once. Rows and head of a topic, and its mission's rights, are of one snapshot.
// `offset 0` keeps Postgres from computing epoch and head again for each row (see selectMission in database/read/read-mission).
import { headOf, missionColumns } from '../postgres/columns.ts'
import { stamp } from '../postgres/epoch.ts'

/**
 * Where topics are, one row for each, in the order asked.
 *
 * $1 uuid[]: a mission's ID, or null
 * $2 integer[]: its number, or null
 * $3 text[]: the topic behind `missions/<ID>`
 * $4 uuid[]: the test run that the topic needs, or null
 * $5 text[]: the chat's citizen, or null
 */
export const place = `
  select ${missionColumns}, e.epoch,
    ${headOf("'missions/' || m.id || t.suffix", 'm.id', 't.citizen')} as head,
    t.run is null or exists (select from test_runs r where r.id = t.run and r.mission_id = m.id) as exists
  from unnest($1::uuid[], $2::integer[], $3::text[], $4::uuid[], $5::text[])
    with ordinality as t (id, number, suffix, run, citizen, n)
  cross join (select deck.epoch() as epoch offset 0) e
  left join lateral (
    select * from missions where id = t.id union all select * from missions where number = t.number) m on true
  order by t.n`

/**
 * The next rows of topics, messages and events merged by seq. A topic without rows has one row whose seq is null.
 *
 * $1 text[]: topics
 * $2 bigint[]: the seq to start behind
 * $3 uuid[]: the topic's mission
 * $4 text[]: the chat's citizen, or null
 * $5 rows of a topic at most
 * $6 bytes of a topic's rows at most, except its last row
 */
export const pages = `
  select t.n, ${missionColumns}, e.stamp, h.head, r.*
  from unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[]) with ordinality as t (topic, after, mission, citizen, n)
  cross join (select ${stamp} as stamp) e
  cross join lateral (select ${headOf('t.topic', 't.mission', 't.citizen')} as head offset 0) h
  left join missions m on m.id = t.mission
  left join lateral (
    select s.* from (
      select u.*, v.size, sum(v.size) over (order by u.seq rows unbounded preceding) as through
      from (
        (select c.seq, null::text as event, null::text as data, c.id, c.sender, c.author, c.message,
                c.code_blocks::text as code_blocks, c.created_at, c.key
         from chat_messages c
         where c.mission_id = t.mission and c.citizen = t.citizen and c.seq > t.after order by c.seq limit $5)
        union all
        (select e.seq, e.event, e.data::text, null, null, null, null, null, null, null
         from deck.events e where e.topic = t.topic and e.seq > t.after order by e.seq limit $5)
        order by seq limit $5
      ) u, lateral (select coalesce(octet_length(u.data),
        octet_length(u.message) + coalesce(octet_length(u.code_blocks), 0)) as size) v
    ) s where s.through - s.size < $6
  ) r on true
  order by t.n, r.seq`
