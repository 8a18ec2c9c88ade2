// The list of missions with a filter; each with its status, budget, deadline and counts.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { Mission } from '../../client/index.ts'
import { keepFocus } from './focus.ts'
import type { Place } from '../state/place.ts'
import { go, route } from '../state/route.ts'
import { budget, due, statuses } from '../format.ts'
import { Counts } from './Counts.tsx'
import { closeDrawer } from './drawer.ts'

const matches = ({ number, title, client, status }: Mission, words: string): boolean =>
  words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => `#${number} ${title} ${client} ${statuses[status]}`.toLowerCase().includes(word))

/** The missions that match the filter, also for the keys that move between them. */
export const shownMissions = (place: Place, words: string): Mission[] =>
  (place.missions.list.value ?? []).filter((mission) => matches(mission, words))

/** Whether an address names a mission: by its number or its UUID. */
export const isNamed = ({ number, id }: Mission, name: string | undefined): boolean =>
  name === String(number) || name === id

export const openMission = (mission: Mission, place: Place, replace = false): void => {
  const { number, id } = mission
  const { citizen = place.citizens.usual(), mission: name } = route.peek()
  if (isNamed(mission, name)) return
  const waiting = place.missions.channels(id).filter(({ unread }) => unread > 0)
  // The chat with unread messages; else the chat with the current citizen.
  const to = waiting.find((one) => one.citizen === citizen) ?? waiting[0]
  go({ mission: String(number), citizen: to?.citizen ?? citizen }, { replace })
}

const Item = ({ mission, place, here }: { mission: Mission; place: Place; here: boolean }) => {
  const item = useRef<HTMLAnchorElement>(null)
  useEffect(() => void (here && item.current?.scrollIntoView({ block: 'nearest' })), [here])
  const { text, late, soon } = due(mission.deadline)
  const open = mission.status !== 'complete'
  return (
    <li>
      <a
        ref={item}
        href={`/deck/missions/${mission.number}`}
        class={`mission ${here ? 'here' : ''}`}
        aria-current={here ? 'page' : undefined}
        onClick={(event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey) return
          event.preventDefault()
          openMission(mission, place)
          closeDrawer()
        }}
      >
        <span class="number">#{mission.number}</span>
        <span class="title">{mission.title}</span>
        <Counts counts={place.missions.counts(mission.id)} />
        <span class="facts">
          <span class={`status ${mission.status}`}>{statuses[mission.status]}</span>
          <span>{budget(mission.budget)}</span>
          <span class={open && late ? 'late' : open && soon ? 'soon' : ''}>
            <span class="unseen">due </span>
            {text}
          </span>
        </span>
      </a>
    </li>
  )
}

export const Missions = ({ place, filter }: { place: Place; filter: { value: string } }) => {
  const all = place.missions.list.value
  const shown = shownMissions(place, filter.value)
  const choice = useSignal(0)
  const first = shown[Math.min(choice.value, shown.length - 1)]
  return (
    <nav class="missions" aria-label="Missions">
      <input
        id="filter"
        type="search"
        value={filter.value}
        placeholder="Filter missions"
        aria-label="Filter missions"
        autocomplete="off"
        onInput={(event) => (filter.value = event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== 'Enter' || event.isComposing || !first) return
          openMission(first, place)
          event.currentTarget.blur()
          closeDrawer()
          keepFocus('.talk')
        }}
      />
      {place.missions.failure.value && <p class="failure">{place.missions.failure.value}</p>}
      {all === undefined ? (
        <ul class="waiting" aria-hidden="true">
          <li />
          <li />
          <li />
        </ul>
      ) : (
        <ul>
          {shown.map((mission) => (
            <Item key={mission.id} mission={mission} place={place} here={isNamed(mission, route.value.mission)} />
          ))}
        </ul>
      )}
      {all && shown.length === 0 && (
        <p class="muted">{all.length === 0 ? 'You have no missions yet.' : 'No missions match.'}</p>
      )}
    </nav>
  )
}
