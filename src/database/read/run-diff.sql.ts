// The statements of database/read/run-diff. Two runs `a` and `b` are compared in Postgres, from the tests in their results.
import { flaky, slower } from '../../protocol/run-diff.ts'
import { selectMission } from './read-mission.ts'

/**
 * When the two runs were created; null for a run that does not belong to the mission.
 *
 * $1 mission ID, or null
 * $2 mission number, or null
 * $3, $4 IDs of the runs
 */
export const times = selectMission({
  columns: `
    (select created_at from test_runs where id = $3 and mission_id = m.id) as a_at,
    (select created_at from test_runs where id = $4 and mission_id = m.id) as b_at`,
})

/**
 * The mission's chats.
 *
 * $1 mission ID
 */
export const chats = `
  select deck.topic_citizen(topic) as citizen from deck.heads
  where topic > 'missions/' || $1::uuid || '/chat/' and topic < 'missions/' || $1::uuid || '/chat0' order by topic`

const runJson = (run: string): string =>
  `jsonb_build_object('id', ${run}.id, 'status', ${run}.status, 'created_at', deck.iso(${run}.created_at))`
const side = (run: string): string => `
  select '${run}' as side, e.name, deck.test_word(e.element) as word, e.n,
    case when jsonb_typeof(e.element -> 'error') = 'string' then e.element ->> 'error' end as error,
    -- A number that can't be a test's duration is ignored.
    case when jsonb_typeof(e.element -> 'duration_ms') = 'number' and (e.element -> 'duration_ms')::numeric between 0 and 1e12
      then (e.element -> 'duration_ms')::numeric end as ms
  from deck.tests_of(${run}.results) with ordinality as e (name, element, n)`
const list = (name: string, members: string, where: string, order = 'at_b, at_a'): string => `
  '${name}', coalesce((select jsonb_agg(jsonb_build_object('name', name ${members}) order by ${order}) from outcomes where ${where}), '[]')`

/**
 * The comparison as JSON; null if a run does not belong to the mission.
 *
 * $1 mission ID, or null
 * $2 mission number, or null
 * $3, $4 IDs of the runs
 */
export const compare = selectMission({
  columns: 'd.json::text as json',
  joins: `
  left join test_runs a on a.id = $3 and a.mission_id = m.id
  left join test_runs b on b.id = $4 and b.mission_id = m.id
  left join lateral (
    with outcomes as materialized (
      select s.name,
        deck.worst(array_agg(s.word) filter (where s.side = 'a')) as was, max(s.ms) filter (where s.side = 'a') as a_ms,
        deck.worst(array_agg(s.word) filter (where s.side = 'b')) as now, max(s.ms) filter (where s.side = 'b') as b_ms,
        (array_agg(s.error order by s.n) filter (where s.side = 'b' and s.word = 'failed'))[1] as error,
        min(s.n) filter (where s.side = 'a') as at_a, min(s.n) filter (where s.side = 'b') as at_b
      from (${side('a')} union all ${side('b')}) s
      group by s.name
    )
    select jsonb_build_object('a', ${runJson('a')}, 'b', ${runJson('b')},
      ${list('newly_failing', `, 'error', error`, `now = 'failed' and was is distinct from 'failed'`)},
      ${list('fixed', '', `was = 'failed' and now = 'passed'`)},
      ${list('still_failing', `, 'error', error`, `was = 'failed' and now = 'failed'`)},
      ${list('added', `, 'status', now`, 'was is null')},
      ${list('removed', `, 'status', was`, 'now is null')},
      ${list(
        'slower',
        `, 'a_ms', a_ms, 'b_ms', b_ms`,
        `was = 'passed' and now = 'passed' and b_ms >= a_ms * ${slower.times} and b_ms - a_ms >= ${slower.more}`,
        'b_ms - a_ms desc, at_b',
      )}) as json
  ) d on a.id is not null and b.id is not null`,
})

/**
 * The flaky tests as JSON: tests whose result changed often in the runs up to a given one.
 *
 * $1 mission ID
 * $2 ID of the run
 */
export const flips = `
  with recent as materialized (
    select r.id, r.created_at, r.results from test_runs b
    join test_runs r on r.mission_id = b.mission_id and r.status in ('passed', 'failed')
      and r.created_at <= b.created_at and (r.created_at, r.id) <= (b.created_at, b.id)
    where b.id = $2 and b.mission_id = $1
    order by r.created_at desc, r.id desc limit ${flaky.runs}
  ), outcomes as (
    select e.name, r.created_at, r.id, deck.worst(array_agg(deck.test_word(e.element))) as word
    from recent r cross join lateral deck.tests_of(r.results) e group by e.name, r.created_at, r.id
  ), turn as (
    select name, word <> lag(word) over (partition by name order by created_at, id) as flipped from outcomes where word <> 'skipped'
  )
  select coalesce(jsonb_agg(jsonb_build_object('name', name, 'flips', flips, 'runs', runs) order by flips desc, name), '[]')::text as json
  from (
    select y.*, sum(octet_length(to_json(name)::text)) over (order by flips desc, name) as upto from (
      select name, count(*) filter (where flipped) as flips, count(*) as runs from turn
      group by name having count(*) filter (where flipped) >= ${flaky.flips}
      order by flips desc, name limit ${flaky.most}
    ) y
  ) x where upto <= ${flaky.bytes}`
