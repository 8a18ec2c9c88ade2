// A mission's timeline, page by page or as a replay. Both end at the horizon, before which no event is added any more: under load a
// second or two ago. Both return a cursor to resume at.
import type { TimelineEvent } from './events.ts'
import type { Http } from './http.ts'
import { readEvents } from './http-streams.ts'

type Bounds = {
  /** RFC 3339: events from this time on, and before this time */
  from?: string
  to?: string
  /** the cursor of a page, an event or the end; takes precedence over `from` */
  cursor?: string
  /** also chunks of run logs */
  logs?: boolean
  signal?: AbortSignal
}
export type TimelineOptions = Bounds & { limit?: number; order?: 'asc' | 'desc' }
export type ReplayOptions = Bounds & {
  /** replay speed, 0.1 to 1000: 60 plays one recorded minute a second; without it as fast as the caller reads */
  speed?: number
  /** the longest pause between two events, in seconds; default 2 */
  gap?: number
}
export type TimelinePage = {
  events: TimelineEvent[]
  /** cursor of the next page; null on the last page */
  next: string | null
  /** resume here later, also after the last page */
  cursor: string
  /** no event is added before this time any more */
  horizon: string
  epoch: string
}

/** Yields pages up to the horizon at the time of each request. */
export async function* readTimeline(
  http: Http,
  path: string,
  { signal, ...query }: TimelineOptions = {},
): AsyncGenerator<TimelinePage, void, undefined> {
  for (let cursor = query.cursor; ;) {
    const page = await http<TimelinePage>('GET', path, { query: { ...query, cursor }, signal })
    yield page
    if (page.next === null) return
    cursor = page.next
  }
}

/** Yields the events at the requested speed, across reconnects. Each has the `cursor` to resume after it. */
export async function* replay(
  http: Http,
  path: string,
  { signal, ...query }: ReplayOptions = {},
): AsyncGenerator<TimelineEvent & { cursor: string }, void, undefined> {
  for await (const { id, data } of readEvents(http, path, { query, signal, last: 'end' }))
    yield { ...(JSON.parse(data) as TimelineEvent), cursor: id }
}
