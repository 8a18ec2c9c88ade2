// The keys that an identity provider publishes under JWKS_URL: fetched when first needed, kept for ten minutes, fetched again
// for a key that is not among them, but not more often than every 5 s, whatever tokens say.
// While the provider is away the keys known so far go on counting, for a day; without any there is no telling.
import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from 'jose'
import { deny } from '../protocol/errors.ts'

export type Keys = {
  /** The key that a token names; `unavailable` where that can't be known now. */
  find: JWTVerifyGetKey
  /** Fetches the keys ahead of the first token. */
  warm(): Promise<void>
}

export type KeysLimits = {
  /** ms that keys are kept, that a fetch may take, between two fetches, and that keys count while the provider is away */
  keysKeep: number
  keysTimeout: number
  keysPause: number
  keysStale: number
}
// A set of a hundred keys has some 50 KB.
const maxBytes = 512 * 1024

export const makeKeys = (url: string, limits: KeysLimits, onError: (error: Error) => void): Keys => {
  let known: { text: string; at: number } | undefined
  // Failures are rate-limited, so that token senders can't decide how often the provider is asked.
  let failedAt = -Infinity

  const load = async (...[at, init]: Parameters<typeof fetch>): Promise<string> => {
    const response = await fetch(at, init)
    if (response.status !== 200) throw new Error(`answered with ${response.status}`)
    let text = ''
    const decoder = new TextDecoder()
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk as Uint8Array, { stream: true })
      if (text.length > maxBytes) throw new Error(`answered with more than ${maxBytes} bytes`)
    }
    const { keys } = JSON.parse(text) as { keys?: unknown }
    if (!Array.isArray(keys)) throw new Error('answered with no key set')
    return text
  }
  const fetchKeys = async (...[at, init]: Parameters<typeof fetch>): Promise<Response> => {
    const now = performance.now()
    if (now - failedAt >= limits.keysPause)
      try {
        known = { text: await load(at, init), at: performance.now() }
      } catch (error) {
        failedAt = performance.now()
        const { message, cause } = error as Error
        onError(new Error(`JWKS_URL: ${cause instanceof Error ? cause.message : message}`))
      }
    if (!known || now - known.at > limits.keysStale) throw new Error('no keys')
    return new Response(known.text)
  }
  const set = createRemoteJWKSet(new URL(url), {
    cacheMaxAge: limits.keysKeep,
    timeoutDuration: limits.keysTimeout,
    cooldownDuration: limits.keysPause,
    [customFetch]: fetchKeys,
  })
  return {
    find: (header, token) =>
      set(header, token).catch((error: unknown) => {
        throw set.jwks() ? error : deny('unavailable', 'tokens can not be verified right now', { retry_after: 5 })
      }),
    warm: () => set.reload().catch(() => {}),
  }
}
