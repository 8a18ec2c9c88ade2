// A mission's timeline with the time machine: a slider over its time, a replay, and the mission's state at a time. The past is marked,
// and it is read-only: no code here writes.
import { useSignalEffect } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { Mission } from '../../../client/index.ts'
import { leave, timeMachineOf, type TimeMachine } from '../../state/time-machine.ts'
import type { Place } from '../../state/place.ts'
import { go, route } from '../../state/route.ts'
import { capital, percent, statuses } from '../../format.ts'
import { Controls } from './Controls.tsx'
import { Events } from './Events.tsx'
import { Icon } from '../Icon.tsx'
import { Reading } from '../chat/Reading.tsx'
import { PastMessages, Verdict } from './Past.tsx'
import '../../style/timeline.css'
import '../../style/time-machine.css'
import '../../style/past.css'

/** Milliseconds without a change after which the time is written into the address. */
const settled = 200

/** The mission's state at the time. */
const State = ({ timeMachine, wide }: { timeMachine: TimeMachine; wide: boolean }) => {
  const state = timeMachine.state.value
  if (timeMachine.failure.value)
    return (
      <p class="failure" role="alert">
        {timeMachine.failure.value}
      </p>
    )
  if (timeMachine.at.value === undefined) return null
  if (!state) return <Reading what="this time" quiet kind="state" />
  const { mission, items, run } = state
  const done = items.filter(({ completed }) => completed).length
  return (
    <div class="state" tabIndex={0} role="region" aria-label="The mission at this time">
      <p class="state-mission">
        <b>{mission.title}</b> <span class={`status ${mission.status}`}>{statuses[mission.status]}</span>
      </p>
      <Verdict run={run} />
      <details>
        <summary>
          Checklist{' '}
          <span class="sum">
            {done}/{items.length} <span class="muted">{percent(done, items.length)}</span>
          </span>
        </summary>
        <ul class="state-items">
          {items.map(({ id, text, completed }) => (
            <li key={id} class={completed ? 'done' : ''}>
              <span class="mark">
                {completed && <Icon name="check" />}
                <span class="unseen">{completed ? 'done: ' : 'open: '}</span>
              </span>
              {text}
            </li>
          ))}
          {items.length === 0 && <li class="muted">No items yet.</li>}
        </ul>
      </details>
      {!wide && (
        <details>
          <summary>
            {capital(state.citizen)}’s chat <span class="sum muted">{state.messages.at(-1)?.seq ?? 'nothing yet'}</span>
          </summary>
          <PastMessages timeMachine={timeMachine} sub="" />
        </details>
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
  const timeMachine = timeMachineOf(place, mission.id)
  const given = route.value.at
  /** the time that was last written into the address */
  const written = useRef(given)
  useEffect(() => () => leave(timeMachine), [timeMachine])
  // An address from elsewhere (a link, the back button) sets the time. This effect must be before the one that writes the address.
  useEffect(() => {
    // The effect may run late, when the address has changed again.
    const now = timeMachine.at.peek()
    if (given !== route.peek().at || given === now || (given === written.current && now !== undefined)) return
    written.current = given
    if (given === undefined) timeMachine.live()
    else void timeMachine.seek(given)
  }, [timeMachine, given])
  useEffect(() => void timeMachine.show(citizen), [timeMachine, citizen])
  // Only a time that stays is written into the address, not each step. Entering the past adds one entry to the browser's history.
  useSignalEffect(() => {
    const at = timeMachine.at.value
    const playing = timeMachine.playing.value
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
      <Controls timeMachine={timeMachine} />
      <State timeMachine={timeMachine} wide={wide} />
      <Events timeMachine={timeMachine} place={place} mission={mission} />
    </div>
  )
}
