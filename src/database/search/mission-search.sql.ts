// The statements of database/search/mission-search, about one mission (database/read/read-mission).
import { repliedColumn } from '../postgres/columns.ts'
import { epochColumn, selectMission } from '../read/read-mission.ts'

/** $1 mission ID, or null; $2 mission number, or null */
export const rights = selectMission({ once: epochColumn })

/**
 * The rows of some hits, in the order of the hits. The columns are null for rows that were deleted.
 *
 * $1 mission ID
 * $2 null
 * $3 text[]: parts of topics (`chat/<citizen>`, `tests` or `dod`)
 * $4 bigint[]: seqs
 * $5 uuid[]: IDs
 * $6 text[]: kinds of hits
 */
export const hitRows = selectMission({
  once: epochColumn,
  columns: `c.sender, c.author, ${repliedColumn('c')}, c.message, case when w.kind = 'code' then c.code_blocks::text end as code_blocks,
    t.status, t.summary::text as summary, t.results::text as results, d.text as item, d.completed`,
  joins: `
  cross join unnest($3::text[], $4::bigint[], $5::uuid[], $6::text[]) with ordinality as w (part, seq, id, kind, n)
  left join chat_messages c
    on w.part like 'chat/%' and c.mission_id = m.id and c.citizen = split_part(w.part, '/', 2) and c.seq = w.seq
  left join test_runs t on w.part = 'tests' and t.id = w.id and t.mission_id = m.id
  left join dod_items d on w.part = 'dod' and d.id = w.id and d.mission_id = m.id
  order by w.n`,
})
