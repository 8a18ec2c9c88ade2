// The parts that show requests, loaded when there is one; and the button that leads to those that are open.
import type { Place } from '../../state/place.ts'
import { count } from '../../format.ts'
import { later } from '../later.tsx'

export const Dock = later(() => import('./Dock.tsx').then((part) => part.Dock), 'unseen')
export const Asked = later(() => import('./Card.tsx').then((part) => part.Asked), 'row')
export const Open = later(() => import('./Open.tsx').then((part) => part.Open), 'unseen')

/** Nothing, unless something is open for the reader. */
export const OpenButton = ({ place, onOpen }: { place: Place; onOpen: () => void }) => {
  const { requests } = place.missions.total.value
  if (requests === 0) return null
  return (
    <button
      type="button"
      class="small to-requests"
      aria-haspopup="dialog"
      title="Requests for you (r)"
      onClick={onOpen}
    >
      <b>{count(requests)}</b> {requests === 1 ? 'request' : 'requests'} for you
    </button>
  )
}
