// The past of a mission: its timeline by pages, and played again at a pace. Both end where all is settled, a second or two ago under
// load, and say by a cursor where to go on.
import type { TimelineEvent } from './events.ts'
import type { Http } from './http.ts'
import { readEvents } from './http-streams.ts'

type Bounds = {
  /** RFC 3339: what happened then or later, and before then */
  from?: string
  to?: string
  /** where a page, an event or an end said to go on; counts before `from` */
  cursor?: string
  /** also what runs print */
  logs?: boolean
  signal?: AbortSignal
}
export type TimelineOptions = Bounds & { limit?: number; order?: 'asc' | 'desc' }
export type ReplayOptions = Bounds & {
  /** seconds of then in one of now, 0.1 to 1000; without it as fast as it is read */
  speed?: number
  /** the longest pause between two events, in seconds; default 2 */
  gap?: number
}
export type TimelinePage = {
  events: TimelineEvent[]
  /** null: there is nothing more now */
  next: string | null
  /** to come back with, at the end too */
  cursor: string
  /** the time below which nothing comes any more */
  horizon: string
  epoch: string
}

/** Pages up to the end that there is now. */
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

/** The events at their pace, through any number of cuts; `cursor` is where to go on after each. */
export async function* replay(
  http: Http,
  path: string,
  { signal, ...query }: ReplayOptions = {},
): AsyncGenerator<TimelineEvent & { cursor: string }, void, undefined> {
  for await (const { id, data } of readEvents(http, path, { query, signal, last: 'end' }))
    yield { ...(JSON.parse(data) as TimelineEvent), cursor: id }
}
