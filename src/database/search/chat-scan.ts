// Finds all messages of a chat that match filters, in order of seq. The chat is scanned in windows. Windows that its blocks
// (db/functions/search.sql) rule out are skipped; messages without a block are always scanned.
//
// Each window is a separate statement of a few milliseconds, with rights and epoch in its snapshot. Only matches and the ranges that are left
// are kept in memory.
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import { speaks, toBound, type Filters } from '../../protocol/filters.ts'
import type { Message, MissionRights } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { toMessage, type MessageColumns } from '../postgres/columns.ts'
import { readMission } from '../read/read-mission.ts'
import type { Turn } from '../postgres/mutex.ts'
import { adaptiveWindow } from './adaptive-window.ts'
import * as sql from './chat-scan.sql.ts'
import { blockQuery, lookUp, type Words } from './tsquery.ts'

/** Rows that a statement scans. */
const scanned = { first: 500, least: 50, most: 4000 }
/** Rows that a statement returns. Fewer if rows are large: Postgres converts all to text before it drops those beyond the limit of bytes. */
const returned = { first: 25, least: 1, most: 100 }
export type Bounds = { after?: number; before?: number }
type Range = { first: number; last: number }
/** `ranks` by seq; empty unless the search is ranked. */
export type Step = { mission: MissionRights | undefined; messages: Message[]; ranks: Map<number, number> }
type Walk = {
  mission: MissionRights | undefined
  head: number
  epoch: string
  words: Words | null
  done(): boolean
  step(): Promise<Step>
}

/** Returns the union of the ranges between `from` and `to`, as sorted ranges that do not touch. */
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

/** `main` is for reads. */
export const makeWalk = (main: pg.Pool) => {
  /** Starts a scan. `inTurn` runs its statements. */
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
    type Where = {
      head: number
      lowest: number | null
      mark: number
      firsts: string[] | null
      lasts: string[] | null
    }
    const { mission, epoch, rows } = await inTurn(() =>
      readMission<Where>(main, {
        ref,
        name: 'search-where',
        text: sql.searchRanges,
        values: [citizen, blockQuery({ words, language, sender }), since, until, after, before],
      }),
    )
    const [where] = rows
    const { head = 0, mark = 0 } = where ?? {}
    const ranges = unite(
      [
        ...(where?.firsts ?? []).map((first, i) => ({ first: Number(first), last: Number(where?.lasts?.[i]) })),
        { first: mark + 1, last: head },
      ],
      Math.max(after + 1, where?.lowest ?? Infinity),
      Math.min(before - 1, head),
    )
    if (forward) ranges.reverse()

    const order = byRank ? 'rank' : forward ? 'asc' : 'desc'
    type Row = { found: number | null; rank: number } & (MessageColumns | { seq: null })
    const limit = adaptiveWindow(returned)
    const look = async ({ first, last }: Range) => {
      const begun = performance.now()
      const seen = await readMission<Row>(main, {
        ref: mission ?? ref,
        name: `search-${order}`,
        text: sql.searchWindow[order],
        values: [
          ...[citizen, first, last, since, until, sender, words?.all ?? null, words?.none ?? null, language],
          ...[
            words?.letters.all ?? null,
            words?.letters.any ?? null,
            words?.letters.odd ?? null,
            words?.letters.cased ?? null,
          ],
          ...[limit.rows, ...(byRank ? [words?.rank] : [])],
        ],
      })
      const { mission: now, rows } = seen
      const messages = rows.flatMap((row) => (row.seq === null || !now ? [] : [toMessage(row, now.id, citizen)]))
      const ranks = new Map(byRank ? rows.flatMap(({ seq, rank }) => (seq === null ? [] : [[seq, rank] as const])) : [])
      const large = (rows[0]?.found ?? 0) > messages.length
      const cut = large || messages.length === limit.rows
      limit.resize((large ? messages.length : limit.rows) * 2)
      return { mission: now, epoch: now ? seen.epoch : epoch, messages, ranks, cut, took: performance.now() - begun }
    }

    const window = adaptiveWindow(scanned)
    const step = async (): Promise<Step> => {
      const range = ranges.at(-1)
      if (!range) return { mission, messages: [], ranks: new Map() }
      const part = forward
        ? { first: range.first, last: Math.min(range.last, range.first + window.rows - 1) }
        : { first: Math.max(range.first, range.last - window.rows + 1), last: range.last }
      const seen = await inTurn(() => look(part))
      if (seen.epoch !== epoch)
        throw deny('unavailable', 'the database was restored or replaced while reading: start again')
      window.took(seen.took)
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
