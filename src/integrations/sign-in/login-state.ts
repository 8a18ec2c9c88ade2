// What a sign-in with the provider has to bring back: the state. It is bound to the browser by a cookie, expires after ten minutes, and has
// the path to return to. The nonce and the PKCE verifier are derived from it, so nothing is stored until the provider answers.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

export const loginSeconds = 600

export type Login = { state: string; nonce: string; verifier: string; returnTo: string }

/** Returns a path of this server; `/` for anything that a browser could read as another server's address. */
export const localPath = (text: string | undefined): string => {
  if (!text || text.length > 1000 || !text.startsWith('/')) return '/'
  const here = 'http://here.invalid'
  if (!URL.canParse(text, here)) return '/'
  const { origin, pathname, search } = new URL(text, here)
  // (The path of /.//example.com is //example.com.)
  return origin === here && !/^\/[/\\]/.test(pathname) ? pathname + search : '/'
}

/** `secrets`: the one that begins logins, and a former one that may end them. */
export const makeLogins = (secrets: readonly string[]) => {
  const derive = (secret: string, use: string, text: string): string =>
    createHmac('sha256', secret).update(`mission-deck sign-in ${use} ${text}`).digest('base64url')
  const open = (secret: string, browser: string, state: string, returnTo: string): Login => ({
    state,
    nonce: derive(secret, 'nonce', `${state} ${browser}`),
    verifier: derive(secret, 'verifier', `${state} ${browser}`),
    returnTo,
  })

  return {
    begin(browser: string, returnTo: string, now = Date.now()): Login {
      const [secret = ''] = secrets
      const until = Math.floor(now / 1000) + loginSeconds
      const core = `${randomBytes(16).toString('base64url')}.${until}.${Buffer.from(returnTo).toString('base64url')}`
      return open(secret, browser, `${core}.${derive(secret, 'state', `${core} ${browser}`)}`, returnTo)
    },

    /** Returns the login that a state belongs to; undefined if this browser did not begin it, or if it has expired. */
    find(browser: string, state: string, now = Date.now()): Login | undefined {
      const [, core = '', until = '', path = '', mac = ''] =
        /^([\w-]{22}\.(\d{1,12})\.([\w-]*))\.([\w-]{43})$/.exec(state) ?? []
      if (Number(until) * 1000 <= now) return undefined
      const secret = secrets.find((one) => {
        const right = Buffer.from(derive(one, 'state', `${core} ${browser}`))
        return right.length === mac.length && timingSafeEqual(right, Buffer.from(mac))
      })
      return secret === undefined
        ? undefined
        : open(secret, browser, state, localPath(Buffer.from(path, 'base64url').toString()))
    },
  }
}
export type Logins = ReturnType<typeof makeLogins>
