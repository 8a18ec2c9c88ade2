// The past as it is shown: a chat as it stood, which nobody can write into; the newest run; and the line that says that this is the past.
import { useLayoutEffect, useRef } from 'preact/hooks'
import type { Mission, TestRun } from '../../../client/index.ts'
import { sumsOf } from '../../results.ts'
import { machineOf, type Machine } from '../../state/time-machine.ts'
import type { Place } from '../../state/place.ts'
import { route } from '../../state/route.ts'
import { capital, fullTime, percent, shortDay, stampOf, timeOf } from '../../format.ts'
import { Icon } from '../Icon.tsx'
import { Row } from '../chat/Row.tsx'

const names = { running: 'running', passed: 'passed', failed: 'failed' } as const

/** The newest run that there was. */
export const Verdict = ({ run }: { run: TestRun | undefined }) => {
  if (!run) return <p class="muted">There was no test run yet.</p>
  return (
    <p class={`then-run ${run.status}`}>
      Tests <b>{names[run.status]}</b>
      {sumsOf(run.summary).map(({ name, passed, total }) => (
        <span key={name}>
          {passed}/{total} <span class="muted">{name === 'tests' ? percent(passed, total) : name}</span>
        </span>
      ))}
      <time class="muted" dateTime={run.created_at} title={fullTime(run.created_at)}>
        {shortDay(run.created_at)}, {timeOf(run.created_at)}
      </time>
    </p>
  )
}

/** A chat as it stood. */
export const Said = ({ machine, sub }: { machine: Machine; sub: string }) => {
  const box = useRef<HTMLDivElement>(null)
  const held = useRef({ stuck: true, height: 0, first: 0 })
  const then = machine.then.value
  const messages = then?.messages ?? []
  useLayoutEffect(() => {
    const element = box.current
    if (!element) return
    const { current } = held
    const first = messages[0]?.seq ?? 0
    if (current.stuck) element.scrollTop = element.scrollHeight
    else if (first < current.first) element.scrollTop += element.scrollHeight - current.height
    held.current = { ...current, first, height: element.scrollHeight }
  }, [messages])
  return (
    <div
      class="said-then"
      ref={box}
      tabIndex={0}
      role="region"
      aria-label={`Messages with ${capital(then?.citizen ?? '')} at this time`}
      onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
        held.current.stuck = scrollHeight - scrollTop - clientHeight < 40
      }}
    >
      {then?.older && (
        <button type="button" class="small" onClick={() => void machine.more()}>
          Older messages
        </button>
      )}
      {then && messages.length === 0 && (
        <p class="muted empty">Nothing had been said to {capital(then.citizen)} by then, or it was cleared later.</p>
      )}
      {messages.map((message, n) => (
        <Row
          key={message.seq}
          message={message}
          before={messages[n - 1]}
          isNew={false}
          found={false}
          mine={message.author === sub}
        />
      ))}
    </div>
  )
}

type Props = { place: Place; mission: Mission }

/** In the place of the chat. */
export const Then = ({ place, mission }: Props) => {
  const machine = machineOf(place, mission.id)
  return (
    <>
      <Said machine={machine} sub={place.who.sub} />
      <p class="composer silent past-foot">This is the past: nothing can be written here.</p>
    </>
  )
}

/** In the place of the search. */
export const Marked = ({ place, mission }: Props) => {
  const machine = machineOf(place, mission.id)
  const at = machine.at.value ?? route.value.at
  return (
    <div class="past-mark" role="status" aria-live="off">
      <Icon name="clock" />
      <b>The past</b>
      {at && (
        <time dateTime={at} title={fullTime(at)}>
          {stampOf(at)}
        </time>
      )}
      <button type="button" class="primary small" onClick={machine.live} title="Esc">
        Back to live
      </button>
    </div>
  )
}
