// auth { id, token }: a fresh token for the same sub. Its rights replace the rights of the former token at once.
import { keepsRights } from '../access/policy.ts'
import type { Tokens } from '../access/tokens.ts'
import type { Hub } from '../live/hub/hub.ts'
import type { Handlers, Session } from '../live/connections/session.ts'
import { deny } from '../protocol/errors.ts'

/** `narrowed` is called when a session's fresh token has fewer rights than the former one. */
export const makeAuth =
  (tokens: Tokens, hub: Hub, narrowed: (session: Session) => void): Handlers['auth'] =>
  async (session, { id, token }) => {
    const actor = await session.inTurn(tokens.verify(token))
    const { actor: before } = session
    if (actor.sub !== before.sub)
      throw deny('forbidden', "the token's sub differs from the session's: open a new socket for it")
    // The token may have expired while the frame waited its turn.
    if (!tokens.holds(actor)) throw deny('unauthorized')
    session.renew(actor)
    if (!keepsRights(before, actor)) narrowed(session)
    session.ok(id, { expires_at: new Date(actor.expires).toISOString() })
    hub.recheck(session.subscriptions.values())
  }
