// Where one is. The address is the truth: the back button goes back, a copied address leads to the same place, and the last place is
// remembered for who comes without one.
import { signal } from '@preact/signals'
import { format, parse, type Route } from '../address.ts'
import { browser } from './storage.ts'

export { format, type Route }

const kept = 'deck.place'

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
