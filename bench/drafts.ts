// Drafts of replies: 200 drafts of 150 deltas a second on one instance. On two instances: the time from a cancel to the last received
// delta. Each stored message is compared with the deltas that its watcher received.
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { cpuOf, memoryOf } from './system.ts'
import { startDeck, type Postgres, type Target } from './targets.ts'

type Frame = { type: string; id?: number; key?: string; offset?: number; delta?: string; [member: string]: unknown }
type Line = {
  send(frame: object): void
  ask(frame: object): Promise<Frame>
  onFrame: (frame: Frame) => void
  close(): void
}

const open = async (url: string, token: string): Promise<Line> => {
  const socket = new WebSocket(`${url}/api/ws`, ['deck.v1', `bearer.${token}`])
  const asked = new Map<number, (frame: Frame) => void>()
  let next = 1
  const line: Line = {
    send: (frame) => socket.send(JSON.stringify(frame)),
    ask(frame) {
      const id = next++
      return new Promise((resolve, reject) => {
        asked.set(id, (answer) => (answer.type === 'ok' ? resolve(answer) : reject(new Error(JSON.stringify(answer)))))
        line.send({ ...frame, id })
      })
    },
    onFrame: () => {},
    close: () => socket.close(),
  }
  socket.on('message', (data: Buffer) => {
    const frame = JSON.parse(data.toString()) as Frame
    if (frame.id !== undefined) asked.get(frame.id)?.(frame)
    else line.onFrame(frame)
  })
  await new Promise<void>((resolve, reject) => socket.once('open', resolve).once('error', reject))
  return line
}

const seconds = 8
const perSecond = 150
const sockets = 10
const draftsEach = 20

const load = async ({ urls: [url = ''], pids, token, topics }: Target): Promise<string> => {
  const texts = new Map<string, string>()
  let holes = 0
  const watchers = await Promise.all(
    topics.map(async (topic) => {
      const line = await open(url, token)
      line.onFrame = ({ type, key = '', offset = 0, delta = '' }) => {
        if (type !== 'delta') return
        const held = texts.get(key) ?? ''
        if (offset > held.length) holes++
        texts.set(key, held.slice(0, offset) + delta)
      }
      await line.ask({ type: 'subscribe', topic })
      return line
    }),
  )
  const writers = await Promise.all(Array.from({ length: sockets }, () => open(url, token)))
  const drafts = writers.flatMap((line, n) =>
    Array.from({ length: draftsEach }, (_, i) => ({
      line,
      topic: topics[(n + i) % topics.length],
      key: `draft-${n}-${i}`,
    })),
  )
  let peak = 0
  const used = cpuOf(pids)
  const start = performance.now()
  let sent = 0
  while (performance.now() - start < seconds * 1000) {
    // The deltas that are due by now, for each draft in turn.
    const due = Math.floor(((performance.now() - start) / 1000) * perSecond)
    for (; sent < due; sent++)
      for (const { line, topic, key } of drafts) line.send({ type: 'stream', topic, key, delta: `word${sent} ` })
    peak = Math.max(peak, memoryOf(pids[0] ?? 0))
    await delay(5)
  }
  const messages = await Promise.all(
    drafts.map(async ({ line, topic, key }) => {
      const answer = await line.ask({ type: 'stream', topic, key, done: true })
      return { key, message: (answer['message'] as { message: string }).message }
    }),
  )
  const cpu = (cpuOf(pids) - used) / 1e6 / ((performance.now() - start) / 1000)
  await delay(500)
  const same = messages.filter(({ key, message }) => texts.get(key) === message).length
  for (const line of [...writers, ...watchers]) line.close()
  return `${drafts.length} drafts of ${perSecond} deltas/s for ${seconds} s: ${same} seen as they were stored, ${holes} holes, ${(cpu * 100).toFixed(0)} % of a core, at most ${Math.round(peak / 2 ** 20)} MB`
}

const cancels = async ({ urls: [one = '', two = ''], token, topics: [topic = ''] }: Target): Promise<string> => {
  const writer = await open(one, token)
  const watcher = await open(two, token)
  await watcher.ask({ type: 'subscribe', topic })
  const times: number[] = []
  for (let round = 0; round < 50; round++) {
    const key = `cancel-${round}`
    let stopped = false
    let last = 0
    let seen = 0
    const ended = new Promise<void>((resolve) => {
      writer.onFrame = ({ type }) => {
        if (type !== 'cancel') return
        stopped = true
        writer.send({ type: 'stream', topic, key, done: true })
      }
      watcher.onFrame = (frame) => {
        if (frame.type === 'event') resolve()
        if (frame.type !== 'delta' || frame.key !== key) return
        last = performance.now()
        seen++
      }
    })
    const writing = (async () => {
      for (let n = 0; !stopped; n++) {
        writer.send({ type: 'stream', topic, key, delta: `word${n} ` })
        await delay(7)
      }
    })()
    while (seen < 3) await delay(5)
    const start = performance.now()
    await watcher.ask({ type: 'cancel', topic, key })
    await ended
    await writing
    times.push(Math.max(0, last - start))
  }
  writer.close()
  watcher.close()
  times.sort((a, b) => a - b)
  return `a cancel to the last delta seen, from another instance, 50 times: median ${times[25]?.toFixed(0)} ms, at most ${times.at(-1)?.toFixed(0)} ms`
}

export const drafts = async (postgres: Postgres): Promise<string> => {
  const alone = await startDeck(postgres, 1, sockets)
  const lines = [await load(alone)]
  await alone.stop()
  const pair = await startDeck(postgres, 2, 1)
  lines.push(await cancels(pair))
  await pair.stop()
  return `Replies as they are written\n\n${lines.map((line) => `- ${line}`).join('\n')}`
}
