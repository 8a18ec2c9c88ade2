// Retention: deletes rows that were numbered before a time. These are chat messages, test runs that have not changed since (with results and
// logs), and events that later events replace. Heads are kept, so that no seq is reused.
//
// It works mission by mission. Each batch is a separate transaction and waits for no lock: locked rows, and messages whose task is leased,
// are left to the next run. After each batch it pauses as long as the batch took. It can be stopped at any point; the next run continues.
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { deny, noMission } from '../protocol/errors.ts'
import type { MissionRef } from '../protocol/topics.ts'
import { citizenOf } from './postgres/columns.ts'
import { missionByRef, refValues } from './read/read-mission.ts'

/** Messages or events per transaction, about 30 ms. */
const rows = 1000
/** Runs per transaction, and bytes of their logs; a run with a larger log is deleted alone. */
const runs = 50
const runBytes = 16 * 1024 * 1024
/** Hours for which a message's key must be known: after a lost answer the sender retries with the same key. */
const hours = 24
const turn = 4_747_003

export type Pruned = { missions: number; messages: number; runs: number; events: number; kept: number }

/** Stops as soon as `signal` is aborted. `dry`: only counts. Returns the number of rows that were deleted, or would be (`dry`). */
export const prune = async (
  client: pg.Client,
  options: {
    /** RFC 3339 */
    before: string
    mission?: MissionRef | undefined
    dry: boolean
    signal: AbortSignal
    /** called after each batch and each mission with the counts so far and the number of all missions */
    onProgress: (sofar: Pruned, of: number) => void
  },
): Promise<Pruned> => {
  const { mission, dry, signal, onProgress } = options
  const done: Pruned = { missions: 0, messages: 0, runs: 0, events: 0, kept: 0 }
  // The planner settings of the server's sessions (session-settings). statement_timeout is 0 because a count may take long.
  await client.query(
    `set enable_seqscan = off; set enable_bitmapscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set jit = off;
     set plan_cache_mode = force_generic_plan; set lock_timeout = '3s'; set statement_timeout = 0`,
  )
  const { rows: times } = await client.query<{ before: string; fits: boolean }>(
    `select t.before::text, t.before <= (clock_timestamp() at time zone 'utc') - interval '${hours} hours' as fits
     from (select $1::timestamptz at time zone 'utc' as before) t`,
    [options.before],
  )
  const before = times[0]?.before ?? ''
  if (!times[0]?.fits)
    throw deny(
      'bad_request',
      `only what is older than ${hours} hours is pruned: keys of later messages are still sent again`,
    )
  const { rows: locks } = await client.query<{ mine: boolean }>(`select pg_try_advisory_lock(${turn}) as mine`)
  if (!locks[0]?.mine) throw deny('conflict', 'another prune is running')

  const one = async <T extends pg.QueryResultRow>(
    name: string,
    text: string,
    values: unknown[],
  ): Promise<T | undefined> => (await client.query<T>({ name, text, values })).rows[0]
  const asked = mission
    ? await client.query<{ id: string }>(`select id from ${missionByRef} m`, refValues(mission))
    : await client.query<{ id: string }>('select id from missions order by number')
  if (mission && asked.rows.length === 0) throw noMission()
  const missions = asked.rows.map(({ id }) => id)

  /** Calls `batch` until it returns false. */
  const batches = async (batch: () => Promise<boolean>): Promise<void> => {
    while (!signal.aborted) {
      const since = performance.now()
      const more = await batch()
      onProgress(done, missions.length)
      if (!more) return
      // Leaves at least half of the time to other sessions.
      if (!dry) await delay(performance.now() - since, undefined, { signal }).catch(() => {})
    }
  }

  const chat = async (id: string, citizen: string): Promise<void> => {
    const place = await one<{ upto: number }>(
      'prune-upto',
      `select deck.seq_at('missions/' || $1::uuid || '/chat/' || $2::text, $1, $2, $3, false) as upto`,
      [id, citizen, before],
    )
    if (!place?.upto) return
    if (dry) {
      const found = await one<{ count: number }>(
        'prune-count',
        'select count(*)::integer as count from chat_messages where mission_id = $1 and citizen = $2 and seq <= $3',
        [id, citizen, place.upto],
      )
      done.messages += found?.count ?? 0
      return
    }
    let after = 0
    await batches(async () => {
      const found = await one<{ last: number | null; removed: number; kept: number }>(
        'prune-chat',
        'select * from deck.prune_chat($1, $2, $3, $4, $5)',
        [id, citizen, after, place.upto, rows],
      )
      done.messages += found?.removed ?? 0
      done.kept += found?.kept ?? 0
      after = found?.last ?? place.upto
      return after < place.upto
    })
  }

  const testRuns = async (id: string): Promise<void> => {
    if (dry) {
      const found = await one<{ count: number }>(
        'prune-runs-count',
        `select count(*)::integer as count
         from deck.prunable_runs($1, $2, '-infinity', '00000000-0000-0000-0000-000000000000', 2147483647)`,
        [id, before],
      )
      done.runs += found?.count ?? 0
      return
    }
    let place: { after: string | null; after_id: string | null } = {
      after: '-infinity',
      after_id: '00000000-0000-0000-0000-000000000000',
    }
    await batches(async () => {
      const found = await one<{ after: string | null; after_id: string | null; removed: number; kept: number }>(
        'prune-runs',
        'select after::text, after_id, removed, kept from deck.prune_runs($1, $2, $3, $4, $5, $6)',
        [id, before, place.after, place.after_id, runs, runBytes],
      )
      done.runs += found?.removed ?? 0
      done.kept += found?.kept ?? 0
      place = found ?? place
      return (found?.after_id ?? null) !== null
    })
  }

  const events = async (topic: string): Promise<void> => {
    const place = await one<{ upto: number }>(
      'prune-events-upto',
      'select deck.seq_at($1, null, null, $2, false) as upto',
      [topic, before],
    )
    if (!place?.upto) return
    let after = 0
    await batches(async () => {
      const found = await one<{ last: number | null; removed: number }>(
        'prune-events',
        'select * from deck.prune_events($1, $2, $3, $4, $5)',
        [topic, after, place.upto, rows, dry],
      )
      done.events += found?.removed ?? 0
      after = found?.last ?? place.upto
      return after < place.upto
    })
  }

  try {
    for (const id of missions) {
      if (signal.aborted) break
      // Recorded before anything is deleted, so that no client receives a past state with missing rows.
      if (!dry)
        await client.query(
          `insert into deck.pruned as p (mission_id, before) select id, $2 from missions where id = $1
           on conflict (mission_id) do update set before = excluded.before where p.before < excluded.before`,
          [id, before],
        )
      const { rows: chats } = await client.query<{ citizen: string }>({
        name: 'prune-chats',
        text: `select ${citizenOf('h.topic')} as citizen from deck.heads h
               where h.topic > 'missions/' || $1::uuid || '/chat/' and h.topic < 'missions/' || $1::uuid || '/chat0'`,
        values: [id],
      })
      for (const { citizen } of chats) await chat(id, citizen)
      await testRuns(id)
      for (const part of ['', '/dod', '/tests', '/requests']) await events(`missions/${id}${part}`)
      if (!signal.aborted) done.missions++
      onProgress(done, missions.length)
    }
  } finally {
    await client.query(`select pg_advisory_unlock(${turn})`).catch(() => {})
  }
  return done
}
