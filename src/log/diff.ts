// Two test runs compared: what failed, was fixed, came, went and got slower from `a` to `b`, what is flaky up to `b`, and what was
// said between the two. Names, words and durations are taken out of the results in Postgres: no run's results come here, and the
// twenty that flakiness is told by are read one after the other. Rights are looked at before anything is compared, and with it.
import type pg from 'pg'
import { between, flaky, slower } from '../protocol/diff.ts'
import { deny } from '../protocol/errors.ts'
import type { Message, MissionRights } from '../protocol/rows.ts'
import type { MissionRef } from '../protocol/topics.ts'
import { toRights, type MissionColumns } from './columns.ts'
import { missionByRef, refValues } from './read-mission.ts'
import type { Search } from './search.ts'

const runJson = (run: string): string =>
  `jsonb_build_object('id', ${run}.id, 'status', ${run}.status, 'created_at', deck.iso(${run}.created_at))`
const side = (run: string): string => `
  select '${run}' as side, e.name, deck.test_word(e.element) as word, e.n,
    case when jsonb_typeof(e.element -> 'error') = 'string' then e.element ->> 'error' end as error,
    -- What is no time that a test can take is none.
    case when jsonb_typeof(e.element -> 'duration_ms') = 'number' and (e.element -> 'duration_ms')::numeric between 0 and 1e12
      then (e.element -> 'duration_ms')::numeric end as ms
  from deck.tests_of(${run}.results) with ordinality as e (name, element, n)`
const list = (name: string, members: string, where: string, order = 'at_b, at_a'): string => `
  '${name}', coalesce((select jsonb_agg(jsonb_build_object('name', name ${members}) order by ${order}) from told where ${where}), '[]')`

const compare = `
  select m.id as mission_id, m.number, m.assigned_to, d.json::text as json
  from ${missionByRef} m
  left join test_runs a on a.id = $3 and a.mission_id = m.id
  left join test_runs b on b.id = $4 and b.mission_id = m.id
  left join lateral (
    with told as materialized (
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
  ) d on a.id is not null and b.id is not null`

const flips = `
  with recent as materialized (
    select r.id, r.created_at, r.results from test_runs b
    join test_runs r on r.mission_id = b.mission_id and r.status in ('passed', 'failed')
      and r.created_at <= b.created_at and (r.created_at, r.id) <= (b.created_at, b.id)
    where b.id = $2 and b.mission_id = $1
    order by r.created_at desc, r.id desc limit ${flaky.runs}
  ), told as (
    select e.name, r.created_at, r.id, deck.worst(array_agg(deck.test_word(e.element))) as word
    from recent r cross join lateral deck.tests_of(r.results) e group by e.name, r.created_at, r.id
  ), turn as (
    select name, word <> lag(word) over (partition by name order by created_at, id) as flipped from told where word <> 'skipped'
  )
  select coalesce(jsonb_agg(jsonb_build_object('name', name, 'flips', flips, 'runs', runs) order by flips desc, name), '[]')::text as json
  from (
    select name, count(*) filter (where flipped) as flips, count(*) as runs from turn
    group by name having count(*) filter (where flipped) >= ${flaky.flips}
    order by flips desc, name limit ${flaky.most}
  ) x`

/** Times in order: without the Z one is the other's beginning where it has no (more) fractions of a second. */
const isBefore = (x: string, y: string): boolean => x.slice(0, -1) < y.slice(0, -1)
const newestFirst = ({ message: x }: Sized, { message: y }: Sized): number => {
  if (x.created_at !== y.created_at) return isBefore(x.created_at, y.created_at) ? 1 : -1
  return x.citizen === y.citizen ? y.seq - x.seq : x.citizen < y.citizen ? 1 : -1
}
type Sized = { message: Message; bytes: number }
const sized = (message: Message): Sized => ({ message, bytes: Buffer.byteLength(JSON.stringify(message)) })

/** How many of them, from the first on, are not too many. */
const fitting = (found: Sized[]): number => {
  let bytes = 0
  for (const [i, one] of found.entries())
    if (i === between.messages || ((bytes += one.bytes) > between.bytes && i > 0)) return i
  return found.length
}

/** `main` is for reading. */
export const makeDiff = (main: pg.Pool, search: Search) => {
  /** The newest messages of all chats that were created in a span of time, oldest first. */
  const said = async (
    mission: MissionRights,
    span: { since: string; until: string },
    how: { allow(mission: MissionRights | undefined): void; gone(): boolean },
  ) => {
    const { rows } = await main.query<{ citizen: string }>({
      name: 'diff-chats',
      text: `select substr(topic, 52) as citizen from deck.heads
             where topic > 'missions/' || $1::uuid || '/chat/' and topic < 'missions/' || $1::uuid || '/chat0' order by topic`,
      values: [mission.id],
    })
    let newest: Sized[] = []
    let has_more = false
    // Held are those of one chat, and the newest so far.
    for (const { citizen } of rows) {
      const page = await search.page({ id: mission.id }, citizen, { ...span, limit: between.messages }, how)
      const found = [...newest, ...page.messages.map(sized)].sort(newestFirst)
      newest = found.slice(0, fitting(found))
      has_more ||= page.has_more || newest.length < found.length
    }
    return { ...span, messages: newest.reverse().map(({ message }) => message), has_more }
  }

  /** -> the JSON of a RunDiff; `allow` throws, a run of another mission is `not_found`. */
  return async (
    ref: MissionRef,
    { a, b }: { a: string; b: string },
    how: { allow(mission: MissionRights | undefined): asserts mission; gone(): boolean },
  ): Promise<string> => {
    const { rows } = await main.query<MissionColumns & { a_at: string | null; b_at: string | null }>({
      name: 'diff-runs',
      text: `select m.id as mission_id, m.number, m.assigned_to,
               (select created_at from test_runs where id = $3 and mission_id = m.id) as a_at,
               (select created_at from test_runs where id = $4 and mission_id = m.id) as b_at
             from ${missionByRef} m`,
      values: [...refValues(ref), a, b],
    })
    const mission = toRights(rows[0])
    how.allow(mission)
    const { a_at, b_at } = rows[0] ?? {}
    if (!a_at || !b_at) throw deny('not_found', 'no such test run')
    const [since, until] = isBefore(a_at, b_at) ? [a_at, b_at] : [b_at, a_at]
    const [told, shaky, messages] = [
      await main.query<MissionColumns & { json: string | null }>({
        name: 'diff',
        text: compare,
        values: [...refValues({ id: mission.id }), a, b],
      }),
      await main.query<{ json: string }>({ name: 'diff-flaky', text: flips, values: [mission.id, b] }),
      await said(mission, { since, until }, how),
    ]
    how.allow(toRights(told.rows[0]))
    const json = told.rows[0]?.json
    if (!json) throw deny('not_found', 'no such test run')
    return `${json.slice(0, -1)},"flaky":${shaky.rows[0]?.json},"between":${JSON.stringify(messages)}}`
  }
}
export type Diff = ReturnType<typeof makeDiff>
