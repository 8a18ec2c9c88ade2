// LISTEN that proves itself: hints come in, `onConnected` tells when LISTEN (again) holds; what was sent while it was away
// is gone, so its users re-read the latest seqs then. A session that was silent for a second notifies itself: an echo that
// stays out, like any error, ends the session, and a new one is opened, without a limit. Every pg-listen subscriber is used for
// one connection only: its own reconnecting trusts a session that it can still ask for a pid.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { Socket } from 'node:net'
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises'
import pgListen, { type Subscriber } from 'pg-listen'
import type pg from 'pg'

export type Listener = {
  /** Connects and listens; fails if it can't, or if a notification of a pooled connection doesn't come within 5 s. */
  start(): Promise<void>
  /** Hears another channel; resolves once LISTEN holds (or the session is replaced, and heads are read anyway). */
  listen(channel: string): Promise<void>
  unlisten(channel: string): void
  /** Whether LISTEN holds as far as is known. */
  ready(): boolean
  /** Replaces the session: its database is no longer the current one. */
  renew(): void
  /** When the session that holds was opened (performance.now), and how many there have been. */
  stats(): { since: number | undefined; sessions: number }
  close(): Promise<void>
}

type Link = {
  subscriber: Subscriber
  /** resolves when the connection is no more */
  lost: Promise<Error>
  fail(error: Error): void
  /** aborted when it is given up */
  gone: AbortSignal
  /** ends it, whatever it is doing */
  cut(): void
}

const channel = 'deck'
const silenced = 'LISTEN does not echo'
// ms of silence until a session notifies itself, and until the echo has to be there: a dead one is known after 3.5 s at the
// latest, which leaves the tail as much again of the 7 s in which a black-holed instance is to catch up. Any notification
// is a proof, also another instance's: however many there are, about one a second is sent in all.
const silence = 750
const patience = 2000
// ms after which it speaks in any case: it may be on a database of its own, or about to be ended as idle (idle_session_timeout).
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
  const heard = new EventTarget()
  let heardAt = 0
  let up = false
  let openedAt = 0
  let sessions = 0
  let link: Link | undefined
  // Nobody else hears its echoes.
  const own = `deck_echo_${randomUUID().replaceAll('-', '')}`

  // One after the other, as a session takes them.
  let adjusting = Promise.resolve()
  const adjust = (name: string): Promise<void> =>
    (adjusting = adjusting.then(async () => {
      const current = link
      const change = channels.has(name) ? 'listenTo' : 'unlisten'
      await Promise.resolve(current?.subscriber[change](name)).catch(current?.fail)
    }))

  const hear = (text: string): void => {
    heardAt = performance.now()
    // (An event costs more than the rest: there is one only where a session was silent.)
    if (text === 'beat' || text.startsWith('echo ')) heard.dispatchEvent(new Event(text))
    else options.onHints(text)
  }

  /** Whether it hears what the pools notify: both are on one database. */
  const echoed = async (within: number): Promise<void> => {
    const echo = `echo ${randomUUID()}`
    const back = once(heard, echo, { signal: AbortSignal.timeout(within) })
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
    subscriber.events.on('notification', ({ payload }) => hear(String(payload ?? '')))
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
      // Others may come to be wanted meanwhile.
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
      heardAt = openedAt = performance.now()
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

  /** Resolves when the session doesn't hear itself. */
  const silent = async ({ subscriber, fail, gone }: Link): Promise<Error> => {
    for (let spokeAt = performance.now(); ;) {
      await delay(silence, undefined, { signal: gone })
      const now = performance.now()
      if (now - spokeAt >= speakEvery) {
        spokeAt = now
        subscriber.notify(own, 'beat').catch(() => {})
        // The pools may lead to another database by now. That theirs is away is no fault of this session.
        echoed(patience).catch((error: Error) => {
          if (error.message.startsWith(silenced)) fail(error)
        })
      }
      if (now - heardAt < silence) continue
      const ended = new AbortController()
      subscriber.notify(channel, 'beat').catch(() => {})
      await Promise.race([
        once(heard, 'beat', { signal: ended.signal }).catch(() => {}),
        delay(patience, undefined, { signal: gone }),
      ])
      ended.abort()
      // After a tick that took long the timer comes before what has arrived meanwhile.
      if (heardAt < now) await turn()
      if (heardAt < now) await turn()
      if (heardAt < now) return new Error(`LISTEN was silent: no echo within ${patience} ms`)
    }
  }

  /** Watches over the session, and opens the next one when it is gone, until close. */
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
      // Jittered, so that instances do not come back in step.
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
      // A farewell where there is somebody to hear it; a session that hangs is cut.
      if (link) await Promise.race([link.subscriber.close().catch(() => {}), delay(500, undefined, { ref: false })])
      link?.cut()
    },
  }
}
