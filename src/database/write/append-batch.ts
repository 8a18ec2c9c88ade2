// Calls deck.append_messages with a batch of entries and answers each entry with its outcome. Saved messages are passed on as pages of
// their topics, without reading them from the database.
//
// Busy entries return to the writer. If the connection broke, an entry may or may not be saved, so it returns marked `again`. The next
// call then looks up its id under the head's lock before it writes. An entry that can't be stored fails alone, not its batch.
import type pg from 'pg'
import { deny, noMission, type Refusal } from '../../protocol/errors.ts'
import { blocksOf } from '../../protocol/blocks.ts'
import type { Event, Page } from '../../protocol/rows.ts'
import { topicParts } from '../../protocol/topics.ts'
import type { Audited } from '../auth-store.ts'
import { perMission } from '../bounds.ts'
import { isAmbiguous, isRetryable, isSpent, meaningOf, sqlState, toRefusal } from '../postgres/errors.ts'
import { callOf, type Call, type Other, type Outcome } from './append-call.ts'
import { encode, type Entry, type Pending, type Written } from './pending-message.ts'
import type { Epochs } from '../postgres/epoch.ts'

/** Returns the message that an entry answers. A reply that ends a task answers the task's message. */
const answeredBy = ({ task, reply_to }: Entry): string | null => task?.id ?? reply_to

export const makeAppend = (
  pool: pg.Pool,
  {
    origin,
    succeed,
    fail,
    onSaved,
    onLost,
    onFault,
    onAnswered,
    onFailed,
    audit,
    saw,
    observe,
    stats,
  }: {
    /** this instance's name in notifications */
    origin: string
    succeed: (pending: Pending, written: Written) => void
    fail: (pending: Pending, refusal: Refusal) => void
    /** receives a topic's new rows, which follow the seq `from` */
    onSaved: (topic: string, from: number, page: Page) => void
    /** the answer of a call was lost: it may have saved rows that followers have not received */
    onLost: () => void
    onFault: (error: unknown) => void
    /** Postgres executed a batch; entries may still have been refused */
    onAnswered: () => void
    /** Postgres did not execute a batch; its entries wait */
    onFailed: (error: unknown) => void
    audit: (line: Audited) => void
    saw: Epochs['saw']
    /** for metrics: messages per batch; seconds from a request to its commit */
    observe: {
      batch: (size: number) => void
      commit: (seconds: number) => void
      /** for traces: the entries of a batch, and when it was sent and answered (performance.now) */
      committed?: ((entries: readonly Pending[], since: number, until: number) => void) | undefined
    }
    stats: { batches: number; entries: number }
  },
) => {
  /** Sends one batch and answers its entries. Returns the busy ones. */
  const call = async (batch: Pending[], wait: number): Promise<Pending[]> => {
    // If this fails, nothing was sent, so no entry's outcome is unknown.
    const client = await pool.connect()
    const live = batch.filter(({ settled }) => !settled)
    if (live.length === 0) {
      client.release()
      return []
    }
    let request: Call
    try {
      request = callOf(live, wait, origin)
    } catch (error) {
      client.release()
      onFault(error)
      throw Object.assign(deny('internal'), { cause: error })
    }
    const { topics, chats } = request
    for (const pending of live) pending.inFlight = true
    const asOf = performance.now()
    let found: Outcome | undefined
    try {
      found = await request.run(client)
      client.release()
    } catch (error) {
      client.release(isSpent(error))
      // 57014: a cancelled statement may have committed before it was cancelled.
      if (isAmbiguous(error) || sqlState(error) === '57014') {
        for (const pending of live) pending.again = true
        onLost()
      }
      throw error
    } finally {
      for (const pending of live) pending.inFlight = false
    }
    onAnswered()
    stats.batches++
    observe.batch(live.length)
    const answeredAt = performance.now()
    const busy = found ? answer(live, topics, chats, found, asOf) : []
    observe.committed?.(live, asOf, answeredAt)
    return busy
  }

  const answer = (live: Pending[], topics: string[], chats: number[], found: Outcome, asOf: number): Pending[] => {
    saw('stamp', found.stamp, asOf)
    const now = performance.now()
    const others = new Map(found.others.map((other) => [other.n, other]))
    const pages = topics.map((): Event[] => [])
    const busy: Pending[] = []
    for (const [i, pending] of live.entries()) {
      const chat = (chats[i] ?? 0) - 1
      const other = others.get(i + 1)
      if (other?.outcome === 'busy') busy.push(pending)
      else if (other && other.outcome !== 'changed') answerOther(pending, other)
      else {
        const [head = 0, at = ''] = found.places[chat] ?? []
        const events = pages[chat] ?? []
        const seq = head + events.length + 1
        const message = other?.saved
          ? encodeStored(pending, other.saved, other.created_at, seq)
          : encode(pending, pending.entry, answeredBy(pending.entry), at, seq)
        events.push({ seq, event: 'message.created', data: message })
        note(pending, seq)
        stats.entries++
        observe.commit((now - pending.since) / 1000)
        succeed(pending, { seq, message, seen: false })
      }
    }
    const missions = new Map(found.rights.map((mission) => [mission.id, mission]))
    for (const [chat, topic] of topics.entries()) {
      const events = pages[chat] ?? []
      const covered = events.at(-1)?.seq
      if (covered === undefined) continue
      const mission = missions.get(topicParts(topic).mission)
      onSaved(topic, covered - events.length, { events, covered, head: covered, mission, asOf })
    }
    return busy
  }

  const note = ({ entry: { by, sender, author }, mission, citizen }: Pending, seq: number): void => {
    if (by !== undefined) audit({ action: 'message.as', actor: by, mission, detail: { citizen, seq, sender, author } })
  }

  const answerOther = (pending: Pending, { outcome, seq, created_at, saved }: Other): void => {
    const { entry } = pending
    if (outcome === 'gone') return fail(pending, noMission())
    if (outcome === 'full') return fail(pending, deny('conflict', `a mission has up to ${perMission.chats} chats`))
    if (outcome === 'fenced') return fail(pending, deny('conflict', 'this socket does not hold the task'))
    if (outcome === 'astray') return fail(pending, deny('bad_request', '`reply_to` names no message of this chat'))
    if (outcome === 'cleared') return fail(pending, deny('conflict', 'this key was used before the chat was cleared'))
    if (!saved) return
    // If the stored id is the entry's own, an earlier call for this entry had committed: it is no duplicate.
    const seen = saved.id !== entry.id
    if (!seen) note(pending, seq)
    stats.entries++
    succeed(pending, { seq, message: encodeStored(pending, saved, created_at, seq), seen })
  }

  const encodeStored = (
    pending: Pending,
    { key = pending.entry.key, ...saved }: NonNullable<Other['saved']>,
    created_at: string,
    seq: number,
  ): string => {
    const code_blocks = blocksOf(saved.code_blocks === null ? null : JSON.stringify(saved.code_blocks), saved.message)
    return encode(pending, { ...saved, code_blocks, key }, saved.in_reply_to, created_at, seq)
  }

  /** Calls, and retries or fails entries if the call fails. Returns the entries that have to wait. */
  const attempt = async (batch: Pending[], wait: number): Promise<Pending[]> => {
    for (let tries = 1; ; tries++) {
      try {
        return await call(batch, wait)
      } catch (error) {
        if (isRetryable(error) && tries < 5) continue
        const unanswered = batch.filter(({ settled }) => !settled)
        if (isSpent(error) || meaningOf(error) === 'wait') {
          // 55P03: another transaction holds a lock. This is no fault of the database.
          if (sqlState(error) !== '55P03') onFailed(error)
          return unanswered
        }
        if (unanswered.length === 1) {
          const refusal = toRefusal(error)
          if (!refusal) onFault(error)
          for (const pending of unanswered) fail(pending, refusal ?? Object.assign(deny('internal'), { cause: error }))
          return []
        }
        // So that a bad entry fails alone, the batch is sent entry by entry.
        const busy: Pending[] = []
        for (const pending of unanswered)
          // An earlier entry of the topic waits: the order of a topic's entries is kept.
          if (busy.some(({ entry }) => entry.topic === pending.entry.topic)) busy.push(pending)
          else busy.push(...(await attempt([pending], wait)))
        return busy
      }
    }
  }
  return attempt
}
