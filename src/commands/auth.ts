// auth { id, token }: a fresh token for the same sub. Its rights count at once: seats it does not allow end.
import type { Tokens } from '../access/tokens.ts'
import type { Hub } from '../live/hub.ts'
import type { Handlers } from '../live/session.ts'
import { deny } from '../protocol/errors.ts'

export const makeAuth =
  (tokens: Tokens, hub: Hub): Handlers['auth'] =>
  async (session, { id, token }) => {
    const actor = await session.inTurn(tokens.verify(token))
    if (actor.sub !== session.actor.sub) throw deny('forbidden', 'the token is for another sub')
    // While it waited its turn it may have ended.
    if (!tokens.holds(actor)) throw deny('unauthorized')
    session.renew(actor)
    session.ok(id, { expires_at: new Date(actor.expires).toISOString() })
    hub.recheck(session.seats.values())
  }
