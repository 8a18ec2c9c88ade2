// The citizens of a mission, in the order in which work passes through them, then other citizens that have a chat.
import { Fragment } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { emptyChannel, team, type Channel } from '../state/mission-chats.ts'
import { go, format, type Route } from '../state/route.ts'
import { capital, count } from '../format.ts'

/** The names that a citizen may have. */
export const isCitizen = (name: string): boolean => /^[a-z][a-z0-9_-]{0,31}$/.test(name)

// A citizen that follows the chat is online. The state of others is unknown: an agent may work without following.
const states = { working: ', is writing', online: ', is online', unknown: '' } as const
const stateOf = ({ online, working }: Channel): keyof typeof states =>
  working ? 'working' : online ? 'online' : 'unknown'

export const Crew = ({ channels, route }: { channels: Channel[]; route: Route }) => {
  const { citizen: current = '' } = route
  // The citizen of the open chat is listed even if the chat has no messages.
  const all =
    isCitizen(current) && !channels.some(({ citizen }) => citizen === current)
      ? [...channels, { ...emptyChannel, citizen: current }]
      : channels
  const strip = useRef<HTMLUListElement>(null)
  // The current citizen stays visible if not all of them fit.
  useEffect(() => {
    strip.current?.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' })
  }, [route.citizen, route.mission])
  return (
    <nav class="crew" aria-label="Citizens">
      <ul ref={strip}>
        {all.map((channel, n) => {
          const { citizen, unread } = channel
          const known = team.find(({ name }) => name === citizen)
          const state = stateOf(channel)
          // A link from the past stays at that time.
          const to = { ...(route.at === undefined ? {} : route), mission: route.mission, citizen }
          const here = citizen === route.citizen
          return (
            <Fragment key={citizen}>
              {n > 0 && known && (
                <li class="arrow" aria-hidden="true">
                  →
                </li>
              )}
              {n === team.length && <li class="gap" aria-hidden="true" />}
              <li>
                <a
                  href={format(to)}
                  class={`crewman ${here ? 'here' : ''}`}
                  aria-current={here ? 'page' : undefined}
                  onClick={(event) => {
                    if (event.metaKey || event.ctrlKey || event.shiftKey) return
                    event.preventDefault()
                    go(to)
                  }}
                >
                  <span class={`dot ${state}`} />
                  <span class="name">{capital(citizen)}</span>
                  <span class="role">{known?.role ?? 'Citizen'}</span>
                  <span class="unseen">{states[state]}</span>
                  {unread > 0 && (
                    <span class="badge" aria-label={`${count(unread)} unread`}>
                      {count(unread)}
                    </span>
                  )}
                </a>
              </li>
            </Fragment>
          )
        })}
      </ul>
    </nav>
  )
}
