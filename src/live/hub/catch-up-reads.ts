// Reads of one topic's pages for subscriptions that catch up. Subscriptions at the same cursor share a read, unless the read began
// before the subscription was allowed: in between the chat may have been cleared, or its mission reassigned. A read that waits for a
// connection has not begun, so the busier the database, the more subscriptions share one read.
import type { Page } from '../../protocol/rows.ts'
import { encode, type Encoded } from './page.ts'

/** A read: its cursor, when it began (Infinity: not yet), the row limit, and the result. */
export type Read = { from: number; asOf: number; limit: number; encoded: Promise<Encoded>; found?: Encoded }

/** Reads up to `limit` rows after a seq. The read may wait for a connection; `begun` is called when it begins. */
export type ReadPage = (topic: string, after: number, limit: number, bytes: number, begun: () => void) => Promise<Page>

/** Returns a read for a subscription at `cursor` that was allowed at `asOf` (performance.now). */
export type Reads = (cursor: number, asOf: number) => Read

// ms for which a page is kept for other subscriptions. The pages read within this time bound the memory.
const shared = 250
const mostRows = 100

export const makeReads = (topic: string, page: ReadPage, bytes: number): Reads => {
  const reads = new Set<Read>()
  // The row limit of the next read. A chunk of a log may have megabytes.
  let rows = topic.endsWith('/logs') ? 4 : mostRows

  return (cursor, allowedAt) => {
    for (const reading of reads) {
      const { from, asOf, limit, found } = reading
      const end = found ? found.page.covered : from + limit
      if (asOf >= allowedAt && from <= cursor && cursor < end) return reading
    }
    const limit = rows
    let began = Infinity
    const encoded = page(topic, cursor, limit, bytes, () => (began = performance.now())).then((found) =>
      encode(topic, found),
    )
    const reading: Read = {
      from: cursor,
      limit,
      encoded,
      get asOf() {
        return began
      },
    }
    reads.add(reading)
    const forget = (): void => void reads.delete(reading)
    encoded.then((found) => {
      reading.found = found
      const { events, covered, head } = found.page
      // If rows are large, the next read is limited to about the number that fits a page.
      const cut = covered < head && events.length < limit
      rows = cut ? Math.max(1, events.length) * 2 : Math.min(mostRows, limit * 2)
      setTimeout(forget, shared).unref()
    }, forget)
    return reading
  }
}
