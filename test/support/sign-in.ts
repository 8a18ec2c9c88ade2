// Browsers of people who sign in: fetch with a cookie jar for /auth.
import type { Instance, Json } from './server.ts'

type Init = Omit<RequestInit, 'headers'> & { headers?: Record<string, string> }

export type Browser = {
  cookies: Map<string, string>
  fetch(path: string, init?: Init): Promise<Response>
  post(path: string, init?: Init): Promise<Response>
  /** A token of the browser's session. Rejects if nobody is signed in. */
  token(): Promise<string>
}

/** Keeps the cookies that a response sets. */
const keep = (cookies: Map<string, string>, response: Response): Response => {
  for (const line of response.headers.getSetCookie()) {
    const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
    if (/Max-Age=0/.test(line)) cookies.delete(name)
    else cookies.set(name, value)
  }
  return response
}

export const makeBrowser = (at: Pick<Instance, 'url'>, cookies = new Map<string, string>()): Browser => {
  const browser: Browser = {
    cookies,
    async fetch(path, { headers = {}, ...init } = {}) {
      const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
      const sent = { ...headers, ...(cookie ? { cookie } : {}) }
      return keep(cookies, await fetch(new URL(path, at.url), { redirect: 'manual', ...init, headers: sent }))
    },
    post: (path, { headers = {}, ...init } = {}) =>
      browser.fetch(path, { method: 'POST', ...init, headers: { origin: at.url, ...headers } }),
    async token() {
      const response = await browser.post('/auth/token')
      const { token, detail } = (await response.json()) as { token?: string; detail?: string }
      if (token === undefined) throw new Error(`${response.status}: ${detail}`)
      return token
    },
  }
  return browser
}

/** Creates an invite as an admin. Returns its link. */
export const invite = async (at: Instance, admin: string, body: Json): Promise<string> => {
  const { status, json, text } = await at.request('POST', '/api/invites', admin, body)
  if (status !== 201) throw new Error(text)
  return String(json['link'])
}

/** A browser in which a person has redeemed an invite. */
export const signedIn = async (at: Instance, admin: string, body: Json): Promise<Browser> => {
  const browser = makeBrowser(at)
  const response = await browser.post(await invite(at, admin, body))
  if (response.status !== 303) throw new Error(`${response.status}: ${await response.text()}`)
  return browser
}
