// All that happened on a mission, in the one order of (at, topic, seq), up to the horizon below which nothing comes any more: what was
// told once is told the same way for ever, but for what was removed since. A page costs what it holds and some looks a topic, however
// long the history is: the place of a time is searched in each topic's index, and the topics are merged from there on.
// Rows, epoch and the mission's assignee come from one statement, as in log/store.
import type pg from 'pg'
import { deny } from '../protocol/errors.ts'
import type { MissionRights } from '../protocol/rows.ts'
import { encodeItem, isBefore, type Place } from '../protocol/timeline.ts'
import type { MissionRef } from '../protocol/topics.ts'
import { makeBatched } from './batch.ts'
import { toMessage, toRights, type MessageColumns, type MissionColumns } from './columns.ts'
import { missionByRef, refValues } from './read-mission.ts'
import { makeTurn } from './turn.ts'

/** What lies between two places; `logs`: also what runs print. */
export type Span = { after: Place; before: Place; newestFirst: boolean; logs: boolean }

/** An event: its place, its name, and its frame's text. */
export type Item = { place: Place; event: string; text: string }

export type TimelinePage = {
  /** undefined: there is no such mission, or not any more */
  mission: MissionRights | undefined
  epoch: string
  items: Item[]
  /** whether there may be more */
  more: boolean
}

/** Bytes of rows that a page holds, but for one row. */
const pageBytes = 4 * 1024 * 1024
/** Keys that a statement looks at in all topics together, but for 16 a topic: 5 ms. */
const mostKeys = 5000

/** What is left of a span behind these items. */
export const rest = (span: Span, items: readonly Item[]): Span => {
  const place = items.at(-1)?.place
  return place ? { ...span, [span.newestFirst ? 'before' : 'after']: place } : span
}

export const statement = (newestFirst: boolean): string => {
  const down = newestFirst ? 'desc' : 'asc'
  const order = (row: string): string => `${row}.at ${down}, ${row}.name ${down}, ${row}.seq ${down}`
  const beyond = newestFirst ? '<=' : '>'
  return `
    select m.id as mission_id, m.number, m.assigned_to, h.epoch, p.*
    from ${missionByRef} m
    cross join (select deck.epoch() as epoch offset 0) h
    left join lateral (
      with
        -- (Names of topics are of the collation "C"; the index on chats is not, and serves a name of its own only.)
        -- A chat is two of them: its messages, and (without a citizen) its other events.
        source as materialized (
          select s.name, s.citizen, case
              when s.name = 'missions/' || m.id || $4 then $5::bigint ${newestFirst ? '- 1' : ''}
              else deck.seq_at(s.name, m.id, s.citizen, $3::timestamp, coalesce(s.name < 'missions/' || m.id || $4, false))
            end as start
          from (
            select ('missions/' || m.id || part) collate "C" as name, null as citizen from unnest(array['', '/dod', '/tests']) as part
            union all
            select t.topic, c.citizen from deck.heads t
            cross join lateral (values (null), (substr(t.topic, 52))) as c (citizen)
            where t.topic > 'missions/' || m.id || '/chat/' and t.topic < 'missions/' || m.id || '/chat0'
            union all
            select t.topic, null from deck.heads t
            where $9::boolean and t.topic > 'missions/' || m.id || '/tests/' and t.topic < 'missions/' || m.id || '/tests0'
          ) s
        ),
        share as materialized (
          select least($10::integer + 1, greatest(16, ${mostKeys} / count(*)))::bigint as rows from source),
        keys as materialized (
          select s.name, s.citizen, k.seq, k.at, k.nth = (select rows from share) as last
          from source s
          cross join lateral (
            select x.*, row_number() over (order by x.seq ${down}) as nth from (
              (select c.seq, c.at from chat_messages c
               where s.citizen is not null and c.mission_id = m.id and c.citizen = s.citizen collate "default" and c.seq ${beyond} s.start
               order by c.seq ${down} limit (select rows from share))
              union all
              (select e.seq, e.at from deck.events e
               where s.citizen is null and e.topic = s.name and e.seq ${beyond} s.start
               order by e.seq ${down} limit (select rows from share))
            ) x
          ) k
          where ${
            newestFirst
              ? `k.at > $6::timestamp or (k.at = $6::timestamp and coalesce((s.name, k.seq) > ('missions/' || m.id || $7, $8::bigint), true))`
              : `k.at < $6::timestamp or (k.at = $6::timestamp and (s.name, k.seq) < ('missions/' || m.id || $7, $8::bigint))`
          }
        ),
        -- Behind the last key that was read of a topic others may follow: all topics are known up to the first such.
        bound as materialized (select k.at, k.name, k.seq from keys k where k.last order by ${order('k')} limit 1),
        known as materialized (
          select k.*, row_number() over (order by ${order('k')}) as n
          from keys k left join bound b on true
          where b.at is null or (k.at, k.name, k.seq) ${newestFirst ? '>=' : '<='} (b.at, b.name, b.seq)
          order by ${order('k')} limit $10::integer + 1
        )
      select r.n, r.at, r.name as topic, r.event, r.data::text as data, r.id, r.sender, r.author, r.message,
        r.code_blocks::text as code_blocks, r.created_at, r.seq, r.key,
        exists (select from bound) or (select count(*) from known) > $10::integer as beyond, (select count(*) from known)::integer as known
      from (
        select k.n, k.at, k.name, k.seq, x.*, sum(x.size) over (order by k.n) - x.size as ahead
        from known k
        cross join lateral (
          select null as event, null::jsonb as data, c.id, c.sender, c.author, c.message, c.code_blocks, c.created_at, c.key,
            octet_length(c.message) + coalesce(pg_column_size(c.code_blocks), 0) as size
          from chat_messages c
          where k.citizen is not null and c.mission_id = m.id and c.citizen = k.citizen collate "default" and c.seq = k.seq
          union all
          select e.event, e.data, null, null, null, null, null, null, null, pg_column_size(e.data)
          from deck.events e where k.citizen is null and e.topic = k.name and e.seq = k.seq
        ) x
        where k.n <= $10::integer
      ) r where r.ahead < $11::bigint
    ) p on true
    order by p.n`
}
const statements = { asc: statement(false), desc: statement(true) }

/** `main` is for reading; `patience`: ms until a look at the horizon that is not answered is `unavailable`. */
export const makeTimeline = (main: pg.Pool, patience: number) => {
  let settled = { epoch: '', at: '' }
  const look = makeBatched(
    async (asked: null[]) => {
      const { rows } = await main.query<{ at: string; epoch: string }>({
        name: 'horizon',
        text: `select to_char(deck.horizon(), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, deck.epoch() as epoch`,
      })
      return asked.map(() => rows[0] as { at: string; epoch: string })
    },
    { max: 10_000, patience },
  )

  /** One statement's worth of a span: up to `limit` events, fewer where they are large or topics are many. */
  const read = async (ref: MissionRef, span: Span, limit: number, bytes: number): Promise<TimelinePage> => {
    const { newestFirst, logs } = span
    const [start, end] = newestFirst ? [span.before, span.after] : [span.after, span.before]
    const direction = newestFirst ? 'desc' : 'asc'
    type Row = MessageColumns & { at: string; topic: string; event: string | null; data: string | null }
    const { rows } = await main.query<
      MissionColumns & { epoch: string; beyond: boolean | null; known: number | null } & (Row | { seq: null })
    >({
      name: `timeline-${direction}`,
      text: statements[direction],
      values: [
        ...refValues(ref),
        ...[start.at, start.topic, start.seq],
        ...[end.at, end.topic, end.seq],
        logs,
        limit,
        bytes,
      ],
    })
    const mission = toRights(rows[0])
    const items = rows.flatMap((row): Item[] => {
      if (row.seq === null || !mission) return []
      const { at, topic, seq } = row
      const event = row.event ?? 'message.created'
      const data = row.data ?? JSON.stringify(toMessage(row, mission.id, topic.slice(51)))
      return [{ place: { at, topic: topic.slice(45), seq }, event, text: encodeItem(topic, seq, event, data, at) }]
    })
    const { epoch = '', beyond = false, known = 0 } = rows[0] ?? {}
    return { mission, epoch, items, more: (beyond ?? false) || (known ?? 0) > items.length }
  }

  const inTurn = makeTurn()

  return {
    /** The time below which all is settled; it goes back with the epoch only. */
    async horizon(): Promise<string> {
      const found = await look(null)
      if (found.epoch !== settled.epoch || isBefore(settled.at, found.at)) settled = found
      return settled.at
    },

    /** A page of `limit` events, or as many as fit into its bytes; `see` is called with what each statement found, and may throw. */
    async page(ref: MissionRef, span: Span, limit: number, see: (found: TimelinePage) => void): Promise<TimelinePage> {
      const items: Item[] = []
      let bytes = 0
      let epoch = ''
      for (;;) {
        const found = await read(ref, rest(span, items), limit - items.length, pageBytes - bytes)
        see(found)
        if (items.length > 0 && found.epoch !== epoch) throw deny('unavailable', 'the database became another one')
        epoch = found.epoch
        for (const item of found.items) {
          bytes += item.text.length
          items.push(item)
        }
        if (!found.more || items.length >= limit || bytes >= pageBytes) return { ...found, items }
      }
    },

    /** A part of a span for those who take all of it; they share a connection. */
    part: (ref: MissionRef, span: Span, limit: number, bytes: number): Promise<TimelinePage> =>
      inTurn(() => read(ref, span, limit, bytes)),
  }
}
export type Timeline = ReturnType<typeof makeTimeline>
