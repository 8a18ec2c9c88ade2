// What stands where something is still being read: that it is, or that one is offline.
import { away } from '../../state/online.ts'

/** `what` is named only to who waits for long. */
export const Reading = ({ what, quiet = false, kind = 'empty' }: { what: string; quiet?: boolean; kind?: string }) => (
  <p class={`muted ${kind}`} role="status">
    {away.value ? `Offline: ${what} will be here once the connection is back.` : quiet ? '\u00a0' : `Reading ${what} …`}
  </p>
)
