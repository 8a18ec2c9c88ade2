// Readers that stop reading, with figures: raw TCP peers that subscribe and then read nothing, while 100 MB pass through their topic from
// four senders to eight other readers. Run:
//   npx tap --timeout=900 --reporter=tap test/long/slow-reader.ts
// A stalled reader is cut off, and takes no more memory than its bound. (The comparison is a second server under the same traffic.)
// The other readers receive 1…n as quickly as without a stalled reader (measured in turn, on one server).
// Memory and connection states are read from /proc: Linux only.
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { Line } from '../support/users.ts'
import { freshDatabase } from '../support/database.ts'
import { alice, door, makeMission, until } from '../support/server.ts'
import { spawnServer, type Server } from '../support/processes.ts'

t.setTimeout(900_000)

const chars = 10_000
const [senders, readers] = [4, 8]
const warmUp = 5000
const text = randomBytes(chars).toString('base64').slice(0, chars)

const database = await freshDatabase(t)

const rss = async ({ process: { pid } }: Server): Promise<number> =>
  Number(/VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
const mb = (value: number): string => `${Math.round(value)} MB`
const ms = (value: number): string => `${value.toFixed(1)} ms`
const p99 = (times: number[]): number => times.toSorted((x, y) => x - y)[Math.floor(times.length * 0.99)] ?? 0
const median = (values: number[]): number => values.toSorted((x, y) => x - y)[values.length >> 1] ?? 0

type Reader = { socket: WebSocket; count: number; wrong: string[]; onMessage: (seq: number) => void }

/** Parses only the topic and seq of an event: parsing eight times 100 MB would disturb the measurement. */
const openReader = async (t: Test, { url }: Server, topic: string): Promise<Reader> => {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/api/${topic}/ws?after=0`, ['deck.v1', `bearer.${alice}`])
  t.teardown(() => socket.terminate())
  const reader: Reader = { socket, count: 0, wrong: [], onMessage: () => {} }
  socket.on('message', (data: Buffer) => {
    const [, of, seq] = /^{"type":"event","topic":"([^"]+)","seq":(\d+),/.exec(data.toString('latin1', 0, 150)) ?? []
    if (of === undefined) return
    if (of !== topic || Number(seq) !== ++reader.count) reader.wrong.push(`${of} ${seq} as the ${reader.count}th`)
    reader.onMessage(reader.count)
  })
  socket.on('close', (code) => reader.wrong.push(`closed with ${code}`))
  await once(socket, 'open')
  return reader
}

/** Starts a server with a topic, its readers and its senders. */
const open = async (t: Test) => {
  const server = await spawnServer(t, { DATABASE_URL: database.url, LOG_LEVEL: 'error' })
  const { id } = await makeMission(door(t, server.url))
  const topic = `missions/${id}/chat/rafael`
  const audience = await Promise.all(Array.from({ length: readers }, () => openReader(t, server, topic)))
  const lines = await Promise.all(Array.from({ length: senders }, () => Line.open(server.url, alice)))
  t.teardown(() => lines.forEach((line) => line.drop()))
  return {
    server,
    topic,
    /** Sends the messages, each lane one after the other. Resolves with the time from each send to each delivery, in ms. */
    async pass(messages: number, lanes = 1): Promise<number[]> {
      const before = audience[0]?.count ?? 0
      // The seq is known with the answer; the event may arrive before the answer.
      const sentAt = new Map<number, number>()
      const arrivals: { seq: number; at: number }[] = []
      for (const reader of audience) reader.onMessage = (seq) => arrivals.push({ seq, at: performance.now() })
      let left = messages
      await Promise.all(
        lines
          .flatMap((line) => Array<Line>(lanes).fill(line))
          .map(async (line) => {
            while (left-- > 0) {
              const at = performance.now()
              const answer = await line.ask({ type: 'send', topic, message: text })
              if (answer.type !== 'ok') throw new Error(JSON.stringify(answer))
              sentAt.set(Number(answer['seq']), at)
            }
          }),
      )
      await until(
        () => audience.every(({ count }) => count === before + messages),
        'all readers to have every message',
        30_000,
      )
      return arrivals.map(({ seq, at }) => at - (sentAt.get(seq) ?? 0))
    },
    /** The faults of the readers that read. */
    problems: (): string[] => audience.flatMap(({ wrong }) => wrong),
  }
}

/** Opens a TCP peer that subscribes to a topic and is then paused: the kernel's buffers fill up, because nothing is read. */
const stall = async (t: Test, { url }: Server, topic: string, after: number): Promise<Socket> => {
  const { port, hostname, host } = new URL(url)
  const peer = connect(Number(port), hostname)
  t.teardown(() => peer.destroy())
  peer.on('error', () => {})
  const key = Buffer.from(randomUUID().slice(0, 16)).toString('base64')
  peer.write(
    `GET /api/${topic}/ws?after=${after} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\nAuthorization: Bearer ${alice}\r\n\r\n`,
  )
  await once(peer, 'data')
  peer.pause()
  return peer
}
/** The number of peers to which the server still has an established connection. */
const held = async ({ url }: Server, peers: Socket[]): Promise<number> => {
  const hex = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0')
  const own = hex(Number(new URL(url).port))
  const theirs = new Set(peers.map(({ localPort }) => hex(localPort ?? 0)))
  return (await readFile('/proc/net/tcp', 'utf8')).split('\n').filter((line) => {
    const [, from, to, state] = /: \w+:(\w+) \w+:(\w+) (\w+) /.exec(line) ?? []
    return from === own && theirs.has(to ?? '') && state === '01'
  }).length
}

/**
 * Measures a server's peak memory during a warm-up, and while 100 MB pass beside stalled readers.
 * `from`: 'now' subscribes them live; 'the first' makes each of them catch up from the first message.
 */
const memory = async (t: Test, { stalled, from }: { stalled: number; from: 'now' | 'the first' }) => {
  const deck = await open(t)
  const peers: Socket[] = []
  let [most, cutAt, over] = [0, 0, false]
  const watching = (async () => {
    while (!over) {
      most = Math.max(most, await rss(deck.server))
      if (cutAt === 0 && stalled > 0 && peers.length === stalled && (await held(deck.server, peers)) === 0)
        cutAt = performance.now()
      await delay(50)
    }
  })()
  await deck.pass(warmUp, 4)
  const before = most
  most = 0
  const begun = performance.now()
  const traffic = deck.pass(10_000, 4)
  for (let n = 0; n < stalled; n++) {
    peers.push(await stall(t, deck.server, deck.topic, from === 'now' ? warmUp : 0))
    // Readers that subscribe within this time share pages; these must not.
    if (from !== 'now') await delay(260)
  }
  const joined = performance.now()
  await traffic
  const passed = performance.now()
  await until(() => cutAt > 0 || stalled === 0, 'all stalled readers to be cut off', 90_000)
  const after = await rss(deck.server)
  over = true
  await watching
  peers.forEach((peer) => peer.destroy())
  t.strictSame(deck.problems(), [], 'the other readers have 1…n in order')
  return {
    growth: most - before,
    cutAfter: (cutAt - joined) / 1000,
    summary:
      `${stalled} stalled: RSS at most ${mb(before)} before, ${mb(most)} while 100 MB pass ` +
      `(in ${((passed - begun) / 1000).toFixed(1)} s), ${mb(after)} after; grown by ${mb(most - before)}`,
  }
}
const describe = (text: string, seconds: number): string =>
  `${text}; cut off ${seconds.toFixed(1)} s after the last one joined`

void t.test('slow reader: a reader that stalls while 100 MB pass costs less than 64 MB, and is cut off', async (t) => {
  const without = await memory(t, { stalled: 0, from: 'now' })
  t.comment(without.summary)
  const beside = await memory(t, { stalled: 1, from: 'now' })
  t.comment(describe(beside.summary, beside.cutAfter))
  t.ok(without.growth < 64 && beside.growth < 64 && beside.growth - without.growth < 64)
  t.ok(beside.cutAfter < 60, 'cut off for its unread bytes, not for its silence')
  t.comment(`grown by ${mb(beside.growth - without.growth)} more beside a stalled reader than without`)
})

void t.test('slow reader: 50 stalled readers stay within OUTBOX_TOTAL_BYTES, and are cut off', async (t) => {
  const { growth, summary, cutAfter } = await memory(t, { stalled: 50, from: 'the first' })
  t.comment(describe(summary, cutAfter))
  t.ok(growth < 256, 'below OUTBOX_TOTAL_BYTES')
  t.ok(cutAfter < 70, 'cut off for their silence at the latest')
})

void t.test('slow reader: other readers get every message as soon beside a stalled reader as without', async (t) => {
  const deck = await open(t)
  await deck.pass(warmUp, 4)
  let messages = warmUp
  // In turn and in rotating order, because the machine's speed drifts. "again" shows how much two equal passes differ.
  const kinds = ['none', 'again', 'live', 'catching up'] as const
  const found: Record<(typeof kinds)[number], number[]> = { none: [], again: [], live: [], 'catching up': [] }
  for (let round = 0; round < kinds.length; round++)
    for (const kind of [...kinds.slice(round), ...kinds.slice(0, round)]) {
      const after = kind === 'live' ? messages : kind === 'catching up' ? 0 : undefined
      const peer = after === undefined ? undefined : await stall(t, deck.server, deck.topic, after)
      found[kind].push(p99(await deck.pass(10_000)))
      messages += 10_000
      peer?.destroy()
    }
  t.strictSame(deck.problems(), [], 'the other readers have 1…n in order')
  for (const kind of kinds) {
    const ratios = found[kind].map((time, round) => time / (found.none[round] ?? 0))
    t.comment(
      `p99 from sending to each of ${readers} readers while 100 MB pass, stalled: ${kind}: median ` +
        `${ms(median(found[kind]))} (${found[kind].map(ms).join(', ')}); to none: ${median(ratios).toFixed(2)} ` +
        `(${ratios.map((ratio) => ratio.toFixed(2)).join(', ')})`,
    )
    t.ok(kind === 'again' || median(ratios) < 1.5, kind)
  }
})
