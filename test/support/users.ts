// Clients of a server that fails. A sender retries until it receives an answer. A follower resumes after its last seq.
// A checker compares the acknowledged messages with the table, the history and each follower.
// A function returns the address for each connection, so that clients always try a server that is up.
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import type { Json } from './server.ts'

/** Where to connect now (http://…), asked at each try. */
export type Where = () => string

export type Frame = Json & { type: string }

/** A minimal deck.v1 socket. Rejects if it can't be opened. */
export class Line {
  readonly asked = new Map<number, { resolve: (frame: Frame) => void; reject: (error: Error) => void }>()
  closed: { code: number; retryAfter: number } | undefined
  onFrame: (frame: Frame) => void = () => {}
  private next = 1
  private retryAfter = 0
  private readonly ends: (() => void)[] = []

  private constructor(readonly socket: WebSocket) {
    socket.on('message', (data: Buffer) => {
      const frame = JSON.parse(data.toString('utf8')) as Frame
      if (frame.type === 'goodbye') this.retryAfter = Number(frame['retry_after'])
      const id = Number(frame['id'])
      if (frame.type === 'ok' || frame.type === 'error') this.asked.get(id)?.resolve(frame)
      this.asked.delete(id)
      this.onFrame(frame)
    })
    socket.on('close', (code) => {
      this.closed = { code, retryAfter: this.retryAfter }
      for (const { reject } of this.asked.values()) reject(new Error(`closed with ${code} before the answer`))
      this.asked.clear()
      for (const end of this.ends) end()
    })
  }

  static async open(url: string, token: string): Promise<Line> {
    const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/api/ws`, ['deck.v1', `bearer.${token}`], {
      handshakeTimeout: 5000,
    })
    const line = new Line(socket)
    await new Promise<void>((resolve, reject) => socket.once('open', resolve).on('error', reject))
    return line
  }

  ask(frame: Json): Promise<Frame> {
    if (this.closed) return Promise.reject(new Error('closed'))
    const id = this.next++
    return new Promise((resolve, reject) => {
      this.asked.set(id, { resolve, reject })
      this.socket.send(JSON.stringify({ ...frame, id }))
    })
  }

  ended(): Promise<void> {
    return this.closed ? Promise.resolve() : new Promise((resolve) => this.ends.push(resolve))
  }

  /** Disconnects without a close frame, like a phone that loses its network. */
  drop(): void {
    this.socket.terminate()
  }
}

/** Retries until a server accepts the connection. Returns undefined once `over`. */
const openSoon = async (where: Where, token: string, over: () => boolean): Promise<Line | undefined> => {
  while (!over()) {
    try {
      return await Line.open(where(), token)
    } catch {
      await delay(50 + Math.random() * 100)
    }
  }
  return undefined
}

/** An acknowledged message: its text, which is unique, and the topic, seq and id of its `ok`. */
export type Acknowledged = { topic: string; seq: number; id: string; text: string }

export type Ledger = {
  acknowledged: Acknowledged[]
  /** texts that may be stored or not: keyless sends without an answer, or with `maybe` */
  maybe: Set<string>
  /** texts that were refused and must not be stored */
  refused: Set<string>
  /** number of errors by code, and of closes */
  told: Map<string, number>
}
export const makeLedger = (): Ledger => ({ acknowledged: [], maybe: new Set(), refused: new Set(), told: new Map() })
const count = (ledger: Ledger, what: string): void => void ledger.told.set(what, (ledger.told.get(what) ?? 0) + 1)

/** Sends one message after the other. A message with a key is sent again until it is answered, one without a key once. */
export const makeSender = (options: {
  where: Where
  token: string
  topic: string
  ledger: Ledger
  keyed: boolean
  /** ms between two messages, counted from the last answer, or with `steady` independent of it */
  pace: number
  steady?: boolean
}) => {
  const { ledger, topic } = options
  let over = false
  let line: Line | undefined

  const say = async (text: string): Promise<void> => {
    const key = options.keyed ? randomUUID() : undefined
    for (;;) {
      if (!line || line.closed) line = await openSoon(options.where, options.token, () => false)
      const answer = await line
        ?.ask({ type: 'send', topic, message: text, ...(key ? { key } : {}) })
        .catch(() => undefined)
      if (answer?.type === 'ok') {
        const message = answer['message'] as Json
        ledger.acknowledged.push({ topic, seq: Number(answer['seq']), id: String(message['id']), text })
        return
      }
      count(ledger, answer ? String(answer['code']) : 'closed')
      if (answer && answer['code'] !== 'unavailable') throw new Error(`${text}: ${JSON.stringify(answer)}`)
      if (!key) {
        const unknown = !answer || answer['maybe'] === true
        ;(unknown ? ledger.maybe : ledger.refused).add(text)
        return
      }
      if (answer) await delay(Number(answer['retry_after'] ?? 0) * 200)
    }
  }
  const done = (async () => {
    let due = performance.now()
    while (!over) {
      await say(randomUUID())
      due = Math.max(due + options.pace, options.steady ? performance.now() - 1000 : performance.now() + options.pace)
      if (due > performance.now()) await delay(due - performance.now())
    }
    line?.drop()
  })()
  return {
    drop: () => line?.drop(),
    /** Stops sending. Resolves when the last message is answered. */
    stop(): Promise<void> {
      over = true
      return done
    },
  }
}

/** Follows topics from seq 1, resumes after its last seq, and holds the IDs of each topic's messages 1 to n. */
export const makeFollower = (options: { where: Where; token: string; topics: string[]; onEvent?: () => void }) => {
  const held = new Map<string, string[]>(options.topics.map((topic) => [topic, []]))
  const waiting = new Set<() => void>()
  const problems: string[] = []
  const closes = new Map<number, number>()
  let epoch: unknown
  let over = false
  let line: Line | undefined

  const take = (frame: Frame): void => {
    if (frame.type !== 'event') return
    const ids = held.get(String(frame['topic']))
    if (!ids) return
    if (frame['seq'] !== ids.length + 1) problems.push(`${frame['topic']}: ${frame['seq']} after ${ids.length}`)
    ids.push(String((frame['data'] as Json)['id']))
    options.onEvent?.()
    for (const wake of waiting) wake()
  }

  const follow = async (): Promise<void> => {
    while (!over) {
      line = await openSoon(options.where, options.token, () => over)
      if (!line) return
      const here = line
      here.onFrame = take
      for (const [topic, ids] of held) {
        for (;;) {
          const frame = { type: 'subscribe', topic, after: ids.length, ...(epoch ? { epoch } : {}) }
          const answer = await here.ask(frame).catch(() => undefined)
          if (!answer) break
          if (answer.type === 'ok') {
            epoch = answer['epoch']
            break
          }
          if (answer['code'] !== 'unavailable') {
            problems.push(JSON.stringify(answer))
            break
          }
          await delay(100)
        }
      }
      await here.ended()
      const { code, retryAfter } = here.closed ?? { code: 0, retryAfter: 0 }
      closes.set(code, (closes.get(code) ?? 0) + 1)
      await delay(Math.min(retryAfter, 1) * 1000 * Math.random())
    }
  }
  const done = follow()
  return {
    held,
    problems,
    closes,
    drop: () => line?.drop(),
    has: (topic: string, n: number) => (held.get(topic)?.length ?? 0) >= n,
    /** Resolves when it holds `n` messages of a topic. */
    async reaches(topic: string, n: number, limit: number): Promise<boolean> {
      const end = performance.now() + limit
      while ((held.get(topic)?.length ?? 0) < n) {
        const left = end - performance.now()
        if (left <= 0) return false
        let wake = (): void => {}
        const late = new AbortController()
        await Promise.race([
          new Promise<void>((resolve) => waiting.add((wake = resolve))),
          delay(left, undefined, { signal: late.signal }).catch(() => {}),
        ])
        late.abort()
        waiting.delete(wake)
      }
      return true
    },
    stop(): Promise<void> {
      over = true
      line?.drop()
      return done
    },
  }
}
export type Follower = ReturnType<typeof makeFollower>

export type Row = { seq: number; id: string; text: string }

/** Compares the acknowledged messages with the rows of a topic and with each follower's messages. Returns the differences. */
export const compare = (topic: string, rows: Row[], ledger: Ledger, followers: Follower[]): string[] => {
  const wrong: string[] = []
  rows.forEach(({ seq }, i) => seq === i + 1 || wrong.push(`${topic}: the table has ${seq} at ${i + 1}`))
  const byText = new Map<string, Row[]>()
  for (const row of rows) byText.set(row.text, [...(byText.get(row.text) ?? []), row])
  for (const [text, same] of byText) if (same.length > 1) wrong.push(`${topic}: ${text} is stored ${same.length} times`)
  for (const { topic: of, seq, id, text } of ledger.acknowledged) {
    if (of !== topic) continue
    const [row] = byText.get(text) ?? []
    if (row?.seq !== seq || row.id !== id) wrong.push(`${topic}: acknowledged ${seq} ${text}, found ${row?.seq}`)
  }
  for (const text of ledger.refused) if (byText.has(text)) wrong.push(`${topic}: ${text} was refused, and is stored`)
  for (const { held, problems } of followers) {
    const ids = held.get(topic)
    if (!ids) continue
    wrong.push(...problems.splice(0))
    if (ids.length !== rows.length) wrong.push(`${topic}: a follower holds ${ids.length} of ${rows.length}`)
    const other = ids.findIndex((id, i) => id !== rows[i]?.id)
    if (other >= 0) wrong.push(`${topic}: a follower holds a different message at ${other + 1}`)
  }
  return wrong
}
