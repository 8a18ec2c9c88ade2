// The statements of database/search/mission-chats, about one mission (database/read/read-mission).
import { citizenOf } from '../postgres/columns.ts'
import { epochColumn, selectMission } from '../read/read-mission.ts'
import { fitsWords, mayFit } from './tsquery.ts'

/** Maximum bytes of code that a statement returns, per range and in all, except the last row. */
const bytesFound = 256 * 1024
const bytesOfAll = 2 * 1024 * 1024

/**
 * The ranges without a usable block: newer messages, changed messages, and blocks built before code was indexed or by another version of the
 * word rule.
 *
 * $1 mission ID
 * $2 null
 * $3 whether code is searched
 */
export const uncoveredRanges = selectMission({
  once: epochColumn,
  columns: 'r.*',
  joins: `
  left join lateral (
    select t.citizen, greatest(coalesce(b.last, 0) + 1, o.seq) as first, n.seq as last
    from deck.heads g
    cross join lateral (select ${citizenOf('g.topic')} as citizen offset 0) t
    cross join lateral (
      select c.seq from chat_messages c where c.mission_id = m.id and c.citizen = t.citizen and c.seq is not null
      order by c.seq desc limit 1) n
    cross join lateral (
      select c.seq from chat_messages c where c.mission_id = m.id and c.citizen = t.citizen and c.seq is not null
      order by c.seq limit 1) o
    left join lateral (
      select s.last from deck.search_blocks s where s.mission_id = m.id and s.citizen = t.citizen order by s.last desc limit 1
    ) b on true
    where g.topic > 'missions/' || m.id || '/chat/' and g.topic < 'missions/' || m.id || '/chat0' and n.seq > coalesce(b.last, 0)
    union all select s.citizen, s.first, s.last from deck.search_stale s where s.mission_id = m.id
    union all select s.citizen, s.first, s.last from deck.search_blocks s where s.mission_id = m.id and not s.code and $3
    union all select s.citizen, s.first, s.last from deck.search_outdated(m.id, null) s
  ) r on true`,
})

/**
 * Ranges of blocks that may contain hits, newest first, after a given block.
 *
 * $1 tsquery as text
 * $2, $3 timestamps: since and until, or null
 * $4 the newest time wanted, or null
 * $5, $6, $7 the latest time, citizen and last seq of the previous block, or null
 * $8 maximum number of blocks
 */
export const newestBlocks =
  'select citizen, first, last, latest from deck.search_newest($1::tsquery, $2, $3, $4, $5, $6, $7, $8)'

/**
 * The messages of some ranges whose text is a hit or whose code may be one, newest first in each range. `found` counts a range's rows
 * without the limit of bytes. `rank` is null if the text is no hit. `message` and `code_blocks` are null if the code is no hit.
 * `cut`: the row's texts are missing, because the preceding rows fill the limit; it must be read again.
 *
 * $1 mission ID
 * $2 null
 * $3 text[], $4, $5 bigint[]: the ranges' citizens, first and last seqs
 * $6, $7 whether texts and code are searched
 * $8 tsquery as text
 * $9, $10 text[], $11: all, any and odd of Letters, or null
 * $12, $13 timestamps: since and until, or null
 * $14, $15, $16 time, citizen and seq of the oldest hit that still counts; $14 null: any
 * $17 the newest time wanted, or null
 * $18 whether to rank
 * $19, $20 text[]: all and none of Words
 * $21 cased of Letters, or null
 * $22 maximum number of rows per range
 */
export const look = selectMission({
  once: epochColumn,
  columns: 'c.*',
  joins: `
  left join lateral (
    select o.n, o.id, o.seq, o.created_at, o.found, o.before >= ${bytesOfAll} as cut, case when o.before < ${bytesOfAll} then o.rank end as rank,
      case when o.before < ${bytesOfAll} then o.message end as message, case when o.before < ${bytesOfAll} then o.code_blocks end as code_blocks
    from (
    select w.n, s.*, coalesce(sum(coalesce(octet_length(s.message), 0) + coalesce(octet_length(s.code_blocks), 0))
      over (order by w.n, s.seq desc rows between unbounded preceding and 1 preceding), 0) as before
    from unnest($3::text[], $4::bigint[], $5::bigint[]) with ordinality as w (citizen, first, last, n)
    cross join lateral (
      select v.*, sum(octet_length(v.message) + coalesce(octet_length(v.code_blocks), 0))
          over (order by v.seq desc rows between unbounded preceding and 1 preceding) as ahead
      from (
        select u.id, u.seq, u.created_at, (count(*) over ())::integer as found,
          case when u.said then case when $18 then ts_rank_cd(deck.words(u.message), $8::tsquery, 1) else 0 end end as rank,
          case when u.coded then u.message end as message, case when u.coded then u.code_blocks::text end as code_blocks
        from (
          select x.* from (
            select c.id, c.seq, c.created_at, c.message, c.code_blocks,
              $6 and ${mayFit('c.message', '$9', '$10', '$11', '$21')}
                and (select ${fitsWords('p.plain', '$19', '$20')} from (select deck.plain(c.message) as plain offset 0) p) as said,
              -- Only whether the message may have such code: the caller checks its JSON form.
              $7 and case
                when c.code_blocks is null and c.message not like '%\`\`\`%' and c.message not like '%~~~%' then false
                else (select ${mayFit('k.code', '$9', '$10', '$11', '$21')}
                  from (select coalesce(c.code_blocks::text, c.message) as code offset 0) k) end as coded
            from chat_messages c
            where c.mission_id = m.id and c.citizen = w.citizen and c.seq >= w.first and c.seq <= w.last
              and ($12::timestamp is null or c.created_at >= $12) and ($13::timestamp is null or c.created_at < $13)
              and ($14::timestamp is null or c.created_at > $14
                or c.created_at = $14 and (w.citizen collate "C", c.seq) >= ($15::text collate "C", $16::bigint))
              and ($17::timestamp is null or c.created_at <= $17)
            order by c.seq desc offset 0
          ) x
          where x.said or x.coded
          limit $22
        ) u
      ) v
    ) s where s.ahead is null or s.ahead < ${bytesFound}
    ) o
  ) c on true
  order by c.n, c.seq desc`,
})
