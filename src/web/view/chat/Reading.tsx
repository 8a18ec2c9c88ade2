// A placeholder while data is loading: it says so, or that the page is offline.
import { away } from '../../state/online.ts'

/** Names `what` only after a long wait. */
export const Reading = ({ what, quiet = false, kind = 'empty' }: { what: string; quiet?: boolean; kind?: string }) => (
  <p class={`muted ${kind}`} role="status">
    {away.value ? `Offline: ${what} will load once the connection is back.` : quiet ? '\u00a0' : `Loading ${what} …`}
  </p>
)
