// A LISTEN session that checks itself. It receives notifications, and calls `onConnected` whenever LISTEN is in effect (again). Notifications
// that were sent in between are lost, so callers then read the latest seqs again.
//
// If no notification has arrived for 750 ms, the session notifies itself. If this echo does not arrive, or an error occurs, the session is
// closed and a new one is opened, without a limit. Each pg-listen subscriber is used for one connection only: its own reconnect does not
// detect sessions that answer queries but do not listen.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { Socket } from 'node:net'
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises'
import pgListen, { type Subscriber } from 'pg-listen'
import type pg from 'pg'

export type Listener = {
  /** Connects and listens. Rejects if this fails, or if a notification from a pooled connection does not arrive within 5 s. */
  start(): Promise<void>
  /** Listens on one more channel. Resolves once LISTEN is in effect, or the session is replaced: then the latest seqs are read anyway. */
  listen(channel: string): Promise<void>
  unlisten(channel: string): void
  /** Whether LISTEN is in effect, as far as is known. */
  ready(): boolean
  /** Replaces the session: its database is no longer the current one. */
  renew(): void
  /** When the current session was opened (performance.now; undefined if there is no session), and the number of sessions so far. */
  stats(): { since: number | undefined; sessions: number }
  close(): Promise<void>
}

type Link = {
  subscriber: Subscriber
  /** resolves when the connection is lost */
  lost: Promise<Error>
  fail(error: Error): void
  /** aborted when the session is closed */
  gone: AbortSignal
  /** closes the session immediately */
  cut(): void
}

const channel = 'deck'
const silenced = 'LISTEN does not echo'
// ms without notifications until a session notifies itself, and ms until the echo must arrive. A dead session is detected after at most
// 3.5 s. An instance whose packets are dropped must catch up within 7 s, which leaves the tail the other half. Notifications of other
// instances count, too: so all instances together send only about one echo a second.
const silence = 750
const patience = 2000
// ms after which a session notifies itself in any case: it may be connected to a different database than the pools, or about to be closed
// as idle (idle_session_timeout).
const speakEvery = 5000

export const makeListener = (options: {
  config: () => Promise<pg.ClientConfig>
  /** sends a notification by a pooled connection */
  notify: (channel: string, payload: string) => Promise<unknown>
  onHints: (payload: string) => void
  onConnected: () => void
  onError: (error: Error) => void
}): Listener => {
  const channels = new Set<string>([channel])
  const over = new AbortController()
  const { signal } = over
  const received = new EventTarget()
  let receivedAt = 0
  let up = false
  let openedAt = 0
  let sessions = 0
  let link: Link | undefined
  // Only this instance listens on the channel of its echoes.
  const own = `deck_echo_${randomUUID().replaceAll('-', '')}`

  // One change at a time, because a session executes statements in sequence.
  let adjusting = Promise.resolve()
  const adjust = (name: string): Promise<void> =>
    (adjusting = adjusting.then(async () => {
      const current = link
      const change = channels.has(name) ? 'listenTo' : 'unlisten'
      await Promise.resolve(current?.subscriber[change](name)).catch(current?.fail)
    }))

  const receive = (text: string): void => {
    receivedAt = performance.now()
    // (An event object costs more than the rest of a notification: only probes need one.)
    if (text === 'beat' || text.startsWith('echo ')) received.dispatchEvent(new Event(text))
    else options.onHints(text)
  }

  /** Resolves if a notification from the pools arrives: both are connected to the same database. Rejects otherwise. */
  const echoed = async (within: number): Promise<void> => {
    const echo = `echo ${randomUUID()}`
    const back = once(received, echo, { signal: AbortSignal.timeout(within) })
    await Promise.all([options.notify(own, echo), back]).catch((error: Error) => {
      if (error.name !== 'AbortError') throw error
      throw new Error(
        `${silenced}: DATABASE_URL seems to be a transaction pooler; set DATABASE_DIRECT_URL to the database itself`,
      )
    })
  }

  const connect = async (): Promise<Link> => {
    const socket = new Socket()
    const subscriber = pgListen.default(
      { ...(await options.config()), query_timeout: patience, stream: () => socket },
      { parse: (text) => text, serialize: (text) => String(text), paranoidChecking: false, retryLimit: 1 },
    )
    let fail: (error: Error) => void = () => {}
    const lost = new Promise<Error>((resolve) => (fail = resolve))
    subscriber.events.on('error', fail)
    subscriber.events.on('notification', ({ payload }) => receive(String(payload ?? '')))
    const gone = new AbortController()
    const cut = (): void => {
      gone.abort()
      void subscriber.close().catch(() => {})
      socket.destroy()
    }
    signal.addEventListener('abort', cut, { once: true })
    try {
      await subscriber.connect()
      const listening = new Set<string>()
      // Further channels may be added in the meantime.
      for (
        let wanted = [channel, own];
        wanted.length > 0;
        wanted = [...channels].filter((name) => !listening.has(name))
      )
        for (const name of wanted) {
          await subscriber.listenTo(name)
          listening.add(name)
        }
      signal.throwIfAborted()
      await echoed(5000)
      receivedAt = openedAt = performance.now()
      sessions++
      up = true
      return { subscriber, lost, fail, gone: gone.signal, cut }
    } catch (error) {
      cut()
      throw error
    } finally {
      signal.removeEventListener('abort', cut)
    }
  }

  /** Resolves when an echo of the session does not arrive. */
  const silent = async ({ subscriber, fail, gone }: Link): Promise<Error> => {
    for (let spokeAt = performance.now(); ;) {
      await delay(silence, undefined, { signal: gone })
      const now = performance.now()
      if (now - spokeAt >= speakEvery) {
        spokeAt = now
        subscriber.notify(own, 'beat').catch(() => {})
        // The pools may be connected to a different database by now. If their database is unreachable, this session is not at fault.
        echoed(patience).catch((error: Error) => {
          if (error.message.startsWith(silenced)) fail(error)
        })
      }
      if (now - receivedAt < silence) continue
      const ended = new AbortController()
      subscriber.notify(channel, 'beat').catch(() => {})
      await Promise.race([
        once(received, 'beat', { signal: ended.signal }).catch(() => {}),
        delay(patience, undefined, { signal: gone }),
      ])
      ended.abort()
      // After a long tick the timer fires before notifications that have already arrived: let them be processed.
      if (receivedAt < now) await turn()
      if (receivedAt < now) await turn()
      if (receivedAt < now) return new Error(`LISTEN was silent: no echo within ${patience} ms`)
    }
  }

  /** Watches the session and opens a new one when it is lost, until close(). */
  const keep = async (): Promise<void> => {
    for (let failures = 0; ;) {
      if (link) {
        failures = 0
        const error = await Promise.race([link.lost, silent(link)])
        up = false
        link.cut()
        link = undefined
        if (signal.aborted) return
        options.onError(error)
      }
      // With jitter, so that instances do not reconnect at the same time.
      await delay(Math.min(1000, 50 * 2 ** failures++) * (0.5 + Math.random()), undefined, { signal })
      try {
        link = await connect()
        options.onConnected()
      } catch (error) {
        if (!signal.aborted) options.onError(error as Error)
      }
    }
  }

  return {
    async start() {
      link = await connect()
      options.onConnected()
      keep().catch((error: Error) => {
        if (!signal.aborted) options.onError(error)
      })
    },
    listen(name) {
      channels.add(name)
      return adjust(name)
    },
    unlisten(name) {
      channels.delete(name)
      void adjust(name)
    },
    renew: () => link?.fail(new Error('the database was replaced')),
    ready: () => up,
    stats: () => ({ since: up ? openedAt : undefined, sessions }),
    async close() {
      over.abort()
      up = false
      // Closes the session properly; after 500 ms it is cut off.
      if (link) await Promise.race([link.subscriber.close().catch(() => {}), delay(500, undefined, { ref: false })])
      link?.cut()
    },
  }
}
