// Searches a mission: messages, code, test runs and checklist. Hits are sorted by time, newest first, or by rank among the newest. Pages
// follow one order (protocol/search-hits), without gaps or duplicates.
//
// Only places of hits are collected; texts are read for the hits of the page. `patience` limits the time. Memory is limited to the places of
// a page (or of all ranked hits) and some rows at a time.
import type pg from 'pg'
import { blocksOf } from '../../protocol/blocks.ts'
import { deny } from '../../protocol/errors.ts'
import { toBound } from '../../protocol/filters.ts'
import { compare, fromCursor, toCursor, type Hit, type Kind, type Place } from '../../protocol/search-hits.ts'
import type { MissionRights } from '../../protocol/rows.ts'
import { snippetOf } from '../../protocol/snippet.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { answerBytes } from '../bounds.ts'
import { makeFindChats } from './mission-chats.ts'
import { makeCollect, type Found, type Query, type Rights } from './mission-hits.ts'
import { makeFindRows, textsOfRun } from './mission-rows.ts'
import * as sql from './mission-search.sql.ts'
import { readMission } from '../read/read-mission.ts'
import { spansOfAll } from './highlight.ts'
import type { Turn, Turns } from '../postgres/mutex.ts'
import { lookUp } from './tsquery.ts'

/** The number of newest hits that are ranked. */
export const mostRanked = 1000
/** Hits whose rows one statement reads: up to 300 KB each, for a run 2 MiB. */
const read = 10

export type FindQuery = {
  q: string
  kind?: Kind
  order?: 'newest' | 'rank'
  limit: number
  cursor?: string
  since?: string
  until?: string
}

/** `main` is for reads; `patience`: ms until a page's search times out. */
export const makeFind = (main: pg.Pool, turns: Turns, patience: number) => {
  const findChats = makeFindChats(main)
  const findRows = makeFindRows(main)

  type Text = Pick<
    Hit,
    'sender' | 'author' | 'in_reply_to' | 'block' | 'language' | 'status' | 'result' | 'completed'
  > & {
    text: string
  }
  /** Returns the texts of a few hits with their columns; undefined for rows that were deleted. */
  const textsOf = async (
    mission: string,
    some: Found[],
    check: (rights: Rights) => void,
  ): Promise<(Text | undefined)[]> => {
    type Columns = {
      sender: 'user' | 'citizen' | null
      author: string | null
      in_reply_to: string | null
      message: string | null
      code_blocks: string | null
      status: 'running' | 'passed' | 'failed' | null
      summary: string | null
      results: string | null
      item: string | null
      completed: boolean | null
    }
    const { rows, ...rights } = await readMission<Columns>(main, {
      ref: { id: mission },
      name: 'find-rows',
      text: sql.hitRows,
      values: [
        some.map(({ part }) => part),
        some.map(({ seq }) => seq),
        some.map(({ id }) => id),
        some.map(({ kind }) => kind),
      ],
    })
    check(rights)
    return rows.map((row, i): Text | undefined => {
      const { kind, block = 0, result = null } = some[i] as Found
      const { sender, author, in_reply_to, message, code_blocks, status, item, completed } = row
      if (item !== null) return { text: item, completed: completed === true }
      if (status !== null) {
        const text = textsOfRun({ ...row, status }).find((text) => text.result === result)?.text
        return text === undefined ? undefined : { text, status, result }
      }
      if (message === null || sender === null) return undefined
      if (kind === 'message') return { text: message, sender, author, in_reply_to }
      const code = blocksOf(code_blocks, message)?.[block]
      return code && { text: code.code, sender, author, in_reply_to, block, language: code.language }
    })
  }

  /**
   * Returns a page of hits. `sub`: the user. `allow` throws if the user may not read the mission. Rejects with `unavailable` if `gone` returns
   * true or after `patience`.
   */
  return async (
    ref: MissionRef,
    { q, kind, order, limit, cursor, ...bounds }: FindQuery,
    how: { sub: string; allow(mission: MissionRights | undefined): void; gone(): boolean },
  ): Promise<{ hits: Hit[]; next: string | null }> => {
    const end = performance.now() + patience
    const byRank = order === 'rank'
    const since = bounds.since === undefined ? null : toBound('since', bounds.since)
    const until = bounds.until === undefined ? null : toBound('until', bounds.until)
    const after = cursor === undefined ? undefined : fromCursor(cursor, byRank)
    const words = await lookUp(main, q)
    const begun = await readMission(main, { ref, name: 'find-mission', text: sql.rights })
    how.allow(begun.mission)
    const mission = begun.mission?.id ?? ''
    const check = (rights?: Rights): void => {
      if (rights) how.allow(rights.mission)
      if (rights && rights.epoch !== begun.epoch)
        throw deny('unavailable', 'the database was restored or replaced while reading: start again')
      if (how.gone()) throw deny('unavailable', 'the client disconnected before the search finished')
      if (performance.now() > end)
        throw deny('unavailable', 'the search timed out: narrow it with kind, since or until')
    }
    const is = (one: Kind): boolean => kind === undefined || kind === one
    const wanted = { message: is('message'), code: is('code'), test: is('test'), dod: is('dod') }
    const from = after?.ranked?.top ?? after
    const turn = turns(how.sub)
    const inTurn: Turn = (work) =>
      turn(() => {
        check()
        return work()
      })
    const query: Query = { words, wanted, since, until, from, byRank, inTurn }
    // By rank, the place `from` is itself ranked. Otherwise it is the last hit of the previous page, and is left out.
    const fits = (place: Place): boolean => from === undefined || compare(from, place) < (byRank ? 1 : 0)
    const collect = makeCollect(byRank ? mostRanked : limit + 1, query, fits)
    if (wanted.dod) await findRows.items(mission, query, collect, check)
    if (wanted.message || wanted.code) await findChats(mission, query, collect, check)
    // Runs come last, so that only those newer than the hits so far are read.
    if (wanted.test) await findRows.runs(mission, query, collect, check)

    const [top] = collect.items
    let found = collect.items
    if (byRank) {
      found = found.toSorted((a, b) => b.rank - a.rank || compare(a, b))
      const ranked = after?.ranked
      if (after && ranked) found = found.filter((hit) => (hit.rank - ranked.rank || compare(after, hit)) < 0)
    }
    const page = found.slice(0, limit)
    const place = ({ at, part, seq, kind }: Place): Place => ({ at, part, seq, kind })
    const hits: Hit[] = []
    let bytes = 0
    // A response is also limited in bytes, because a language can be as long as code.
    let full = false
    let last: Found | undefined
    for (let i = 0; i < page.length && !full; i += read) {
      check()
      const some = page.slice(i, i + read)
      const texts = await inTurn(() => textsOf(mission, some, check))
      const spans = await spansOfAll(
        words.marked,
        texts.map((text) => text?.text ?? ''),
      )
      for (const [n, one] of some.entries()) {
        const { at, part, seq, kind, id } = one
        const given = texts[n]
        if (given) {
          const { text, ...more } = given
          const snippet = snippetOf(text, spans[n] ?? [])
          const hit = { kind, topic: `missions/${mission}/${part}`, seq, at: toTime(at), id, snippet, ...more }
          bytes += Buffer.byteLength(JSON.stringify(hit)) + 1
          full = hits.length > 0 && bytes > answerBytes
          if (full) break
          hits.push(hit)
        }
        last = one
      }
    }
    const next =
      (full || found.length > limit) && last && top
        ? toCursor(byRank ? { ...place(last), ranked: { rank: last.rank, top: place(from ?? top) } } : place(last))
        : null
    return { hits, next }
  }
}
export type Find = ReturnType<typeof makeFind>

/** Returns the time in the format of rows. */
const toTime = (at: string): string => `${at.replace(/\.?0+$/, '')}Z`
