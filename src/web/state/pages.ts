// A chat's messages as pages of 25 seqs, and the height of each page. So 100,000 messages can be scrolled while only those
// near the window are held. Seqs are contiguous, so a page's position is known before its messages. A page that was never
// shown has an estimated height, which its first display replaces. Uses neither the server nor the DOM.
import type { Message } from '../../client/index.ts'

export const pageSize = 25
/** Pages whose messages are held: 1,500 messages. */
const mostPages = 60

export type Page = { messages: readonly Message[]; known: boolean }
const unknown: Page = { messages: [], known: false }
const empty: Page = { messages: [], known: true }

/** `rowHeight`: the estimated height of a message, in px. */
export const makePages = (rowHeight = 76) => {
  const pages = new Map<number, Page>()
  const heights = new Map<number, number>()
  let floor = 0
  let head = 0
  let tops: number[] | undefined

  const pageOf = (seq: number): number => Math.floor((seq - 1) / pageSize)
  const first = (): number => Math.floor(floor / pageSize)
  const last = (): number => Math.max(first(), pageOf(Math.max(head, 1)))
  const start = (page: number): number => Math.max(page * pageSize, floor)
  const end = (page: number): number => Math.min((page + 1) * pageSize, head)

  const height = (page: number): number => heights.get(page) ?? Math.max(0, end(page) - start(page)) * rowHeight

  /** Where each page begins, and where the last one ends. */
  const offsets = (): number[] => {
    if (tops) return tops
    tops = [0]
    for (let page = first(), y = 0; page <= last(); page++) tops.push((y += height(page)))
    return tops
  }

  return {
    get floor() {
      return floor
    },
    get head() {
      return head
    },
    first,
    last,
    pageOf,
    /** The seqs of a page: after `start`, up to `end`. */
    start,
    end,
    height,
    top: (page: number): number => offsets()[page - first()] ?? 0,
    total: (): number => offsets().at(-1) ?? 0,
    /** The page at a height. */
    at(y: number): number {
      const all = offsets()
      let low = 0
      let high = all.length - 2
      while (low < high) {
        const middle = Math.ceil((low + high) / 2)
        if ((all[middle] ?? 0) <= y) low = middle
        else high = middle - 1
      }
      return first() + Math.max(0, low)
    },
    /** A page without seqs (of a chat without messages, or of a cleared one) is known: the server has nothing to add. */
    get: (page: number): Page => (end(page) <= start(page) ? empty : (pages.get(page) ?? unknown)),
    /** The message with a seq, if it is held. */
    find(seq: number): Message | undefined {
      return pages.get(pageOf(seq))?.messages.find((message) => message.seq === seq)
    },
    /** The message with an ID, if it is held. */
    named(id: string): Message | undefined {
      for (const { messages } of pages.values()) {
        const found = messages.find((message) => message.id === id)
        if (found) return found
      }
      return undefined
    },
    /** Sets a page's height. Returns whether it differs from the former or estimated height. */
    measure(page: number, px: number): boolean {
      if (height(page) === px) return false
      heights.set(page, px)
      tops = undefined
      return true
    },
    /** Puts all messages of (after, to], read when the chat's latest seq was `latest`. */
    put(after: number, to: number, messages: readonly Message[], latest: number): void {
      for (let page = pageOf(after + 1); page <= pageOf(to); page++) {
        const inside = messages.filter(({ seq }) => pageOf(seq) === page && seq > floor)
        // Messages that arrived after this response are requested again.
        const known = latest >= end(page)
        pages.set(page, { messages: inside, known })
        if (inside.length === 0 && known && !heights.has(page)) heights.set(page, 0)
      }
      tops = undefined
    },
    /** Adds the next message. */
    add(message: Message): void {
      const page = pageOf(message.seq)
      const held = pages.get(page)
      const begins = message.seq === page * pageSize + 1 || head <= start(page)
      head = Math.max(head, message.seq)
      if (held?.known && !held.messages.some(({ seq }) => seq === message.seq))
        pages.set(page, { messages: [...held.messages, message], known: true })
      else if (!held && begins) pages.set(page, { messages: [message], known: true })
      // The estimate depends on the page's messages; a visible page is measured.
      if (!held?.known) heights.delete(page)
      tops = undefined
    },
    /** Replaces a message, if it is held; `latest` is the seq of the event that changed it. */
    change(seq: number, latest: number, change: (message: Message) => Message): void {
      const page = pageOf(seq)
      const held = pages.get(page)
      if (held)
        pages.set(page, { ...held, messages: held.messages.map((one) => (one.seq === seq ? change(one) : one)) })
      head = Math.max(head, latest)
      tops = undefined
    },
    /** Drops everything up to a seq. */
    moveFloor(seq: number): void {
      floor = seq
      for (const page of [...pages.keys()]) if (page < first()) pages.delete(page)
      for (const page of [...heights.keys()]) if (page < first()) heights.delete(page)
      // The first page may have lost its beginning.
      const { messages, known } = pages.get(first()) ?? unknown
      if (messages.length > 0) pages.set(first(), { messages: messages.filter((one) => one.seq > floor), known })
      tops = undefined
    },
    clear(from: number, to: number): void {
      pages.clear()
      heights.clear()
      floor = from
      head = to
      tops = undefined
    },
    /** Drops the pages farthest from a page. */
    trim(near: number): void {
      const far = [...pages.keys()].sort((a, b) => Math.abs(b - near) - Math.abs(a - near))
      for (const page of far.slice(0, Math.max(0, pages.size - mostPages))) pages.delete(page)
    },
    held: (): number => pages.size,
  }
}
export type Pages = ReturnType<typeof makePages>
