// The token: requested from the caller before each connect, and again before it expires.
import { makeTimer } from './async.ts'
import { DeckError } from './errors.ts'

export type Token = string | (() => string | Promise<string>)

/** `renew` sends a fresh token to the server. */
export const makeTokens = (token: Token, renew: (token: string) => Promise<{ expires_at: string }>) => {
  const timer = makeTimer()
  let held: string | undefined
  let refreshing = false

  const request = async (): Promise<string> => {
    const given = typeof token === 'function' ? await token() : token
    // Checked here: a WebSocket's error for an invalid subprotocol would contain the token.
    if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(given))
      throw new DeckError('unauthorized', 'the token is not a JSON Web Token')
    return (held = given)
  }

  const refreshBefore = (expiresAt: string): void => {
    const left = Date.parse(expiresAt) - Date.now()
    // A minute ahead, or half of a shorter time. If this clock is wrong, the server's goodbye starts the refresh.
    if (left > 0) timer.start(Math.max(left / 2, left - 60_000), () => void refresh())
  }

  const refresh = async (): Promise<void> => {
    if (refreshing || typeof token === 'string') return
    refreshing = true
    try {
      const { expires_at } = await renew(await request())
      refreshBefore(expires_at)
    } catch {
      // The server's goodbye starts a second attempt; after that, the next connect requests a token.
    }
    refreshing = false
  }

  return {
    /** The token is a string: if the server refuses it, no other can be requested. */
    fixed: typeof token === 'string',
    request,
    refresh,
    refreshBefore,
    stop: timer.stop,
    /** The token for an HTTP request; `again`: the server refused the previous token. Throws `unauthorized` if it is fixed. */
    async bearer(again: boolean): Promise<string> {
      if (again && typeof token === 'string') throw new DeckError('unauthorized', 'the server refused the token')
      return again || !held ? request() : held
    },
  }
}
