// The tail: turns hints into contiguous pages of the topics that this instance follows, each read once an instance.
// One read in flight; what is hinted meanwhile is the next. A lost hint costs time, never a message: heads are re-read
// whenever LISTEN (again) holds, and slowly always.
import type { Page } from '../protocol/rows.ts'

export type Tail = {
  /**
   * Follows a topic that stood at `head` a moment ago, and reads on from there: what came between that look and this call
   * had no hint for us. A topic that is followed already goes on as it does.
   */
  follow(topic: string, head: number): void
  unfollow(topic: string): void
  /** Up to where a followed topic was handed on; undefined if it isn't followed. */
  cursor(topic: string): number | undefined
  /** Takes the payload of a hint: lines of "seq topic". */
  hint(payload: string): void
  /** Reads the heads of all followed topics, soon. */
  check(): void
  close(): void
}

export const makeTail = (options: {
  read: (asked: { topic: string; after: number }[], limit: number) => Promise<Page[]>
  heads: (topics: string[]) => Promise<number[]>
  /** A page that follows the last one of its topic; the cursor has moved to `covered` already. */
  onPage: (topic: string, from: number, page: Page) => void
  onError: (error: unknown) => void
  /** ms between two safety polls */
  pollEvery: number
}): Tail => {
  // 100 rows a topic and 200 topics a read: a full page of full-size messages stays in the tens of MB.
  const rows = 100
  const topicsPerRead = 200
  const followed = new Map<string, { cursor: number }>()
  const dirty = new Set<string>()
  let reading = false
  let checking = false
  let checkAgain = false
  let closed = false

  const mark = (topic: string, seq: number): void => {
    const state = followed.get(topic)
    if (!state || seq <= state.cursor) return
    dirty.add(topic)
    void read()
  }

  const read = async (): Promise<void> => {
    if (reading) return
    reading = true
    while (dirty.size > 0 && !closed) {
      const asked: { topic: string; after: number }[] = []
      for (const topic of dirty) {
        if (asked.length === topicsPerRead) break
        dirty.delete(topic)
        const after = followed.get(topic)?.cursor
        if (after !== undefined) asked.push({ topic, after })
      }
      if (asked.length === 0) continue
      try {
        const pages = await options.read(asked, rows)
        pages.forEach((page, i) => {
          const { topic, after } = asked[i] as { topic: string; after: number }
          const state = followed.get(topic)
          // Unfollowed, or followed anew, while the read was under way.
          if (!state || state.cursor !== after) return
          state.cursor = page.covered
          if (page.head > page.covered) dirty.add(topic)
          options.onPage(topic, after, page)
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
          part.forEach((topic, n) => mark(topic, heads[n] ?? 0))
        } catch (error) {
          options.onError(error)
        }
      }
    } while (checkAgain && !closed)
    checking = false
  }

  const poll = setInterval(() => void check(), options.pollEvery)

  return {
    follow(topic, head) {
      if (followed.has(topic)) return
      followed.set(topic, { cursor: head })
      dirty.add(topic)
      void read()
    },
    unfollow(topic) {
      followed.delete(topic)
      dirty.delete(topic)
    },
    cursor: (topic) => followed.get(topic)?.cursor,
    hint(payload) {
      for (const line of payload.split('\n')) {
        const space = line.indexOf(' ')
        const seq = Number(line.slice(0, space))
        if (space > 0 && Number.isSafeInteger(seq)) mark(line.slice(space + 1), seq)
      }
    },
    check: () => void check(),
    close() {
      closed = true
      clearInterval(poll)
    },
  }
}
