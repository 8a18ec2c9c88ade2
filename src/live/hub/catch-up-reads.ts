// The pages of one topic that are read for who catches up. Seats that come the same way share a read, unless it began before
// the seat was let in: the chat may have been cleared, or its mission re-assigned, in between. A read that waits for a
// connection has not begun, so the busier the database, the more seats one serves.
import type { Page } from '../../protocol/rows.ts'
import { encode, type Encoded } from './page.ts'

/** A read: from where, when it began (Infinity: not yet), the row limit, and the result. */
export type Read = { from: number; asOf: number; limit: number; encoded: Promise<Encoded>; found?: Encoded }

/** Reads up to `limit` rows after a seq; `begun` is called when the read begins: it may have to wait for a connection. */
export type ReadPage = (topic: string, after: number, limit: number, bytes: number, begun: () => void) => Promise<Page>

/** The read that serves who stands at `cursor` and was let in at `asOf` (performance.now). */
export type Reads = (cursor: number, asOf: number) => Read

// A page read for one seat is kept so many ms for others that come the same way: what is read meanwhile bounds the memory.
const shared = 250
const mostRows = 100

export const makeReads = (topic: string, page: ReadPage, bytes: number): Reads => {
  const reads = new Set<Read>()
  // How many rows the next read asks for. Chunks of a log may have megabytes each.
  let rows = topic.endsWith('/logs') ? 4 : mostRows

  return (cursor, seated) => {
    for (const reading of reads) {
      const { from, asOf, limit, found } = reading
      const end = found ? found.page.covered : from + limit
      if (asOf >= seated && from <= cursor && cursor < end) return reading
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
      // Where rows are large, no more are asked for than a page holds.
      const cut = covered < head && events.length < limit
      rows = cut ? Math.max(1, events.length) * 2 : Math.min(mostRows, limit * 2)
      setTimeout(forget, shared).unref()
    }, forget)
    return reading
  }
}
