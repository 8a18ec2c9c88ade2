// Where one is: /deck/missions/47/rafael/tests as a mission's number, a citizen and a view beside the chat; behind the timeline also the
// time as of which one looks. The address is the truth: the back button goes back, a copied address leads to the same place, and the
// last place is remembered for who comes without one.
import { signal } from '@preact/signals'
import { browser } from './keep.ts'

export type Route = {
  mission?: string | undefined
  citizen?: string | undefined
  view?: string | undefined
  /** RFC 3339, of the timeline only */
  at?: string | undefined
}

const kept = 'deck.place'

export const parse = (path: string): Route => {
  const [, deck, missions, ...rest] = path.split('/')
  if (deck !== 'deck' || missions !== 'missions') return {}
  const [mission, citizen, view, at] = rest.map((part) => {
    try {
      return decodeURIComponent(part) || undefined
    } catch {
      return undefined
    }
  })
  return { mission, citizen, view, at: view === 'timeline' && at && Number.isFinite(Date.parse(at)) ? at : undefined }
}

export const format = ({ mission, citizen, view, at }: Route): string => {
  const parts = [mission, citizen, view, view === 'timeline' ? at : undefined]
  const end = parts.findIndex((part) => part === undefined)
  const given = parts.slice(0, end < 0 ? parts.length : end) as string[]
  return ['/deck/missions', ...given.map((part) => encodeURIComponent(part).replaceAll('%3A', ':'))].join('/')
}

export const route = signal<Route>({})

const take = (): void => {
  route.value = parse(location.pathname)
}

/** Goes somewhere; `replace` leaves no step to come back to. */
export const go = (to: Route, { replace = false } = {}): void => {
  const path = format(to)
  if (path !== location.pathname) history[replace ? 'replaceState' : 'pushState'](null, '', path)
  // Who comes back comes to today.
  if (to.mission !== undefined) browser.set(kept, format({ ...to, at: undefined }))
  take()
}

export const startRoute = (): void => {
  addEventListener('popstate', take)
  const last = browser.get(kept)
  if (location.pathname.startsWith('/deck/missions/')) take()
  else go(last ? parse(last) : {}, { replace: true })
}
