// The part of a mission search that reads test runs and the checklist. They are few, so they have no index. A run is found by one of its
// results (name, status, error) or by its status and summary, in order of created_at. An item is found by its text; its time is that of its
// last change.
import type pg from 'pg'
import { toAt, type Place } from '../../protocol/search-hits.ts'
import { quoteNumbers } from '../../protocol/text.ts'
import type { Collect, Query, Rights } from './mission-hits.ts'
import * as sql from './mission-rows.sql.ts'
import { makeMatch } from './text-match.ts'
import { readMission } from '../read/read-mission.ts'

const strings = (value: unknown, into: string[]): string[] => {
  if (typeof value === 'string') into.push(value)
  else if (Array.isArray(value)) for (const inner of value) strings(inner, into)
  else if (typeof value === 'object' && value !== null) {
    const { name, status, ...rest } = value as Record<string, unknown>
    for (const inner of [name, status, ...Object.values(rest)]) strings(inner, into)
  }
  return into
}
const pairs = (value: unknown, path: string): string[] =>
  typeof value === 'object' && value !== null
    ? Object.entries(value).flatMap(([name, inner]) => pairs(inner, path === '' ? name : `${path} ${name}`))
    : [`${path}: ${String(value)}`]

/** Returns a run's texts, each of which is matched separately. The columns are those of the database. */
export const textsOfRun = (run: { status: string; summary: string | null; results: string | null }) => {
  const results: unknown = run.results === null ? [] : JSON.parse(run.results)
  // Numbers are quoted, so that they are shown and found as stored, without rounding.
  const summary: unknown = run.summary === null ? {} : JSON.parse(quoteNumbers(run.summary))
  return [
    { result: null, text: [run.status, ...pairs(summary, '')].join('\n') },
    ...(Array.isArray(results) ? results : []).map((result: unknown, i) => ({
      result: i,
      text: strings(result, []).join('\n'),
    })),
  ]
}

export const makeFindRows = (main: pg.Pool) => {
  const match = makeMatch(main)

  const someRuns = async (
    mission: string,
    { words, since, until }: Query,
    below: { at: string; seq: number } | undefined,
    worst: Place | undefined,
  ) => {
    const from = worst && (since === null || worst.at > since) ? worst.at : since
    type Row = {
      id: string | null
      seq: number
      created_at: string
      found: number
      status: string
      summary: string | null
      results: string | null
      fits: boolean
    }
    const { rows, ...rights } = await readMission<Row>(main, {
      ref: { id: mission },
      name: 'find-runs',
      text: sql.findRuns,
      values: [
        below?.at ?? null,
        below?.seq ?? null,
        from,
        until,
        words.letters.each,
        words.letters.any,
        words.letters.odd,
        words.letters.cased,
      ],
    })
    const found = rows.flatMap(({ id, summary, results, ...row }) =>
      id === null ? [] : [{ ...row, id, at: toAt(row.created_at), summary: summary || null, results: results || null }],
    )
    const [first] = rows
    const more = found.length === sql.runs || found.length < (first?.id == null ? 0 : first.found)
    return { rights, found, more }
  }

  return {
    async runs(mission: string, query: Query, collect: Collect, check: (rights?: Rights) => void): Promise<void> {
      const { from } = query
      let below = from && { at: from.at, seq: Number.MAX_SAFE_INTEGER }
      for (let more = true; more;) {
        check()
        const seen = await query.inTurn(() => someRuns(mission, query, below, collect.worst))
        check(seen.rights)
        const texts = seen.found.flatMap((run) => (run.fits ? textsOfRun(run).map((text) => ({ ...text, run })) : []))
        const ranks = await match(
          query.words,
          texts.map(({ text }) => text),
          query.inTurn,
        )
        // Each run's best text; the first one if several are equal.
        const hits = new Map<string, { i: number; rank: number }>()
        for (const [i, rank] of ranks.entries()) {
          const id = texts[i]?.run.id ?? ''
          if (rank !== null && rank > (hits.get(id)?.rank ?? -1)) hits.set(id, { i, rank })
        }
        for (const [id, { i, rank }] of hits) {
          const text = texts[i]
          if (text)
            collect.add({
              at: text.run.at,
              part: 'tests',
              seq: text.run.seq,
              kind: 'test',
              id,
              rank,
              result: text.result,
            })
        }
        const last = seen.found.at(-1)
        more =
          seen.more &&
          last !== undefined &&
          !collect.isLate({ at: last.at, part: 'tests', seq: last.seq, kind: 'test' })
        below = last && { at: last.at, seq: last.seq }
      }
    },

    async items(
      mission: string,
      { words, inTurn }: Query,
      collect: Collect,
      check: (rights?: Rights) => void,
    ): Promise<void> {
      check()
      type Row = { id: string | null; seq: number; at: string; rank: number }
      const { rows, ...rights } = await inTurn(() =>
        readMission<Row>(main, {
          ref: { id: mission },
          name: 'find-items',
          text: sql.findItems,
          values: [words.all, words.none, words.rank],
        }),
      )
      check(rights)
      for (const { id, seq, at, rank } of rows)
        if (id !== null) collect.add({ at: toAt(at), part: 'dod', seq, kind: 'dod', id, rank })
    },
  }
}
