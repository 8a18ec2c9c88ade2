// Missions, checklists, test runs and their logs: what the API reads and changes of them. Changes are plain DML through
// the same triggers that number any SQL writer. Each runs in a transaction that first takes the mission's key share and
// asks whether it is allowed; `settle` then numbers, reads the answer and commits in one message, so that no head stays
// locked while this process is busy elsewhere. Rows are answered as JSON text, as the database formed it.
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { deny } from '../protocol/errors.ts'
import type { MissionPatch, MissionRights, NewDodItem, NewMission, NewTestRun, TestRunPatch } from '../protocol/rows.ts'
import type { MissionRef } from '../protocol/topics.ts'
import { isRetryable, sqlState } from './database.ts'
import { missionByRef, refValues, toRights } from './store.ts'

/** Throws if the change is not allowed to this mission (undefined: there is none). */
export type Allow = (mission: MissionRights | undefined) => void

type Json = { json: string | null }
const time = (parameter: string): string => `${parameter}::timestamptz at time zone 'utc'`
const progress = `(select jsonb_build_object('completed', count(*) filter (where completed), 'total', count(*))
  from dod_items where mission_id = m.id)`
const items = `(select coalesce(jsonb_agg(deck.dod_item_json(d) order by d.ordinal), '[]') from dod_items d where d.mission_id = m.id)`

/** `pool` reads, `writes` changes. */
export const makeChanges = (pool: pg.Pool, writes: pg.Pool) => {
  /**
   * Runs `change` in a transaction; `settle` ends it. Deadlocks and serialization failures are tried again. So are locks
   * that somebody holds, with the connection given back in between: changes of other missions need it meanwhile.
   */
  const transaction = async <T>(change: (client: pg.PoolClient) => Promise<T>): Promise<T> => {
    const patience = performance.now() + 3000
    for (let tries = 1; ; tries++) {
      const client = await writes.connect()
      let broken: Error | undefined
      let pause: number
      try {
        await client.query(`begin; set local lock_timeout = '50ms'`)
        return await change(client)
      } catch (error) {
        await client.query('rollback').catch((failed: Error) => (broken = failed))
        const locked = sqlState(error) === '55P03'
        if (locked ? performance.now() > patience : !isRetryable(error) || tries >= 5) throw error
        pause = locked ? 100 + Math.random() * 100 : Math.random() * 10 * tries
      } finally {
        client.release(broken)
      }
      await delay(pause)
    }
  }

  /** Takes the mission's key share (a deletion, its row) and asks whether the change is allowed. */
  const enter = async (
    client: pg.PoolClient,
    ref: MissionRef,
    allow: Allow,
    lock = 'for key share',
  ): Promise<string> => {
    const [where, value] = 'id' in ref ? ['id', ref.id] : ['number', ref.number]
    const { rows } = await client.query<{ mission_id: string; number: number; assigned_to: string }>(
      `select id as mission_id, number, assigned_to from missions where ${where} = $1 ${lock}`,
      [value],
    )
    const mission = toRights(rows[0])
    allow(mission)
    return mission?.id ?? ''
  }

  /** Numbers what the transaction changed, reads `select` (made of literals only) and commits, in one message. */
  const settle = async (client: pg.PoolClient, select: string): Promise<string> => {
    const results = (await client.query<Json>(
      `set constraints all immediate; ${select}; commit`,
    )) as unknown as pg.QueryResult<Json>[]
    const json = results[1]?.rows[0]?.json
    if (json == null) throw deny('not_found')
    return json
  }
  const quoted = (id: string): string => pg.escapeLiteral(id)
  const missionRow = (id: string): string =>
    `select deck.mission_json(m)::text as json from missions m where id = ${quoted(id)}`
  const runRow = (id: string): string =>
    `select deck.test_run_json(t)::text as json from test_runs t where id = ${quoted(id)}`

  /** `set` clauses for the members that are given. */
  const assignments = (given: [column: string, expression: (parameter: string) => string, value: unknown][]) => {
    const set = given.filter(([, , value]) => value !== undefined)
    return {
      text: set.map(([column, expression], i) => `${column} = ${expression(`$${i + 2}`)}`).join(', '),
      values: set.map(([, , value]) => value),
    }
  }
  const plain = (parameter: string): string => parameter
  const json = (value: unknown): string | null | undefined =>
    value === undefined || value === null ? value : JSON.stringify(value)

  return {
    // Missions

    async listMissions(
      filter: { status?: string; assigned_to?: string; after?: number; limit: number },
      see: { all: boolean; sub: string | null; refs: string[] },
    ) {
      const { rows } = await pool.query<{ number: number; json: string }>({
        name: 'missions',
        text: `select number, deck.mission_json(m)::text as json from missions m
               where ($1::text is null or status = $1) and ($2::text is null or assigned_to = $2) and number > $3
                 and ($4 or assigned_to = $5 or id::text = any ($6) or number::text = any ($6))
               order by number limit $7`,
        values: [filter.status, filter.assigned_to, filter.after ?? 0, see.all, see.sub, see.refs, filter.limit + 1],
      })
      const page = rows.slice(0, filter.limit)
      return {
        rows: page.map((row) => row.json),
        next: rows.length > filter.limit ? String(page.at(-1)?.number) : null,
      }
    },

    createMission: (given: NewMission): Promise<string> =>
      transaction(async (client) => {
        const { rows } = await client.query<{ id: string }>(
          `insert into missions (number, title, client, budget, deadline, status, assigned_to, github_url)
           values ($1, $2, $3, $4, ${time('$5')}, $6, $7, $8) returning id`,
          [
            given.number,
            given.title,
            given.client,
            given.budget,
            given.deadline,
            given.status ?? 'active',
            given.assigned_to,
            given.github_url,
          ],
        )
        return settle(client, missionRow(rows[0]?.id ?? ''))
      }),

    changeMission: (ref: MissionRef, allow: Allow, patch: MissionPatch): Promise<string> =>
      transaction(async (client) => {
        const id = await enter(client, ref, allow)
        const { text, values } = assignments([
          ['title', plain, patch.title],
          ['client', plain, patch.client],
          ['budget', plain, patch.budget],
          ['deadline', time, patch.deadline],
          ['status', plain, patch.status],
          ['assigned_to', plain, patch.assigned_to],
          ['github_url', plain, patch.github_url],
        ])
        if (text) await client.query(`update missions set ${text} where id = $1`, [id, ...values])
        return settle(client, missionRow(id))
      }),

    deleteMission: (ref: MissionRef, allow: Allow): Promise<void> =>
      transaction(async (client) => {
        const id = await enter(client, ref, allow, 'for update')
        await client.query('delete from missions where id = $1', [id])
        await settle(client, `select 'gone' as json`)
      }),

    async mission(ref: MissionRef) {
      const { rows } = await pool.query<{ mission_id: string; number: number; assigned_to: string; json: string }>({
        name: 'mission',
        text: `select m.id as mission_id, m.number, m.assigned_to, deck.mission_json(t)::text as json
               from ${missionByRef} m join missions t on t.id = m.id`,
        values: refValues(ref),
      })
      return { mission: toRights(rows[0]), json: rows[0]?.json ?? '' }
    },

    async clearChat(ref: MissionRef, allow: Allow, citizen: string, by: string): Promise<void> {
      const { id, cleared } = await transaction(async (client) => {
        const id = await enter(client, ref, allow)
        const { rows } = await client.query<{ cleared: number }>('select deck.clear_chat($1, $2, $3) as cleared', [
          id,
          citizen,
          by,
        ])
        await client.query('commit')
        return { id, cleared: rows[0]?.cleared }
      })
      // Messages that somebody had locked: gone, or to be removed now that no head is held.
      await pool.query('select deck.remove_messages($1, $2, $3, false)', [id, citizen, cleared])
    },

    // The checklist

    async checklist(ref: MissionRef) {
      const { rows } = await pool.query<{ mission_id: string; number: number; assigned_to: string; json: string }>({
        name: 'checklist',
        text: `select m.id as mission_id, m.number, m.assigned_to,
                 jsonb_build_object('items', ${items}, 'progress', ${progress})::text as json
               from ${missionByRef} m`,
        values: refValues(ref),
      })
      return { mission: toRights(rows[0]), json: rows[0]?.json ?? '' }
    },

    addItem: (ref: MissionRef, allow: Allow, { text, category }: NewDodItem): Promise<string> =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        const { rows } = await client.query<{ id: string }>(
          'insert into dod_items (mission_id, text, category) values ($1, $2, $3) returning id',
          [mission, text, category],
        )
        return settle(
          client,
          `select deck.dod_item_json(d)::text as json from dod_items d where id = ${quoted(rows[0]?.id ?? '')}`,
        )
      }),

    /** Ticks an item, or (null) deletes it; -> { item, progress }. */
    changeItem: (ref: MissionRef, allow: Allow, item: string, completed: boolean | null): Promise<string> =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        const read = `select jsonb_build_object('item', i.data, 'progress', ${progress})::text as json
                      from missions m, deck.events i where m.id = ${quoted(mission)}`
        if (completed === null) {
          const gone = await client.query('delete from dod_items where id = $1 and mission_id = $2', [item, mission])
          if (gone.rowCount === 0) throw deny('not_found', 'no such item')
          // The deletion's own event, numbered just now under the head that this transaction holds, is the last of its topic.
          const topic = quoted(`missions/${mission}/dod`)
          return settle(
            client,
            `${read} and i.topic = ${topic} and i.seq = (select max(seq) from deck.events where topic = ${topic})`,
          )
        }
        const { rowCount } = await client.query(
          'update dod_items set completed = $3 where id = $1 and mission_id = $2',
          [item, mission, completed],
        )
        if (rowCount === 0) throw deny('not_found', 'no such item')
        return settle(
          client,
          `select jsonb_build_object('item', deck.dod_item_json(d), 'progress', ${progress})::text as json
           from missions m, dod_items d where m.id = ${quoted(mission)} and d.id = ${quoted(item)}`,
        )
      }),

    /** Ticks all items and sets the mission to 'qa', or unticks all; -> { items, progress }. */
    changeAllItems: (ref: MissionRef, allow: Allow, completed: boolean): Promise<string> =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        await client.query(
          'update dod_items set completed = $2 where mission_id = $1 and completed is distinct from $2',
          [mission, completed],
        )
        if (completed)
          await client.query(`update missions set status = 'qa' where id = $1 and status <> 'qa'`, [mission])
        return settle(
          client,
          `select jsonb_build_object('items', ${items}, 'progress', ${progress})::text as json from missions m where id = ${quoted(mission)}`,
        )
      }),

    // Test runs

    async listRuns(ref: MissionRef, { before, limit }: { before?: { at: string; id: string }; limit: number }) {
      const { rows } = await pool.query<{
        mission_id: string
        number: number
        assigned_to: string
        id: string | null
        created_at: string
        json: string
      }>({
        name: 'runs',
        text: `select m.id as mission_id, m.number, m.assigned_to, r.*
               from ${missionByRef} m
               left join lateral (
                 select t.id, t.created_at, deck.test_run_json(t)::text as json from test_runs t
                 where t.mission_id = m.id
                   and ($3::timestamptz is null or (t.created_at, t.id) < (${time('$3')}, $4::uuid))
                 order by t.created_at desc, t.id desc limit $5
               ) r on true
               order by r.created_at desc, r.id desc`,
        values: [...refValues(ref), before?.at, before?.id, limit + 1],
      })
      const found = rows.filter(({ id }) => id !== null)
      const page = found.slice(0, limit)
      const last = page.at(-1)
      return {
        mission: toRights(rows[0]),
        rows: page.map((row) => row.json),
        next: found.length > limit && last ? { at: last.created_at, id: last.id ?? '' } : null,
      }
    },

    /** One run of a mission, or (null) its newest; `json` is null if there is none. */
    async run(ref: MissionRef, run: string | null) {
      const { rows } = await pool.query<{
        mission_id: string
        number: number
        assigned_to: string
        json: string | null
      }>({
        name: run === null ? 'run-latest' : 'run',
        text: `select m.id as mission_id, m.number, m.assigned_to, r.json
               from ${missionByRef} m
               left join lateral (
                 select deck.test_run_json(t)::text as json from test_runs t
                 where t.mission_id = m.id and ${run === null ? '$3::uuid is null' : 't.id = $3::uuid'}
                 order by t.created_at desc, t.id desc limit 1
               ) r on true`,
        values: [...refValues(ref), run],
      })
      return { mission: toRights(rows[0]), json: rows[0]?.json ?? null }
    },

    createRun: (ref: MissionRef, allow: Allow, { status, summary, results, logs }: NewTestRun): Promise<string> =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        const { rows } = await client.query<{ id: string }>(
          'insert into test_runs (mission_id, status, summary, results, logs) values ($1, $2, $3, $4, $5) returning id',
          [mission, status ?? 'running', json(summary), json(results), logs],
        )
        return settle(client, runRow(rows[0]?.id ?? ''))
      }),

    changeRun: (ref: MissionRef, allow: Allow, run: string, patch: TestRunPatch): Promise<string> =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        const { text, values } = assignments([
          ['status', plain, patch.status],
          ['summary', plain, json(patch.summary)],
          ['results', plain, json(patch.results)],
        ])
        const { rowCount } = await client.query(
          `update test_runs set ${text || 'status = status'} where id = $1 and mission_id = ${quoted(mission)}`,
          [run, ...values],
        )
        if (rowCount === 0) throw deny('not_found', 'no such test run')
        return settle(client, runRow(run))
      }),

    // Logs

    /** Appends a chunk; -> its seq (where the log stands, if the chunk is empty). */
    appendLog: (ref: MissionRef, allow: Allow, run: string, chunk: string): Promise<number> =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        const there = await client.query('select from test_runs where id = $1 and mission_id = $2 for key share', [
          run,
          mission,
        ])
        if (there.rowCount === 0) throw deny('not_found', 'no such test run')
        const { rows } = await client.query<{ seq: number }>(
          chunk === ''
            ? `select coalesce((select max(seq) from deck.events where topic = 'missions/' || $1::uuid || '/tests/' || $2::uuid || '/logs'), 0)
                 as seq where $3 = ''`
            : 'select deck.append_log($1, $2, $3) as seq',
          [mission, run, chunk],
        )
        await client.query('commit')
        return rows[0]?.seq ?? 0
      }),

    /** The text of a run's log as of the first read, a few chunks at a time; throws if some of it is deleted meanwhile. */
    async *logText(mission: string, run: string): AsyncGenerator<string> {
      const topic = `missions/${mission}/tests/${run}/logs`
      const bounds = await pool.query<{ first: number; last: number }>({
        name: 'log-bounds',
        text: `select coalesce(max(seq) filter (where event = 'log.replaced'), min(seq), 1) as first, coalesce(max(seq), 0) as last
               from deck.events where topic = $1`,
        values: [topic],
      })
      const { first = 1, last = 0 } = bounds.rows[0] ?? {}
      for (let next = first; next <= last;) {
        const { rows } = await pool.query<{ seq: number; chunk: string }>({
          name: 'log-chunks',
          text: `select seq, data ->> 'chunk' as chunk from deck.events
                 where topic = $1 and seq >= $2 and seq <= $3 order by seq limit 4`,
          values: [topic, next, last],
        })
        if (rows[0]?.seq !== next) throw new Error('the log went while it was read')
        for (const { chunk } of rows) yield chunk
        next += rows.length
      }
    },

    /** House-keeping that every instance does now and then. */
    tidy: async (): Promise<void> => void (await writes.query('select deck.tidy()')),
  }
}
export type Changes = ReturnType<typeof makeChanges>
