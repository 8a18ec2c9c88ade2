// The writer: one batch in flight, what arrives meanwhile is the next. An entry is answered once it is committed.
//
// A batch never waits for a foreign transaction: entries whose mission or head is locked by somebody else (or whose topic
// has no head yet) move to their topic's waiting lane, on a second connection, and later ones of that topic queue behind
// them, so that one sender's order is kept. Entries of a batch whose answer was lost go there too, marked `again`: their
// ids are looked up under the head's lock before they are written. What waits too long ends as `unavailable`.
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { deny, overloaded, type Refusal } from '../../protocol/errors.ts'
import { topicParts } from '../../protocol/topics.ts'
import { makeAppend } from './append-batch.ts'
import { reasonOf } from '../postgres/errors.ts'
import { makeQueue, writerOf } from './fair-queue.ts'
import type { Entry, Pending, Written } from './pending-message.ts'

export type WriterLimits = {
  /** entries a batch */
  batch: number
  /** bytes of text a batch, roughly */
  batchBytes: number
  /** entries and bytes that may wait; one author may hold half. Beyond: `unavailable` */
  queue: number
  queueBytes: number
  /** ms from an entry's request until it ends as `unavailable`, should it not be answered */
  deadline: number
}

export type Writer = {
  /** `since`: when its request came (performance.now), which counts for the deadline. */
  append(entry: Entry, since?: number): Promise<Written>
  /** Resolves once nothing is waiting any more. */
  idle(): Promise<void>
  /** Returns why messages can't be written; undefined if they can. */
  fault(): string | undefined
  /** What was written so far; messages and bytes that wait, and topics whose lock somebody else has, and has had for long. */
  /** Ends the tries; what waits is not touched. */
  close(): void
  stats(): { batches: number; entries: number; waiting: number; bytes: number; lane: number; held: number }
}

// How long (ms) the lane waits in the queue of a lock, which is for fairness between instances that write to one topic. A
// topic whose lock did not come is only looked at for a while, then waited for briefly, also when all that waited for it has
// been answered and more comes: others are not to wait behind it.
const laneWait = 50
const heldFor = 500
const heldWait = 3
const heldMemory = 30_000
// ms without an answer from Postgres, while messages wait, after which the writer reports a fault; ms between two probes while a fault
// lasts and no messages wait.
const stalledFor = 3000
const tryEvery = 1000

export const makeWriter = (
  pool: pg.Pool,
  limits: WriterLimits,
  hooks: Pick<
    Parameters<typeof makeAppend>[1],
    'origin' | 'onSaved' | 'onLost' | 'onFault' | 'audit' | 'saw' | 'observe'
  > & { tryWriting: () => Promise<unknown> },
): Writer => {
  const queue = makeQueue()
  // What each writer has waiting.
  const shares = new Map<string, { messages: number; bytes: number }>()
  const lanes = new Map<string, Pending[]>()
  // All that wait, in a list: a Set's tables, once old, would keep what they held alive until the next full collection.
  let oldest: Pending | undefined
  let newest: Pending | undefined
  let waiting = 0
  // Topics that somebody held for longer than that, and when their next turn is.
  const held = new Map<string, number>()
  const byKey = new Map<string, Promise<Written>>()
  let bytes = 0
  let batchRunning = false
  let laneRunning = false
  let sweeper: NodeJS.Timeout | undefined
  const idlers: (() => void)[] = []
  const stats = { batches: 0, entries: 0 }

  const settle = (pending: Pending): boolean => {
    if (pending.settled) return false
    pending.settled = true
    const { before, after } = pending
    if (before) before.after = after
    else oldest = after
    if (after) after.before = before
    else newest = before
    pending.before = pending.after = undefined
    waiting--
    bytes -= pending.bytes
    const writer = writerOf(pending.entry)
    const share = shares.get(writer)
    if (share) {
      share.messages--
      share.bytes -= pending.bytes
      if (share.messages === 0) shares.delete(writer)
    }
    if (waiting === 0) {
      clearInterval(sweeper)
      sweeper = undefined
      for (const wake of idlers.splice(0)) wake()
    }
    return true
  }
  const succeed = (pending: Pending, written: Written): void => {
    if (settle(pending)) pending.resolve(written)
  }
  const fail = (pending: Pending, refusal: Refusal): void => {
    if (settle(pending)) pending.reject(refusal)
  }

  // Whatever hangs, an entry is answered: one whose fate is unknown says so if no key can tell it later.
  const sweep = (): void => {
    const now = performance.now()
    for (let pending = oldest, next = oldest?.after; pending; pending = next, next = next?.after) {
      if (pending.due > now) continue
      const unknown = (pending.inFlight || pending.again) && pending.entry.key === null
      fail(pending, deny('unavailable', undefined, { retry_after: 1, ...(unknown ? { maybe: true as const } : {}) }))
    }
  }

  // Whether Postgres accepts writes. After a failed batch, while no messages wait, a probe writes a row: so the fault ends by itself.
  let answeredAt = performance.now()
  let failed: unknown
  let trying = false
  const over = new AbortController()
  const onAnswered = (): void => {
    answeredAt = performance.now()
    failed = undefined
  }
  const keepTrying = async (): Promise<void> => {
    while (failed !== undefined && !over.signal.aborted) {
      await delay(tryEvery, undefined, { ref: false })
      if (failed !== undefined && waiting === 0 && !over.signal.aborted)
        await hooks.tryWriting().then(onAnswered, onFailed)
    }
    trying = false
  }
  const onFailed = (error: unknown): void => {
    failed = error
    if (over.signal.aborted) return
    hooks.onFault(error)
    if (!trying) void keepTrying()
    trying = true
  }
  const fault = (): string | undefined => {
    const now = performance.now()
    const stalled = oldest !== undefined && now - oldest.since > stalledFor && now - answeredAt > stalledFor
    if (failed !== undefined) return `the last batch was not written (${reasonOf(failed)})`
    return stalled ? `nothing was written for ${stalledFor / 1000} s, though messages wait` : undefined
  }

  const attempt = makeAppend(pool, { ...hooks, onAnswered, onFailed, succeed, fail, stats })

  /** Takes entries from the front of a list, up to a batch's size. */
  const take = (list: Pending[]): Pending[] => {
    let size = 0
    let n = 0
    for (const pending of list) {
      if (n === limits.batch || (n > 0 && size + pending.bytes > limits.batchBytes)) break
      size += pending.bytes
      n++
    }
    return list.splice(0, n)
  }

  let wake = (): void => {}
  const nap = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })

  const toLane = (pending: Pending): void => {
    const { topic } = pending.entry
    const lane = lanes.get(topic)
    if (lane) lane.push(pending)
    else lanes.set(topic, [pending])
    if (!held.has(topic)) wake()
  }

  const pump = async (): Promise<void> => {
    if (batchRunning) return
    batchRunning = true
    while (queue.size > 0) {
      if (lanes.size > 0) queue.withdraw(({ entry }) => lanes.has(entry.topic)).forEach(toLane)
      if (queue.size === 0) break
      const busy = await attempt(queue.take(limits.batch, limits.batchBytes), 0)
      busy.forEach(toLane)
      if (lanes.size > 0) void runLanes()
    }
    batchRunning = false
  }

  /** Calls for the fronts of lanes; the lanes keep what is busy, in order. -> the topics that moved on. */
  const advance = async (topics: string[], wait: number): Promise<Set<string>> => {
    const fronts: Pending[] = []
    for (const topic of topics) {
      const lane = (lanes.get(topic) ?? []).filter(({ settled }) => !settled)
      lanes.set(topic, lane)
      fronts.push(...lane)
    }
    const taken = take(fronts)
    const busy = new Set((await attempt(taken, wait)).map(({ entry }) => entry.topic))
    for (const topic of topics) {
      const lane = (lanes.get(topic) ?? []).filter(({ settled }) => !settled)
      if (lane.length === 0) lanes.delete(topic)
      else lanes.set(topic, lane)
    }
    return new Set(taken.map(({ entry }) => entry.topic).filter((topic) => !busy.has(topic)))
  }

  const runLanes = async (): Promise<void> => {
    if (laneRunning) return
    laneRunning = true
    // Topics that nobody holds, as far as is known, wait together: new chats, whose heads are yet to be made, come by the
    // hundred. A group in vain is halved until those of one mission are left; they have their turns alone, now and then.
    let together = Infinity
    while (lanes.size > 0) {
      const looked = await advance([...lanes.keys()], 0)
      for (const topic of looked) held.delete(topic)
      const now = performance.now()
      for (const [topic, next] of held) if (!lanes.has(topic) && next < now - heldMemory) held.delete(topic)
      const free = [...lanes.keys()].filter((topic) => !held.has(topic)).sort()
      const alone = [...held].find(([topic, next]) => next < now && lanes.has(topic))?.[0]
      const turn = free.length > 0 ? free.slice(0, together) : alone === undefined ? [] : [alone]
      const moved = await advance(turn, free.length > 0 ? laneWait : heldWait)
      for (const topic of moved) held.delete(topic)
      if (moved.size > 0) together *= 2
      else if (new Set(turn.map((topic) => topicParts(topic).mission)).size > 1) together = turn.length >> 1
      else for (const topic of turn) held.set(topic, performance.now() + heldFor)
      // Only what somebody holds, or the database is away: look again soon, or when another topic comes.
      if (looked.size + moved.size === 0) await nap(100)
    }
    laneRunning = false
    if (queue.size > 0) void pump()
  }

  const enqueue = (entry: Entry, since: number): Promise<Written> =>
    new Promise((resolve, reject) => {
      let size = 200 + entry.message.length * 2
      for (const { code, language } of entry.code_blocks ?? []) size += code.length * 2 + (language?.length ?? 0)
      if (waiting >= limits.queue || bytes + size > limits.queueBytes)
        return reject(overloaded('overloaded: too many messages are waiting'))
      const writer = writerOf(entry)
      const share = shares.get(writer) ?? { messages: 0, bytes: 0 }
      if (share.messages >= limits.queue / 2 || share.bytes + size > limits.queueBytes / 2)
        return reject(overloaded('overloaded: too many messages of this author are waiting'))
      const { mission, citizen } = topicParts(entry.topic)
      const pending: Pending = {
        before: newest,
        after: undefined,
        entry,
        bytes: size,
        mission,
        citizen: citizen ?? '',
        since,
        due: since + limits.deadline,
        again: false,
        inFlight: false,
        settled: false,
        resolve,
        reject,
      }
      if (newest) newest.after = pending
      else oldest = pending
      newest = pending
      waiting++
      bytes += size
      share.messages++
      share.bytes += size
      shares.set(writer, share)
      queue.push(pending)
      sweeper ??= setInterval(sweep, 100)
      // After this tick, so that what one tick brings goes together.
      if (!batchRunning) queueMicrotask(() => void pump())
    })

  return {
    append(entry, since = performance.now()) {
      if (entry.key === null) return enqueue(entry, since)
      // The same key twice at once: one is written, both are answered with it.
      const same = `${entry.topic}\n${entry.author ?? ''}\n${entry.key}`
      const first = byKey.get(same)
      if (first) return first.then((written) => ({ ...written, seen: true }))
      const written = enqueue(entry, since)
      byKey.set(same, written)
      const forget = (): void => void byKey.delete(same)
      written.then(forget, forget)
      return written
    },
    fault,
    close: () => over.abort(),
    idle: () => (waiting === 0 ? Promise.resolve() : new Promise((resolve) => idlers.push(resolve))),
    stats() {
      const long = [...held.keys()].filter((topic) => lanes.has(topic))
      return { ...stats, waiting, bytes, lane: lanes.size, held: long.length }
    },
  }
}
