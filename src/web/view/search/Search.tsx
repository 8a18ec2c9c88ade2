// Searches a chat: hits are newest first, each with a link to its message. Enter searches the whole mission.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { DeckError, type History } from '../../../client/index.ts'
import { persist } from '../../state/online.ts'
import type { Place } from '../../state/place.ts'
import type { ChatState } from '../../state/chat.ts'
import { go, route } from '../../state/route.ts'
import { capital, dayAndTime } from '../../format.ts'
import { keepFocus } from '../focus.ts'
import { Icon } from '../Icon.tsx'
import { authorOf } from '../chat/Row.tsx'
import { Snippet } from './Snippet.tsx'

/** Milliseconds after the last keystroke. */
const pause = 200
const perPage = 30

export const Search = ({ chat, place }: { chat: ChatState; place: Place }) => {
  const input = useRef<HTMLInputElement>(null)
  const words = useSignal('')
  const found = useSignal<History['messages'] | undefined>(undefined)
  const more = useSignal(false)
  const failure = useSignal('')
  const asked = useRef<AbortController | undefined>(undefined)

  const search = async (q: string, before?: number): Promise<void> => {
    asked.current?.abort()
    const { signal } = (asked.current = new AbortController())
    failure.value = ''
    if (q.trim() === '') return void (found.value = undefined)
    try {
      const bounds = before === undefined ? {} : { before }
      const page = await persist(place.deck, signal, (signal) =>
        chat.client.history({ q, limit: perPage, highlight: true, ...bounds, signal }),
      )
      const older = page.messages.toReversed()
      found.value = before === undefined ? older : [...(found.value ?? []), ...older]
      more.value = page.has_more
    } catch (error) {
      if (!signal.aborted) failure.value = error instanceof DeckError ? error.detail : 'The search failed.'
    }
  }

  useEffect(() => {
    const timer = setTimeout(() => void search(words.value), pause)
    return () => clearTimeout(timer)
  }, [words.value, chat])

  const close = (): void => {
    words.value = ''
    found.value = undefined
    input.current?.blur()
  }
  const goTo = (seq: number): void => {
    place.target.value = { mission: chat.mission, citizen: chat.citizen, seq }
    close()
    keepFocus('.talk')
  }

  const findAll = (): void => {
    place.words.value = words.value
    close()
    go({ ...route.peek(), view: 'search' })
  }

  return (
    <search
      class="search"
      onKeyDown={(event) => {
        if (event.key !== 'Escape') return
        event.stopPropagation()
        close()
      }}
    >
      <label class="searchbox">
        <Icon name="search" />
        <input
          id="search"
          ref={input}
          type="search"
          value={words.value}
          placeholder={`Search ${capital(chat.citizen)}`}
          aria-label={`Search the chat with ${capital(chat.citizen)}`}
          autocomplete="off"
          onInput={(event) => (words.value = event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === 'Enter' && !event.isComposing) findAll()
          }}
        />
        <kbd aria-hidden="true">/</kbd>
      </label>
      {(found.value || failure.value) && (
        <div class="results">
          <p class="muted" role="status">
            {failure.value ||
              (found.value?.length ? `${found.value.length}${more.value ? '+' : ''} found` : 'Nothing found')}
          </p>
          <ul>
            {found.value?.map((message) => (
              <li key={message.seq}>
                <button type="button" onClick={() => goTo(message.seq)}>
                  <b>{authorOf(message)}</b> <span class="muted">{dayAndTime(message.created_at)}</span>
                  <Snippet {...(message.snippet ?? { text: message.message, hits: [] })} />
                </button>
              </li>
            ))}
          </ul>
          {more.value && (
            <button type="button" class="small" onClick={() => void search(words.value, found.value?.at(-1)?.seq)}>
              Older messages
            </button>
          )}
          <button type="button" class="small" onClick={findAll}>
            Search the whole mission
          </button>
        </div>
      )}
    </search>
  )
}
