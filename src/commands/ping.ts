// ping { id }: proves that the server answers.
import type { Handlers } from '../live/connections/session.ts'

export const ping: Handlers['ping'] = (session, { id }) => {
  session.ok(id)
  return Promise.resolve()
}
