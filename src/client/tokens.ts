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
    // Checked here, because a WebSocket's error for a subprotocol that it can't offer would show the token.
    if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(given)) throw new DeckError('unauthorized', 'the token is no JSON Web Token')
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
      // The goodbye gives another chance, and the next connect the last one.
    }
    refreshing = false
  }

  return {
    /** The same token every time: if the server refuses it, there is no other. */
    fixed: typeof token === 'string',
    request,
    refresh,
    refreshBefore,
    stop: timer.stop,
    /** The token for an HTTP request; `again`: the server refused the one before. */
    async bearer(again: boolean): Promise<string> {
      if (again && typeof token === 'string') throw new DeckError('unauthorized', 'the server refused the token')
      return again || !held ? request() : held
    },
  }
}
