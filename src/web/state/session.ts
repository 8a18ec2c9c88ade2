// The session: a token, the deck that it opens, and the state of the connection. Tokens come from the browser's session, or one is from the
// printed link (/#token=…) or pasted, and stored only in this tab. It is removed from the address before anything else happens, and is never shown.
// A link never replaces another subject's session by itself: `asked` holds it until the reader has decided.
import { batch, computed, signal } from '@preact/signals'
import { connect, DeckError, type Deck, type State } from '../../client/index.ts'
import { endSession, readEntry, requestToken } from './browser-session.ts'
import { tab } from './storage.ts'
import { watch } from './online.ts'

export type Who = { sub: string; role: 'user' | 'citizen' | 'admin'; ends: number }
/** A link's token that waits for the reader's decision, and its user. */
export type Asked = { token: string; theirs: Who }
export type Light = { name: 'live' | 'behind' | 'connecting' | 'offline' | 'out'; text: string }

const kept = 'deck.token'
/** The token of a link, until it is known whether the browser has a session. */
const linked = 'deck.link'
/** Milliseconds without an answer after which the page shows that it is offline. */
const patience = 4000
/** Milliseconds between two tries to read who is signed in, while the server can't be reached. */
const retryEvery = 2000

/** Reads a token's claims without verifying it; only the server does that. */
export const readToken = (token: string): Who | undefined => {
  try {
    const body = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/')
    const bytes = Uint8Array.from(atob(body), (character) => character.charCodeAt(0))
    const { sub, role, exp } = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>
    // The server refuses longer subjects, too.
    if (typeof sub !== 'string' || sub.length > 512 || typeof exp !== 'number') return undefined
    return { sub, role: role as Who['role'], ends: exp * 1000 }
  } catch {
    return undefined
  }
}

/** Returns a token's user, unless it has expired. */
const valid = (token: string | null | undefined): Who | undefined => {
  const mine = token ? readToken(token) : undefined
  return mine && mine.ends > Date.now() ? mine : undefined
}

const time = (ms: number): string => new Date(ms).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' })

export const makeSession = () => {
  const deck = signal<Deck | undefined>(undefined)
  const who = signal<Who | undefined>(undefined)
  const asked = signal<Asked | undefined>(undefined)
  /** why the user is signed out, in words */
  const reason = signal('')
  const state = signal<State>('closed')
  const behind = signal(0)
  const wasOpen = signal(false)
  /** whether /auth/login leads to a provider */
  const login = signal(false)
  let own: string | null = null
  /** whether the deck's tokens come from the browser's session */
  let shared = false

  const keep = (token: string | null): void => {
    own = token
    tab.set(kept, token)
  }

  const light = computed<Light>(() => {
    if (state.value === 'closed') return { name: 'out', text: 'signed out' }
    if (state.value !== 'open')
      return wasOpen.value || state.value === 'waiting'
        ? { name: 'offline', text: 'offline: reconnecting' }
        : { name: 'connecting', text: 'connecting' }
    if (behind.value > 0) return { name: 'behind', text: `catching up ${behind.value.toLocaleString()}` }
    return { name: 'live', text: 'live' }
  })

  const explain = (error: DeckError | undefined, mine: Who | undefined): string => {
    if (error?.code !== 'unauthorized') return error ? `The connection was closed: ${error.detail}.` : ''
    if (mine && mine.ends <= Date.now())
      return `Your token expired on ${time(mine.ends)}. This page can't renew it: sign in with a new one. Unsent text is kept.`
    return 'The server refused this token: it belongs to another server, or it was revoked. Sign in with a new one.'
  }

  const close = (): void => {
    deck.peek()?.close()
    deck.value = undefined
    asked.value = undefined
    state.value = 'closed'
  }

  /** Opens a deck. `former`: the token to return to if the server refuses the given one. */
  const open = (mine: Who, token: Parameters<typeof connect>[0]['token'], former?: string | null): void => {
    const made = connect({ url: location.origin, token, patience })
    batch(() => {
      reason.value = ''
      who.value = mine
      deck.value = made
      wasOpen.value = false
      behind.value = 0
      state.value = made.state
    })
    watch(made)
    made.on('behind', (n) => (behind.value = n))
    made.on('state', (now, error) => {
      if (deck.peek() !== made) return
      if (now === 'open') former = null
      if (now === 'closed' && former && error?.code === 'unauthorized') return signIn(former)
      batch(() => {
        state.value = now
        if (now === 'open') wasOpen.value = true
        if (now !== 'closed') return
        keep(null)
        reason.value = shared && error?.code === 'unauthorized' ? 'Your session has ended.' : explain(error, mine)
        deck.value = undefined
        asked.value = undefined
      })
      // Another tab may have signed somebody in. (Not again if the server refuses what it just gave.)
      if (now === 'closed' && error?.code === 'unauthorized' && wasOpen.peek()) void enter()
    })
    // Errors without a caller are shown by the parts that follow topics.
    made.on('error', () => {})
  }

  const signIn = (given: string, former?: string | null): void => {
    const token = given.trim()
    const mine = readToken(token)
    close()
    if (!mine) {
      reason.value = 'This is not a token: a token has three parts, separated by dots: eyJ….….…'
      return
    }
    shared = false
    keep(token)
    open(mine, token, former)
  }

  /** Signs in with the browser's session. Returns whether there is one. Waits while the server can't be reached. */
  const enter = async (): Promise<boolean> => {
    let first: string | undefined
    while (first === undefined)
      try {
        const entry = await readEntry()
        login.value = entry.login
        if (entry.sub === null || deck.peek()) return false
        first = await requestToken()
      } catch (error) {
        if (error instanceof DeckError) return false
        if (!reason.peek()) reason.value = 'The server can not be reached. This page tries again.'
        await new Promise((resolve) => setTimeout(resolve, retryEvery))
      }
    const mine = readToken(first)
    if (!mine || deck.peek()) return false
    shared = true
    // The session's end is not that of its tokens.
    open({ ...mine, ends: Infinity }, async () => {
      const token = first ?? (await requestToken())
      first = undefined
      const now = readToken(token)
      if (now?.sub !== mine.sub || now.role !== mine.role)
        throw new DeckError('unauthorized', 'somebody else signed in in this browser')
      return token
    })
    return true
  }

  const signOut = (): void => {
    const ends = shared
    close()
    keep(null)
    shared = false
    who.value = undefined
    reason.value = ''
    if (!ends) return
    endSession().then(
      (address) => address && location.assign(address),
      () =>
        (reason.value =
          'The server could not be reached: this browser is still signed in. Reload the page to sign out again.'),
    )
  }

  /** Asks whether a link's token should replace the browser's session, unless it gives the same. */
  const offer = (token: string, theirs: Who): void => {
    const mine = who.peek()
    if (mine?.sub !== theirs.sub || mine.role !== theirs.role) asked.value = { token, theirs }
  }

  /** Takes a link's token out of the address and signs in with it; if another subject is signed in, the reader is asked. */
  const takeLink = (): void => {
    const token = /^#token=([^&]+)/.exec(location.hash)?.[1] ?? tab.get(linked) ?? undefined
    if (location.hash.includes('token=')) history.replaceState(null, '', location.pathname)
    const mine = deck.peek() ? who.peek() : valid(own)
    const theirs = valid(token)
    if (!mine) {
      // A link does not replace the browser's session by itself. (Its token waits in the tab: the page may be left meanwhile.)
      tab.set(linked, token ?? null)
      void enter().then(() => {
        tab.set(linked, null)
        const given = token ?? own
        if (!deck.peek()) {
          if (given) signIn(given)
        } else if (token && theirs) offer(token, theirs)
      })
      return
    }
    if (shared && token) {
      if (theirs) offer(token, theirs)
      return
    }
    if (token && theirs?.sub === mine.sub) return signIn(token, own)
    if (own && !deck.peek()) signIn(own)
    // A link whose token has expired or can't be read changes nothing.
    if (token && theirs) asked.value = { token, theirs }
  }

  /** Signs in with the link's token, or with the tab's. A link may also be opened while the page is open. */
  const start = (): void => {
    own = tab.get(kept)
    takeLink()
    addEventListener('hashchange', takeLink)
  }

  return { deck, who, asked, reason, light, login, signIn, signOut, start }
}
export type Session = ReturnType<typeof makeSession>
