// The whole page: missions on the left, the mission's citizens at the top, the chat below; the actions of keys; the connection's state.
import { useComputed, useSignal, useSignalEffect } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { Mission } from '../../client/index.ts'
import { showIcon } from '../icon.ts'
import { startKeys, type Action } from '../keys.ts'
import type { Place } from '../state/place.ts'
import { go, route as here } from '../state/route.ts'
import type { Session } from '../state/session.ts'
import { budget, capital, count, due, fullTime, statuses, timeOf, visible } from '../format.ts'
import { Chat } from './chat/Chat.tsx'
import { Crew, isCitizen } from './Crew.tsx'
import { closeDrawer, drawerOpen, openDrawer, useDrawer } from './drawer.ts'
import { Help } from './Help.tsx'
import { Icon } from './Icon.tsx'
import { isNamed, Missions, openMission, shownMissions } from './Missions.tsx'
import { panelOf, panels } from './panels/panels.tsx'
import { Open, OpenButton } from './requests/parts.tsx'

const wideQuery = matchMedia('(min-width: 1100px)')
/** Milliseconds before the token expires from which the page shows it. */
const ahead = 10 * 60_000

const named = (n: number, what: string): string[] => (n > 0 ? [`${count(n)} ${what}`] : [])

const Light = ({ session }: { session: Session }) => (
  <p class={`light ${session.light.value.name}`} role="status">
    <span class="lamp" /> {session.light.value.text}
  </p>
)

const Head = ({ mission }: { mission: Mission }) => {
  const { text, late, soon } = due(mission.deadline)
  const open = mission.status !== 'complete'
  return (
    <header class="head">
      <h1 title={mission.title}>
        <span class="number">#{mission.number}</span> {mission.title}
      </h1>
      <p class="facts">
        <span>{mission.client}</span>
        <span>{budget(mission.budget)}</span>
        <time
          dateTime={mission.deadline}
          title={fullTime(mission.deadline)}
          class={open && late ? 'late' : open && soon ? 'soon' : ''}
        >
          due {text}
        </time>
        <span class={`status ${mission.status}`}>{statuses[mission.status]}</span>
      </p>
    </header>
  )
}

/** A notice that the token is about to expire: the page can't renew it. */
const Ending = ({ ends }: { ends: number }) => {
  const now = useSignal(Date.now())
  useEffect(() => {
    const timer = setInterval(() => (now.value = Date.now()), 15_000)
    return () => clearInterval(timer)
  }, [])
  if (ends - now.value > ahead) return null
  return (
    <p class="ending" role="status">
      Your token expires at {timeOf(new Date(ends).toISOString())}. Then open a new sign-in link; unsent text is kept.
    </p>
  )
}

export const App = ({ session, place }: { session: Session; place: Place }) => {
  const filter = useSignal('')
  const help = useSignal(false)
  /** whether the list of open requests is shown */
  const asked = useSignal(false)
  const wide = useSignal(wideQuery.matches)
  const mission = useComputed(() => place.missions.list.value?.find((one) => isNamed(one, here.value.mission)))
  const id = useComputed(() => mission.value?.id)
  const channels = id.value === undefined ? [] : place.missions.channels(id.value)

  useEffect(() => {
    const update = (): void => void (wide.value = wideQuery.matches)
    wideQuery.addEventListener('change', update)
    return () => wideQuery.removeEventListener('change', update)
  }, [])

  // An address without a mission leads to the first mission with unread messages, or to the first mission.
  useSignalEffect(() => {
    const all = place.missions.list.value
    if (here.value.mission !== undefined || !all?.[0]) return
    if (!place.citizens.list.value) return
    const waiting = all.find((one) => place.missions.counts(one.id).unread > 0)
    openMission(waiting ?? all[0], place, true)
  })
  useSignalEffect(() => {
    if (!mission.value || here.value.citizen !== undefined || !place.citizens.list.value) return
    go({ ...here.value, citizen: place.citizens.usual() }, { replace: true })
  })
  useEffect(() => void (id.value !== undefined && place.missions.attend(id.value)), [id.value])

  useSignalEffect(() => {
    const { unread, failed, requests } = place.missions.total.value
    const sum = unread + failed + requests
    const where = mission.value
      ? `#${mission.value.number} ${mission.value.title} · ${capital(here.value.citizen ?? '')}`
      : 'Mission Deck'
    document.title = visible(`${sum > 0 ? `(${sum}) ` : ''}${where}`)
    showIcon(sum > 0)
  })
  useEffect(
    () => () => {
      document.title = 'Mission Deck'
      showIcon(false)
    },
    [],
  )

  const act = (action: Action, key: string): boolean => {
    const now = here.peek()
    const shown = shownMissions(place, filter.value)
    const at = shown.findIndex((one) => isNamed(one, now.mission))
    const names = mission.value ? place.missions.channels(mission.value.id).map(({ citizen }) => citizen) : []
    const citizen = (step: number): void => {
      const next = names[names.indexOf(now.citizen ?? '') + step]
      if (next) go({ ...(now.at === undefined ? {} : now), mission: now.mission, citizen: next })
    }
    const focus = (name: string): void => document.getElementById(name)?.focus()
    const dispatch = (name: string): void => void dispatchEvent(new Event(name))
    const view = (id: string): void => go({ mission: now.mission, citizen: now.citizen, view: id })
    const inTimeline = now.view === 'timeline'
    // An action that returns false leaves the key to the browser.
    const acts: Record<Action, () => unknown> = {
      'next mission': () => shown[at + 1] && openMission(shown[at + 1] as Mission, place),
      'previous mission': () => at > 0 && openMission(shown[at - 1] as Mission, place),
      'next citizen': () => citizen(1),
      'previous citizen': () => citizen(-1),
      citizen: () => citizen(Number(key) - 1 - names.indexOf(now.citizen ?? '')),
      filter() {
        openDrawer('#filter')
        focus('filter')
      },
      search: () => focus('search'),
      find() {
        if (now.view === 'search') focus('find')
        else view('search')
      },
      timeline: () => view('timeline'),
      play: () => inTimeline && dispatch('deck-play'),
      back: () => inTimeline && dispatch('deck-back'),
      forth: () => inTimeline && dispatch('deck-forth'),
      write: () => focus('composer'),
      newest: () => dispatch('deck-newest'),
      unread: () => dispatch('deck-unread'),
      requests: () => (asked.value = true),
      view() {
        const ids = ['chat', ...panels.map((panel) => panel.id)]
        const current = panelOf(now.view, now.citizen ?? '', wide.value)?.id ?? 'chat'
        view(ids[(ids.indexOf(current) + 1) % ids.length] ?? 'chat')
      },
      help: () => (help.value = true),
      leave() {
        if (drawerOpen.peek()) closeDrawer()
        else if (filter.value) filter.value = ''
        else if (now.at !== undefined) dispatch('deck-live')
      },
    }
    return acts[action]() !== false
  }
  useEffect(() => startKeys(act), [place])

  const { unread, failed, requests } = place.missions.total.value
  const openRequests = (): void => {
    closeDrawer()
    asked.value = true
  }
  const drawer = useDrawer(`${here.value.mission}/${here.value.citizen}`)
  const missing = place.missions.list.value && here.value.mission !== undefined && !mission.value
  return (
    <div class={drawer ? 'app drawer' : 'app'}>
      <a class="skip" inert={drawer} href={here.value.at === undefined ? '#composer' : '#time'}>
        {here.value.at === undefined ? 'Skip to the message field' : 'Skip to the slider'}
      </a>
      <aside class="side" id="side" aria-label="Deck" tabIndex={-1}>
        <div class="brand">
          <b>Mission Deck</b>
          <Light session={session} />
          <button type="button" class="quiet shut" aria-label="Close the missions" onClick={closeDrawer}>
            <Icon name="close" />
          </button>
        </div>
        <OpenButton place={place} onOpen={openRequests} />
        <Missions place={place} filter={filter} />
        <div class="me">
          <span title={place.who.sub}>{place.who.sub}</span>
          <span class="muted">{place.who.role}</span>
          <button type="button" class="quiet" aria-label="Keys" title="Keys (?)" onClick={() => (help.value = true)}>
            <Icon name="keys" />
          </button>
          <button type="button" class="quiet" aria-label="Sign out" title="Sign out" onClick={session.signOut}>
            <Icon name="out" />
          </button>
        </div>
      </aside>
      <div class="veil" onClick={closeDrawer} />
      <main inert={drawer} class={here.value.at === undefined ? '' : 'past-here'}>
        <div class="bar">
          <button
            type="button"
            id="menu"
            class="quiet"
            aria-expanded={drawer}
            aria-controls="side"
            aria-label={[
              'Missions',
              ...named(unread, 'unread'),
              ...named(failed, 'failed'),
              ...named(requests, 'open requests'),
            ].join(', ')}
            onClick={() => openDrawer()}
          >
            <Icon name="menu" />
            {unread + failed + requests > 0 && <span class="badge">{count(unread + failed + requests)}</span>}
          </button>
          <OpenButton place={place} onOpen={openRequests} />
          <Light session={session} />
        </div>
        <Ending ends={place.who.ends} />
        {mission.value && (
          <>
            <Head mission={mission.value} />
            <Crew place={place} channels={channels} route={here.value} />
            {here.value.citizen === undefined ? null : isCitizen(here.value.citizen) ? (
              <Chat place={place} mission={mission.value} route={here.value} wide={wide.value} />
            ) : (
              <p class="muted empty" role="status">
                There is no citizen “{here.value.citizen}”: choose one above.
              </p>
            )}
          </>
        )}
        {missing && (
          <p class="muted empty">Mission #{here.value.mission} does not exist, or you have no access to it.</p>
        )}
      </main>
      {asked.value && <Open place={place} onClose={() => (asked.value = false)} />}
      {help.value && <Help onClose={() => (help.value = false)} />}
    </div>
  )
}
