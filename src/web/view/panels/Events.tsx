// The list of events: scrolling up loads older ones, new ones are added at the end, and the visible rows stay in place.
import { useComputed } from '@preact/signals'
import { useCallback, useLayoutEffect, useRef } from 'preact/hooks'
import type { Mission, TimelineEvent } from '../../../client/index.ts'
import { describeAll } from '../../describe-event.ts'
import { idOf } from '../../state/events.ts'
import type { TimeMachine } from '../../state/time-machine.ts'
import { away } from '../../state/online.ts'
import type { Place } from '../../state/place.ts'
import { go, route } from '../../state/route.ts'
import { dayOf, fullTime, sameDay, secondsOf } from '../../format.ts'
import { Reading } from '../chat/Reading.tsx'
import { Icon } from '../Icon.tsx'
import { memo } from '../memo.tsx'

/** Distance in px from the top at which older events are loaded, and from the bottom up to which the view is at the end. */
const [near, end] = [300, 40]

type LineProps = {
  event: TimelineEvent
  who: string
  what: string
  tone: string | undefined
  newDay: boolean
  onTime: (event: TimelineEvent) => void
  onShow: (event: TimelineEvent) => void
}

/** An event, rendered again only if its text changed. */
const Line = memo(({ event, who, what, tone, newDay, onTime, onShow }: LineProps) => (
  <li data-event={idOf(event)}>
    {newDay && <p class="day">{dayOf(event.at)}</p>}
    <div class={`event ${tone ?? ''}`}>
      <button
        type="button"
        class="when"
        title={`${fullTime(event.at)}: show the mission at this time`}
        onClick={() => onTime(event)}
      >
        <time dateTime={event.at}>{secondsOf(event.at)}</time>
      </button>
      <p>
        <b>{who}</b> {what}
      </p>
      {/^(message\.created|request|test_run|dod_item\.(created|updated))/.test(event.event) && (
        <button
          type="button"
          class="quiet"
          aria-label={`Show the current state: ${what.slice(0, 60)}`}
          title="Show the current state"
          onClick={() => onShow(event)}
        >
          <Icon name="go" />
        </button>
      )}
    </div>
  </li>
))

export const Events = ({
  timeMachine,
  place,
  mission,
}: {
  timeMachine: TimeMachine
  place: Place
  mission: Mission
}) => {
  const { events } = timeMachine
  const box = useRef<HTMLDivElement>(null)
  const held = useRef({ stuck: true, at: timeMachine.at.value, row: '', dy: 0, set: -1 })
  const list = events.list.value
  const past = timeMachine.at.value
  const descriptions = useComputed(() => describeAll(events.list.value))

  /** Stores the row at the top and its distance from the top. */
  const remember = (element: HTMLElement): void => {
    const rows = [...element.querySelectorAll<HTMLElement>('[data-event]')]
    const row = rows.find((one) => one.offsetTop + one.offsetHeight > element.scrollTop)
    held.current.row = row?.dataset['event'] ?? ''
    held.current.dy = row ? row.offsetTop - element.scrollTop : 0
  }
  const toEnd = (element: HTMLElement): void => {
    element.scrollTop = element.scrollHeight
    held.current.set = element.scrollTop
  }
  useLayoutEffect(() => {
    const element = box.current
    if (!element) return
    const { current } = held
    // After a change of time, the end of the list is shown.
    if (current.at !== past) current.stuck = true
    current.at = past
    if (current.stuck && !events.cut.peek()) toEnd(element)
    else {
      const row = element.querySelector<HTMLElement>(`[data-event="${CSS.escape(current.row)}"]`)
      if (row) element.scrollTop = row.offsetTop - current.dy
    }
    remember(element)
  }, [list, past])
  // The height of the list changes with the state above it.
  useLayoutEffect(() => {
    const element = box.current
    if (!element) return
    const observer = new ResizeObserver(() => {
      if (held.current.stuck && !events.cut.peek()) toEnd(element)
    })
    observer.observe(element)
    return () => observer.disconnect()
  }, [])
  const onScroll = (): void => {
    const element = box.current
    if (!element) return
    const { scrollTop, scrollHeight, clientHeight } = element
    // Only the reader's scrolling counts, not scroll events after a change of the list or its window.
    if (scrollTop === held.current.set) return
    held.current.stuck = scrollHeight - scrollTop - clientHeight < end
    remember(element)
    if (scrollTop < near) void events.up()
  }
  const onTime = useCallback((event: TimelineEvent) => void timeMachine.seek(event.at), [timeMachine])
  const onShow = useCallback(
    (event: TimelineEvent): void => {
      const wide = matchMedia('(min-width: 1100px)').matches
      const here = route.peek()
      if (event.event === 'message.created') {
        place.target.value = { mission: mission.id, citizen: event.data.citizen, seq: event.seq }
        go({ mission: here.mission, citizen: event.data.citizen, view: wide ? 'timeline' : 'chat' })
      } else if (event.event.startsWith('request') && 'citizen' in event.data && 'id' in event.data) {
        const { citizen, id } = event.data
        place.card.value = { mission: mission.id, citizen, id }
        go({ mission: here.mission, citizen, view: wide ? 'timeline' : 'chat' })
      } else if (event.event.startsWith('test_run') && 'id' in event.data) {
        place.runs(mission.id).chosen.value = event.data.id
        go({ ...here, view: 'tests' })
      } else if (event.event.startsWith('dod_item') && 'id' in event.data) {
        place.item.value = event.data.id
        go({ ...here, view: 'checklist' })
      }
    },
    [place, mission.id],
  )
  return (
    <div class="events" ref={box} tabIndex={0} role="region" aria-label="Events" onScroll={onScroll}>
      {events.failure.value && (
        <p class="failure" role="alert">
          {events.failure.value}
        </p>
      )}
      {events.older.value && (
        <button type="button" class="small" disabled={events.busy.value} onClick={() => void events.up()}>
          Earlier events
        </button>
      )}
      {events.status.value === 'loading' && !events.failure.value && away.value && <Reading what="the timeline" />}
      {events.status.value === 'ready' && list.length === 0 && (
        <p class="muted empty">{past === undefined ? 'No events yet.' : 'No events by then.'}</p>
      )}
      <ol>
        {list.map((event, n) => {
          const last = list[n - 1]
          const { who = '', what = '', tone } = descriptions.value[n] ?? {}
          const newDay = !last || !sameDay(last.at, event.at)
          return <Line key={idOf(event)} {...{ event, who, what, tone, newDay, onTime, onShow }} />
        })}
      </ol>
      {events.cut.value && (
        <button type="button" class="small" onClick={() => void events.load(past)}>
          {past === undefined ? 'Newest events' : 'Back to this time'}
        </button>
      )}
    </div>
  )
}
