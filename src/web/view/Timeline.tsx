// What happened on a mission, by time, with the time machine: a slider over its time, a replay, and the mission as it was. What is shown
// of the past is marked as that, and nothing in it can be changed: there is nothing here that writes.
import { useComputed, useSignalEffect } from '@preact/signals'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import type { Mission, TimelineEvent } from '../../client/index.ts'
import { tellAll } from '../happenings.ts'
import { fromMs, toMs } from '../moments.ts'
import { idOf } from '../state/events.ts'
import { leave, machineOf, speeds, type Machine } from '../state/machine.ts'
import type { Place } from '../state/place.ts'
import { go, route } from '../state/route.ts'
import { capital, dayOf, fullTime, percent, sameDay, secondsOf, shortDay, statuses } from '../words.ts'
import { Icon } from './Icon.tsx'
import { Said, Verdict } from './Then.tsx'
import '../style/timeline.css'

/** Positions of the slider. */
const steps = 1000
/** px from the top at which older events are read, and from the bottom at which one is at the end */
const [near, end] = [300, 40]

/** ms after which one has come to rest */
const settled = 200

const Controls = ({ machine }: { machine: Machine }) => {
  const { at, span, playing, speed } = machine
  const { from, to } = span.value
  const now = at.value
  const place = now === undefined || to <= from ? steps : Math.round(((toMs(now) - from) / (to - from)) * steps)
  const told = now === undefined ? 'Live' : fullTime(now)
  const seek = (value: number): void => {
    if (value >= steps) machine.live()
    else void machine.seek(fromMs(from + ((to - from) * value) / steps))
  }
  const toggle = (): void => {
    if (playing.peek()) machine.pause()
    else void machine.play()
  }
  const step = async (forward: boolean): Promise<void> => {
    if (!(await machine.step(forward)) && forward) machine.live()
  }
  useEffect(() => {
    const acts: Record<string, () => void> = {
      'deck-play': toggle,
      'deck-back': () => void step(false),
      'deck-forth': () => void step(true),
      'deck-live': machine.live,
    }
    for (const [name, act] of Object.entries(acts)) addEventListener(name, act)
    return () => {
      for (const [name, act] of Object.entries(acts)) removeEventListener(name, act)
    }
  }, [machine])
  return (
    <div class="machine">
      <input
        type="range"
        min={0}
        max={steps}
        step={1}
        value={Math.min(steps, Math.max(0, place))}
        aria-label="Time of the mission"
        aria-valuetext={told}
        disabled={to <= from}
        onFocus={machine.measure}
        onInput={(event) => seek(Number(event.currentTarget.value))}
        onKeyDown={(event) => {
          if (event.key !== ' ') return
          event.preventDefault()
          toggle()
        }}
      />
      <div class="ends" aria-hidden="true">
        <span>{from > 0 ? `${shortDay(fromMs(from))}, ${secondsOf(fromMs(from))}` : '\u00a0'}</span>
        <span>now</span>
      </div>
      <div class="knobs">
        <button
          type="button"
          onClick={() => void step(false)}
          aria-label="The event before"
          title="The event before (,)"
        >
          <Icon name="back" />
        </button>
        <button type="button" class="play" onClick={toggle} title="Play, pause (Space)">
          <Icon name={playing.value ? 'pause' : 'play'} /> {playing.value ? 'Pause' : 'Play'}
        </button>
        <button
          type="button"
          onClick={() => void step(true)}
          disabled={now === undefined}
          aria-label="The next event"
          title="The next event (.)"
        >
          <Icon name="forth" />
        </button>
        <select
          aria-label="Speed"
          value={speed.value}
          onChange={(event) => void machine.pace(Number(event.currentTarget.value))}
        >
          {speeds.map((times) => (
            <option key={times} value={times}>
              {times}×
            </option>
          ))}
        </select>
        <button
          type="button"
          class="tolive"
          disabled={now === undefined}
          onClick={machine.live}
          aria-label={now === undefined ? 'Live' : 'Back to live'}
          title="Back to now (Esc)"
        >
          <span class="lamp" /> Live
        </button>
      </div>
    </div>
  )
}

/** The mission at the time. */
const State = ({ machine, wide }: { machine: Machine; wide: boolean }) => {
  const then = machine.then.value
  if (machine.failure.value)
    return (
      <p class="failure" role="alert">
        {machine.failure.value}
      </p>
    )
  if (machine.at.value === undefined) return null
  if (!then) return <p class="muted state">{'\u00a0'}</p>
  const { mission, items, run } = then
  const done = items.filter(({ completed }) => completed).length
  return (
    <div class="state" tabIndex={0} role="region" aria-label="The mission at this time">
      <p class="then-mission">
        <b>{mission.title}</b> <span class={`status ${mission.status}`}>{statuses[mission.status]}</span>
      </p>
      <details>
        <summary>
          Checklist{' '}
          <span class="sum">
            {done}/{items.length} <span class="muted">{percent(done, items.length)}</span>
          </span>
        </summary>
        <ul class="then-items">
          {items.map(({ id, text, completed }) => (
            <li key={id} class={completed ? 'done' : ''}>
              <span class="mark">
                {completed && <Icon name="check" />}
                <span class="unseen">{completed ? 'done: ' : 'open: '}</span>
              </span>
              {text}
            </li>
          ))}
          {items.length === 0 && <li class="muted">There were no items yet.</li>}
        </ul>
      </details>
      <Verdict run={run} />
      {!wide && (
        <details>
          <summary>
            {capital(then.citizen)}’s chat <span class="sum muted">{then.messages.at(-1)?.seq ?? 'nothing yet'}</span>
          </summary>
          <Said machine={machine} sub="" />
        </details>
      )}
    </div>
  )
}

const List = ({ machine, place, mission }: { machine: Machine; place: Place; mission: Mission }) => {
  const { events } = machine
  const box = useRef<HTMLDivElement>(null)
  const held = useRef({ first: '', height: 0, top: 0, stuck: true, at: machine.at.value })
  const list = events.list.value
  const past = machine.at.value
  const told = useComputed(() => tellAll(events.list.value))

  // What one reads stays where it is; at the end one stays at the end.
  useLayoutEffect(() => {
    const element = box.current
    if (!element) return
    const { current } = held
    const first = list[0] ? idOf(list[0]) : ''
    const grewAbove =
      current.first !== '' && first !== current.first && list.some((event) => idOf(event) === current.first)
    // Who goes to another time sees its end.
    if (current.at !== past) current.stuck = true
    if (current.stuck && !events.cut.peek()) element.scrollTop = element.scrollHeight
    else if (grewAbove) element.scrollTop = current.top + element.scrollHeight - current.height
    held.current = { ...current, at: past, first, height: element.scrollHeight, top: element.scrollTop }
  }, [list, past])
  const onScroll = (): void => {
    const element = box.current
    if (!element) return
    const { scrollTop, scrollHeight, clientHeight } = element
    held.current.top = scrollTop
    held.current.height = scrollHeight
    held.current.stuck = scrollHeight - scrollTop - clientHeight < end
    if (scrollTop < near) void events.up()
  }
  const show = (event: TimelineEvent): void => {
    const wide = matchMedia('(min-width: 1100px)').matches
    const here = route.peek()
    if (event.event === 'message.created') {
      place.target.value = { mission: mission.id, citizen: event.data.citizen, seq: event.seq }
      go({ mission: here.mission, citizen: event.data.citizen, view: wide ? 'timeline' : 'chat' })
    } else if (event.event.startsWith('test_run') && 'id' in event.data) {
      place.runs(mission.id).chosen.value = event.data.id
      go({ ...here, view: 'tests' })
    } else if (event.event.startsWith('dod_item') && 'id' in event.data) {
      place.item.value = event.data.id
      go({ ...here, view: 'checklist' })
    }
  }
  return (
    <div class="events" ref={box} tabIndex={0} role="region" aria-label="What happened" onScroll={onScroll}>
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
      {events.status.value === 'ready' && list.length === 0 && (
        <p class="muted empty">{past === undefined ? 'Nothing happened here yet.' : 'Nothing had happened by then.'}</p>
      )}
      <ol>
        {list.map((event, n) => {
          const last = list[n - 1]
          const { who, what, tone } = told.value[n] ?? { who: '', what: '', tone: undefined }
          const leads = ['message.created', 'test_run', 'dod_item'].some((name) => event.event.startsWith(name))
          return (
            <li key={idOf(event)}>
              {(!last || !sameDay(last.at, event.at)) && <p class="day">{dayOf(event.at)}</p>}
              <div class={`event ${tone ?? ''}`}>
                <button
                  type="button"
                  class="when"
                  title={`${fullTime(event.at)}: see the mission then`}
                  onClick={() => void machine.seek(event.at)}
                >
                  <time dateTime={event.at}>{secondsOf(event.at)}</time>
                </button>
                <p>
                  <b>{who}</b> {what}
                </p>
                {leads && (
                  <button
                    type="button"
                    class="quiet"
                    aria-label={`Show it as it is now: ${what.slice(0, 60)}`}
                    title="Show it as it is now"
                    onClick={() => show(event)}
                  >
                    <Icon name="go" />
                  </button>
                )}
              </div>
            </li>
          )
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

export const Timeline = ({
  place,
  mission,
  citizen,
  wide,
}: {
  place: Place
  mission: Mission
  citizen: string
  wide: boolean
}) => {
  const machine = machineOf(place, mission.id)
  const given = route.value.at
  /** what we last wrote into the address */
  const written = useRef(given)
  useEffect(() => () => leave(machine), [machine])
  // An address that came from elsewhere (a link, the back button) leads there. This comes before what writes the address.
  useEffect(() => {
    if (given === machine.at.peek() || (given === written.current && machine.at.peek() !== undefined)) return
    written.current = given
    if (given === undefined) machine.live()
    else void machine.seek(given)
  }, [machine, given])
  useEffect(() => void machine.show(citizen), [machine, citizen])
  // Where one comes to rest stands in the address, not each step of the way. The way into the past is one step back.
  useSignalEffect(() => {
    const at = machine.at.value
    const playing = machine.playing.value
    const here = route.peek()
    if (here.view !== 'timeline' || here.at === at) return
    const write = (): void => {
      written.current = at
      go({ ...route.peek(), at }, { replace: here.at !== undefined })
    }
    if (here.at === undefined || at === undefined) return write()
    if (playing) return
    const timer = setTimeout(write, settled)
    return () => clearTimeout(timer)
  })
  return (
    <div class="timeline">
      <Controls machine={machine} />
      <State machine={machine} wide={wide} />
      <List machine={machine} place={place} mission={mission} />
    </div>
  )
}
