// A mission as it was at a time: itself, its checklist, its test runs, made from the last event of each row up to then; of a chat, where
// it stood. What events do not tell stands in side tables: how a mission began, and what places a deleted row in a list. Lists have the order that they have
// today. A time that is not yet over is answered by what is committed.
import type pg from 'pg'
import { deny } from '../protocol/errors.ts'
import type { MissionRef } from '../protocol/topics.ts'
import { toRights, type MissionColumns } from './columns.ts'
import { missionByRef, refValues } from './read-mission.ts'
import { utc } from './transaction.ts'

/** The last event of a row up to $3; events of logs have no part in it. */
const eventOf = (topic: string, id: string, names: string): string => `
  select e.seq, e.event, e.data from deck.events e
  where e.data ->> 'id' = ${id}::text and e.event in (${names}) and e.topic = 'missions/' || m.id || '/${topic}'
    and e.at <= $3::timestamp
  order by e.seq desc limit 1`
// The index on them is of these events.
const names = `'test_run.created', 'test_run.updated', 'dod_item.created', 'dod_item.updated', 'dod_item.deleted'`

// What was pruned is of no time any more (db/migrations/022_scale.sql).
const pruned = `(select deck.iso(p.before) from deck.pruned p where p.mission_id = m.id and p.before > $3::timestamp) as pruned`
const mission = `
  select m.id as mission_id, m.number, m.assigned_to, coalesce(m.created_at <= $3::timestamp, true) as existed, ${pruned}, x.json
  from ${missionByRef} m`

const runs = `
  select t.id, t.created_at from test_runs t where t.mission_id = m.id
  union all
  select r.id, r.created_at from deck.removed r
  where r.mission_id = m.id and r.ordinal is null and r.at > $3::timestamp
    and not exists (select from test_runs t where t.id = r.id)`

type Row = MissionColumns & { existed: boolean; pruned: string | null; json: string | null }

const toPast = (row: Row | undefined) => {
  // Whether one may see it is asked first.
  const known = (): string => {
    if (!row?.existed) throw deny('not_found', 'there was no such mission then')
    if (row.pruned !== null) throw deny('not_found', `what was before ${row.pruned} was pruned`)
    if (row.json === null) throw deny('not_found', 'there was no such thing then, or nothing is known of it')
    return row.json
  }
  return { mission: toRights(row), known }
}

/** `main` is for reading. */
export const makePast = (main: pg.Pool) => ({
  async mission(ref: MissionRef, at: string) {
    const { rows } = await main.query<Row>({
      name: 'past-mission',
      text: `
        select m.id as mission_id, m.number, m.assigned_to, e.seq is not null or coalesce(m.created_at <= $3::timestamp, true) as existed, ${pruned},
          (case when e.seq is not null then e.data when t.seq = 0 then deck.mission_json(t) else b.data end)::text as json
        from ${missionByRef} m
        join missions t on t.id = m.id
        cross join lateral (select deck.seq_at('missions/' || m.id, null, null, $3::timestamp, true) as seq offset 0) s
        left join deck.events e on e.topic = 'missions/' || m.id and e.seq = s.seq
        left join deck.beginnings b on b.mission_id = m.id`,
      values: [...refValues(ref), at],
    })
    return toPast(rows[0])
  },

  async checklist(ref: MissionRef, at: string) {
    const { rows } = await main.query<Row>({
      name: 'past-checklist',
      text: `
        ${mission}
        cross join lateral (
          select jsonb_build_object(
            'items', coalesce(jsonb_agg(e.data order by i.ordinal), '[]'),
            'progress', jsonb_build_object(
              'completed', count(*) filter (where (e.data ->> 'completed')::boolean), 'total', count(*)))::text as json
          from (
            select d.id, d.ordinal from dod_items d where d.mission_id = m.id
            union all
            select r.id, r.ordinal from deck.removed r
            where r.mission_id = m.id and r.ordinal is not null and not exists (select from dod_items d where d.id = r.id)
          ) i
          cross join lateral (${eventOf('dod', 'i.id', names)}) e
          where e.event <> 'dod_item.deleted'
        ) x`,
      values: [...refValues(ref), at],
    })
    return toPast(rows[0])
  },

  /** Runs from the newest on, or from behind one. */
  async listRuns(
    ref: MissionRef,
    { before, limit }: { before?: { at: string; id: string }; limit: number },
    at: string,
  ) {
    const { rows } = await main.query<Row & { id: string | null; created_at: string }>({
      name: 'past-runs',
      text: `
        ${mission.replace('x.json', 'x.*')}
        left join lateral (
          select i.id, i.created_at, e.data::text as json
          from (
            select i.* from (${runs}) i
            where $4::timestamptz is null or (i.created_at, i.id) < (${utc('$4')}, $5::uuid)
            order by i.created_at desc, i.id desc
          ) i
          cross join lateral (${eventOf('tests', 'i.id', names)}) e
          order by i.created_at desc, i.id desc limit $6
        ) x on true
        order by x.created_at desc, x.id desc`,
      values: [...refValues(ref), at, before?.at, before?.id, limit + 1],
    })
    const found = rows.filter(({ id }) => id !== null)
    const page = found.slice(0, limit)
    const last = page.at(-1)
    const [first] = rows
    return {
      ...toPast(first && { ...first, json: '' }),
      rows: page.map(({ json }) => json ?? ''),
      next: found.length > limit && last ? { at: last.created_at, id: last.id ?? '' } : null,
    }
  },

  /** One run, or (null) the newest that there was. */
  async run(ref: MissionRef, run: string | null, at: string) {
    const { rows } = await main.query<Row>({
      name: run === null ? 'past-run-latest' : 'past-run',
      text: `
        ${mission}
        left join lateral (
          select e.data::text as json
          from (
            select i.* from (${runs}) i
            where ${run === null ? '$4::uuid is null' : 'i.id = $4::uuid'}
            order by i.created_at desc, i.id desc
          ) i
          cross join lateral (${eventOf('tests', 'i.id', names)}) e
          order by i.created_at desc, i.id desc limit 1
        ) x on true`,
      values: [...refValues(ref), at, run],
    })
    return toPast(rows[0])
  },

  /** Where a chat stood: what was said there up to then has no greater seq. */
  async chat(ref: MissionRef, citizen: string, at: string) {
    const { rows } = await main.query<Row>({
      name: 'past-chat',
      text: `
        ${mission.replace('x.json', 'x.seq::text as json')}
        cross join lateral (
          select greatest(
            deck.seq_at('missions/' || m.id || '/chat/' || $4, m.id, $4, $3::timestamp, true),
            deck.seq_at('missions/' || m.id || '/chat/' || $4, null, null, $3::timestamp, true)) as seq offset 0
        ) x`,
      values: [...refValues(ref), at, citizen],
    })
    const { mission: found, known } = toPast(rows[0])
    return { mission: found, known: () => Number(known()) }
  },
})
export type Past = ReturnType<typeof makePast>
