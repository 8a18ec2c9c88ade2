// The statements of database/search/chat-scan, about one mission (database/read/read-mission).
import { chatHead, messageColumns, messageSize } from '../postgres/columns.ts'
import { epochColumn, selectMission } from '../read/read-mission.ts'
import { fitsWords, mayFit } from './tsquery.ts'

/** Maximum bytes that a window returns, except its last row. */
const bytesFound = 256 * 1024

/**
 * The ranges of a chat that may have messages that match the filters: of blocks that match, of changed messages, and of blocks built by
 * another version of the word rule. Also the chat's latest seq, its lowest seq, and the last seq that blocks cover (`mark`).
 *
 * $1 mission ID, or null
 * $2 mission number, or null
 * $3 citizen
 * $4 the query for blocks without the chat's mark (blockQuery)
 * $5, $6 timestamps: since and until, or null
 * $7 only messages with a greater seq
 * $8 only messages with a smaller seq
 */
export const searchRanges = selectMission({
  once: `${epochColumn}, ${chatHead} as head,
    (select seq from chat_messages where mission_id = m.id and citizen = $3 and seq is not null order by seq limit 1) as lowest,
    coalesce((select last from deck.search_blocks where mission_id = m.id and citizen = $3 order by last desc limit 1), 0) as mark`,
  columns: 'c.firsts, c.lasts',
  joins: `
  cross join lateral (
    select array_agg(r.first) as firsts, array_agg(r.last) as lasts from (
      select unnest(b.firsts) as first, unnest(b.lasts) as last
      from deck.search_candidates(('''' || E'\\x01' || m.id || $3 || '''' || $4)::tsquery, $5, $6, $7, $8) b
      union all
      select first, last from deck.search_stale where mission_id = m.id and citizen = $3
      union all
      select first, last from deck.search_outdated(m.id, $3)
    ) r
  ) c`,
})

/**
 * The messages of a window that match the filters, in the order of the scan. `found` counts the rows without the limit of bytes.
 *
 * $1 mission ID, or null
 * $2 mission number, or null
 * $3 citizen
 * $4, $5 the window's first and last seq
 * $6, $7 timestamps: since and until, or null
 * $8 sender, or null
 * $9, $10 text[]: all and none of Words, or null
 * $11 language in lower case, or null
 * $12, $13 text[], $14, $15: all, any, odd and cased of Letters, or null
 * $16 maximum number of rows
 * $17 tsquery as text, only for ranked windows
 */
const windowOf = (direction: 'asc' | 'desc', ranked: boolean): string =>
  selectMission({
    once: epochColumn,
    columns: 'c.*',
    joins: `
  left join lateral (
    select s.* from (
      select u.*, (count(*) over ())::integer as found,
        ${ranked ? 'ts_rank_cd(deck.words(u.message), $17::tsquery, 1)' : '0'} as rank,
        sum(${messageSize('u')})
          over (order by u.seq ${direction} rows between unbounded preceding and 1 preceding) as ahead
      from (
        select ${messageColumns}
        from chat_messages
        where mission_id = m.id and citizen = $3 and seq >= $4 and seq <= $5
          and ($6::timestamp is null or created_at >= $6) and ($7::timestamp is null or created_at < $7)
          and ($8::text is null or sender = $8)
          and ${mayFit('message', '$12', '$13', '$14', '$15')}
          and ($9::text[] is null or (select ${fitsWords('p.plain', '$9', '$10')} from (select deck.plain(message) as plain offset 0) p))
          -- Only whether the message may have such a block: the caller checks its JSON form.
          and ($11::text is null or case
            when code_blocks is null then message like '%\`\`\`%' or message like '%~~~%'
            else exists (
              select from jsonb_array_elements(case when jsonb_typeof(code_blocks) = 'array' then code_blocks else '[]' end) b
              where lower((b ->> 'language') collate "C") = $11 or b ->> 'language' ~ '[^ -~]') end)
        order by seq ${direction} limit $16
      ) u
    ) s where s.ahead is null or s.ahead < ${bytesFound}
  ) c on true
  order by c.seq ${direction}`,
  })
/** Ranked windows are scanned from the newest message on. */
export const searchWindow = {
  asc: windowOf('asc', false),
  desc: windowOf('desc', false),
  rank: windowOf('desc', true),
}
