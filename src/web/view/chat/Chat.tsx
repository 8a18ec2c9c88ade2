// A chat and a panel: side by side on a wide page, else one at a time.
import { useEffect, useRef } from 'preact/hooks'
import { useSignal } from '@preact/signals'
import type { Mission } from '../../../client/index.ts'
import type { Place } from '../../state/place.ts'
import { format, go, type Route } from '../../state/route.ts'
import { capital } from '../../format.ts'
import { Composer } from './Composer.tsx'
import { List } from './List.tsx'
import { panelOf, panels } from '../panels/panels.tsx'
import { Reading } from './Reading.tsx'
import { authorOf } from './Row.tsx'
import { ends } from './State.tsx'
import { Search } from '../search/Search.tsx'
import { later } from '../later.tsx'
import { Dock } from '../requests/parts.tsx'
import type { ChatState } from '../../state/chat.ts'

/** Milliseconds for which new messages are collected into one announcement for screen readers. */
const together = 1500

/** How a request ended, in a word. */
const endings = { open: 'asks', answered: 'was answered', expired: 'expired', withdrawn: 'was withdrawn' } as const

/** Announces new messages, questions that ended without a reply, requests of all missions, and their ends in this chat, to screen readers:
 * reads a single one, counts several, and skips own messages and drafts. */
const Announcer = ({ chat, place }: { chat: ChatState; place: Place }) => {
  const announcement = useSignal('')
  useEffect(() => {
    let waiting: string[] = []
    let timer = 0
    let requests = false
    const announce = (): void => {
      const many = `${waiting.length} new messages${requests ? ' and requests' : ''}`
      announcement.value = waiting.length > 1 ? many : (waiting[0] ?? '')
      waiting = []
      requests = false
      timer = 0
    }
    const add = (text: string): void => {
      waiting.push(text)
      timer ||= window.setTimeout(announce, together)
    }
    const forget = [
      chat.arrived.subscribe((message) => {
        if (message && message.author !== place.who.sub) add(`${authorOf(message)}: ${message.message.slice(0, 140)}`)
      }),
      chat.moved.subscribe((question) => {
        if (question?.state === 'failed' || question?.state === 'closed') add(`A question: ${ends[question.state]}`)
      }),
      place.missions.onRequest((mission, request) => {
        if (!request) return
        const { state, citizen, title } = request
        const here = mission === chat.mission && citizen === chat.citizen
        const number = place.missions.list.peek()?.find(({ id }) => id === mission)?.number
        requests ||= state === 'open' || here
        if (state === 'open') add(`${capital(citizen)} asks${here ? '' : ` in mission ${number}`}: ${title}`)
        else if (here) add(`A request ${endings[state]}: ${title}`)
      }),
    ]
    return () => {
      for (const each of forget) each()
      clearTimeout(timer)
    }
  }, [chat])
  return (
    <p class="unseen" aria-live="polite">
      {announcement.value}
    </p>
  )
}

/** Whether the citizen of a chat has asked anything that is known, or a link leads to what it asked. */
const hasAsked = (place: Place, { mission, citizen }: ChatState): boolean =>
  place.requests(mission).list.value.some((request) => request.citizen === citizen) ||
  (place.card.value?.mission === mission && place.card.value.citizen === citizen)

const PastChat = later(() => import('../panels/Past.tsx').then((part) => part.PastChat))
const PastMark = later(() => import('../panels/Past.tsx').then((part) => part.PastMark), 'past-mark')

type Props = { place: Place; mission: Mission; route: Route; wide: boolean }

export const Chat = ({ place, mission, route, wide }: Props) => {
  const citizen = route.citizen ?? 'rafael'
  const chat = place.chat(mission.id, citizen)
  const panel = panelOf(route.view, citizen, wide)
  const to = (view: string): Route => ({ mission: route.mission, citizen, view })
  const gone = chat.status.value === 'gone'
  const past = route.at !== undefined
  const asked = hasAsked(place, chat)
  // On a narrow page, a message to show replaces the panel with the chat.
  const target = place.target.value ?? place.card.value
  useEffect(() => {
    if (target?.citizen === citizen && !wide && panel) go(to('chat'))
  }, [target])
  const tabs = useRef<HTMLElement>(null)
  // The current tab stays visible if not all of them fit.
  useEffect(() => {
    tabs.current?.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' })
  }, [panel])
  return (
    <div class={`chat ${panel ? 'split' : ''} ${past ? 'past' : ''}`}>
      <div class="toolbar">
        {past ? <PastMark place={place} mission={mission} /> : <Search key={chat.citizen} chat={chat} place={place} />}
        <nav class="tabs" aria-label="Views" ref={tabs}>
          {[{ id: 'chat', title: 'Chat' }, ...panels].map(({ id, title }) => {
            const here = (panel?.id ?? 'chat') === id
            return (
              <a
                key={id}
                href={format(to(id))}
                aria-current={here ? 'page' : undefined}
                onClick={(event) => {
                  if (event.metaKey || event.ctrlKey || event.shiftKey) return
                  event.preventDefault()
                  go(to(id))
                }}
              >
                {title}
              </a>
            )
          })}
        </nav>
      </div>
      <section class="talk" tabIndex={-1} aria-label={`Chat with ${capital(citizen)}${past ? ' in the past' : ''}`}>
        {past ? (
          <PastChat key={mission.id} place={place} mission={mission} />
        ) : gone ? (
          <p class="muted empty">You no longer have access to this chat.</p>
        ) : chat.failure.value ? (
          <p class="failure empty" role="alert">
            This chat can’t be shown: {chat.failure.value}.{' '}
            <button type="button" class="small" onClick={chat.again}>
              Try again
            </button>
          </p>
        ) : chat.status.value === 'loading' ? (
          <Reading what="this chat" quiet />
        ) : (
          <>
            {chat.pages.total() === 0 && chat.outgoing.list.value.length + chat.drafts.value.length === 0 && !asked && (
              <p class="muted empty first">No messages with {capital(citizen)} yet.</p>
            )}
            <List key={`${chat.mission}/${chat.citizen}`} chat={chat} place={place} />
          </>
        )}
        {!past && <Announcer chat={chat} place={place} />}
        {!gone && !past && asked && <Dock key={`${mission.id} ${citizen}`} place={place} chat={chat} />}
        {!gone && !past && <Composer chat={chat} place={place} />}
      </section>
      {panel && (
        <section class={`panel of-${panel.id}`} tabIndex={-1} aria-label={panel.title}>
          <panel.View key={mission.id} place={place} mission={mission} citizen={citizen} wide={wide} />
        </section>
      )}
    </div>
  )
}
