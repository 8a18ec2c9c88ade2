// The tail: turns notifications into contiguous pages of the topics that this instance follows, each row read once an instance. Pages that
// this instance wrote itself are delivered directly if they continue the topic; otherwise they count as a notification. One read is in
// flight at a time, and notifications meanwhile join the next one. A lost notification costs time, never a message: the latest seqs are
// read again whenever LISTEN is back, and by polling.
import type { Page } from '../protocol/rows.ts'

export type Tail = {
  /**
   * Follows a topic whose latest seq was `head` a moment ago, and reads on from there: this instance heard no notification of rows that
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
  /** Topics followed; reads, delivered pages, notifications of other instances, topics whose progress only polling found. */
  stats(): { topics: number; reads: number; pages: number; hints: number; found: number }
  close(): void
}

// A page is at most 100 rows of a topic, and a read is of 200 topics: 16 MiB in all, and a row of each, of which those
// of logs may have megabytes.
const rows = 100
const topicsPerRead = 200
const logsPerRead = 10
const bytesPerRead = 16 * 1024 * 1024

/** `hinted`: where hints say that it stands, true or not. */
type Followed = { cursor: number; head: number; hinted: number }

export const makeTail = (options: {
  /** this instance's name in hints: what it wrote comes by `saved` */
  origin: string
  /** Hears the hints of a topic from when it resolves on. */
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

  /** A topic is at least at a seq; true if that was not known. */
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
    // What this instance wrote while a read was under way has been handed on, and may be in there.
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
          // Unfollowed, or followed anew, while the read was under way.
          if (followed.get(topic) !== state) return
          state.head = Math.max(page.head, page.covered, state.cursor)
          if (page.head > page.covered) dirty.add(topic)
          hand(topic, state, page)
        })
      } catch (error) {
        options.onError(error)
        for (const { topic } of asked) if (followed.has(topic)) dirty.add(topic)
        // With the database away a read fails at once: wait before the next.
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
      // Anybody may notify: where the topic stands is read.
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
