// A TCP proxy between a server and its Postgres that injects faults. It cuts, delays, truncates and discards data,
// loses the response to a commit, or drops notifications. Otherwise it forwards everything unchanged.
// It parses the Postgres protocol, so its connections do not use TLS.
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'

type Pair = { client: Socket; server: Socket; hole: boolean; waiting: Buffer; late: Map<Socket, Promise<void>> }

export type Proxy = {
  /** the same database, through the proxy */
  url(databaseUrl: string): string
  /** port for new connections; initially the port of the first URL */
  port: number
  /** delay of every chunk in ms, in both directions */
  delay: number
  /** new connections are closed at once */
  refusing: boolean
  /** notifications are dropped */
  muted: boolean
  /** Cuts all connections. Returns how many. */
  cut(): number
  /** Forwards the first half of the next response on every connection, then cuts the connection. */
  halve(): void
  /** Discards all data on the existing connections, and with `also` 'new' on later ones, but keeps them open. */
  blackHole(also: 'new' | 'none'): void
  /** Discards the response of the next batch that commits, and cuts its connection. Resolves once that has happened. */
  loseAnswer(): Promise<void>
  /** Forwards everything again, and cuts the connections whose data was discarded. */
  heal(): void
  connections(): number
}

const readyForQuery = 0x5a
const notification = 0x41

export const startProxy = async (t: Test): Promise<Proxy> => {
  const pairs = new Set<Pair>()
  let holeNew = false
  let halving = new Set<Pair>()
  let losing: (() => void) | undefined
  const losers = new Set<Pair>()

  const end = (pair: Pair): void => {
    pairs.delete(pair)
    pair.client.destroy()
    pair.server.destroy()
  }

  /** Returns the complete messages from Postgres. An incomplete rest is kept until more data arrives. */
  const messages = (pair: Pair, chunk: Buffer): Buffer[] => {
    let rest = pair.waiting.length ? Buffer.concat([pair.waiting, chunk]) : chunk
    const found: Buffer[] = []
    while (rest.length >= 5 && rest.length > rest.readUInt32BE(1)) {
      const length = 1 + rest.readUInt32BE(1)
      found.push(rest.subarray(0, length))
      rest = rest.subarray(length)
    }
    pair.waiting = rest
    return found
  }

  const pass = (pair: Pair, to: Socket, bytes: Buffer): void => {
    const before = pair.late.get(to)
    if (!before && proxy.delay === 0) return void to.write(bytes)
    // Chunks keep their order when the delay changes.
    const due = delay(proxy.delay)
    const written = Promise.resolve(before).then(async () => {
      await due
      to.write(bytes)
      if (pair.late.get(to) === written) pair.late.delete(to)
    })
    pair.late.set(to, written)
  }

  const fromPostgres = (pair: Pair, chunk: Buffer): void => {
    if (pair.hole) return
    const whole = messages(pair, chunk)
    if (losers.has(pair)) {
      // ReadyForQuery shows that the batch has committed.
      if (!whole.some(([type]) => type === readyForQuery)) return
      losers.delete(pair)
      end(pair)
      losing?.()
      losing = undefined
      return
    }
    const kept = Buffer.concat(proxy.muted ? whole.filter(([type]) => type !== notification) : whole)
    if (kept.length === 0) return
    if (halving.delete(pair)) {
      pair.client.write(kept.subarray(0, kept.length >> 1), () => end(pair))
      return
    }
    pass(pair, pair.client, kept)
  }

  const fromServer = (pair: Pair, chunk: Buffer): void => {
    if (pair.hole) return
    // The writer's statement is prepared under this name.
    if (losing && losers.size === 0 && chunk.includes('\0append\0')) losers.add(pair)
    pass(pair, pair.server, chunk)
  }

  const listening = createServer((client) => {
    client.on('error', () => {})
    if (proxy.refusing) return void client.destroy()
    const server = connect(proxy.port, '127.0.0.1')
    const pair: Pair = { client, server, hole: holeNew, waiting: Buffer.alloc(0), late: new Map() }
    pairs.add(pair)
    server.on('error', () => {})
    client.setNoDelay(true)
    server.setNoDelay(true)
    client.on('data', (chunk) => fromServer(pair, chunk))
    server.on('data', (chunk) => fromPostgres(pair, chunk))
    for (const socket of [client, server]) socket.on('close', () => pair.hole || end(pair))
  })
  listening.listen(0, '127.0.0.1')
  await once(listening, 'listening')
  t.teardown(async () => {
    for (const pair of pairs) end(pair)
    listening.close()
    await once(listening, 'close')
  })

  const proxy: Proxy = {
    url(databaseUrl) {
      const url = new URL(databaseUrl)
      if (proxy.port === 0) proxy.port = Number(url.port || 5432)
      url.hostname = '127.0.0.1'
      url.port = String((listening.address() as { port: number }).port)
      url.searchParams.set('sslmode', 'disable')
      return url.href
    },
    port: 0,
    delay: 0,
    refusing: false,
    muted: false,
    cut() {
      const { size } = pairs
      for (const pair of pairs) end(pair)
      return size
    },
    halve: () => void (halving = new Set(pairs)),
    blackHole(also) {
      holeNew = also === 'new'
      for (const pair of pairs) pair.hole = true
    },
    loseAnswer: () => new Promise((resolve) => (losing = resolve)),
    heal() {
      Object.assign(proxy, { delay: 0, refusing: false, muted: false })
      holeNew = false
      halving.clear()
      losing = undefined
      losers.clear()
      for (const pair of pairs) if (pair.hole) end(pair)
    },
    connections: () => pairs.size,
  }
  return proxy
}
