// Notifications by NATS instead of NOTIFY; each channel is a subject. As with NOTIFY, notifications may be lost: the tail finds their rows by
// polling the latest seqs. It polls immediately whenever NATS is connected (again).
//
// While NATS is disconnected, `publish` returns false, and the caller uses NOTIFY. This module does not interpret payloads. The NATS client is
// loaded only if HINTS_URL is set.
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { NatsConnection, Subscription } from '@nats-io/transport-node'

export type Bus = {
  /** Starts to connect, and retries without a limit. Returns immediately. */
  start(): void
  /**
   * Subscribes to a channel. Resolves once the subscription is in effect, or immediately while disconnected: after connecting, the latest
   * seqs are read anyway.
   */
  listen(channel: string): Promise<void>
  unlisten(channel: string): void
  /** Resolves once all subscriptions are in effect. */
  settled(): Promise<void>
  /** Publishes a payload. Returns false if NATS is disconnected: then nothing was sent. */
  publish(channel: string, payload: string): boolean
  stats(): { connected: boolean; sent: number; heard: number }
  close(): Promise<void>
}

/** ms between two pings. Two may stay unanswered, so that a dead connection is detected as fast as that of LISTEN. */
const pingEvery = 1000
/** ms that connecting may take, and ms between two tries. */
const patience = 2000
const pause = 250

/** Returns the client's options for HINTS_URL. User and password are separate options, because the client accepts none in addresses. */
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

/** Publishes a message on a new subject and waits until it comes back. Returns the ms that this took. Rejects if it fails. */
export const tryBus = async (url: string): Promise<number> => {
  const { connect } = await import('@nats-io/transport-node')
  const connection = await connect({ ...busOptions(url), timeout: patience, reconnect: false })
  try {
    const subject = `deck.doctor.${randomBytes(6).toString('hex')}`
    const echo = connection.subscribe(subject, { max: 1, timeout: patience })
    const begun = performance.now()
    connection.publish(subject)
    for await (const _ of echo) return performance.now() - begun
    throw new Error('the published message did not come back')
  } finally {
    await connection.close()
  }
}

export const makeBus = (options: {
  url: string
  /** returns a name for the database: other databases may use the same NATS */
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

  const receive = (error: Error | null, text: () => string): void => {
    if (error) return onError(error)
    heard++
    try {
      // Any client of NATS can publish invalid payloads.
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
        callback: (error, message) => receive(error, () => message.string()),
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

  /** Connects, and reconnects when the client has given up, until close(). */
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

  // flush() waits for the server's answer: messages that are published after it arrive.
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
    publish(channel, payload) {
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
