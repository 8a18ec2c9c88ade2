// LISTEN through pg-listen, kept alive for ever: hints come in, `onConnected` tells when LISTEN (again) holds.
// What was sent while it was away is gone: whoever uses it re-reads the heads then. Proves by an echo that hints arrive.
import { randomUUID } from 'node:crypto'
import pgListen, { type Subscriber } from 'pg-listen'
import type pg from 'pg'

export type Listener = {
  /** Connects and listens; fails if it can't, or if a notification of our own doesn't come back within 5 s. */
  start(): Promise<void>
  /** Whether LISTEN holds as far as is known. */
  ready(): boolean
  close(): Promise<void>
}

const channel = 'deck'

export const makeListener = (options: {
  config: pg.ClientConfig
  /** sends a notification by another connection */
  notify: (channel: string, payload: string) => Promise<unknown>
  onHints: (payload: string) => void
  onConnected: () => void
  onError: (error: Error) => void
}): Listener => {
  let up = false
  let closing = false
  let subscriber: Subscriber
  const echoes = new Map<string, () => void>()

  const open = (): Subscriber => {
    const opened = pgListen.default(
      { ...options.config, query_timeout: 4000 },
      {
        parse: (text) => text,
        paranoidChecking: 5000,
        retryTimeout: 0,
        // Jittered, so that instances do not come back in step. Throwing ends a loop that close() could not.
        retryInterval: (attempt) => {
          if (closing) throw new Error('closing')
          return Math.min(2000, 100 * 2 ** attempt) * (0.5 + Math.random())
        },
      },
    )
    opened.events.on('reconnect', () => (up = false))
    opened.events.on('connected', () => {
      if (closing) return void opened.close().catch(() => {})
      up = true
      if (opened.getSubscribedChannels().length > 0) options.onConnected()
    })
    opened.events.on('notification', ({ payload }) => {
      const text = String(payload ?? '')
      if (text.startsWith('echo ')) echoes.get(text.slice(5))?.()
      else options.onHints(text)
    })
    // pg-listen has given up (LISTEN failed after a reconnect): begin anew.
    opened.events.on('error', (error) => {
      up = false
      if (closing) return
      options.onError(error)
      opened.close().catch(() => {})
      setTimeout(() => void restart(), 500).unref()
    })
    return opened
  }

  const restart = async (): Promise<void> => {
    if (closing) return
    subscriber = open()
    try {
      await subscriber.connect()
      await subscriber.listenTo(channel)
      options.onConnected()
    } catch (error) {
      subscriber.events.emit('error', error as Error)
    }
  }

  return {
    async start() {
      subscriber = open()
      await subscriber.connect()
      await subscriber.listenTo(channel)
      const nonce = randomUUID()
      const echoed = new Promise<boolean>((resolve) => {
        const late = setTimeout(() => resolve(false), 5000)
        echoes.set(nonce, () => {
          clearTimeout(late)
          resolve(true)
        })
      })
      await options.notify(channel, `echo ${nonce}`)
      const heard = await echoed
      echoes.delete(nonce)
      if (!heard)
        throw new Error(
          'LISTEN does not echo: DATABASE_URL seems to be a transaction pooler; set DATABASE_DIRECT_URL to the database itself',
        )
      options.onConnected()
    },
    ready: () => up,
    async close() {
      closing = true
      if (up) await subscriber.close()
    },
  }
}
