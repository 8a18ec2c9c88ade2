// A mission's events in order: the newest page, older pages on request, and new events live; or all of this up to a time.
// At most 1,000 events are held: those farthest from the visible part are dropped, and read again when they are needed.
import { batch, signal } from '@preact/signals'
import { DeckError, type Deck, type TimelineEvent } from '../../client/index.ts'
import { justAfter, toMs } from '../timestamps.ts'
import { makeFailure, persist } from './online.ts'

const perPage = 60
const most = 1000
/** Events that are kept while new ones arrive: each row costs time when many arrive. */
const mostComing = 200
/** Milliseconds until a notified event that the timeline does not have yet is requested again, and how often. After that, it was removed. */
const [again, tries] = [400, 25]
/** Milliseconds within which all topics are subscribed. */
const joining = 3000

export const idOf = ({ topic, seq }: TimelineEvent): string => `${topic} ${seq}`
export const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

export const makeEvents = (deck: Deck, mission: string, citizens: () => string[], ended: AbortSignal) => {
  const list = signal<TimelineEvent[]>([])
  const status = signal<'loading' | 'ready'>('loading')
  const older = signal(false)
  const busy = signal(false)
  /** whether events at the end were dropped */
  const cut = signal(false)
  const failure = makeFailure(deck, ended)
  let cursor: string | undefined
  let turn = new AbortController()
  let live: AbortController | undefined

  const page = (query: { cursor?: string; from?: string; to?: string; order?: 'desc' }, until: AbortSignal) =>
    persist(deck, until, async (signal) => {
      const { value } = await deck.timeline(mission, { limit: perPage, ...query, signal }).next()
      if (!value) throw new DeckError('unavailable', 'the timeline ended')
      return value
    })

  /** Adds events to the end, except those that are in the list. */
  const add = (events: TimelineEvent[]): void => {
    if (cut.peek() || events.length === 0) return
    const held = new Set(
      list
        .peek()
        .slice(-events.length - perPage)
        .map(idOf),
    )
    const next = [...list.peek(), ...events.filter((event) => !held.has(idOf(event)))]
    batch(() => {
      const keep = Math.max(mostComing, list.peek().length)
      if (next.length > keep) {
        // No cursor belongs to the list's new start.
        cursor = undefined
        older.value = true
      }
      list.value = next.slice(-keep)
    })
  }

  const load = async (upTo: string | undefined): Promise<void> => {
    turn.abort()
    live?.abort()
    live = undefined
    turn = new AbortController()
    const signal = AbortSignal.any([ended, turn.signal])
    try {
      const found = await page({ order: 'desc', ...(upTo === undefined ? {} : { to: justAfter(upTo) }) }, signal)
      signal.throwIfAborted()
      batch(() => {
        list.value = found.events.toReversed()
        cursor = found.next ?? undefined
        older.value = found.next !== null
        cut.value = false
        failure.clear()
        status.value = 'ready'
      })
      if (upTo === undefined) follow(found.horizon)
    } catch (error) {
      if (!signal.aborted) failure.set(error)
    }
  }

  /** Follows from the horizon. Topics notify of events; the timeline returns them once no earlier event can appear. */
  const follow = (horizon: string): void => {
    live = new AbortController()
    const signal = AbortSignal.any([ended, live.signal])
    const awaited = new Map<string, number>()
    let place: { from: string } | { cursor: string } = { from: horizon }
    let settled = toMs(horizon)
    // Topics do not report events from before the subscription.
    const joined = settled + joining
    let reading = false
    const read = async (): Promise<void> => {
      if (reading) return
      reading = true
      try {
        for (let n = 0; n < tries && (awaited.size > 0 || settled < joined); n++) {
          if (n > 0) await rest(again)
          for await (const { events, cursor, horizon } of deck.timeline(mission, { ...place, limit: 500, signal })) {
            place = { cursor }
            settled = toMs(horizon)
            for (const { topic, seq } of events) if (seq >= (awaited.get(topic) ?? Infinity)) awaited.delete(topic)
            add(events)
          }
        }
        awaited.clear()
      } catch (error) {
        if (!signal.aborted) failure.set(error)
      }
      reading = false
    }
    const listen = async (topic: string, feed: AsyncIterable<{ event: string; seq: number }>): Promise<void> => {
      try {
        for await (const { event, seq } of feed) {
          if (event === 'reset') return void load(undefined)
          awaited.set(topic, seq)
          void read()
        }
      } catch {}
    }
    const topic = `missions/${mission}`
    void listen(topic, deck.mission(mission).follow({ signal }))
    void listen(`${topic}/dod`, deck.dod(mission).follow({ signal }))
    void listen(`${topic}/requests`, deck.requests(mission).follow({ signal }))
    void listen(`${topic}/tests`, deck.tests(mission).follow({ signal }))
    for (const name of citizens()) void listen(`${topic}/chat/${name}`, deck.chat(mission, name).follow({ signal }))
    void read()
  }

  return {
    list,
    status,
    older,
    busy,
    cut,
    failure: failure.text,
    load,
    add,
    async up(): Promise<void> {
      const first = list.peek()[0]
      if (busy.peek() || !older.peek() || !first) return
      busy.value = true
      const signal = AbortSignal.any([ended, turn.signal])
      try {
        const where = cursor === undefined ? { to: justAfter(first.at) } : { cursor }
        const found = await page({ order: 'desc', ...where }, signal)
        const held = new Set(list.peek().map(idOf))
        const above = found.events.toReversed().filter((event) => !held.has(idOf(event)))
        batch(() => {
          const next = [...above, ...list.peek()]
          if (next.length > most) cut.value = true
          list.value = next.slice(0, most)
          cursor = found.next ?? undefined
          older.value = found.next !== null
        })
      } catch (error) {
        if (!signal.aborted) failure.set(error)
      }
      busy.value = false
    },
  }
}
export type Events = ReturnType<typeof makeEvents>
