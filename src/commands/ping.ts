// ping { id }: answered with ok, so that the client knows that the server responds.
import type { Handlers } from '../live/connections/session.ts'

export const ping: Handlers['ping'] = (session, { id }) => {
  session.ok(id)
  return Promise.resolve()
}
