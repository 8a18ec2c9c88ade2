// Replies through kills, with figures: 200 times a writer, a watcher or one of two server processes is killed while eight replies at a
// time are being written. By command:
//   KILLS=200 npx tap --timeout=900 --reporter=tap test/long/drafts.ts
// Who comes back knows nothing but its source: a writer asks where its draft stands and goes on, through whichever server lets it
// in. In the end every key is one message, its source byte for byte, and no watcher ever held anything but a beginning of it.
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

/** Opens a line as soon as a server lets it in. */
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

/** Writes one reply, whatever happens to its lines. */
const write = async (key: string): Promise<void> => {
  const source = Array.from({ length: pieces }, (_, n) => `${key.slice(0, 4)}.${n} 🎛️ `)
  sources.set(key, source)
  const text = source.join('')
  while (!finished.has(key)) {
    const line = await openSoon(rafael)
    writing.add(line)
    const ask = (more: Record<string, unknown>) => line.ask({ type: 'stream', topic, key, ...more })
    try {
      // Where it stands is what `conflict` says.
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
      // Its line was cut.
    }
    writing.delete(line)
    line.drop()
  }
}

// Watchers --------------------------------------------------------------------------------------------------------------

const faults: string[] = []
type Watcher = { line: Line; texts: Map<string, string>; said: Map<string, string> }
const watchers = new Set<Watcher>()
let joined = 0

const watch = async (): Promise<void> => {
  while (!over) {
    const line = await openSoon(alice)
    const watcher: Watcher = { line, texts: new Map(), said: new Map() }
    line.onFrame = (frame) => {
      const { key, offset, delta, event, data } = frame as {
        key?: string
        offset?: number
        delta?: string
        event?: string
        data?: { key: string; message: string }
      }
      if (frame.type === 'delta' && key !== undefined && delta !== undefined && !watcher.said.has(key)) {
        const held = watcher.texts.get(key) ?? ''
        if (Number(offset) > held.length) faults.push(`a hole in ${key}: ${offset} after ${held.length}`)
        const text = held.slice(0, offset) + delta
        if (!sources.get(key)?.join('').startsWith(text)) faults.push(`not a beginning: ${text.slice(-40)}`)
        watcher.texts.set(key, text)
      }
      if (event === 'message.created' && data) watcher.said.set(data.key, data.message)
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
    // Never both: nobody would be left to look.
    if (servers[1 - n] === undefined || servers[n] === undefined) return kill()
    const server = servers[n]
    servers[n] = undefined
    server?.process.kill('SIGKILL')
    count.server++
    void start().then((again) => (servers[n] = again))
  }
}

await t.test(`${kills} random kills: one message for each reply, the same text for everybody`, async (t) => {
  const watching = Promise.all([1, 2, 3, 4].map(watch))
  const writers = Promise.all(
    Array.from({ length: replies }, async () => {
      while (!over) await write(randomUUID())
    }),
  )
  await until(() => watchers.size === 4 && writing.size > 0, 'everybody')
  for (let n = 0; n < kills; n++) {
    await kill()
    await delay(100 + Math.random() * 300)
  }
  over = true
  await writers
  const all = [...sources.keys()]
  await until(() => servers.every((server) => server !== undefined), 'both servers', 30_000)
  await until(
    () => watchers.size > 0 && [...watchers].every(({ said }) => said.size === all.length),
    'watchers to have it all',
    30_000,
  )
  for (const { line, said } of watchers) {
    for (const key of all) if (said.get(key) !== sources.get(key)?.join('')) faults.push(`another message: ${key}`)
    line.drop()
  }
  await watching
  const rows = await database.query('select key, message from chat_messages order by seq')
  t.equal(rows.length, all.length, 'a message each')
  t.ok(
    rows.every(({ key, message }) => sources.get(String(key))?.join('') === message),
    'byte for byte',
  )
  t.strictSame(faults.slice(0, 10), [])
  // (One whose server died after its commit stays behind, unseen.)
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
