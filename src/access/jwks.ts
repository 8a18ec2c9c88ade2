// The keys that an identity provider publishes under JWKS_URL. They are fetched at first use and kept for ten minutes. A token with an
// unknown key causes a fetch, at most every 5 s.
// While the provider is down, known keys stay valid for a day. Without known keys tokens can't be verified (`unavailable`).
import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from 'jose'
import { deny } from '../protocol/errors.ts'

export type Keys = {
  /** Resolves with the key that a token names. Rejects with `unavailable` if no keys are known and none can be fetched. */
  find: JWTVerifyGetKey
  /** Fetches the keys ahead of the first token. */
  warm(): Promise<void>
}

export type KeysLimits = {
  /** ms for which keys are kept, that a fetch may take, between two fetches, and for which keys stay valid while the provider is down */
  keysKeep: number
  keysTimeout: number
  keysPause: number
  keysStale: number
}
// A set of a hundred keys has about 50 KB.
const maxBytes = 512 * 1024

export const makeKeys = (url: string, limits: KeysLimits, onError: (error: Error) => void): Keys => {
  let known: { text: string; at: number } | undefined
  // After a failure fetches pause, so that senders of tokens can't flood the provider with requests.
  let failedAt = -Infinity

  const load = async (...[at, init]: Parameters<typeof fetch>): Promise<string> => {
    const response = await fetch(at, init)
    if (response.status !== 200) throw new Error(`the response has status ${response.status}`)
    let text = ''
    const decoder = new TextDecoder()
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk as Uint8Array, { stream: true })
      if (text.length > maxBytes) throw new Error(`the response has more than ${maxBytes} bytes`)
    }
    const { keys } = JSON.parse(text) as { keys?: unknown }
    if (!Array.isArray(keys)) throw new Error('the response is not a key set')
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
