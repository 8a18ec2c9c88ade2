// Who is here: a token from the printed link (/#token=…) or pasted, kept in this tab only; the deck that it opens; and how the
// connection stands, told as it is. The token is taken out of the address before anything else happens, and is shown nowhere.
import { batch, computed, signal } from '@preact/signals'
import { connect, type Deck, type DeckError, type State } from '../../client/index.ts'
import { tab } from './keep.ts'

export type Who = { sub: string; role: 'user' | 'citizen' | 'admin'; ends: number }
export type Light = { name: 'live' | 'behind' | 'connecting' | 'offline' | 'out'; text: string }

const kept = 'deck.token'

/** What a token says of itself; the server alone judges it. */
export const readToken = (token: string): Who | undefined => {
  try {
    const body = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/')
    const bytes = Uint8Array.from(atob(body), (character) => character.charCodeAt(0))
    const { sub, role, exp } = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>
    if (typeof sub !== 'string' || typeof exp !== 'number') return undefined
    return { sub, role: role as Who['role'], ends: exp * 1000 }
  } catch {
    return undefined
  }
}

const time = (ms: number): string => new Date(ms).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' })

export const makeSession = () => {
  const deck = signal<Deck | undefined>(undefined)
  const who = signal<Who | undefined>(undefined)
  /** why one is signed out, for the reader */
  const reason = signal('')
  const state = signal<State>('closed')
  const behind = signal(0)
  const wasOpen = signal(false)

  const light = computed<Light>(() => {
    if (state.value === 'closed') return { name: 'out', text: 'signed out' }
    if (state.value !== 'open')
      return wasOpen.value || state.value === 'waiting'
        ? { name: 'offline', text: 'offline: trying again' }
        : { name: 'connecting', text: 'connecting' }
    if (behind.value > 0) return { name: 'behind', text: `catching up ${behind.value.toLocaleString()}` }
    return { name: 'live', text: 'live' }
  })

  const explain = (error: DeckError | undefined, mine: Who | undefined): string => {
    if (error?.code !== 'unauthorized') return error ? `The connection was closed: ${error.detail}.` : ''
    if (mine && mine.ends <= Date.now())
      return `Your token ended on ${time(mine.ends)}. This page can't renew it: sign in with a fresh one. What you were writing is kept.`
    return 'The server refused this token: it is not one of this server’s, or it was revoked. Sign in with another one.'
  }

  const close = (): void => {
    deck.peek()?.close()
    deck.value = undefined
    state.value = 'closed'
  }

  const signIn = (given: string): void => {
    const token = given.trim()
    const mine = readToken(token)
    close()
    if (!mine) {
      reason.value = 'This is no token: one has three parts with dots between them, eyJ….….…'
      return
    }
    const made = connect({ url: location.origin, token })
    tab.set(kept, token)
    batch(() => {
      reason.value = ''
      who.value = mine
      deck.value = made
      wasOpen.value = false
      behind.value = 0
      state.value = made.state
    })
    made.on('behind', (n) => (behind.value = n))
    made.on('state', (now, error) => {
      if (deck.peek() !== made) return
      batch(() => {
        state.value = now
        if (now === 'open') wasOpen.value = true
        if (now !== 'closed') return
        tab.set(kept, null)
        reason.value = explain(error, mine)
        deck.value = undefined
      })
    })
    // What ends without a caller is shown where it is followed.
    made.on('error', () => {})
  }

  const signOut = (): void => {
    close()
    tab.set(kept, null)
    who.value = undefined
    reason.value = ''
  }

  /** The link's token, or the tab's. */
  const start = (): void => {
    const given = /^#token=([^&]+)/.exec(location.hash)?.[1]
    if (location.hash.includes('token=')) history.replaceState(null, '', location.pathname)
    const token = given ?? tab.get(kept)
    if (token) signIn(token)
  }

  return { deck, who, reason, light, signIn, signOut, start }
}
export type Session = ReturnType<typeof makeSession>
