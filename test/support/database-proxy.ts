// A TCP proxy between a server and its Postgres that breaks things on purpose: it cuts, delays, halves and swallows what
// passes, loses the answer to a commit, or drops notifications. What it isn't told to break it passes on unchanged.
// It reads the messages of Postgres, so its connections go without TLS.
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'

type Pair = { client: Socket; server: Socket; hole: boolean; waiting: Buffer; late: Map<Socket, Promise<void>> }

export type Proxy = {
  /** the same database, through the proxy */
  url(databaseUrl: string): string
  /** where new connections go; the port that the first url named, until told otherwise */
  port: number
  /** ms that every chunk takes longer, in both directions */
  delay: number
  /** new connections are closed at once */
  refusing: boolean
  /** NOTIFY is not heard any more */
  muted: boolean
  /** Cuts all connections; -> how many. */
  cut(): number
  /** Passes on the first half of the next answer of every connection, then cuts it. */
  halve(): void
  /** Swallows what passes on all connections that there are, and (`also`) on those to come, but keeps them open. */
  blackHole(also: 'new' | 'none'): void
  /** Once a batch has committed, its answer is swallowed and the connection cut; -> resolves when that happened. */
  loseAnswer(): Promise<void>
  /** Everything passes again; connections that lead nowhere are cut. */
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

  /** The whole messages in what came from Postgres; the rest is kept until more comes. */
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
    // In order, also when the delay changes.
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
      // Only now it has committed.
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
