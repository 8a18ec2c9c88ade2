// The tail: turns notifications into contiguous pages of the topics that this instance follows, each row read once an instance. Pages that
// this instance wrote itself are delivered directly if they continue the topic; otherwise they count as a notification. One read is in
// flight at a time, and notifications meanwhile join the next one. A lost notification costs time, never a message: the latest seqs are
// read again whenever LISTEN is back, and by polling.
import type { Page } from '../protocol/rows.ts'

export type Tail = {
  /**
   * Follows a topic whose latest seq was `head` a moment ago, and reads on from there: this instance received no notification of rows that
   * were added in between. Does nothing if the topic is followed already.
   */
  follow(topic: string, head: number): void
  unfollow(topic: string): void
  /** Returns the last seq that was delivered; undefined if the topic is not followed. */
  cursor(topic: string): number | undefined
  /** Returns the latest seq that this instance knows of. */
  head(topic: string): number | undefined
  /** Takes a notification's payload: "writer seq topic". */
  hint(payload: string): void
  /** Takes rows that this instance wrote, which follow `from`. */
  saved(topic: string, from: number, page: Page): void
  /** Reads the latest seqs of all followed topics soon. */
  check(): void
  /** Followed topics; reads, delivered pages, notifications from other writers, and topics whose new rows only polling found. */
  stats(): { topics: number; reads: number; pages: number; hints: number; found: number }
  close(): void
}

// A page has at most 100 rows of a topic. A read covers at most 200 topics and 16 MiB, except one row per topic. A row of a log may have
// megabytes, so a read covers at most 10 logs.
const rows = 100
const topicsPerRead = 200
const logsPerRead = 10
const bytesPerRead = 16 * 1024 * 1024

/** `hinted`: the greatest seq in notifications. Any client can send notifications, so it may be false. */
type Followed = { cursor: number; head: number; hinted: number }

export const makeTail = (options: {
  /** this instance's name in notifications: its own are ignored, because `saved` delivers its rows */
  origin: string
  /** Resolves once notifications of the topic arrive. */
  listen: (topic: string) => Promise<void>
  unlisten: (topic: string) => void
  read: (asked: { topic: string; after: number }[], limit: number, bytes: number) => Promise<Page[]>
  heads: (topics: string[]) => Promise<number[]>
  /** A page that follows the last one of its topic; the cursor has moved to `covered` already. */
  onPage: (topic: string, from: number, page: Page) => void
  onError: (error: unknown) => void
  /** ms between two safety polls */
  pollEvery: number
}): Tail => {
  const followed = new Map<string, Followed>()
  const dirty = new Set<string>()
  let reading = false
  let checking = false
  let checkAgain = false
  let closed = false
  const stats = { reads: 0, pages: 0, hints: 0, found: 0 }

  /** Notes that a topic's latest seq is at least `seq`. Returns true if this was not known. */
  const mark = (topic: string, seq: number): boolean => {
    const state = followed.get(topic)
    if (!state || !(seq > state.cursor)) return false
    const news = seq > Math.max(state.head, state.hinted)
    state.head = Math.max(state.head, seq)
    dirty.add(topic)
    void read()
    return news
  }

  const take = (): { topic: string; after: number; state: Followed }[] => {
    const asked: { topic: string; after: number; state: Followed }[] = []
    let logs = 0
    for (const topic of dirty) {
      if (asked.length === topicsPerRead) break
      if (topic.endsWith('/logs') && ++logs > logsPerRead) continue
      dirty.delete(topic)
      const state = followed.get(topic)
      if (state) asked.push({ topic, after: state.cursor, state })
    }
    return asked
  }

  const hand = (topic: string, state: Followed, page: Page): void => {
    const from = state.cursor
    // Rows that this instance wrote during the read were already delivered, and may be in the page.
    const [first] = page.events
    if (first && page.covered <= from) return
    state.cursor = Math.max(from, page.covered)
    stats.pages++
    const fresh = !first || first.seq > from
    options.onPage(topic, from, fresh ? page : { ...page, events: page.events.filter(({ seq }) => seq > from) })
  }

  const read = async (): Promise<void> => {
    if (reading) return
    reading = true
    while (dirty.size > 0 && !closed) {
      const asked = take()
      if (asked.length === 0) continue
      stats.reads++
      try {
        const pages = await options.read(asked, rows, Math.ceil(bytesPerRead / asked.length))
        pages.forEach((page, i) => {
          const { topic, state } = asked[i] as (typeof asked)[number]
          // The topic was unfollowed, or followed again, during the read.
          if (followed.get(topic) !== state) return
          state.head = Math.max(page.head, page.covered, state.cursor)
          if (page.head > page.covered) dirty.add(topic)
          hand(topic, state, page)
        })
      } catch (error) {
        options.onError(error)
        for (const { topic } of asked) if (followed.has(topic)) dirty.add(topic)
        // While the database is unreachable, reads fail immediately: wait before the next.
        await new Promise((resolve) => setTimeout(resolve, 200))
      }
    }
    reading = false
  }

  const check = async (): Promise<void> => {
    if (checking) {
      checkAgain = true
      return
    }
    checking = true
    do {
      checkAgain = false
      const topics = [...followed.keys()]
      for (let i = 0; i < topics.length && !closed; i += 5000) {
        const part = topics.slice(i, i + 5000)
        try {
          const heads = await options.heads(part)
          part.forEach((topic, n) => mark(topic, heads[n] ?? 0) && stats.found++)
        } catch (error) {
          options.onError(error)
          // Not left to the next poll: the caller suspects that notifications were lost.
          checkAgain = true
          await new Promise((resolve) => setTimeout(resolve, 500))
        }
      }
    } while (checkAgain && !closed)
    checking = false
  }

  // Finds new rows whose notification was lost.
  const poll = setInterval(() => void check(), options.pollEvery)

  return {
    follow(topic, head) {
      if (followed.has(topic)) return
      const state = { cursor: head, head, hinted: 0 }
      followed.set(topic, state)
      void options.listen(topic).then(() => {
        if (followed.get(topic) !== state) return
        dirty.add(topic)
        void read()
      })
    },
    unfollow(topic) {
      if (!followed.delete(topic)) return
      dirty.delete(topic)
      options.unlisten(topic)
    },
    cursor: (topic) => followed.get(topic)?.cursor,
    head: (topic) => followed.get(topic)?.head,
    hint(payload) {
      const [origin, seq, topic] = payload.split(' ')
      if (topic === undefined || origin === options.origin) return
      stats.hints++
      const state = followed.get(topic)
      // Any client can send notifications, so the topic's latest seq is read from the database.
      if (!state || !(Number(seq) > state.cursor)) return
      state.hinted = Math.max(state.hinted, Number(seq))
      dirty.add(topic)
      void read()
    },
    saved(topic, from, page) {
      const state = followed.get(topic)
      if (!state) return
      if (state.cursor !== from) return void mark(topic, page.covered)
      state.head = Math.max(state.head, page.head)
      hand(topic, state, page)
    },
    check: () => void check(),
    stats: () => ({ topics: followed.size, ...stats }),
    close() {
      closed = true
      clearInterval(poll)
    },
  }
}
