// The part below the last message: the user's own messages until they are stored, drafts of replies with a stop button, and typing users.
import { useSignal } from '@preact/signals'
import { useLayoutEffect, useRef } from 'preact/hooks'
import { DeckError } from '../../client/index.ts'
import type { Outgoing } from '../state/outgoing.ts'
import type { Draft } from '../state/activity.ts'
import type { ChatState } from '../state/chat.ts'
import { capital, timeOf } from '../format.ts'
import { keepFocus } from './focus.ts'
import { Icon } from './Icon.tsx'
import { Markdown } from './chat/Markdown.tsx'
import { Avatar } from './chat/Row.tsx'
import { Doing } from './chat/Steps.tsx'

const failed = 'could not be stopped'

const Writing = ({ draft, chat }: { draft: Draft; chat: ChatState }) => {
  const stopping = useSignal('')
  const name = capital(draft.citizen)
  const row = useRef<HTMLElement>(null)
  // The stop button is removed with its draft, so the focus moves to the message field.
  useLayoutEffect(() => {
    const { current } = row
    return () => void (current?.contains(document.activeElement) && keepFocus('#composer'))
  }, [])
  const asked = stopping.value !== '' && stopping.value !== failed
  const stop = async (): Promise<void> => {
    if (asked) return
    stopping.value = 'stopping'
    try {
      await chat.cancel(draft.key)
    } catch (error) {
      stopping.value = error instanceof DeckError && error.code === 'not_found' ? 'no longer being written' : failed
    }
  }
  return (
    <article class="row" ref={row} data-draft={draft.key} aria-label={`${name} is writing`} aria-busy="true">
      <div class="message">
        <Avatar name={name} citizen />
        <div class="said">
          <header>
            <b>{name}</b>
            <span class="muted">{stopping.value || (draft.text ? 'is writing' : 'is working')}</span>
            <button type="button" class="small" onClick={() => void stop()} aria-disabled={asked}>
              <Icon name="stop" /> Stop
            </button>
          </header>
          <Doing steps={draft.steps} />
          <Markdown text={draft.text} />
        </div>
      </div>
    </article>
  )
}

/** A draft that its writer has abandoned, until the work on the question goes on. */
const Stopped = ({ draft: { citizen, text, steps } }: { draft: Draft }) => (
  <article class="row stopped" aria-label={`${capital(citizen)} stopped writing`}>
    <div class="message">
      <Avatar name={capital(citizen)} citizen />
      <div class="said">
        <header>
          <b>{capital(citizen)}</b>
          <span class="muted" role="status">
            {capital(citizen)} stopped writing
          </span>
        </header>
        <Doing steps={steps} />
        <Markdown text={text} />
      </div>
    </div>
  </article>
)

const Sent = ({ entry, sub, chat }: { entry: Outgoing; sub: string; chat: ChatState }) => (
  <article class={`row out ${entry.state}`} data-key={entry.key} aria-label={`Your message, ${entry.state}`}>
    <div class="message mine">
      <Avatar name={sub} citizen={false} />
      <div class="said">
        <header>
          <b>{sub}</b>
          <time dateTime={entry.at}>{timeOf(entry.at)}</time>
          {entry.state === 'pending' && <span class="muted">sending</span>}
        </header>
        <Markdown text={entry.text} blocks={entry.code_blocks ?? null} />
        {entry.state === 'failed' && (
          <p class="failure" role="alert">
            Not sent: {entry.why}.{' '}
            <button type="button" class="small" onClick={() => chat.retry(entry.key)}>
              Try again
            </button>{' '}
            <button
              type="button"
              class="small"
              onClick={() => {
                chat.outgoing.write(entry.text)
                chat.outgoing.remove(entry.key)
              }}
            >
              Edit
            </button>{' '}
            <button type="button" class="small" onClick={() => chat.outgoing.remove(entry.key)}>
              Remove
            </button>
          </p>
        )}
      </div>
    </div>
  </article>
)

const typists = (names: string[]): string => {
  const shown = names.slice(0, 3).map(capital).join(', ')
  return `${shown}${names.length > 3 ? ' and others' : ''} ${names.length > 1 ? 'are' : 'is'} typing`
}

export const Footer = ({ chat, sub }: { chat: ChatState; sub: string }) => (
  <>
    {chat.outgoing.list.value.map((entry) => (
      <Sent key={entry.key} entry={entry} sub={sub} chat={chat} />
    ))}
    {chat.drafts.value.map((draft) =>
      draft.stopped ? (
        <Stopped key={`stopped ${draft.key}`} draft={draft} />
      ) : (
        <Writing key={draft.key} draft={draft} chat={chat} />
      ),
    )}
    <p class="typing">{chat.typing.value.length > 0 ? typists(chat.typing.value) : '\u00a0'}</p>
  </>
)
