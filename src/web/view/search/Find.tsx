// Searches the whole mission: messages, code, test runs and the checklist; newest or best first, filtered by kind and time. A hit links
// to its place.
import { useSignal } from '@preact/signals'
import { useEffect, useMemo, useRef } from 'preact/hooks'
import type { Hit, Mission } from '../../../client/index.ts'
import { makeFind, type Filters } from '../../state/find.ts'
import { away } from '../../state/online.ts'
import type { Place } from '../../state/place.ts'
import { go, route } from '../../state/route.ts'
import { capital, dayAndTime, fullTime } from '../../format.ts'
import { keepFocus } from '../focus.ts'
import { Icon } from '../Icon.tsx'
import { Snippet } from './Snippet.tsx'
import '../../style/find.css'

/** Milliseconds after the last keystroke. */
const pause = 200
const kinds = { message: 'Messages', code: 'Code', test: 'Tests', dod: 'Checklist' } as const
type Kind = keyof typeof kinds

const citizenOf = ({ topic }: Hit): string => topic.split('/').at(-1) ?? ''
const whereOf = (hit: Hit): string => {
  if (hit.kind === 'test') return `Test run, ${hit.status}`
  if (hit.kind === 'dod') return `Checklist, ${hit.completed ? 'done' : 'open'}`
  const citizen = capital(citizenOf(hit))
  const by = hit.sender === 'citizen' ? citizen : `${hit.author ?? 'User'} → ${citizen}`
  return hit.kind === 'code' ? `${by}: ${hit.language ?? 'code'}` : by
}
/** Returns the start of a day in the reader's time zone, or its end if `over`. */
const dayToTime = (day: string, over: boolean): string => {
  const date = new Date(`${day}T00:00`)
  if (over) date.setDate(date.getDate() + 1)
  return date.toISOString()
}

export const Find = ({ place, mission, wide }: { place: Place; mission: Mission; wide: boolean }) => {
  const input = useRef<HTMLInputElement>(null)
  const find = useMemo(() => makeFind(place.deck, mission.id), [place, mission.id])
  const kind = useSignal<Kind | ''>('')
  const order = useSignal<'newest' | 'rank'>('newest')
  const since = useSignal('')
  const until = useSignal('')
  const words = place.words.value
  const filters: Filters = {
    order: order.value,
    ...(kind.value ? { kind: kind.value } : {}),
    ...(since.value ? { since: dayToTime(since.value, false) } : {}),
    ...(until.value ? { until: dayToTime(until.value, true) } : {}),
  }
  useEffect(() => () => find.close(), [find])
  useEffect(() => input.current?.focus(), [])
  useEffect(() => {
    const timer = setTimeout(() => void find.search(words, filters), pause)
    return () => clearTimeout(timer)
  }, [find, words, JSON.stringify(filters)])

  const open = (hit: Hit): void => {
    const here = route.peek()
    keepFocus(hit.kind === 'test' || hit.kind === 'dod' ? '.panel' : '.talk')
    if (hit.kind === 'test') {
      place.runs(mission.id).chosen.value = hit.id
      return go({ ...here, view: 'tests' })
    }
    if (hit.kind === 'dod') {
      place.item.value = hit.id
      return go({ ...here, view: 'checklist' })
    }
    const citizen = citizenOf(hit)
    place.target.value = { mission: mission.id, citizen, seq: hit.seq }
    go({ mission: here.mission, citizen, view: wide ? 'search' : 'chat' })
  }
  const hits = find.hits.value
  return (
    <search class="find">
      <label class="searchbox">
        <Icon name="search" />
        <input
          id="find"
          ref={input}
          type="search"
          value={words}
          placeholder={`Search all of #${mission.number}`}
          aria-label="Search the whole mission"
          autocomplete="off"
          maxLength={500}
          onInput={(event) => (place.words.value = event.currentTarget.value)}
        />
        <kbd aria-hidden="true">s</kbd>
      </label>
      <div class="filters">
        <select
          aria-label="Kind"
          value={kind.value}
          onChange={(event) => (kind.value = event.currentTarget.value as Kind)}
        >
          <option value="">Everything</option>
          {Object.entries(kinds).map(([id, name]) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
        <select
          aria-label="Order"
          value={order.value}
          onChange={(event) => (order.value = event.currentTarget.value as 'newest' | 'rank')}
        >
          <option value="newest">Newest first</option>
          <option value="rank">Best first</option>
        </select>
        <label>
          <span class="muted">from</span>
          <input
            type="date"
            value={since.value}
            max={until.value || undefined}
            onChange={(event) => (since.value = event.currentTarget.value)}
          />
        </label>
        <label>
          <span class="muted">to</span>
          <input
            type="date"
            value={until.value}
            min={since.value || undefined}
            onChange={(event) => (until.value = event.currentTarget.value)}
          />
        </label>
      </div>
      <p class={find.failure.value ? 'failure' : 'muted'} role="status">
        {find.failure.value ||
          (hits ? (hits.length > 0 ? `${hits.length}${find.more.value ? '+' : ''} found` : 'Nothing found') : '') ||
          (find.busy.value
            ? away.value
              ? 'Offline: the search will run once the connection is back.'
              : 'Searching …'
            : 'Words, "a phrase", or, -without. Logs of test runs are not searched.')}
      </p>
      <ul class="hits">
        {hits?.map((hit) => (
          <li key={`${hit.kind} ${hit.id}`}>
            <button type="button" class={`hit of-${hit.kind}`} onClick={() => open(hit)}>
              <b>{whereOf(hit)}</b>{' '}
              <time class="muted" dateTime={hit.at} title={fullTime(hit.at)}>
                {dayAndTime(hit.at)}
              </time>
              <Snippet {...hit.snippet} />
            </button>
          </li>
        ))}
      </ul>
      {find.more.value && (
        <button type="button" disabled={find.busy.value} onClick={() => find.loadMore(words, filters)}>
          More
        </button>
      )}
    </search>
  )
}
