// Drafts during kills, with figures: 200 times a writer, a watcher or one of two server processes is killed while eight replies at a
// time are being written. Run:
//   KILLS=200 npx tap --timeout=900 --reporter=tap test/long/drafts.ts
// After a cut a writer has only its source text: it asks for its draft's stored offset and continues on either server.
// In the end each key is one message with the source text, and watchers never received anything but a prefix of it.
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { Line } from '../support/users.ts'
import { freshDatabase } from '../support/database.ts'
import { alice, door, makeMission, rafael, until } from '../support/server.ts'
import { spawnServer, type Server } from '../support/processes.ts'

t.setTimeout(900_000)
const kills = Number(process.env['KILLS'] ?? 200)
const replies = 8
const pieces = 60

const database = await freshDatabase(t)
const start = (): Promise<Server> => spawnServer(t, { DATABASE_URL: database.url, LOG_LEVEL: 'error' })
const servers: (Server | undefined)[] = [await start(), await start()]
const topic = `missions/${(await makeMission(door(t, servers[0]?.url ?? ''))).id}/chat/rafael`
const anyUrl = (): string => {
  const up = servers.filter((server) => server !== undefined)
  return up[Math.floor(Math.random() * up.length)]?.url ?? ''
}
let over = false

/** Connects as soon as a server accepts it. */
const openSoon = async (token: string): Promise<Line> => {
  for (;;) {
    try {
      return await Line.open(anyUrl(), token)
    } catch {
      await delay(20 + Math.random() * 50)
    }
  }
}

// Writers ---------------------------------------------------------------------------------------------------------------

const sources = new Map<string, string[]>()
const finished = new Set<string>()
const writing = new Set<Line>()

/** Writes one reply, and reconnects after each cut. */
const write = async (key: string): Promise<void> => {
  const source = Array.from({ length: pieces }, (_, n) => `${key.slice(0, 4)}.${n} 🎛️ `)
  sources.set(key, source)
  const text = source.join('')
  while (!finished.has(key)) {
    const line = await openSoon(rafael)
    writing.add(line)
    const ask = (more: Record<string, unknown>) => line.ask({ type: 'stream', topic, key, ...more })
    try {
      // An offset beyond the end is a conflict; its answer has the stored offset.
      const where = await ask({ offset: text.length + 1, delta: '!' })
      let offset = Number(where['offset'] ?? 0)
      let ended = where.type === 'ok' && 'message' in where
      while (offset < text.length && !ended) {
        const end = /^[^]{1,12} /u.exec(text.slice(offset))?.[0].length ?? text.length - offset
        const answer = await ask({ offset, delta: text.slice(offset, offset + end) })
        if (answer.type === 'error') {
          if (answer['code'] !== 'conflict') await delay(100)
          if (answer['offset'] === undefined) break
          offset = Number(answer['offset'])
        } else if ('message' in answer) ended = true
        else offset = Number(answer['offset'])
        await delay(5 + Math.random() * 10)
      }
      if (ended || (await ask({ done: true, offset: text.length })).type === 'ok') finished.add(key)
    } catch {
      // The connection was cut.
    }
    writing.delete(line)
    line.drop()
  }
}

// Watchers --------------------------------------------------------------------------------------------------------------

const faults: string[] = []
type Watcher = { line: Line; texts: Map<string, string>; messages: Map<string, string> }
const watchers = new Set<Watcher>()
let joined = 0

const watch = async (): Promise<void> => {
  while (!over) {
    const line = await openSoon(alice)
    const watcher: Watcher = { line, texts: new Map(), messages: new Map() }
    line.onFrame = (frame) => {
      const { key, offset, delta, event, data } = frame as {
        key?: string
        offset?: number
        delta?: string
        event?: string
        data?: { key: string; message: string }
      }
      if (frame.type === 'delta' && key !== undefined && delta !== undefined && !watcher.messages.has(key)) {
        const held = watcher.texts.get(key) ?? ''
        if (Number(offset) > held.length) faults.push(`a gap in ${key}: offset ${offset} after ${held.length}`)
        const text = held.slice(0, offset) + delta
        if (!sources.get(key)?.join('').startsWith(text)) faults.push(`not a prefix: ${text.slice(-40)}`)
        watcher.texts.set(key, text)
      }
      if (event === 'message.created' && data) watcher.messages.set(data.key, data.message)
    }
    const answer = await line.ask({ type: 'subscribe', topic, after: 0 }).catch(() => undefined)
    if (answer?.type === 'ok') {
      joined++
      watchers.add(watcher)
      await line.ended()
      watchers.delete(watcher)
    }
    line.drop()
  }
}

// Kills -----------------------------------------------------------------------------------------------------------------

const random = <T>(all: Iterable<T>): T | undefined => {
  const list = [...all]
  return list[Math.floor(Math.random() * list.length)]
}
const count = { writer: 0, watcher: 0, server: 0 }
const kill = async (): Promise<void> => {
  const dice = Math.random()
  if (dice < 0.4) {
    random(writing)?.drop()
    count.writer++
  } else if (dice < 0.6) {
    random(watchers)?.line.drop()
    count.watcher++
  } else {
    const n = Math.random() < 0.5 ? 0 : 1
    // Never both servers at once: otherwise a writer or watcher could not reconnect.
    if (servers[1 - n] === undefined || servers[n] === undefined) return kill()
    const server = servers[n]
    servers[n] = undefined
    server?.process.kill('SIGKILL')
    count.server++
    void start().then((again) => (servers[n] = again))
  }
}

await t.test(`drafts: ${kills} random kills leave one message for each reply, and one text for all`, async (t) => {
  const watching = Promise.all([1, 2, 3, 4].map(watch))
  const writers = Promise.all(
    Array.from({ length: replies }, async () => {
      while (!over) await write(randomUUID())
    }),
  )
  await until(() => watchers.size === 4 && writing.size > 0, 'all writers and watchers')
  for (let n = 0; n < kills; n++) {
    await kill()
    await delay(100 + Math.random() * 300)
  }
  over = true
  await writers
  const all = [...sources.keys()]
  await until(() => servers.every((server) => server !== undefined), 'both servers', 30_000)
  await until(
    () => watchers.size > 0 && [...watchers].every(({ messages }) => messages.size === all.length),
    'the watchers to have every message',
    30_000,
  )
  for (const { line, messages } of watchers) {
    for (const key of all) if (messages.get(key) !== sources.get(key)?.join('')) faults.push(`wrong text: ${key}`)
    line.drop()
  }
  await watching
  const rows = await database.query('select key, message from chat_messages order by seq')
  t.equal(rows.length, all.length, 'one message for each reply')
  t.ok(
    rows.every(({ key, message }) => sources.get(String(key))?.join('') === message),
    'equal to the source, byte for byte',
  )
  t.strictSame(faults.slice(0, 10), [])
  // (A draft whose server died after its commit may remain stored, but is not shown.)
  const late = await openSoon(alice)
  let seen = 0
  late.onFrame = ({ type }) => type === 'delta' && seen++
  t.equal((await late.ask({ type: 'subscribe', topic })).type, 'ok')
  await delay(500)
  late.drop()
  t.equal(seen, 0, 'a client that subscribes now receives no draft')
  t.comment(
    `${all.length} replies through ${kills} kills (${count.writer} of writers, ${count.watcher} of watchers, ${count.server} of servers), ${joined} joins`,
  )
})
