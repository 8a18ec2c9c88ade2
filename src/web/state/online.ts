// Decides whether the page is offline. Requests that fail while it is offline are repeated once the server is back; until then the page
// shows why their result is missing.
import { signal } from '@preact/signals'
import { DeckError, type Deck } from '../../client/index.ts'

/** ms until a server that is there, but can't answer now, is asked again */
const rest = 3000

/** Whether the page is offline: the connection was lost and is not back yet. */
export const away = signal(false)

/** Takes this deck's connection for that of the page. */
export const watch = (deck: Deck): void => {
  away.value = false
  deck.on('state', (state) => {
    if (state === 'waiting') away.value = true
    else if (state !== 'connecting') away.value = false
  })
}

/** Resolves once it is worth to ask again; rejects when the signal is aborted. */
const chance = (deck: Deck, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = deck.state === 'open' ? setTimeout(() => done(), rest) : undefined
    const forget = deck.on('state', (state) => state === 'open' && done())
    const done = (): void => {
      clearTimeout(timer)
      forget()
      signal.removeEventListener('abort', stop)
      resolve()
    }
    const stop = (): void => {
      done()
      reject(signal.reason as Error)
    }
    signal.addEventListener('abort', stop)
  })

/** Does it until it is done or refused for good: while the server is away it waits, and what hung since before is asked again. */
export const persist = async <T>(
  deck: Deck,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> => {
  for (;;) {
    signal.throwIfAborted()
    const turn = new AbortController()
    let lost = false
    const forget = deck.on('state', (state) => {
      if (state === 'waiting') lost = true
      else if (state === 'open' && lost) turn.abort()
    })
    try {
      return await work(AbortSignal.any([signal, turn.signal]))
    } catch (error) {
      signal.throwIfAborted()
      if (turn.signal.aborted) continue
      if (!(error instanceof DeckError && ['unavailable', 'rate_limited'].includes(error.code))) throw error
      await chance(deck, signal)
    } finally {
      forget()
    }
  }
}

export const wordsOf = (error: unknown): string => (error instanceof DeckError ? error.detail : String(error))

/** Why something was not done, until the next attempt; what was only out of reach, until the server is back. */
export const makeFailure = (deck: Deck, ended: AbortSignal) => {
  const text = signal('')
  let passing = false
  const forget = deck.on('state', (state) => state === 'open' && passing && (text.value = ''))
  ended.addEventListener('abort', forget)
  return {
    text,
    clear: (): void => void (text.value = ''),
    set(error: unknown): void {
      if (ended.aborted) return
      passing = error instanceof DeckError && error.code === 'unavailable'
      text.value = wordsOf(error)
    },
  }
}
