// A request to people: who asks, what for, until when, and the controls for its answer; or how it ended.
import type { ComponentChildren } from 'preact'
import { useSignal } from '@preact/signals'
import { useLayoutEffect, useRef } from 'preact/hooks'
import type { Request } from '../../../client/index.ts'
import { capital, dayAndTime, fullTime, span, timeOf } from '../../format.ts'
import { serverNow } from '../../server-time.ts'
import type { Requests } from '../../state/requests.ts'
import { Markdown } from '../chat/Markdown.tsx'
import { Answers, Avatar } from '../chat/Row.tsx'
import type { Context } from '../chat/context.ts'
import { keepFocus } from '../focus.ts'
import { Icon } from '../Icon.tsx'
import { useNow } from '../now.ts'
import { Controls } from './Controls.tsx'
import '../../style/requests.css'

const day = 24 * 3600_000
/** The time until a request expires, in words. */
const expiry = (left: number): string =>
  left <= 0 ? 'expires now' : `expires in ${left < 2 * day ? span(left) : `${Math.floor(left / day)} days`}`

export const Expires = ({ at }: { at: string }) => {
  const left = Date.parse(at) - serverNow()
  useNow(left < 120_000 ? 1000 : 30_000)
  return (
    <time class={`expires ${left < 300_000 ? 'soon' : 'muted'}`} dateTime={at} title={fullTime(at)}>
      {expiry(left)}
    </time>
  )
}

const Time = ({ at }: { at: string }) => (
  <time class="muted" dateTime={at} title={fullTime(at)}>
    {dayAndTime(at)}
  </time>
)

/** What became of a request. */
const Outcome = ({ request }: { request: Request }) => {
  const { kind, state, answer, answered_by, answered_at, citizen, expires_at } = request
  switch (state) {
    case 'open':
      return (
        <p class="outcome muted">
          Open until <Time at={expires_at} />
        </p>
      )
    case 'expired':
      return (
        <p class="outcome muted">
          Expired without an answer, <Time at={expires_at} />
        </p>
      )
    case 'withdrawn':
      return <p class="outcome muted">Withdrawn by {capital(citizen)}</p>
    case 'answered': {
      const what = kind !== 'approve' ? 'Answered' : answer === true ? 'Approved' : 'Declined'
      return (
        <>
          {typeof answer === 'string' && <p class="answer">{answer}</p>}
          <p class={`outcome ${what.toLowerCase()}`}>
            {what !== 'Declined' && <Icon name="check" />}
            {what === 'Declined' && <Icon name="close" />}
            <b>{what}</b> by {answered_by ?? 'SQL'}, {answered_at && <Time at={answered_at} />}
          </p>
        </>
      )
    }
  }
}

/** A request at its time in the chat: an ended one; in the past also an open one. */
export const Asked = ({ request, context }: { request: Request; context: Context }) => {
  const { id, title, body, citizen, created_at, state, task } = request
  const unfolded = useSignal(false)
  const name = capital(citizen)
  return (
    <article class="row" data-request={id} aria-label={`${name} asked: ${title}`}>
      <div class="message">
        <Avatar name={name} citizen />
        <div class="said">
          <header>
            <b>{name}</b>
            <span class="muted">asked</span>
            <time dateTime={created_at} title={fullTime(created_at)}>
              {timeOf(created_at)}
            </time>
          </header>
          <div class="request ended" data-state={state}>
            <p class="request-title">{title}</p>
            {task && <Answers id={task} before={undefined} context={context} label="Waits:" />}
            {body !== null && (
              <details onToggle={(event) => (unfolded.value = event.currentTarget.open)}>
                <summary>Details</summary>
                {unfolded.value && <Markdown text={body} />}
              </details>
            )}
            <Outcome request={request} />
          </div>
        </div>
      </div>
    </article>
  )
}

type Props = {
  request: Request
  requests: Requests
  /** whether the reader may answer */
  answers: boolean
  context: Context
}

/** A request above the message field: open, or ended while the reader was at it. */
export const Card = ({ request, requests, answers, context }: Props) => {
  const { id, citizen, title, body, state, expires_at, created_at, task } = request
  const { note, sending = false } = requests.cards.value.get(id) ?? {}
  const card = useRef<HTMLElement>(null)
  const open = state === 'open'
  // A control is removed with its state, so the focus moves to the card; with the card, to the next card or the message field.
  const inside = card.current?.contains(document.activeElement) ?? false
  useLayoutEffect(() => void (!open && inside && card.current?.focus()), [open])
  useLayoutEffect(() => {
    const { current } = card
    return () => void (current?.contains(document.activeElement) && keepFocus('.card, #composer'))
  }, [])
  const children: ComponentChildren = open ? (
    answers ? (
      <Controls request={request} requests={requests} sending={sending} />
    ) : (
      <p class="muted">A person answers this request.</p>
    )
  ) : (
    <>
      {requests.text(id).value !== '' && request.kind === 'text' && (
        <p class="answer unsent">Not sent: {requests.text(id).value}</p>
      )}
      <div class="ended">
        <Outcome request={request} />
        <button type="button" class="small" onClick={() => requests.release(id)}>
          Close
        </button>
      </div>
    </>
  )
  return (
    <article
      class="request card"
      ref={card}
      data-request={id}
      data-state={state}
      tabIndex={-1}
      aria-label={`${capital(citizen)} asks: ${title}`}
      onFocusIn={() => requests.focus(id, true)}
      onFocusOut={() => requests.focus(id, false)}
    >
      <header>
        <Avatar name={capital(citizen)} citizen />
        <span>
          <b>{capital(citizen)}</b> asks
        </span>
        <time class="muted" dateTime={created_at} title={fullTime(created_at)}>
          {timeOf(created_at)}
        </time>
        {open && <Expires at={expires_at} />}
      </header>
      <h2 class="request-title">{title}</h2>
      {task && <Answers id={task} before={undefined} context={context} label="Waits:" />}
      {body !== null && (
        <div class="request-body" tabIndex={0} role="group" aria-label="Details">
          <Markdown text={body} />
        </div>
      )}
      {children}
      {note && (
        <p class="failure" role="alert">
          {note}
        </p>
      )}
    </article>
  )
}
