// Hints by NATS instead of NOTIFY: a subject a channel. It promises what NOTIFY does, which is nothing: what is lost is found
// by the tail's look at the heads, and whenever it is connected (again) that look is asked for at once. While it is not connected, `tell`
// returns false, and the caller uses NOTIFY. Knows neither topics nor what the payloads mean.
// The client is loaded only where HINTS_URL is set.
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { NatsConnection, Subscription } from '@nats-io/transport-node'

export type Bus = {
  /** Connects, and retries without a limit; resolves at once. */
  start(): void
  /** Hears a channel; resolves once that holds, or when it is not connected: then heads are read anyway once it is. */
  listen(channel: string): Promise<void>
  unlisten(channel: string): void
  /** Resolves once all that was asked to be heard is. */
  settled(): Promise<void>
  /** False if it is not connected: nothing was sent. */
  tell(channel: string, payload: string): boolean
  stats(): { connected: boolean; sent: number; heard: number }
  close(): Promise<void>
}

/** ms between two pings, of which two may stay unanswered: a link that leads nowhere is known as soon as that of LISTEN. */
const pingEvery = 1000
/** ms that connecting may take, and that lie between two tries. */
const patience = 2000
const pause = 250

/** What the client is to be told: it takes no names and passwords in its addresses. */
export const busOptions = (url: string) => {
  const all = url.split(',').map((part) => new URL(part.trim()))
  const [first] = all
  const name = decodeURIComponent(first?.username ?? '')
  const pass = decodeURIComponent(first?.password ?? '')
  return {
    servers: all.map(({ hostname, port }) => `${hostname}:${port || 4222}`),
    ...(name && pass ? { user: name, pass } : name ? { token: name } : {}),
    ...(first?.protocol === 'tls:' ? { tls: {} } : {}),
  }
}

/** Publishes something on a subject of its own and waits until it comes back; -> ms. Throws what goes wrong. */
export const tryBus = async (url: string): Promise<number> => {
  const { connect } = await import('@nats-io/transport-node')
  const connection = await connect({ ...busOptions(url), timeout: patience, reconnect: false })
  try {
    const subject = `deck.doctor.${randomBytes(6).toString('hex')}`
    const echo = connection.subscribe(subject, { max: 1, timeout: patience })
    const begun = performance.now()
    connection.publish(subject)
    for await (const _ of echo) return performance.now() - begun
    throw new Error('what was published did not come back')
  } finally {
    await connection.close()
  }
}

export const makeBus = (options: {
  url: string
  /** of whose database it is: others on the same NATS are not heard */
  space: () => Promise<string>
  name: string
  onHeard: (payload: string) => void
  onConnected: () => void
  onError: (error: unknown) => void
}): Bus => {
  const { onError } = options
  const over = new AbortController()
  const channels = new Map<string, Subscription | undefined>()
  let connection: NatsConnection | undefined
  let up = false
  let prefix = ''
  let sent = 0
  let heard = 0

  const hear = (error: Error | null, text: () => string): void => {
    if (error) return onError(error)
    heard++
    try {
      // Any client of NATS may have published anything.
      options.onHeard(text())
    } catch (fault) {
      onError(fault)
    }
  }
  const subscribe = (channel: string): void => {
    if (!connection) return
    channels.set(
      channel,
      connection.subscribe(`${prefix}.${channel}`, {
        callback: (error, message) => hear(error, () => message.string()),
      }),
    )
  }

  const watch = async (current: NatsConnection): Promise<void> => {
    for await (const { type } of current.status()) {
      if (type === 'reconnect') {
        up = true
        options.onConnected()
      } else if (type === 'disconnect' || type === 'staleConnection') up = false
    }
  }

  /** Connects, and connects anew what the client itself has given up, until close. */
  const keep = async (): Promise<void> => {
    const { connect } = await import('@nats-io/transport-node')
    while (!over.signal.aborted) {
      try {
        prefix = `deck.${await options.space()}`
        const current = await connect({
          ...busOptions(options.url),
          name: options.name,
          timeout: patience,
          pingInterval: pingEvery,
          maxReconnectAttempts: -1,
          reconnectTimeWait: pause,
          reconnectJitter: pause,
          noEcho: true,
        })
        connection = current
        if (over.signal.aborted) return void (await current.close())
        for (const channel of channels.keys()) subscribe(channel)
        await current.flush()
        up = true
        options.onConnected()
        void watch(current).catch(onError)
        const error = await current.closed()
        if (error) onError(error)
      } catch (error) {
        if (!over.signal.aborted) onError(error)
      }
      up = false
      connection = undefined
      await delay(pause * (1 + Math.random()), undefined, { signal: over.signal }).catch(() => {})
    }
  }

  // The server's answer: what is published from here on is heard.
  const settled = async (): Promise<void> => {
    if (up) await Promise.race([connection?.flush().catch(() => {}), delay(patience, undefined, { ref: false })])
  }

  return {
    start: () => void keep().catch(onError),
    listen(channel) {
      channels.set(channel, undefined)
      subscribe(channel)
      return settled()
    },
    unlisten(channel) {
      channels.get(channel)?.unsubscribe()
      channels.delete(channel)
    },
    settled,
    tell(channel, payload) {
      if (!up || !connection) return false
      try {
        connection.publish(`${prefix}.${channel}`, payload)
      } catch (error) {
        onError(error)
        return false
      }
      sent++
      return true
    },
    stats: () => ({ connected: up, sent, heard }),
    async close() {
      over.abort()
      up = false
      await connection?.close().catch(() => {})
    },
  }
}
