// The statement of database/read/timeline, about one mission (database/read/read-mission).
import { repliedColumn } from '../postgres/columns.ts'
import { epochColumn, selectMission } from './read-mission.ts'

/** Keys that a statement reads from all topics together, but at least 16 from each: about 5 ms. */
const mostKeys = 5000

/**
 * A page of a mission's events in the order of (at, topic, seq), or in the opposite order. `known` counts the page's events without the
 * limit of bytes. `beyond`: whether more events may follow.
 *
 * $1 mission ID, or null
 * $2 mission number, or null
 * $3, $4, $5 the page starts after this place: time, the topic without `missions/<ID>`, seq
 * $6, $7, $8 the page ends before this place, likewise
 * $9 whether logs are included
 * $10 maximum number of events
 * $11 maximum bytes of JSON (uncompressed), except the last event
 */
const pageOf = (newestFirst: boolean): string => {
  const down = newestFirst ? 'desc' : 'asc'
  const order = (row: string): string => `${row}.at ${down}, ${row}.name ${down}, ${row}.seq ${down}`
  const beyond = newestFirst ? '<=' : '>'
  return selectMission({
    once: epochColumn,
    columns: 'p.*',
    joins: `
  left join lateral (
    with
      -- The start seq in each topic. A chat has two rows: one for its messages, and one without a citizen for its other events. Names have
      -- the topics' collation "C"; the index on chat_messages needs a citizen in its column's collation.
      source as materialized (
        select s.name, s.citizen, case
            when s.name = 'missions/' || m.id || $4 then $5::bigint ${newestFirst ? '- 1' : ''}
            else deck.seq_at(s.name, m.id, s.citizen, $3::timestamp, coalesce(s.name < 'missions/' || m.id || $4, false))
          end as start
        from (
          select ('missions/' || m.id || part) collate "C" as name, null as citizen from unnest(array['', '/dod', '/tests', '/requests']) as part
          union all
          select t.topic, c.citizen from deck.heads t
          cross join lateral (values (null), (deck.topic_citizen(t.topic))) as c (citizen)
          where t.topic > 'missions/' || m.id || '/chat/' and t.topic < 'missions/' || m.id || '/chat0'
          union all
          select t.topic, null from deck.heads t
          where $9::boolean and t.topic > 'missions/' || m.id || '/tests/' and t.topic < 'missions/' || m.id || '/tests0'
        ) s
      ),
      share as materialized (
        select least($10::integer + 1, greatest(16, ${mostKeys} / count(*)))::bigint as rows from source),
      keys as materialized (
        select s.name, s.citizen, k.seq, k.at, k.nth = (select rows from share) as last
        from source s
        cross join lateral (
          select x.*, row_number() over (order by x.seq ${down}) as nth from (
            (select c.seq, c.at from chat_messages c
             where s.citizen is not null and c.mission_id = m.id and c.citizen = s.citizen collate "default" and c.seq ${beyond} s.start
             order by c.seq ${down} limit (select rows from share))
            union all
            (select e.seq, e.at from deck.events e
             where s.citizen is null and e.topic = s.name and e.seq ${beyond} s.start
             order by e.seq ${down} limit (select rows from share))
          ) x
        ) k
        where ${
          newestFirst
            ? `k.at > $6::timestamp or (k.at = $6::timestamp and coalesce((s.name, k.seq) > ('missions/' || m.id || $7, $8::bigint), true))`
            : `k.at < $6::timestamp or (k.at = $6::timestamp and (s.name, k.seq) < ('missions/' || m.id || $7, $8::bigint))`
        }
      ),
      -- A topic that has used its full share may have more keys. So the order is known only up to the earliest last key of such topics.
      bound as materialized (select k.at, k.name, k.seq from keys k where k.last order by ${order('k')} limit 1),
      known as materialized (
        select k.*, row_number() over (order by ${order('k')}) as n
        from keys k left join bound b on true
        where b.at is null or (k.at, k.name, k.seq) ${newestFirst ? '>=' : '<='} (b.at, b.name, b.seq)
        order by ${order('k')} limit $10::integer + 1
      )
    select r.n, r.at, r.name as topic, r.event, r.data::text as data, r.id, r.sender, r.author, r.message,
      r.code_blocks::text as code_blocks, r.created_at, r.seq, r.key, r.in_reply_to, r.details::text as details,
      exists (select from bound) or (select count(*) from known) > $10::integer as beyond, (select count(*) from known)::integer as known
    from (
      select k.n, k.at, k.name, k.seq, x.*, sum(x.size) over (order by k.n) - x.size as ahead
      from known k
      cross join lateral (
        select null as event, null::jsonb as data, c.id, c.sender, c.author, c.message, c.code_blocks, c.created_at, c.key, ${repliedColumn('c')}, c.details,
          octet_length(to_json(c.message)::text) + coalesce(octet_length(c.code_blocks::text), 0)
            + coalesce(octet_length(c.details::text), 0) as size
        from chat_messages c
        where k.citizen is not null and c.mission_id = m.id and c.citizen = k.citizen collate "default" and c.seq = k.seq
        union all
        select e.event, e.data, null, null, null, null, null, null, null, null, null, octet_length(e.data::text)
        from deck.events e where k.citizen is null and e.topic = k.name and e.seq = k.seq
      ) x
      where k.n <= $10::integer
    ) r where r.ahead < $11::bigint
  ) p on true
  order by p.n`,
  })
}
export const timelinePage = { asc: pageOf(false), desc: pageOf(true) }
