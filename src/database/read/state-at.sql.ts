// The statements of database/read/state-at, about one mission (database/read/read-mission) at a past time. In all of them:
//
// $1 mission ID, or null
// $2 mission number, or null
// $3 the time
//
// Rows have `existed` (whether the mission existed then), `pruned` (the time up to which it was pruned, if that is later) and `json`.
import { answerBytes } from '../bounds.ts'
import { selectMission } from './read-mission.ts'
import { utc } from '../postgres/transaction.ts'

const created = 'coalesce(m.created_at <= $3::timestamp, true)'
const pastOf = (json: string, joins: string, existed = created): string =>
  selectMission({
    columns: `${existed} as existed,
    (select deck.iso(p.before) from deck.pruned p where p.mission_id = m.id and p.before > $3::timestamp) as pruned, ${json}`,
    joins,
  })

// The same names are in the condition of the index that is used.
const names = `'test_run.created', 'test_run.updated', 'dod_item.created', 'dod_item.updated', 'dod_item.deleted'`
/** A row's last event up to the time, without events of logs. */
const eventOf = (topic: string, id: string): string => `
  select e.seq, e.event, e.data from deck.events e
  where e.data ->> 'id' = ${id}::text and e.event in (${names}) and e.topic = 'missions/' || m.id || '/${topic}'
    and e.at <= $3::timestamp
  order by e.seq desc limit 1`

/** The existing runs, and those that were deleted since. */
const runs = `
  select t.id, t.created_at from test_runs t where t.mission_id = m.id
  union all
  select r.id, r.created_at from deck.removed r
  where r.mission_id = m.id and r.ordinal is null and r.at > $3::timestamp
    and not exists (select from test_runs t where t.id = r.id)`

/** The mission. */
export const mission = pastOf(
  '(case when e.seq is not null then e.data when t.seq = 0 then deck.mission_json(t) else b.data end)::text as json',
  `
  join missions t on t.id = m.id
  cross join lateral (select deck.seq_at('missions/' || m.id, null, null, $3::timestamp, true) as seq offset 0) s
  left join deck.events e on e.topic = 'missions/' || m.id and e.seq = s.seq
  left join deck.beginnings b on b.mission_id = m.id`,
  `e.seq is not null or ${created}`,
)

/** The checklist: items until the response is full, at least one. */
export const checklist = pastOf(
  'x.json',
  `
  cross join lateral (
    select jsonb_build_object(
      'items', coalesce(jsonb_agg(y.data order by y.ordinal) filter (where y.upto <= ${answerBytes} or y.n = 1), '[]'),
      'progress', jsonb_build_object(
        'completed', count(*) filter (where (y.data ->> 'completed')::boolean), 'total', count(*)))::text as json
    from (
      select e.data, i.ordinal, sum(octet_length(e.data::text) + 2) over w as upto, row_number() over w as n
      from (
        select d.id, d.ordinal from dod_items d where d.mission_id = m.id
        union all
        select r.id, r.ordinal from deck.removed r
        where r.mission_id = m.id and r.ordinal is not null and not exists (select from dod_items d where d.id = r.id)
      ) i
      cross join lateral (${eventOf('dod', 'i.id')}) e
      where e.event <> 'dod_item.deleted'
      window w as (order by i.ordinal)
    ) y
  ) x`,
)

/**
 * A page of the mission's runs, newest first. A mission without runs yields one row whose `id` is null.
 *
 * $4, $5 only runs older than the run with this creation time (RFC 3339) and ID, or null
 * $6 maximum number of runs
 */
export const runPage = pastOf(
  'x.*',
  `
  left join lateral (
    select i.id, i.created_at, e.data::text as json
    from (
      select i.* from (${runs}) i
      where $4::timestamptz is null or (i.created_at, i.id) < (${utc('$4')}, $5::uuid)
      order by i.created_at desc, i.id desc
    ) i
    cross join lateral (${eventOf('tests', 'i.id')}) e
    order by i.created_at desc, i.id desc limit $6
  ) x on true
  order by x.created_at desc, x.id desc`,
)

/** A request's last event up to the time. It has two at most. */
const requestEvent = `
  select e.data from deck.events e
  where e.topic = 'missions/' || m.id || '/requests' and e.seq in (r.first_seq, r.seq) and e.at <= $3::timestamp
  order by e.seq desc limit 1`

/**
 * A page of the mission's requests, newest first. A mission without requests yields one row whose `id` is null.
 *
 * $4 only requests that had this state, or null
 * $5, $6 only requests older than the one with this creation time (RFC 3339) and ID, or null
 * $7 maximum number of requests
 */
export const requestPage = pastOf(
  'x.*',
  `
  left join lateral (
    select r.id, r.created_at, e.data::text as json
    from deck.requests r
    cross join lateral (${requestEvent}) e
    where r.mission_id = m.id and ($4::text is null or e.data ->> 'state' = $4)
      and ($5::timestamptz is null or (r.created_at, r.id) < (${utc('$5')}, $6::uuid))
    order by r.created_at desc, r.id desc limit $7
  ) x on true
  order by x.created_at desc, x.id desc`,
)

/** One request; $4: its ID. */
export const request = pastOf(
  'x.json',
  `
  left join lateral (
    select e.data::text as json from deck.requests r cross join lateral (${requestEvent}) e
    where r.mission_id = m.id and r.id = $4::uuid limit 1
  ) x on true`,
)

const runOf = (which: string): string =>
  pastOf(
    'x.json',
    `
  left join lateral (
    select e.data::text as json
    from (
      select i.* from (${runs}) i
      where ${which}
      order by i.created_at desc, i.id desc
    ) i
    cross join lateral (${eventOf('tests', 'i.id')}) e
    order by i.created_at desc, i.id desc limit 1
  ) x on true`,
  )
/** One run; $4: its ID. */
export const run = runOf('i.id = $4::uuid')
/** The newest run; $4: null. */
export const latestRun = runOf('$4::uuid is null')

/** A chat's latest seq at the time, as `json`; $4: its citizen. */
export const chat = pastOf(
  'x.seq::text as json',
  `
  cross join lateral (
    select greatest(
      deck.seq_at('missions/' || m.id || '/chat/' || $4, m.id, $4, $3::timestamp, true),
      deck.seq_at('missions/' || m.id || '/chat/' || $4, null, null, $3::timestamp, true)) as seq offset 0
  ) x`,
)
