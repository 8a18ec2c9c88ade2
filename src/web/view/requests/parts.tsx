// The parts that show requests, loaded when there is one; and the button that leads to those that are open.
import type { Request } from '../../../client/index.ts'
import type { Place } from '../../state/place.ts'
import { count } from '../../format.ts'
import type { Context } from '../chat/context.ts'
import { later } from '../later.tsx'
import { memo } from '../memo.tsx'

export const Dock = later(() => import('./Dock.tsx').then((part) => part.Dock), 'unseen')
const Asked = memo(later(() => import('./Card.tsx').then((part) => part.Asked), 'row'))
export const Open = later(() => import('./Open.tsx').then((part) => part.Open), 'unseen')

/** Requests that are rendered between two messages. */
const most = 50

/** The requests between two messages, the newest of very many. */
export const AskedBetween = ({ requests, context }: { requests: readonly Request[]; context: Context }) => (
  <>
    {requests.length > most && (
      <p class="row muted more-asked">{requests.length - most} earlier requests are in the timeline.</p>
    )}
    {requests.slice(-most).map((request) => (
      <Asked key={request.id} request={request} context={context} />
    ))}
  </>
)

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
