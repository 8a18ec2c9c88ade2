// The page's current place, which is its address: the back button works, and a copied address leads to the same place. The last place
// is stored for a visit without one.
import { signal } from '@preact/signals'
import { format, parse, type Route } from '../address.ts'
import { browser } from './storage.ts'

export { format, type Route }

const kept = 'deck.place'

export const route = signal<Route>({})

const take = (): void => {
  route.value = parse(location.pathname)
}

/** Goes to a place; `replace` adds no entry to the browser's history. */
export const go = (to: Route, { replace = false } = {}): void => {
  const path = format(to)
  if (path !== location.pathname) history[replace ? 'replaceState' : 'pushState'](null, '', path)
  // A later visit starts in the present.
  if (to.mission !== undefined) browser.set(kept, format({ ...to, at: undefined }))
  take()
}

export const startRoute = (): void => {
  addEventListener('popstate', take)
  const last = browser.get(kept)
  if (location.pathname.startsWith('/deck/missions/')) take()
  else go(last ? parse(last) : {}, { replace: true })
}
