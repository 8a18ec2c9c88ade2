// The browser's session: a cookie that only /auth gets. It gives the page tokens of ten minutes; every tab of the browser has it.
import { DeckError } from '../../client/index.ts'

/** Whether the server has a sign-in provider, and who is signed in in this browser. */
export type Entry = { login: boolean; sub: string | null }

/** Returns how the server lets people in. Rejects if it can't be reached. */
export const readEntry = async (): Promise<Entry> => {
  const response = await fetch('/auth')
  // (A server without JWT_SECRET has no sessions.)
  if (response.status === 404) return { login: false, sub: null }
  if (!response.ok) throw new Error(`status ${response.status}`)
  return (await response.json()) as Entry
}

/** Returns a token of the browser's session. Rejects with `unauthorized` if it has ended, otherwise with a transient error. */
export const requestToken = async (): Promise<string> => {
  const response = await fetch('/auth/token', { method: 'POST' })
  if (response.status === 401) throw new DeckError('unauthorized', 'the session has ended')
  if (!response.ok) throw new Error(`status ${response.status}`)
  return ((await response.json()) as { token: string }).token
}

/** Ends the browser's session, in all its tabs. Returns the address that ends the provider's own session, if there is one. */
export const endSession = async (): Promise<string | undefined> => {
  const response = await fetch('/auth/logout', { method: 'POST' })
  if (!response.ok) throw new Error(`status ${response.status}`)
  return response.status === 200 ? ((await response.json()) as { url: string }).url : undefined
}
