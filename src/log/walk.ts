// The way through a chat to the messages that fit filters, in order of seq, exactly: it is looked through in windows, of which those are
// left out that its blocks (db/functions/search.sql) rule out. What is newer than the blocks is looked through.
// Each window is a statement of its own and of some milliseconds, with rights and epoch in its snapshot. Nothing of a chat is held but
// what was found and where to look.
import type pg from 'pg'
import { deny } from '../protocol/errors.ts'
import { speaks, toBound, type Filters } from '../protocol/filters.ts'
import type { Message, MissionRights } from '../protocol/rows.ts'
import type { MissionRef } from '../protocol/topics.ts'
import {
  headOf,
  missionByRef,
  refValues,
  toMessage,
  toRights,
  type MessageColumns,
  type MissionColumns,
} from './store.ts'
import type { Turn } from './turn.ts'
import { blockQuery, lookUp, type Words } from './words.ts'

/** Rows of a window: at first, at the least and at the most; it grows while a window takes under `quick` ms, and shrinks over `slow`. */
const window = { first: 500, least: 50, most: 4000, quick: 40, slow: 150 }
/** Rows and bytes that a window may give, but for one row. */
const rowsFound = 100
const bytesFound = 256 * 1024
export type Bounds = { after?: number; before?: number }
type Range = { first: number; last: number }
/** `ranks` by seq, where they are asked for. */
export type Step = { mission: MissionRights | undefined; messages: Message[]; ranks: Map<number, number> }
type Walk = {
  mission: MissionRights | undefined
  head: number
  epoch: string
  words: Words | null
  done(): boolean
  step(): Promise<Step>
}

/** What is in any of the ranges and between the bounds, in order and apart. */
const unite = (ranges: Range[], from: number, to: number): Range[] => {
  const united: Range[] = []
  for (const { first, last } of ranges.sort((a, b) => a.first - b.first)) {
    const range = { first: Math.max(first, from), last: Math.min(last, to) }
    const before = united.at(-1)
    if (range.first > range.last) continue
    if (before && range.first <= before.last + 1) before.last = Math.max(before.last, range.last)
    else united.push(range)
  }
  return united
}

/** `main` is for reading. */
export const makeWalk = (main: pg.Pool) => {
  /** Begins; each step is one look, `inTurn`. */
  return async (
    ref: MissionRef,
    citizen: string,
    query: Filters & Bounds,
    forward: boolean,
    inTurn: Turn,
    byRank = false,
  ): Promise<Walk> => {
    const { sender = null, after = 0, before = Number.MAX_SAFE_INTEGER } = query
    const language = query.language?.toLowerCase() ?? null
    const since = query.since === undefined ? null : toBound('since', query.since)
    const until = query.until === undefined ? null : toBound('until', query.until)
    const words = query.q === undefined ? null : await lookUp(main, query.q)
    const { rows } = await main.query<
      MissionColumns & {
        head: number
        epoch: string
        lowest: number | null
        mark: number
        firsts: string[] | null
        lasts: string[] | null
      }
    >({
      name: 'search-where',
      text: `
        select m.id as mission_id, m.number, m.assigned_to, h.*, c.firsts, c.lasts
        from ${missionByRef} m
        cross join lateral (
          select deck.epoch() as epoch, ${headOf("'missions/' || m.id || '/chat/' || $3", 'm.id', '$3')} as head,
            (select seq from chat_messages where mission_id = m.id and citizen = $3 and seq is not null order by seq limit 1) as lowest,
            coalesce((select last from deck.search_blocks where mission_id = m.id and citizen = $3 order by last desc limit 1), 0) as mark
          offset 0
        ) h
        cross join lateral (
          select array_agg(r.first) as firsts, array_agg(r.last) as lasts from (
            select unnest(b.firsts) as first, unnest(b.lasts) as last
            from deck.search_candidates(('''' || E'\\x01' || m.id || $3 || '''' || $4)::tsquery, $5, $6, $7, $8) b
            union all
            select first, last from deck.search_stale where mission_id = m.id and citizen = $3
          ) r
        ) c`,
      values: [...refValues(ref), citizen, blockQuery({ words, language, sender }), since, until, after, before],
    })
    const [found] = rows
    const mission = toRights(found)
    const { head = 0, epoch = '', mark = 0 } = found ?? {}
    const ranges = unite(
      [
        ...(found?.firsts ?? []).map((first, i) => ({ first: Number(first), last: Number(found?.lasts?.[i]) })),
        { first: mark + 1, last: head },
      ],
      Math.max(after + 1, found?.lowest ?? Infinity),
      Math.min(before - 1, head),
    )
    if (forward) ranges.reverse()

    const direction = forward ? 'asc' : 'desc'
    const look = async ({ first, last }: Range) => {
      const begun = performance.now()
      const { rows } = await main.query<
        MissionColumns & { epoch: string; found: number | null; rank: number } & (MessageColumns | { seq: null })
      >({
        name: `search-${byRank ? 'rank' : direction}`,
        text: `
          select m.id as mission_id, m.number, m.assigned_to, h.epoch, c.*
          from ${missionByRef} m
          cross join lateral (select deck.epoch() as epoch offset 0) h
          left join lateral (
            select s.* from (
              select u.*, (count(*) over ())::integer as found,
                ${byRank ? 'ts_rank_cd(u.words, $9::tsquery, 1)' : '0'} as rank,
                sum(octet_length(u.message) + coalesce(octet_length(u.code_blocks), 0))
                  over (order by u.seq ${direction} rows between unbounded preceding and 1 preceding) as ahead
              from (
                select id, sender, author, message, code_blocks::text as code_blocks, created_at, seq, key${byRank ? ', words' : ''}
                from chat_messages ${byRank ? 'cross join lateral (select deck.words(message) as words offset 0) w' : ''}
                where mission_id = m.id and citizen = $3 and seq >= $4 and seq <= $5
                  and ($6::timestamp is null or created_at >= $6) and ($7::timestamp is null or created_at < $7)
                  and ($8::text is null or sender = $8)
                  -- (Two letters outside of ASCII have one of it in lower case.)
                  and (($11::text[] is null or lower(message collate "C") like all ($11))
                    and ($12::text[] is null or lower(message collate "C") like any ($12))
                    or position('\u212a' in message) > 0 or position('\u0130' in message) > 0)
                  and ($9::text is null or ${byRank ? 'words' : 'deck.words(message)'} @@ $9::tsquery)
                  -- Whether it may have such a block; whether it has is told by its JSON form.
                  and ($10::text is null or case
                    when code_blocks is null then message like '%\`\`\`%' or message like '%~~~%'
                    else exists (
                      select from jsonb_array_elements(case when jsonb_typeof(code_blocks) = 'array' then code_blocks else '[]' end) b
                      where lower((b ->> 'language') collate "C") = $10 or b ->> 'language' ~ '[^ -~]') end)
                order by seq ${direction} limit ${rowsFound}
              ) u
            ) s where s.ahead is null or s.ahead < ${bytesFound}
          ) c on true
          order by c.seq ${direction}`,
        values: [
          ...(mission ? refValues({ id: mission.id }) : refValues(ref)),
          citizen,
          first,
          last,
          since,
          until,
          sender,
          words?.exact ?? null,
          language,
          words?.all ?? null,
          words?.any ?? null,
        ],
      })
      const now = toRights(rows[0])
      const messages = rows.flatMap((row) => (row.seq === null || !now ? [] : [toMessage(row, now.id, citizen)]))
      const ranks = new Map(byRank ? rows.flatMap(({ seq, rank }) => (seq === null ? [] : [[seq, rank] as const])) : [])
      const cut = (rows[0]?.found ?? 0) > messages.length || messages.length === rowsFound
      return { mission: now, epoch: rows[0]?.epoch ?? epoch, messages, ranks, cut, took: performance.now() - begun }
    }

    let size = window.first
    const step = async (): Promise<Step> => {
      const range = ranges.at(-1)
      if (!range) return { mission, messages: [], ranks: new Map() }
      const part = forward
        ? { first: range.first, last: Math.min(range.last, range.first + size - 1) }
        : { first: Math.max(range.first, range.last - size + 1), last: range.last }
      const seen = await inTurn(() => look(part))
      if (seen.epoch !== epoch) throw deny('unavailable', 'the database became another one')
      if (seen.took > window.slow) size = Math.max(window.least, size >> 1)
      else if (seen.took < window.quick) size = Math.min(window.most, size * 2)
      const reached = seen.cut ? seen.messages.at(-1)?.seq : undefined
      if (forward) range.first = (reached ?? part.last) + 1
      else range.last = (reached ?? part.first) - 1
      if (range.first > range.last) ranges.pop()
      const messages = language === null ? seen.messages : seen.messages.filter((message) => speaks(message, language))
      return { mission: seen.mission, messages, ranks: seen.ranks }
    }
    return { mission, head, epoch, words, done: () => ranges.length === 0, step }
  }
}
