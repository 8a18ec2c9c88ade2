// The registered citizens, in the order in which work passes through them, then other citizens that have a chat in the mission.
import { Fragment } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { contactText } from '../state/citizens.ts'
import { emptyChannel, type Channel } from '../state/mission-chats.ts'
import type { Place } from '../state/place.ts'
import { go, format, type Route } from '../state/route.ts'
import { capital } from '../format.ts'
import { Counts } from './Counts.tsx'
import { useNow } from './now.ts'

/** The names that a citizen may have. */
export const isCitizen = (name: string): boolean => /^[a-z][a-z0-9_-]{0,31}$/.test(name)

export const Crew = ({ place, channels, route }: { place: Place; channels: Channel[]; route: Route }) => {
  const registry = place.citizens.list.value ?? []
  // Times are relative to now.
  useNow(60_000)
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
          const { citizen, working } = channel
          const known = registry.find(({ name }) => name === citizen)
          const contact = place.citizens.contact(citizen)
          const text = working ? 'is writing' : contactText(contact)
          const about = known?.about ? `${known.about}\n` : ''
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
              {n > 0 && n === registry.length && <li class="gap" aria-hidden="true" />}
              <li>
                <a
                  href={format(to)}
                  class={`crewman ${here ? 'here' : ''}`}
                  aria-current={here ? 'page' : undefined}
                  title={`${about}${text && `${capital(citizen)}: ${text}`}`}
                  onClick={(event) => {
                    if (event.metaKey || event.ctrlKey || event.shiftKey) return
                    event.preventDefault()
                    go(to)
                  }}
                >
                  <span
                    class={`dot ${working ? 'working' : contact.listening ? 'listening' : text ? 'away' : 'unknown'}`}
                  />
                  <span class="name">{capital(citizen)}</span>
                  <span class="role">
                    {known?.title ?? 'Citizen'}
                    {text && <span class={here ? 'contact' : 'unseen'}>, {text}</span>}
                  </span>
                  <Counts counts={channel} />
                </a>
              </li>
            </Fragment>
          )
        })}
      </ul>
    </nav>
  )
}
