// A search of a mission, its chats: messages and code, newest first. What may have such a message (blocks of db/functions/search.sql,
// what is newer than they are, what was changed) is looked through in the order of its newest message, and only so far as it can hold
// what is newer than what was found. Each look is a statement of its own, of some milliseconds, with rights and epoch in its snapshot.
import type pg from 'pg'
import { blocksOf } from '../protocol/blocks.ts'
import { toAt } from '../protocol/hits.ts'
import { sqlState } from './database.ts'
import type { Collect, Query, Rights } from './find.ts'
import { makeMatch } from './match.ts'
import { citizenOf, missionByRef, toRights, type MissionColumns } from './store.ts'
import type { Turn } from './turn.ts'
import { missionBlocks } from './words.ts'

/** Rows of a look: at first, at the least and at the most; it grows while one takes under `quick` ms, and shrinks over `slow`. */
const look = { first: 1000, least: 20, most: 16_000, quick: 40, slow: 150 }
/** Rows of a range that a look takes; rows and bytes of code that it may give, but for one row. */
const part = 4000
const rowsFound = 100
const bytesFound = 256 * 1024
/** Blocks that are asked for at a time. */
const blocks = 500

/** Messages of a chat; `latest` as in a Place, null: any. */
type Range = { citizen: string; first: number; last: number; latest: string | null }

export const makeFindChats = (main: pg.Pool, inTurn: Turn) => {
  const match = makeMatch(main)

  /** What no block tells of: newer messages and changed ones; blocks that don't know their code. */
  const unknown = async (mission: string, code: boolean): Promise<{ rights: Rights; ranges: Range[] }> => {
    const { rows } = await main.query<
      MissionColumns & { epoch: string; citizen: string | null; first: number; last: number }
    >({
      name: 'find-where',
      text: `
        select m.id as mission_id, m.number, m.assigned_to, h.epoch, r.*
        from missions m
        cross join lateral (select deck.epoch() as epoch offset 0) h
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
          union all select s.citizen, s.first, s.last from deck.search_blocks s where s.mission_id = m.id and not s.code and $2
        ) r on true
        where m.id = $1`,
      values: [mission, code],
    })
    return {
      rights: { mission: toRights(rows[0]), epoch: rows[0]?.epoch ?? '' },
      ranges: rows.flatMap(({ citizen, first, last }) =>
        citizen === null ? [] : [{ citizen, first, last, latest: null }],
      ),
    }
  }

  const newest = async (words: string, { since, until, from }: Query, below: Range | undefined): Promise<Range[]> => {
    const { rows } = await main.query<{ citizen: string; first: number; last: number; latest: string }>({
      name: 'find-blocks',
      text: 'select citizen, first, last, latest from deck.search_newest($1::tsquery, $2, $3, $4, $5, $6, $7, $8)',
      values: [
        words,
        since,
        until,
        from?.at ?? null,
        below?.latest ?? null,
        below?.citizen ?? null,
        below?.last ?? null,
        blocks,
      ],
    })
    return rows.map((row) => ({ ...row, latest: toAt(row.latest) }))
  }

  /** Looks through some ranges, of each from its newest on; -> how far it came in each. */
  const looked = async (mission: string, ranges: Range[], query: Query, collect: Collect) => {
    const begun = performance.now()
    const { words, wanted, since, until, from } = query
    const { worst } = collect
    const { rows } = await main.query<
      MissionColumns & {
        epoch: string
        n: number | null
        id: string
        seq: number
        created_at: string
        found: number
        rank: number | null
        message: string | null
        code_blocks: string | null
      }
    >({
      name: 'find-look',
      text: `
        select m.id as mission_id, m.number, m.assigned_to, h.epoch, c.*
        from ${missionByRef} m
        cross join lateral (select deck.epoch() as epoch offset 0) h
        left join lateral (
          select w.n, s.id, s.seq, s.created_at, s.found, s.rank, s.message, s.code_blocks
          from unnest($3::text[], $4::bigint[], $5::bigint[]) with ordinality as w (citizen, first, last, n)
          cross join lateral (
            select v.*, sum(octet_length(v.message) + coalesce(octet_length(v.code_blocks), 0))
                over (order by v.seq desc rows between unbounded preceding and 1 preceding) as ahead
            from (
              select u.id, u.seq, u.created_at, (count(*) over ())::integer as found,
                case when u.said then case when $17 then ts_rank_cd(u.words, $8::tsquery, 1) else 0 end end as rank,
                case when u.coded then u.message end as message, case when u.coded then u.code_blocks::text end as code_blocks
              from (
                select x.*, coalesce(x.words @@ $8::tsquery, false) as said from (
                  select c.id, c.seq, c.created_at, c.message, c.code_blocks,
                    -- (Two letters outside of ASCII have one of it in lower case.)
                    case
                      when not $6 or not (($9::text[] is null or lower(c.message collate "C") like all ($9))
                        and ($10::text[] is null or lower(c.message collate "C") like any ($10))
                        or position('\u212a' in c.message) > 0 or position('\u0130' in c.message) > 0) then null
                      else deck.words(c.message) end as words,
                    -- Whether it may have such code; whether it has is told by its JSON form.
                    $7 and case
                      when c.code_blocks is null and c.message not like '%\`\`\`%' and c.message not like '%~~~%' then false
                      else (select ($9::text[] is null or lower(k.code collate "C") like all ($9))
                          and ($10::text[] is null or lower(k.code collate "C") like any ($10))
                          or position('\u212a' in k.code) > 0 or position('\u0130' in k.code) > 0
                        from (select coalesce(c.code_blocks::text, c.message) as code offset 0) k) end as coded
                  from chat_messages c
                  where c.mission_id = m.id and c.citizen = w.citizen and c.seq >= w.first and c.seq <= w.last
                    and ($11::timestamp is null or c.created_at >= $11) and ($12::timestamp is null or c.created_at < $12)
                    and ($13::timestamp is null or c.created_at > $13
                      or c.created_at = $13 and (w.citizen collate "C", c.seq) >= ($14::text collate "C", $15::bigint))
                    and ($16::timestamp is null or c.created_at <= $16)
                  order by c.seq desc offset 0
                ) x
                where x.words @@ $8::tsquery or x.coded
                limit ${rowsFound}
              ) u
            ) v
          ) s where s.ahead is null or s.ahead < ${bytesFound}
        ) c on true
        order by c.n, c.seq desc`,
      values: [
        mission,
        null,
        ranges.map(({ citizen }) => citizen),
        ranges.map(({ first }) => first),
        ranges.map(({ last }) => last),
        wanted.message,
        wanted.code,
        words.exact,
        words.all,
        words.any,
        since,
        until,
        worst?.at ?? null,
        // (Other topics stand above all chats.)
        worst?.part.startsWith('chat/') ? worst.part.slice(5) : '\x7f',
        worst?.seq ?? 0,
        from?.at ?? null,
        query.byRank,
      ],
    })
    const rights = { mission: toRights(rows[0]), epoch: rows[0]?.epoch ?? '' }
    const left = ranges.map((range) => ({ ...range, last: range.first - 1 }))
    const given = ranges.map(() => 0)
    const codes: { row: (typeof rows)[number]; citizen: string; block: number; code: string }[] = []
    for (const row of rows) {
      if (row.n === null) continue
      const { citizen = '', first = 0 } = ranges[row.n - 1] ?? {}
      given[row.n - 1] = (given[row.n - 1] ?? 0) + 1
      const rest = left[row.n - 1]
      if (rest) rest.last = row.found > (given[row.n - 1] ?? 0) || row.found === rowsFound ? row.seq - 1 : first - 1
      const place = { at: toAt(row.created_at), part: `chat/${citizen}`, seq: row.seq }
      if (row.rank !== null) collect.add({ ...place, kind: 'message', id: row.id, rank: row.rank })
      if (row.message !== null)
        for (const [block, { code }] of (blocksOf(row.code_blocks, row.message) ?? []).entries())
          codes.push({ row, citizen, block, code })
    }
    const ranks = await match(
      words,
      codes.map(({ code }) => code),
    )
    for (const [i, { row, citizen, block }] of codes.entries()) {
      const rank = ranks[i] ?? null
      if (rank === null) continue
      collect.add({
        at: toAt(row.created_at),
        part: `chat/${citizen}`,
        seq: row.seq,
        kind: 'code',
        id: row.id,
        rank,
        block,
      })
    }
    return { rights, left: left.filter(({ first, last }) => first <= last), took: performance.now() - begun }
  }

  /** Adds the mission's newest messages and code to what is collected; `check` before each look, and with its rights. */
  return async (mission: string, query: Query, collect: Collect, check: (rights?: Rights) => void): Promise<void> => {
    const words = missionBlocks(mission, query.words, { text: query.wanted.message, code: query.wanted.code })
    const begun = await unknown(mission, query.wanted.code)
    check(begun.rights)
    const queue = begun.ranges
    let below: Range | undefined
    let more = true
    let size = look.first
    /** Whether nothing of it can be newer than what is collected; nothing below it can, then. */
    const late = ({ latest, citizen, last }: Range): boolean =>
      latest !== null && collect.isLate({ at: latest, part: `chat/${citizen}`, seq: last, kind: 'message' })
    for (;;) {
      check()
      if (queue.length === 0 && more) {
        const found = await inTurn(() => newest(words, query, below))
        more = found.length === blocks
        below = found.at(-1)
        queue.push(...found)
      }
      const [next] = queue
      if (!next || late(next)) return
      const ranges: Range[] = []
      for (let rows = 0; rows < size;) {
        const range = queue.shift()
        if (!range || late(range)) break
        const first = Math.max(range.first, range.last - Math.min(part, size - rows) + 1)
        if (range.first < first) queue.unshift({ ...range, last: first - 1 })
        ranges.push({ ...range, first })
        rows += range.last - first + 1
      }
      let seen: Awaited<ReturnType<typeof looked>>
      try {
        seen = await inTurn(() => looked(mission, ranges, query, collect))
      } catch (error) {
        // Rows that are far larger than those before: fewer of them are no such work.
        if (sqlState(error) !== '57014' || size === look.least) throw error
        size = Math.max(look.least, size >> 3)
        queue.unshift(...ranges)
        continue
      }
      const { rights, left, took } = seen
      check(rights)
      if (took > look.slow) size = Math.max(look.least, size >> 1)
      else if (took < look.quick) size = Math.min(look.most, size * 2)
      queue.unshift(...left)
    }
  }
}
