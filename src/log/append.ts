// Calls of deck.append: entries go in together, each is answered with what became of it. What is busy, and what can't be known
// because the connection broke, comes back to the writer; the latter marked `again`, so that the next call looks up its id
// under the head's lock before it writes. An entry that can't be stored fails alone, never its batch.
import type pg from 'pg'
import { deny, noMission, type Refusal } from '../protocol/errors.ts'
import type { CodeBlock, Message } from '../protocol/rows.ts'
import type { Audited } from './access.ts'
import { isAmbiguous, isRetryable, sqlState, toRefusal } from './database.ts'
import { toMessage, type MessageColumns } from './store.ts'

/** A message to be written. */
export type Entry = {
  topic: string
  id: string
  sender: Message['sender']
  author: string | null
  /** whom the mission must still be assigned to, if the writer's right rests on it */
  assigned: string | null
  message: string
  code_blocks: CodeBlock[] | null
  key: string | null
  /** the admin who writes it as another, for the audit */
  by?: string
}

/** `seen`: the key had been used, and this is the message that the first send saved. */
export type Written = { message: Message; seen: boolean }

/** An entry that waits for its answer. */
export type Pending = {
  entry: Entry
  bytes: number
  mission: string
  citizen: string
  due: number
  /** whether a call with it may have committed without our knowing */
  again: boolean
  inFlight: boolean
  settled: boolean
  resolve: (written: Written) => void
  reject: (refusal: unknown) => void
}

type SavedColumns = Omit<MessageColumns, 'code_blocks'> & { code_blocks: unknown }
type Outcome = { n: number; outcome: string; seq: number; created_at: string; saved: string | null }

const append = 'select n, outcome, seq, created_at, saved from deck.append($1, $2, $3, $4)'
// The audit stands or falls with what it tells of.
const audited = `
  with done as materialized (${append}),
  noted as (
    insert into deck.audit (action, actor, mission_id, detail)
    select 'message.as', e.by, e.mission,
           jsonb_build_object('citizen', e.citizen, 'seq', done.seq, 'sender', e.sender, 'author', e.author)
    from done join json_to_recordset($3) as e (n int, by text, mission uuid, citizen text, sender text, author text) using (n)
    where e.by is not null and done.outcome = 'saved')
  select * from done`

export const makeAppend = (
  pool: pg.Pool,
  {
    succeed,
    fail,
    onFault,
    audit,
    stats,
  }: {
    succeed: (pending: Pending, written: Written) => void
    fail: (pending: Pending, refusal: Refusal) => void
    onFault: (error: unknown) => void
    audit: (line: Audited) => void
    stats: { batches: number; entries: number }
  },
) => {
  /** One call: what is known of each entry is answered, the busy ones come back. */
  const call = async (batch: Pending[], wait: number): Promise<Pending[]> => {
    // Nothing has been sent where this fails, and nothing is unknown.
    const client = await pool.connect()
    const live = batch.filter(({ settled }) => !settled)
    if (live.length === 0) {
      client.release()
      return []
    }
    const topics = new Set<string>()
    const missions = new Set<string>()
    for (const { entry, mission } of live) {
      topics.add(entry.topic)
      missions.add(mission)
    }
    const entries = live.map(({ entry, mission, citizen, again }, n) => ({ n, mission, citizen, again, ...entry }))
    for (const pending of live) pending.inFlight = true
    let rows: Outcome[]
    try {
      const noted = live.some(({ entry }) => entry.by !== undefined)
      ;({ rows } = await client.query<Outcome>({
        name: noted ? 'append audited' : 'append',
        text: noted ? audited : append,
        values: [[...missions].sort(), [...topics].sort(), JSON.stringify(entries), wait],
      }))
      client.release()
    } catch (error) {
      const broken = isAmbiguous(error)
      client.release(broken)
      if (broken) for (const pending of live) pending.again = true
      throw error
    } finally {
      for (const pending of live) pending.inFlight = false
    }
    stats.batches++
    const busy: Pending[] = []
    for (const row of rows.sort((a, b) => a.n - b.n)) {
      const pending = live[row.n]
      if (!pending) continue
      if (row.outcome === 'busy') busy.push(pending)
      else answer(pending, row)
    }
    return busy
  }

  const answer = (pending: Pending, { outcome, seq, created_at, saved }: Outcome): void => {
    const { entry, mission, citizen } = pending
    if (outcome === 'gone') return fail(pending, noMission())
    if (outcome === 'cleared') return fail(pending, deny('conflict', 'this key was used before the chat was cleared'))
    stats.entries++
    // An entry whose own first call had committed is not a repetition.
    const first = saved === null ? undefined : (JSON.parse(saved) as SavedColumns)
    const seen = first !== undefined && first.id !== entry.id
    const { id, sender, author, message, code_blocks, key, by } = entry
    if (by !== undefined && !seen)
      audit({ action: 'message.as', actor: by, mission, detail: { citizen, seq, sender, author } })
    if (!first) {
      const row = { id, mission_id: mission, citizen, sender, author, message, code_blocks, created_at, seq, key }
      return succeed(pending, { message: row, seen })
    }
    const blocks = first.code_blocks === null ? null : JSON.stringify(first.code_blocks)
    const row = { ...first, code_blocks: blocks, created_at, seq, key }
    succeed(pending, { message: toMessage(row, mission, citizen), seen })
  }

  /** A call, and what its failure means: -> the entries that have to wait. */
  const attempt = async (batch: Pending[], wait: number): Promise<Pending[]> => {
    for (let tries = 1; ; tries++) {
      try {
        return await call(batch, wait)
      } catch (error) {
        if (isRetryable(error) && tries < 5) continue
        const unanswered = batch.filter(({ settled }) => !settled)
        if (isAmbiguous(error) || sqlState(error) === '55P03' || sqlState(error) === '57014') return unanswered
        if (unanswered.length === 1) {
          const refusal = toRefusal(error)
          if (!refusal) onFault(error)
          for (const pending of unanswered) fail(pending, refusal ?? deny('internal'))
          return []
        }
        // One bad entry fails alone: the batch is tried entry by entry.
        const busy: Pending[] = []
        for (const pending of unanswered)
          // Not before an earlier one of its topic.
          if (busy.some(({ entry }) => entry.topic === pending.entry.topic)) busy.push(pending)
          else busy.push(...(await attempt([pending], wait)))
        return busy
      }
    }
  }
  return attempt
}
