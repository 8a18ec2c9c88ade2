// Exports missions as NDJSON, from one snapshot: all their rows, complete, in an order that depends only on the rows. The same rows always
// give the same bytes.
//
// Postgres forms the lines and COPY sends them unchanged: its quote and delimiter are characters that JSON always escapes. Nothing is parsed
// or kept in memory.
import { createHash } from 'node:crypto'
import pg from 'pg'
import { to } from 'pg-copy-streams'
import { header } from '../../protocol/transfer.ts'
import { noMission } from '../../protocol/errors.ts'
import type { MissionRef } from '../../protocol/topics.ts'

/** `within`: SQL of whether a row r belongs to the exported mission. */
type Kind = { kind: string; tab: string; mission: string | null; within: string; sort: string }

const line = (kind: string, row: string): string => `'{"kind":"${kind}","row":' || ${row}::text || '}'`
const copy = (select: string): string => `copy (${select}) to stdout (format csv, quote E'\\x01', delimiter E'\\x02')`

/** Exports a mission or all missions. `write` may wait for its reader. If this rejects, `client` has an open transaction. */
export const exportMissions = async (
  client: pg.Client,
  mission: MissionRef | 'all',
  write: (bytes: Buffer) => Promise<void> | void,
): Promise<{ lines: number; bytes: number }> => {
  const hash = createHash('sha256')
  let lines = 0
  let bytes = 0
  const put = (data: Buffer): Promise<void> | void => {
    hash.update(data)
    bytes += data.length
    for (let at = data.indexOf(10); at >= 0; at = data.indexOf(10, at + 1)) lines++
    return write(data)
  }
  const run = async (select: string): Promise<void> => {
    for await (const data of client.query(to(copy(select)))) await put(data as Buffer)
  }

  await client.query('set statement_timeout = 0; set idle_in_transaction_session_timeout = 0')
  await client.query('begin isolation level repeatable read read only')
  const id = mission === 'all' ? undefined : await idOf(client, mission)
  const { rows: kinds } = await client.query<Kind>(
    'select kind, tab, mission, format(within, $1::text) as within, sort from deck.carried()',
    [id],
  )
  /** SQL of whether a row is exported. If all missions are, rows of deleted missions are left out. */
  const belongs = ({ mission, within }: Kind): string =>
    id !== undefined
      ? within
      : mission === null
        ? 'true'
        : `exists (select from public.missions x where x.id = ${mission})`

  await put(Buffer.from(`${header}\n`))
  // The last mission number that was assigned. It is exported only with all missions.
  if (id === undefined)
    await run(
      `select ${line('numbers', `jsonb_build_object('last', greatest(q.last_value - case when q.is_called then 0 else 1 end, m.number))`)}
       from deck.mission_number q, (select max(number) as number from public.missions where number < 1000000000) m`,
    )
  for (const kind of kinds) {
    const { kind: name, tab, sort } = kind
    if (name === 'chat_messages') {
      for (const { mission, citizen } of await chatsOf(client, kinds, belongs))
        await run(
          `select ${line(name, 'to_jsonb(r)')} from ${tab} r
           where r.mission_id = ${pg.escapeLiteral(mission)} and r.citizen = ${pg.escapeLiteral(citizen)} order by ${sort}`,
        )
      continue
    }
    const row =
      name === 'test_runs'
        ? `case when deck.folded_upto(r) is null then to_jsonb(r) else to_jsonb(jsonb_populate_record(r, '{"logs":null}')) end`
        : 'to_jsonb(r)'
    await run(`select ${line(name, row)} from ${tab} r where ${belongs(kind)} order by ${sort}`)
  }
  // If a run's log equals that of its events, only the last event's seq is exported: the import restores the log from the events.
  const runs = kinds.find(({ kind }) => kind === 'test_runs')
  if (runs)
    await run(
      `select ${line('folded_logs', `jsonb_build_object('id', r.id, 'upto', f.upto)`)}
       from ${runs.tab} r cross join lateral (select deck.folded_upto(r) as upto offset 0) f
       where ${belongs(runs)} and f.upto is not null order by ${runs.sort}`,
    )
  await client.query('commit')
  await write(Buffer.from(`{"kind":"end","lines":${lines},"sha256":"${hash.digest('hex')}"}\n`))
  return { lines: lines + 1, bytes }
}

const idOf = async (client: pg.Client, ref: MissionRef): Promise<string> => {
  const [where, value] = 'id' in ref ? ['id', ref.id] : ['number', ref.number]
  const { rows } = await client.query<{ id: string }>(`select id from public.missions where ${where} = $1`, [value])
  const [row] = rows
  if (!row) throw noMission()
  return row.id
}

/** Returns the chats in the order of their topics. Each chat is exported separately, so that the index of its history is used. */
const chatsOf = async (
  client: pg.Client,
  kinds: Kind[],
  belongs: (kind: Kind) => string,
): Promise<{ mission: string; citizen: string }[]> => {
  const heads = kinds.find(({ kind }) => kind === 'heads')
  if (!heads) return []
  const { rows } = await client.query<{ mission: string; citizen: string }>(
    `select deck.topic_mission(r.topic) as mission, deck.topic_citizen(r.topic) as citizen from ${heads.tab} r
     where deck.topic_is_chat(r.topic) and ${belongs(heads)} order by r.topic`,
  )
  return rows
}
