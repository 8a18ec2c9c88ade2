// What happened on a mission, by time, with the time machine: a slider over its time, a replay, and the mission as it was. What is shown
// of the past is marked as that, and nothing in it can be changed: there is nothing here that writes.
import { useSignalEffect } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { Mission } from '../../../client/index.ts'
import { leave, machineOf, type Machine } from '../../state/time-machine.ts'
import type { Place } from '../../state/place.ts'
import { go, route } from '../../state/route.ts'
import { capital, percent, statuses } from '../../format.ts'
import { Controls } from './Controls.tsx'
import { Events } from './Events.tsx'
import { Icon } from '../Icon.tsx'
import { Reading } from '../chat/Reading.tsx'
import { Said, Verdict } from './Then.tsx'
import '../../style/timeline.css'

/** ms after which one has come to rest */
const settled = 200

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
  if (!then) return <Reading what="this time" quiet kind="state" />
  const { mission, items, run } = then
  const done = items.filter(({ completed }) => completed).length
  return (
    <div class="state" tabIndex={0} role="region" aria-label="The mission at this time">
      <p class="then-mission">
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
    // An effect may come late: by then one may be elsewhere.
    const now = machine.at.peek()
    if (given !== route.peek().at || given === now || (given === written.current && now !== undefined)) return
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
      <Events machine={machine} place={place} mission={mission} />
    </div>
  )
}
