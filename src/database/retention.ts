// Retention: takes away what was numbered before a time, mission by mission, in batches that are transactions of their own: the messages of
// chats; test runs to which nothing happened since, with results and logs; events that later ones made void. Heads stay, so no seq is given
// twice. It waits for nobody's lock, rests as long as it works, and may be ended at any point: run again, it goes on.
// What is locked, or worked on as a task, is left to the next time.
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { deny, noMission } from '../protocol/errors.ts'
import type { MissionRef } from '../protocol/topics.ts'
import { citizenOf } from './postgres/columns.ts'
import { missionByRef, refValues } from './read/read-mission.ts'

/** Messages, or events looked at, that a transaction takes: some 30 ms. */
const rows = 1000
/** Runs that one takes, and bytes of their logs, but for one run. */
const runs = 50
const runBytes = 16 * 1024 * 1024
/** Hours that a key has to be known for: a sender whose answer was lost sends again under it. */
const hours = 24
const turn = 4_747_003

export type Pruned = { missions: number; messages: number; runs: number; events: number; kept: number }

/** Ends as soon as `signal` is aborted. `dry`: counts, and changes nothing. -> what went, or would go. */
export const prune = async (
  client: pg.Client,
  options: {
    /** RFC 3339 */
    before: string
    mission?: MissionRef | undefined
    dry: boolean
    signal: AbortSignal
    /** after each batch, and each mission: what went so far, and how many missions are done of how many */
    onProgress: (sofar: Pruned, of: number) => void
  },
): Promise<Pruned> => {
  const { mission, dry, signal, onProgress } = options
  const done: Pruned = { missions: 0, messages: 0, runs: 0, events: 0, kept: 0 }
  // As the server's sessions have it: plans rest on no statistics. Batches are short, a count may be long.
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

  /** Calls for batches until one finds nothing more. */
  const batches = async (batch: () => Promise<boolean>): Promise<void> => {
    while (!signal.aborted) {
      const since = performance.now()
      const more = await batch()
      onProgress(done, missions.length)
      if (!more) return
      // The writers' machine is theirs.
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
      // First, so that no client receives a state that is being removed.
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
      for (const part of ['', '/dod', '/tests']) await events(`missions/${id}${part}`)
      if (!signal.aborted) done.missions++
      onProgress(done, missions.length)
    }
  } finally {
    await client.query(`select pg_advisory_unlock(${turn})`).catch(() => {})
  }
  return done
}
