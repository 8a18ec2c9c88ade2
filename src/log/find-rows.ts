// A search of a mission, its test runs and checklist: they are few, and read as they are. A run is found by one of its results (their
// texts: names, statuses, errors) or by its status and summary, in the order of created_at; an item by its text, at its last change.
import type pg from 'pg'
import { toAt, type Place } from '../protocol/hits.ts'
import type { Collect, Query, Rights } from './find.ts'
import { makeMatch } from './match.ts'
import { missionByRef, toRights, type MissionColumns } from './store.ts'
import type { Turn } from './turn.ts'

/** Runs that a look takes, and bytes of them, but for one. */
const runs = 200
const runBytes = 1024 * 1024

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

/** A run's texts, each of which is looked through for itself; columns as they come from the database. */
export const textsOfRun = (run: { status: string; summary: string | null; results: string | null }) => {
  const results: unknown = run.results === null ? [] : JSON.parse(run.results)
  const summary: unknown = run.summary === null ? {} : JSON.parse(run.summary)
  return [
    { result: null, text: [run.status, ...pairs(summary, '')].join('\n') },
    ...(Array.isArray(results) ? results : []).map((result: unknown, i) => ({
      result: i,
      text: strings(result, []).join('\n'),
    })),
  ]
}

export const makeFindRows = (main: pg.Pool, inTurn: Turn) => {
  const match = makeMatch(main)

  const someRuns = async (
    mission: string,
    { words, since, until }: Query,
    below: { at: string; seq: number } | undefined,
    worst: Place | undefined,
  ) => {
    const from = worst && (since === null || worst.at > since) ? worst.at : since

    const { rows } = await main.query<
      MissionColumns & {
        epoch: string
        id: string | null
        seq: number
        created_at: string
        found: number
        status: string
        summary: string | null
        results: string | null
        fits: boolean
      }
    >({
      name: 'find-runs',
      text: `
        select m.id as mission_id, m.number, m.assigned_to, h.epoch, s.*
        from ${missionByRef} m
        cross join lateral (select deck.epoch() as epoch offset 0) h
        left join lateral (
          select v.*, sum(octet_length(v.summary) + octet_length(v.results))
            over (order by v.created_at desc, v.seq desc rows between unbounded preceding and 1 preceding) as ahead
          from (
            select u.id, u.seq, u.created_at, u.status, (count(*) over ())::integer as found, k.fits,
              case when k.fits then u.summary else '' end as summary, case when k.fits then u.results else '' end as results
            from (
              select t.id, t.seq, t.created_at, t.status, coalesce(t.summary::text, '') as summary, coalesce(t.results::text, '') as results
              from test_runs t
              where t.mission_id = m.id and ($3::timestamp is null or (t.created_at, t.seq) < ($3, $4::bigint))
                and t.created_at <= coalesce($3, 'infinity') and t.created_at >= coalesce($5::timestamp, '-infinity')
                and t.created_at < coalesce($6::timestamp, 'infinity')
              order by t.created_at desc, t.seq desc limit ${runs} offset 0
            ) u
            -- Whether it may have such a text; whether it has is told by its JSON form.
            cross join lateral (
              select ($7::text[] is null or k.text like all ($7)) and ($8::text[] is null or k.text like any ($8))
                or position('\u212a' in k.text) > 0 or position('\u0130' in k.text) > 0 as fits
              from (select lower((u.status || ' ' || u.summary || u.results) collate "C") as text offset 0) k offset 0
            ) k
          ) v
        ) s on s.ahead is null or s.ahead < ${runBytes}
        order by s.created_at desc, s.seq desc`,
      values: [mission, null, below?.at ?? null, below?.seq ?? null, from, until, words.each, words.any],
    })
    const found = rows.flatMap(({ id, summary, results, ...row }) =>
      id === null ? [] : [{ ...row, id, at: toAt(row.created_at), summary: summary || null, results: results || null }],
    )
    const [first] = rows
    const more = found.length === runs || found.length < (first?.id == null ? 0 : first.found)
    return { rights: { mission: toRights(first), epoch: first?.epoch ?? '' }, found, more }
  }

  return {
    async runs(mission: string, query: Query, collect: Collect, check: (rights?: Rights) => void): Promise<void> {
      const { from } = query
      let below = from && { at: from.at, seq: Number.MAX_SAFE_INTEGER }
      for (let more = true; more;) {
        check()
        const seen = await inTurn(() => someRuns(mission, query, below, collect.worst))
        check(seen.rights)
        const texts = seen.found.flatMap((run) => (run.fits ? textsOfRun(run).map((text) => ({ ...text, run })) : []))
        const ranks = await match(
          query.words,
          texts.map(({ text }) => text),
        )
        // Of each run its best text, the first of equals.
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

    async items(mission: string, { words }: Query, collect: Collect, check: (rights?: Rights) => void): Promise<void> {
      check()
      const { rows } = await inTurn(() =>
        main.query<MissionColumns & { epoch: string; id: string | null; seq: number; at: string; rank: number }>({
          name: 'find-items',
          text: `
            select m.id as mission_id, m.number, m.assigned_to, h.epoch, i.*
            from ${missionByRef} m
            cross join lateral (select deck.epoch() as epoch offset 0) h
            left join lateral (
              select d.id, d.seq, coalesce(e.at, m.created_at) as at, ts_rank_cd(w.words, $3::tsquery, 1) as rank
              from dod_items d
              cross join lateral (select deck.words(d.text) as words offset 0) w
              left join deck.events e on e.topic = 'missions/' || m.id || '/dod' and e.seq = d.seq
              where d.mission_id = m.id and w.words @@ $3::tsquery
            ) i on true`,
          values: [mission, null, words.exact],
        }),
      )
      check({ mission: toRights(rows[0]), epoch: rows[0]?.epoch ?? '' })
      for (const { id, seq, at, rank } of rows)
        if (id !== null) collect.add({ at: toAt(at), part: 'dod', seq, kind: 'dod', id, rank })
    },
  }
}
