// Cookies of signing in. They go to /auth only, scripts can't read them, and pages of other sites can't send them with a POST.
import { randomBytes } from 'node:crypto'
import { isLoopback } from '../../access/own-origin.ts'

/** The cookie of a session, and the one that ties a sign-in with the provider to the browser that began it. */
export const sessionCookie = 'deck_session'
export const loginCookie = 'deck_login'

export const newSecret = (): string => randomBytes(32).toString('base64url')
const secret = /^[\w-]{43}$/

/** Returns a cookie's secret; undefined if it is missing or has another form. */
export const readCookie = (header: string | undefined, name: string): string | undefined => {
  const found = (header ?? '')
    .split(';')
    .map((part) => part.trim())
    .find((part) => part.startsWith(`${name}=`))
    ?.slice(name.length + 1)
  return found !== undefined && secret.test(found) ? found : undefined
}

/** Returns the header that sets a cookie, or removes it with `seconds` 0. */
export const writeCookie = (name: string, value: string, seconds: number, origin: string): string =>
  `${name}=${value}; Path=/auth; Max-Age=${seconds}; HttpOnly; SameSite=Lax${isLoopback(origin) ? '' : '; Secure'}`
