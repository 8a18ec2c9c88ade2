// Loads the visible pages of a chat that are not known yet. Neighbouring pages share a request; a page is requested only once at a time.
import type { Chat, Deck } from '../../client/index.ts'
import { persist } from './online.ts'
import { pageSize, type Pages } from './pages.ts'

/** Pages per request. */
const mostPages = 4

type Options = {
  deck: Deck
  client: Chat
  pages: Pages
  ended: AbortSignal
  changed(): void
  fail(error: unknown): void
}

/** Returns a function that loads the missing pages of a range. */
export const makePageLoader = ({ deck, client, pages, ended, changed, fail }: Options) => {
  const loading = new Set<number>()

  const load = async (from: number, to: number): Promise<void> => {
    const after = pages.start(from)
    const before = pages.end(to) + 1
    for (let page = from; page <= to; page++) loading.add(page)
    try {
      const limit = (to - from + 1) * pageSize
      const found = await persist(deck, ended, (signal) => client.history({ after, before, limit, signal }))
      if (found.messages.length === 0 && after > pages.floor) {
        // A gap, or the beginning: the next older message is requested, not each page before.
        const older = await persist(deck, ended, (signal) => client.history({ before: after + 1, limit: 1, signal }))
        const next = older.messages[0]?.seq
        if (next === undefined) pages.moveFloor(before - 1)
        else pages.put((pages.pageOf(next) + 1) * pageSize, before - 1, [], found.last_seq)
      } else pages.put(after, before - 1, found.messages, found.last_seq)
    } finally {
      for (let page = from; page <= to; page++) loading.delete(page)
    }
    changed()
  }

  return (from: number, to: number): void => {
    pages.trim(Math.round((from + to) / 2))
    const missing: number[] = []
    for (let page = Math.max(from, pages.first()); page <= Math.min(to, pages.last()); page++)
      if (!pages.get(page).known && !loading.has(page)) missing.push(page)
    while (missing.length > 0) {
      const begin = missing.shift() as number
      let end = begin
      while (missing[0] === end + 1 && end - begin < mostPages - 1) end = missing.shift() as number
      load(begin, end).catch(fail)
    }
  }
}
