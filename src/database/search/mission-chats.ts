// The part of a mission search that scans chats: messages and code, newest first. Candidate ranges are blocks that match
// (db/functions/search.sql), messages without a block, and changed messages. They are scanned in the order of their newest message, until no
// range can contain a newer hit than those found. Each scan is a separate statement of a few milliseconds, with rights and epoch in its
// snapshot.
import type pg from 'pg'
import { blocksOf } from '../../protocol/blocks.ts'
import { toAt } from '../../protocol/search-hits.ts'
import { sqlState } from '../postgres/errors.ts'
import type { Collect, Query, Rights } from './mission-hits.ts'
import { adaptiveWindow } from './adaptive-window.ts'
import * as sql from './mission-chats.sql.ts'
import { makeMatch } from './text-match.ts'
import { readMission } from '../read/read-mission.ts'
import { missionBlocks } from './tsquery.ts'

/** Rows that a statement scans. */
const scanned = { first: 10, least: 2, most: 16_000 }
/** Rows of a range that a statement returns. Fewer if rows are large: Postgres converts all to text before it drops those beyond the limit. */
const returned = { first: 10, least: 1, most: 100 }
/** Rows of a range that a statement scans. */
const part = 4000
/** Blocks per read. */
const blocks = 500

/** Messages of a chat. `latest`: the newest message's time in the format of a Place; null: unknown. */
type Range = { citizen: string; first: number; last: number; latest: string | null }

export const makeFindChats = (main: pg.Pool) => {
  const match = makeMatch(main)

  /** Returns ranges without a usable block: newer and changed messages, and blocks without code. */
  const unknown = async (mission: string, code: boolean): Promise<{ rights: Rights; ranges: Range[] }> => {
    type Row = { citizen: string | null; first: number; last: number }
    const { rows, ...rights } = await readMission<Row>(main, {
      ref: { id: mission },
      name: 'find-where',
      text: sql.uncoveredRanges,
      values: [code],
    })
    return {
      rights,
      ranges: rows.flatMap(({ citizen, first, last }) =>
        citizen === null ? [] : [{ citizen, first, last, latest: null }],
      ),
    }
  }

  const newest = async (words: string, { since, until, from }: Query, below: Range | undefined): Promise<Range[]> => {
    const { rows } = await main.query<{ citizen: string; first: number; last: number; latest: string }>({
      name: 'find-blocks',
      text: sql.newestBlocks,
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

  /** Scans some ranges, each from its newest message on. Returns what is left of each. */
  const looked = async (mission: string, ranges: Range[], most: number, query: Query, collect: Collect) => {
    const begun = performance.now()
    const { words, wanted, since, until, from } = query
    const { worst } = collect
    type Row = {
      n: number | null
      id: string
      seq: number
      created_at: string
      found: number
      cut: boolean
      rank: number | null
      message: string | null
      code_blocks: string | null
    }
    const { rows, ...rights } = await readMission<Row>(main, {
      ref: { id: mission },
      name: 'find-look',
      text: sql.look,
      values: [
        ranges.map(({ citizen }) => citizen),
        ranges.map(({ first }) => first),
        ranges.map(({ last }) => last),
        wanted.message,
        wanted.code,
        words.rank,
        words.letters.all,
        words.letters.any,
        words.letters.odd,
        since,
        until,
        worst?.at ?? null,
        // (The parts of other topics sort after those of all chats.)
        worst?.part.startsWith('chat/') ? worst.part.slice(5) : '\x7f',
        worst?.seq ?? 0,
        from?.at ?? null,
        query.byRank,
        words.all,
        words.none,
        words.letters.cased,
        most,
      ],
    })
    const left = ranges.map((range) => ({ ...range, last: range.first - 1 }))
    const given = ranges.map(() => 0)
    const cut = new Set<number>()
    const codes: { row: (typeof rows)[number]; citizen: string; block: number; code: string }[] = []
    for (const row of rows) {
      if (row.n === null || cut.has(row.n)) continue
      const { citizen = '', first = 0 } = ranges[row.n - 1] ?? {}
      given[row.n - 1] = (given[row.n - 1] ?? 0) + 1
      const rest = left[row.n - 1]
      if (row.cut) {
        cut.add(row.n)
        if (rest) rest.last = row.seq
        continue
      }
      if (rest) rest.last = row.found > (given[row.n - 1] ?? 0) || row.found === most ? row.seq - 1 : first - 1
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
    const large = rows.some(({ n, found, cut }) => n !== null && (cut || found > (given[n - 1] ?? 0)))
    return { rights, left: left.filter(({ first, last }) => first <= last), took: performance.now() - begun, large }
  }

  /** Adds the mission's newest messages and code to `collect`. Calls `check` before each statement, and after it with its rights. */
  return async (mission: string, query: Query, collect: Collect, check: (rights?: Rights) => void): Promise<void> => {
    const words = missionBlocks(mission, query.words, { text: query.wanted.message, code: query.wanted.code })
    const begun = await query.inTurn(() => unknown(mission, query.wanted.code))
    check(begun.rights)
    const queue = begun.ranges
    let below: Range | undefined
    let more = true
    const window = adaptiveWindow(scanned)
    const limit = adaptiveWindow(returned)
    /** Whether neither this range nor the following ones can contain a newer hit than those collected. */
    const late = ({ latest, citizen, last }: Range): boolean =>
      latest !== null && collect.isLate({ at: latest, part: `chat/${citizen}`, seq: last, kind: 'message' })
    for (;;) {
      check()
      if (queue.length === 0 && more) {
        const found = await query.inTurn(() => newest(words, query, below))
        more = found.length === blocks
        below = found.at(-1)
        queue.push(...found)
      }
      const [next] = queue
      if (!next || late(next)) return
      const ranges: Range[] = []
      for (let rows = 0; rows < window.rows;) {
        const range = queue.shift()
        if (!range || late(range)) break
        const first = Math.max(range.first, range.last - Math.min(part, window.rows - rows) + 1)
        if (range.first < first) queue.unshift({ ...range, last: first - 1 })
        ranges.push({ ...range, first })
        rows += range.last - first + 1
      }
      let seen: Awaited<ReturnType<typeof looked>>
      try {
        seen = await query.inTurn(() => looked(mission, ranges, limit.rows, query, collect))
      } catch (error) {
        // The statement timed out on unusually large rows: retry with an eighth of them.
        if (sqlState(error) !== '57014' || window.isLeast) throw error
        window.resize(window.rows >> 3)
        queue.unshift(...ranges)
        continue
      }
      const { rights, left, took, large } = seen
      check(rights)
      limit.resize(large ? limit.rows >> 1 : limit.rows * 2)
      window.took(took)
      queue.unshift(...left)
    }
  }
}
