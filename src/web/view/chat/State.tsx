// The state of a question, in a line below it: why it waits, how long somebody works on it, what a person must answer first, or how it ended
// without a reply.
import { useSignal } from '@preact/signals'
import { useLayoutEffect, useRef } from 'preact/hooks'
import type { Message, Question } from '../../../client/index.ts'
import { contactText, type Contact } from '../../state/citizens.ts'
import { capital, span } from '../../format.ts'
import { wordsOf } from '../../state/online.ts'
import { keepFocus } from '../focus.ts'
import { useNow } from '../now.ts'
import type { Context } from './context.ts'

type Questions = NonNullable<Context['questions']>

/** Returns the question as it is at a time: a lease that has ended is no work, although nobody reports it. */
export const questionAt = (question: Question, now: number): Question =>
  question.state !== 'working' || question.until === null || Date.parse(question.until) > now
    ? question
    : { ...question, state: question.attempt >= 5 ? 'failed' : 'waiting' }

/** How a question ends without a reply. */
export const ends = { closed: 'closed without a reply', failed: 'gave up after five attempts' } as const

/** The state in words; '' if there is nothing to say. */
export const stateText = ({ state, attempt, since }: Question, name: string, contact: Contact, now: number): string => {
  switch (state) {
    case 'answered':
      return ''
    case 'closed':
    case 'failed':
      return ends[state]
    case 'working':
      return `working for ${span(now - Date.parse(since))}${attempt > 1 ? `, attempt ${attempt}` : ''}`
    case 'waiting': {
      if (contact.listening !== false) return `waiting for ${name}${attempt > 0 ? ' to try again' : ''}`
      const seen = contactText(contact)
      return `waiting: ${name} is not connected${seen === 'not connected' ? '' : ` (${seen})`}`
    }
  }
}

type Props = { question: Question; citizen: string; questions: Questions }

const Line = ({ question: given, citizen, questions }: Props) => {
  const { decide } = questions
  const doing = useSignal<'' | 'retrying' | 'cancelling'>('')
  const refusal = useSignal('')
  const line = useRef<HTMLParagraphElement>(null)
  // A button is removed with its state, so the focus moves to the message field.
  useLayoutEffect(() => {
    const { current } = line
    return () => void (current?.contains(document.activeElement) && keepFocus('#composer'))
  }, [])
  const now = useNow(given.state === 'working' ? 1000 : given.state === 'waiting' ? 30_000 : 0)
  const question = questionAt(given, now)
  const { state } = question
  const request = state === 'working' ? questions.waitsFor(question.id) : undefined
  const text =
    request === undefined
      ? stateText(question, capital(citizen), questions.contact(), now)
      : `waits for an answer to “${request}”`
  if (!text) return null
  const act = async (what: 'retry' | 'cancel'): Promise<void> => {
    if (doing.value || !decide) return
    doing.value = what === 'retry' ? 'retrying' : 'cancelling'
    refusal.value = ''
    try {
      await decide(question.id, what)
      // A writer that was asked to stop has not done so yet: a new state ends this one.
      if (state !== 'working') doing.value = ''
    } catch (error) {
      doing.value = ''
      refusal.value = wordsOf(error)
    }
  }
  const [what, label] = state === 'failed' ? (['retry', 'Try again'] as const) : (['cancel', 'Cancel'] as const)
  return (
    <p class="question" data-state={state} ref={line}>
      <span aria-hidden={state === 'working' && request === undefined}>{text}</span>
      {state === 'working' && request === undefined && <span class="unseen">working</span>}
      {decide && state !== 'closed' && (
        <>
          {' · '}
          <button type="button" class="small" aria-disabled={doing.value !== ''} onClick={() => void act(what)}>
            {doing.value || label}
          </button>
        </>
      )}
      {refusal.value && <span role="alert"> {refusal.value}</span>}
    </p>
  )
}

export const State = ({ message, ...more }: { message: Message } & Omit<Props, 'question'>) => {
  const question = more.questions.of(message)
  // What was asked of a former state is over.
  return question ? <Line key={`${question.state} ${question.attempt}`} question={question} {...more} /> : null
}
