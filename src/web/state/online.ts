// Decides whether the page is offline. Requests that fail while it is offline are repeated once the server is back; until then the page
// shows why their result is missing.
import { signal } from '@preact/signals'
import { DeckError, type Deck } from '../../client/index.ts'

/** Milliseconds until a request is repeated that a connected server could not answer. */
const rest = 3000

/** Whether the page is offline: the connection was lost and is not back yet. */
export const away = signal(false)

/** Makes this deck's connection the page's. */
export const watch = (deck: Deck): void => {
  away.value = false
  deck.on('state', (state) => {
    if (state === 'waiting') away.value = true
    else if (state !== 'connecting') away.value = false
  })
}

/** Resolves when a retry makes sense; rejects when the signal is aborted. */
const retryTime = (deck: Deck, signal: AbortSignal): Promise<void> =>
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

/**
 * Repeats `work` until it succeeds or is refused for good. While the server is away it waits. Requests from before a lost connection
 * are repeated. Rejects with the refusal, or when the signal is aborted.
 */
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
      await retryTime(deck, signal)
    } finally {
      forget()
    }
  }
}

export const wordsOf = (error: unknown): string => (error instanceof DeckError ? error.detail : String(error))

/** The reason of the last failure, until the next attempt. The reason `unavailable` is cleared once the server is back. */
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
