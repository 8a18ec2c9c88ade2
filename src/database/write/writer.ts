// The writer: one batch is in flight; entries that arrive meanwhile form the next batch. An entry is answered once it is committed.
//
// A batch does not wait for locks. If another transaction has locked an entry's mission or head, or the topic has no head yet, the entry
// moves to its topic's lane. A second connection writes the lanes. Later entries of that topic queue behind it, so that each sender's
// order is kept.
//
// If a batch's answer was lost, its entries move to lanes as well, marked `again`: their ids are looked up under the head's lock before
// they are written. An entry that is not answered by its deadline ends as `unavailable`.
import type pg from 'pg'
import { deny, overloaded, type Refusal } from '../../protocol/errors.ts'
import { topicParts } from '../../protocol/topics.ts'
import { makeAppend } from './append-batch.ts'
import { makeQueue, writerOf } from './fair-queue.ts'
import type { Entry, Pending, Written } from './pending-message.ts'
import { makeTopicLanes } from './topic-lanes.ts'
import { makeWriteHealth } from './write-health.ts'

export type WriterLimits = {
  /** entries per batch */
  batch: number
  /** bytes of text per batch, estimated */
  batchBytes: number
  /** entries and bytes that may wait; one author may use half of each. Entries beyond are refused as `unavailable` */
  queue: number
  queueBytes: number
  /** ms from an entry's request until it ends as `unavailable` if it has no result */
  deadline: number
}

export type Writer = {
  /** `since`: when the request arrived (performance.now); the deadline counts from it. */
  append(entry: Entry, since?: number): Promise<Written>
  /** Resolves once no entry waits. */
  idle(): Promise<void>
  /** Returns why messages can't be written, or undefined. */
  fault(): string | undefined
  /** Ends the probes; waiting entries are still written. */
  close(): void
  /** Written batches and entries; waiting entries and their bytes; topics that wait for a lock (lane), and those of them that are held. */
  stats(): { batches: number; entries: number; waiting: number; bytes: number; lane: number; held: number }
}

export const makeWriter = (
  pool: pg.Pool,
  limits: WriterLimits,
  hooks: Pick<
    Parameters<typeof makeAppend>[1],
    'origin' | 'onSaved' | 'onLost' | 'onFault' | 'audit' | 'saw' | 'observe'
  > & { tryWriting: () => Promise<unknown> },
): Writer => {
  const queue = makeQueue()
  // Waiting entries by author.
  const shares = new Map<string, { messages: number; bytes: number }>()
  const lanes = makeTopicLanes<Pending>(limits)
  // All waiting entries, as a linked list. The tables of a long-lived Set would keep removed entries alive until the next full garbage
  // collection.
  let oldest: Pending | undefined
  let newest: Pending | undefined
  let waiting = 0
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

  // Each entry is answered by its deadline, even if Postgres hangs. If the entry may have been saved and has no key to retry with, the
  // refusal says `maybe`.
  const sweep = (): void => {
    const now = performance.now()
    for (let pending = oldest, next = oldest?.after; pending; pending = next, next = next?.after) {
      if (pending.due > now) continue
      const unknown = (pending.inFlight || pending.again) && pending.entry.key === null
      fail(pending, deny('unavailable', undefined, { retry_after: 1, ...(unknown ? { maybe: true as const } : {}) }))
    }
  }

  const health = makeWriteHealth({ ...hooks, isIdle: () => waiting === 0 })
  const attempt = makeAppend(pool, {
    ...hooks,
    onAnswered: health.onAnswered,
    onFailed: health.onFailed,
    succeed,
    fail,
    stats,
  })

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
    lanes.push(pending)
    if (!lanes.isHeld(pending.entry.topic)) wake()
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

  /** Writes the first messages of these lanes. Returns the number of topics that made progress. */
  const advance = async (topics: string[], wait: number): Promise<number> => {
    const fronts = lanes.fronts(topics)
    return lanes.release(topics, fronts, await attempt(fronts, wait))
  }

  const runLanes = async (): Promise<void> => {
    if (laneRunning) return
    laneRunning = true
    // Topics that are not held wait in one call, as hundreds of new chats may lack a head at once. If the call waited in vain, the group is
    // halved until only topics of one mission are left; these are held.
    let together = Infinity
    while (lanes.size > 0) {
      const checked = await advance(lanes.topics(), 0)
      const { topics, wait } = lanes.turn(together)
      const moved = await advance(topics, wait)
      if (moved > 0) together *= 2
      else if (new Set(topics.map((topic) => topicParts(topic).mission)).size > 1) together = topics.length >> 1
      else lanes.hold(topics)
      // All lanes are held, or the database is unreachable: try again in 100 ms, or when a message of another topic arrives.
      if (checked + moved === 0) await nap(100)
    }
    laneRunning = false
    if (queue.size > 0) void pump()
  }

  const enqueue = (entry: Entry, since: number): Promise<Written> =>
    new Promise((resolve, reject) => {
      let size = 200 + entry.message.length * 2
      for (const { code, language } of entry.code_blocks ?? []) size += code.length * 2 + (language?.length ?? 0)
      if (entry.details) size += JSON.stringify(entry.details).length * 2
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
      // In a microtask, so that entries of the same tick share a batch.
      if (!batchRunning) queueMicrotask(() => void pump())
    })

  return {
    append(entry, since = performance.now()) {
      if (entry.key === null) return enqueue(entry, since)
      // Concurrent requests with the same key: one entry is written, all are answered with it.
      const same = `${entry.topic}\n${entry.author ?? ''}\n${entry.key}`
      const first = byKey.get(same)
      if (first) return first.then((written) => ({ ...written, seen: true }))
      const written = enqueue(entry, since)
      byKey.set(same, written)
      const forget = (): void => void byKey.delete(same)
      written.then(forget, forget)
      return written
    },
    fault: () => health.fault(oldest?.since),
    close: health.close,
    idle: () => (waiting === 0 ? Promise.resolve() : new Promise((resolve) => idlers.push(resolve))),
    stats() {
      return { ...stats, waiting, bytes, lane: lanes.size, held: lanes.heldLanes() }
    },
  }
}
