// Test runs: the API's reads and changes, appending to run logs (database/read/run-logs reads them), and housekeeping.
import type pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import type { NewTestRun, TestRunPatch } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { readMission, selectMission } from '../read/read-mission.ts'
import { answerBytes } from '../bounds.ts'
import { assignments, plain, quoted, utc, type Allow, type Transactions } from '../postgres/transaction.ts'

/**
 * A page of a mission's runs, newest first. A mission without runs yields one row whose `id` is null.
 *
 * $3, $4 the page's runs are older than the run with this creation time (RFC 3339) and ID, or null
 * $5 maximum number of runs
 */
const runPage = selectMission({
  columns: 'r.*',
  joins: `
  left join lateral (
    select t.id, t.created_at, deck.test_run_json(t)::text as json from test_runs t
    where t.mission_id = m.id
      and ($3::timestamptz is null or (t.created_at, t.id) < (${utc('$3')}, $4::uuid))
    order by t.created_at desc, t.id desc limit $5
  ) r on true
  order by r.created_at desc, r.id desc`,
})

/** Where a page of runs ended: its last run's creation time (RFC 3339) and ID. */
export type RunCursor = { at: string; id: string }
export type RunRow = { id: string | null; created_at: string; json: string | null }

// Runs per read. A run may have megabytes: the first read is small, so that few rows are read in vain.
const runsPerRead = { first: 4, most: 32 }

/** Reads a page in parts until it has `limit` runs or answerBytes bytes. Returns it with the other fields of the first part. */
export const pageOfRuns = async <Found extends { rows: RunRow[] }>(
  limit: number,
  before: RunCursor | undefined,
  read: (cursor: RunCursor | undefined, count: number) => Promise<Found>,
): Promise<Omit<Found, 'rows'> & { rows: string[]; next: RunCursor | null }> => {
  const page: string[] = []
  let bytes = 0
  let first: Found | undefined
  let count: number = runsPerRead.first
  for (let cursor = before; ;) {
    const asked = Math.min(limit - page.length, count)
    count = Math.min(2 * count, runsPerRead.most)
    const part = await read(cursor, asked + 1)
    first ??= part
    const found = part.rows.filter(({ id }) => id !== null)
    for (const { json, created_at, id } of found.slice(0, asked)) {
      bytes += Buffer.byteLength(json ?? '')
      if (page.length > 0 && bytes > answerBytes) return { ...first, rows: page, next: cursor ?? null }
      page.push(json ?? '')
      cursor = { at: created_at, id: id ?? '' }
    }
    const more = found.length > asked
    if (!more || page.length >= limit) return { ...first, rows: page, next: more ? (cursor ?? null) : null }
  }
}

const runOf = (which: string): string =>
  selectMission({
    columns: 'r.json',
    joins: `
  left join lateral (
    select deck.test_run_json(t)::text as json from test_runs t
    where t.mission_id = m.id and ${which}
    order by t.created_at desc, t.id desc limit 1
  ) r on true`,
  })
/** One run; $3: its ID. */
const oneRun = runOf('t.id = $3::uuid')
/** The newest run; $3: null. */
const latestRun = runOf('$3::uuid is null')

/** A run and its task; $3: its ID. */
const runTask = selectMission({
  columns: 'r.run, r.task',
  joins: `
  left join lateral (
    select t.id as run, (to_jsonb(k) || jsonb_build_object('since', deck.iso(k.since at time zone 'utc')))::text as task
    from test_runs t left join lateral deck.run_task(t.id) k on true
    where t.mission_id = m.id and t.id = $3::uuid limit 1
  ) r on true`,
})

/** A run as a client sends it. summary and results are JSON texts, so that Postgres stores their numbers without rounding. */
type RunPatch = Pick<TestRunPatch, 'status'> & {
  summary?: string | null | undefined
  results?: string | null | undefined
}
type NewRun = RunPatch & Pick<NewTestRun, 'logs'>

export const makeRuns = (pool: pg.Pool, { transaction, enter, settle, write }: Transactions) => {
  const runRow = (id: string): string =>
    `select deck.test_run_json(t)::text as json from test_runs t where id = ${quoted(id)}`

  return {
    /** Returns up to `limit` runs or answerBytes bytes, at least one run. */
    listRuns: (ref: MissionRef, { before, limit }: { before?: RunCursor; limit: number }) =>
      pageOfRuns(limit, before, async (cursor, count) => {
        const { mission, rows } = await readMission<RunRow>(pool, {
          ref,
          name: 'runs',
          text: runPage,
          values: [cursor?.at, cursor?.id, count],
        })
        return { mission, rows }
      }),

    /** A mission's run, or (null) its newest; `json` is null if it does not exist. */
    async run(ref: MissionRef, run: string | null) {
      const { mission, rows } = await readMission<{ json: string | null }>(pool, {
        ref,
        name: run === null ? 'run-latest' : 'run',
        text: run === null ? latestRun : oneRun,
        values: [run],
      })
      return { mission, json: rows[0]?.json ?? null }
    },

    createRun: (ref: MissionRef, allow: Allow, { status, summary, results, logs }: NewRun): Promise<string> =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        const { rows } = await client.query<{ id: string }>(
          'insert into test_runs (mission_id, status, summary, results, logs) values ($1, $2, $3, $4, $5) returning id',
          [mission, status ?? 'running', summary, results, logs],
        )
        return settle(client, runRow(rows[0]?.id ?? ''))
      }),

    /** Asks for a run: a new run, and its task in a citizen's inbox. */
    askForRun: (ref: MissionRef, allow: Allow, citizen: string): Promise<string> =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        const { rows } = await client.query<{ id: string }>(
          `insert into test_runs (mission_id, status) values ($1, 'running') returning id`,
          [mission],
        )
        const id = rows[0]?.id ?? ''
        await client.query('select deck.add_run_task($1, $2)', [id, citizen])
        return settle(client, runRow(id))
      }),

    /** Cancels a run. If somebody has it, the run stays as it is: `holder` has to be asked to stop. */
    cancelRun: (ref: MissionRef, allow: Allow, run: string, by: string) =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        const { rows } = await client.query<{ state: string; holder: string | null }>(
          'select state, holder from deck.cancel_run($1, $2, $3)',
          [mission, run, by],
        )
        const { state, holder = null } = rows[0] ?? {}
        if (state === 'missing') throw deny('not_found', 'no such test run')
        if (state === 'ended') throw deny('conflict', 'the run has ended: only a running one can be cancelled')
        return { mission, holder, json: await settle(client, runRow(run)) }
      }),

    /** Returns the task of a mission's run, as JSON. `task` is null if the run has ended or nobody asked for it, `run` if it does not exist. */
    async task(ref: MissionRef, run: string) {
      const { mission, rows } = await readMission<{ run: string | null; task: string | null }>(pool, {
        ref,
        name: 'run-task',
        text: runTask,
        values: [run],
      })
      return { mission, run: rows[0]?.run ?? null, task: rows[0]?.task ?? null }
    },

    /** Fails the runs that nobody works. `patience`: in seconds; 0: no limit. */
    async failLost(patience: number): Promise<void> {
      await write('select deck.fail_lost_runs($1)', [patience])
    },

    changeRun: (ref: MissionRef, allow: Allow, run: string, patch: RunPatch): Promise<string> =>
      transaction(async (client) => {
        const mission = await enter(client, ref, allow)
        // Tasks are locked before rows.
        await client.query('select from deck.tasks where run = $1 for update', [run])
        const { text, values } = assignments([
          ['status', plain, patch.status],
          ['summary', plain, patch.summary],
          ['results', plain, patch.results],
        ])
        const { rowCount } = await client.query(
          `update test_runs set ${text || 'status = status'} where id = $1 and mission_id = ${quoted(mission)}`,
          [run, ...values],
        )
        if (rowCount === 0) throw deny('not_found', 'no such test run')
        return settle(client, runRow(run))
      }),

    // Logs

    /** Appends a chunk and returns its seq. For an empty chunk, returns the log's latest seq. */
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

    /** Housekeeping that each instance runs periodically. */
    async tidy(): Promise<void> {
      await write('select deck.tidy()')
      await write('select deck.weigh_again()')
    },
  }
}
export type Runs = ReturnType<typeof makeRuns>
