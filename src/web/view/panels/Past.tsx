// Views of the past: a chat at a time, which is read-only; the newest run at that time; and the notice that this is the past.
import { Fragment } from 'preact'
import { useSignal } from '@preact/signals'
import { useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import type { Mission, Request, TestRun } from '../../../client/index.ts'
import { placeRequests } from '../../place-requests.ts'
import { sumsOf } from '../../results.ts'
import { quoteOf } from '../../state/quotes.ts'
import { timeMachineOf, type TimeMachine } from '../../state/time-machine.ts'
import type { Place } from '../../state/place.ts'
import { route } from '../../state/route.ts'
import { capital, dayAndTime, fullTime, percent, stampOf } from '../../format.ts'
import { Icon } from '../Icon.tsx'
import type { Context } from '../chat/context.ts'
import { Row } from '../chat/Row.tsx'
import { Asked } from '../requests/Card.tsx'

const names = { running: 'running', passed: 'passed', failed: 'failed' } as const

/** The newest run at the time. */
export const Verdict = ({ run }: { run: TestRun | undefined }) => {
  if (!run) return <p class="muted">No test runs yet.</p>
  return (
    <p class={`state-run ${run.status}`}>
      Tests <b>{names[run.status]}</b>
      {sumsOf(run.summary).map(({ name, passed, total }) => (
        <span key={name}>
          {passed}/{total} <span class="muted">{name === 'tests' ? percent(passed, total) : name}</span>
        </span>
      ))}
      <time class="muted" dateTime={run.created_at} title={fullTime(run.created_at)}>
        {dayAndTime(run.created_at)}
      </time>
    </p>
  )
}

/** A chat at the time. */
export const PastMessages = ({ timeMachine, sub }: { timeMachine: TimeMachine; sub: string }) => {
  const box = useRef<HTMLDivElement>(null)
  const held = useRef({ stuck: true, height: 0, first: 0 })
  const state = timeMachine.state.value
  const messages = state?.messages ?? []
  useLayoutEffect(() => {
    const element = box.current
    if (!element) return
    const { current } = held
    const first = messages[0]?.seq ?? 0
    if (current.stuck) element.scrollTop = element.scrollHeight
    else if (first < current.first) element.scrollTop += element.scrollHeight - current.height
    held.current = { ...current, first, height: element.scrollHeight }
  }, [messages])
  const found = useSignal(0)
  const context = useMemo<Context>(
    () => ({
      citizen: state?.citizen ?? '',
      quote(id) {
        const message = messages.find((message) => message.id === id)
        return message ? quoteOf(message) : null
      },
      jump(seq) {
        found.value = seq
        box.current?.querySelector(`[data-seq="${seq}"]`)?.scrollIntoView({ block: 'center' })
      },
    }),
    [messages],
  )
  const { before, after } = placeRequests(
    state?.requests.filter(({ citizen }) => citizen === state.citizen) ?? [],
    messages,
    state?.older ? (messages[0]?.created_at ?? '') : '',
  )
  const ask = (request: Request) => <Asked key={request.id} request={request} context={context} />
  return (
    <div
      class="past-messages"
      ref={box}
      tabIndex={0}
      role="region"
      aria-label={`Messages with ${capital(state?.citizen ?? '')} at this time`}
      onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
        held.current.stuck = scrollHeight - scrollTop - clientHeight < 40
      }}
    >
      {state?.older && (
        <button type="button" class="small" onClick={() => void timeMachine.more()}>
          Older messages
        </button>
      )}
      {state && messages.length + after.length === 0 && (
        <p class="muted empty">No messages with {capital(state.citizen)} by then, or they were cleared later.</p>
      )}
      {messages.map((message, n) => (
        <Fragment key={message.seq}>
          {before.get(message.seq)?.map(ask)}
          <Row
            message={message}
            before={messages[n - 1]}
            isNew={false}
            found={message.seq === found.value}
            mine={message.author === sub}
            context={context}
          />
        </Fragment>
      ))}
      {after.map(ask)}
    </div>
  )
}

type Props = { place: Place; mission: Mission }

/** Replaces the chat. */
export const PastChat = ({ place, mission }: Props) => {
  const timeMachine = timeMachineOf(place, mission.id)
  return (
    <>
      <PastMessages timeMachine={timeMachine} sub={place.who.sub} />
      <p class="composer silent past-foot">This is the past: you can’t write here.</p>
    </>
  )
}

/** Replaces the search field. */
export const PastMark = ({ place, mission }: Props) => {
  const timeMachine = timeMachineOf(place, mission.id)
  const at = timeMachine.at.value ?? route.value.at
  return (
    <div class="past-mark" role="status" aria-live="off">
      <Icon name="clock" />
      <b>The past</b>
      {at && (
        <time dateTime={at} title={fullTime(at)}>
          {stampOf(at)}
        </time>
      )}
      <button type="button" class="primary small" onClick={timeMachine.live} title="Esc">
        Back to live
      </button>
    </div>
  )
}
