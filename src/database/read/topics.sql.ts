// The statements of database/read/topics about several topics at once. A topic's rows, its head and its mission's rights are of one snapshot.
// `offset 0` keeps Postgres from computing epoch and head again for each row (see selectMission in database/read/read-mission).
import { headOf, messageSize, missionColumns, missionColumnsOnce, repliedColumn } from '../postgres/columns.ts'
import { stamp } from '../postgres/epoch.ts'

/**
 * The latest seqs and missions of topics, one row per topic, in the given order.
 *
 * $1 uuid[]: a mission's ID, or null
 * $2 integer[]: its number, or null
 * $3 text[]: the topic without `missions/<ID>`
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
 * The next rows of topics, messages and events merged by seq. A topic without new rows has one row whose seq is null.
 *
 * $1 text[]: topics
 * $2 bigint[]: only rows with a greater seq
 * $3 uuid[]: the topic's mission
 * $4 text[]: the chat's citizen, or null
 * $5 maximum number of rows per topic
 * $6 maximum bytes of rows per topic, except its last row
 */
export const pages = `
  select t.n, ${missionColumnsOnce('r.seq is null or r.through = r.size')}, e.stamp, h.head, r.*
  from unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[]) with ordinality as t (topic, after, mission, citizen, n)
  cross join (select ${stamp} as stamp) e
  cross join lateral (select ${headOf('t.topic', 't.mission', 't.citizen')} as head offset 0) h
  left join missions m on m.id = t.mission
  left join lateral (
    select s.* from (
      select u.*, v.size, sum(v.size) over (order by u.seq rows unbounded preceding) as through
      from (
        (select c.seq, null::text as event, null::text as data, c.id, c.sender, c.author, c.message,
                c.code_blocks::text as code_blocks, c.created_at, c.key,
                ${repliedColumn('c')}, c.details::text as details
         from chat_messages c
         where c.mission_id = t.mission and c.citizen = t.citizen and c.seq > t.after order by c.seq limit $5)
        union all
        (select e.seq, e.event, e.data::text, null, null, null, null, null, null, null, null, null
         from deck.events e where e.topic = t.topic and e.seq > t.after order by e.seq limit $5)
        order by seq limit $5
      ) u, lateral (select coalesce(octet_length(u.data),
        ${messageSize('u')}) as size) v
    ) s where s.through - s.size < $6
  ) r on true
  order by t.n, r.seq`

/**
 * The topics' latest seqs, in the given order.
 *
 * $1 text[]: topics
 * $2 uuid[]: the topic's mission
 * $3 text[]: the chat's citizen, or null
 */
export const heads = `
  select ${headOf('t.topic', 't.mission', 't.citizen')} as seq, e.epoch
  from unnest($1::text[], $2::uuid[], $3::text[]) with ordinality as t (topic, mission, citizen, n)
  cross join (select deck.epoch() as epoch offset 0) e
  order by t.n`

/**
 * Missions that were changed or deleted since a mark: their numbers, their assignees and members, now and before, and their stamps.
 *
 * $1 uuid[]: missions
 * $2 the mark, a transaction ID as text
 */
export const assigned = `
  select t.id, coalesce(m.number, b.number) as number, array_remove(m.assigned_to || b.assigned || m.members || f.former, null) as assigned,
    coalesce(m.xmin, b.xmins[1])::text as stamp
  from unnest($1::uuid[]) as t (id)
  left join missions m on m.id = t.id
  cross join lateral (
    select max((x.data ->> 'number')::integer) as number, array_agg(x.data ->> 'assigned_to') as assigned,
      array_agg(x.xmin order by x.seq desc) as xmins
    from (
      select y.seq, y.data, y.xmin from (
        (select e.seq, e.data, e.xmin from deck.events e where e.topic = 'missions/' || t.id order by e.seq desc limit 2)
        union all (select 0, o.data, o.xmin from deck.beginnings o where o.mission_id = t.id)) y
      order by y.seq desc limit 2) x) b
  cross join lateral (
    select array_agg(x.sub) as former from deck.members x where x.mission_id = t.id and x.ended > now() - interval '1 minute') f
  where coalesce(m.number, b.number) is not null and age(coalesce(m.xmin, b.xmins[1])) <= age($2::text::xid)`

/**
 * Chats that exist, each with its mission; `fresh`: whether it was created since a mark.
 *
 * $1 text[]: topics
 * $2 the mark, a transaction ID as text
 */
export const newChats = `
  select h.topic, m.id, m.number, m.assigned_to || m.members as assigned, age(h.xmin) <= age($2::text::xid) as fresh
  from unnest($1::text[]) as t (topic)
  join deck.heads h on h.topic = t.topic
  join missions m on m.id = deck.topic_mission(t.topic)`
