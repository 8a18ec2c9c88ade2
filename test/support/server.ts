// Servers and clients for tests: an instance on a fresh database or on another instance's, tokens, HTTP and sockets.
// Everything opened here is closed at the end of its test. Tests wait for conditions, with a time limit.
import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import { WebSocket } from 'ws'
import type { Role } from '../../src/access/actor.ts'
import { makeTokens } from '../../src/access/tokens.ts'
import { buildApp, type App } from '../../src/app/index.ts'
import { readConfig, type Config, type Limits } from '../../src/config/index.ts'
import { freshDatabase } from './database.ts'
import { faultOfAnswer, faultOfFrame, learnRoutes } from './shapes.ts'

export const secret = 'a secret for tests that is longer than 32 bytes'
const tokens = makeTokens({ secret })
/** Tokens, tickets and the secret: no log, error or output may contain them. */
export const leak = new RegExp(`ey[\\w-]{8,}\\.[\\w-]{8,}\\.|deck_ticket_[\\w-]{8,}|${secret}`)

type Claims = { sub: string; role: Role; missions?: (string | number)[] | '*'; jti?: string }
export const token = (claims: Claims, seconds = 7200): Promise<string> => tokens.sign(claims, seconds)

export const admin = await token({ sub: 'root', role: 'admin' })
/** The user to whom makeMission's missions are assigned. */
export const alice = await token({ sub: 'alice', role: 'user' })
export const bob = await token({ sub: 'bob', role: 'user' })
export const rafael = await token({ sub: 'rafael', role: 'citizen' })

export type Json = Record<string, unknown>
export type Answer = { status: number; headers: Headers; text: string; json: Json }

/** Waits for a condition. Rejects after `limit` ms. */
export const until = async (
  condition: () => boolean | Promise<boolean>,
  what: string,
  limit = 30_000,
): Promise<void> => {
  const end = performance.now() + limit
  // Each check may cost a server or Postgres a query, so the checks become less frequent.
  for (let pause = 5; ; pause = Math.min(50, pause * 1.2)) {
    const met = condition()
    if (met instanceof Promise ? await met : met) return
    if (performance.now() > end) throw new Error(`not within ${limit} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, met instanceof Promise ? pause : 5))
  }
}

export type Door = {
  url: string
  request(
    method: string,
    path: string,
    token?: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Answer>
  connect(token: string, path?: string): Promise<Client>
}
export type Instance = Door & { app: App; close(): Promise<void> }

/** The protocol of a client's socket. */
export const door = (t: Test, url: string): Door => ({
  url,
  async request(method, path, bearer, body, headers = {}) {
    const raw = typeof body === 'string' || body instanceof Uint8Array
    const response = await fetch(url + path, {
      method,
      headers: {
        ...(bearer ? { authorization: `Bearer ${bearer}` } : {}),
        ...(body !== undefined && !raw ? { 'content-type': 'application/json' } : {}),
        ...headers,
      },
      ...(body === undefined ? {} : { body: raw ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    let json: Json = {}
    try {
      json = JSON.parse(text) as Json
    } catch {}
    const answer = { status: response.status, headers: response.headers, text, json }
    const fault = faultOfAnswer(method, path, answer)
    if (fault !== undefined)
      t.fail(`this answer is not as documented: ${fault}`, { method, path, status: answer.status, text })
    return answer
  },
  connect: (bearer, path = '/api/ws') => connect(t, url + path, bearer),
})

/** A server's real deadlines. */
export const realDeadlines = { databaseDeadlines: readConfig({ JWT_SECRET: secret }).limits.databaseDeadlines }

/** The parts of the configuration that a test changes. */
export type Change = Partial<Omit<Config, 'limits'>> & { limits?: Partial<Limits> }

/** Starts a server in this process. */
export const startInstance = async (
  t: Test,
  databaseUrl: string,
  change: Change = {},
  onLog: (line: string) => void = () => {},
): Promise<Instance> => {
  const config = readConfig({
    DATABASE_URL: databaseUrl,
    JWT_SECRET: secret,
    PORT: '0',
    // The log is checked for secrets and then discarded.
    LOG_LEVEL: 'trace',
    RATE_LIMITS: 'off',
    START_PATIENCE: '0',
    MAX_SOCKETS_PER_USER: '10000',
    // The test's own work also delays the event loop.
    MAX_EVENT_LOOP_DELAY: '0',
  })
  const logTo = {
    write(line: string) {
      if (leak.test(line)) t.fail(`a secret in the log: ${line.replace(leak, '…')}`)
      onLog(line)
    },
  }
  // A busy machine must not cancel statements. Tests of the deadlines ask for the real ones.
  const databaseDeadlines = { connect: 10_000, writer: 3000, tail: 4000, statement: 10_000 }
  const app = await buildApp(
    { ...config, ...change, limits: { ...config.limits, databaseDeadlines, ...change.limits } },
    { logTo },
  )
  let closing: Promise<void> | undefined
  const close = (): Promise<void> => (closing ??= app.close())
  t.teardown(close)
  const url = await app.start()
  learnRoutes(app.http.swagger() as unknown as Json)
  return { ...door(t, url), app, close }
}

/** An instance on a fresh migrated database. */
export const startDeck = async (t: Test, change: Change = {}) => {
  const database = await freshDatabase(t, true)
  const instance = await startInstance(t, database.url, change)
  return { database, instance }
}

export type Client = {
  socket: WebSocket
  /** every frame received, in order */
  frames: Json[]
  /** set once the socket is closed */
  closed: { code: number; reason: string } | undefined
  send(frame: Json): void
  /** Sends a frame with a new ID. Resolves to its ok or error. */
  ask(frame: Json): Promise<Json>
  /** Resolves to the first frame that fits, received or still to arrive. */
  frame(fits: (frame: Json) => boolean, what?: string): Promise<Json>
  /** The events of a topic, in the order received. */
  events(topic: string): { seq: number; event: string; data: Json }[]
  close(): void
}

/** The text of each frame on the wire. */
export const textsOf = (bytes: Buffer): string[] => {
  const texts: string[] = []
  for (let at = 0; at < bytes.length;) {
    const short = bytes.readUInt8(at + 1)
    const start = at + (short < 126 ? 2 : short === 126 ? 4 : 10)
    const size = short < 126 ? short : short === 126 ? bytes.readUInt16BE(at + 2) : bytes.readUInt32BE(at + 6)
    texts.push(bytes.toString('utf8', start, start + size))
    at = start + size
  }
  return texts
}

/** Waits until a client's socket is closed. Resolves to the close code. */
export const closed = async (client: Client): Promise<number> => {
  await until(() => client.closed !== undefined, 'the close')
  return client.closed?.code ?? 0
}

const connect = async (t: Test, url: string, bearer: string): Promise<Client> => {
  const socket = new WebSocket(url.replace(/^http/, 'ws'), ['deck.v1', `bearer.${bearer}`])
  t.teardown(() => socket.terminate())
  const frames: Json[] = []
  const asked = new Map<unknown, (frame: Json) => void>()
  // The type of the frame that was sent with each ID: its answer is checked against the schema for that type.
  const sent = new Map<unknown, string | undefined>()
  const client: Client = {
    socket,
    frames,
    closed: undefined,
    send(frame) {
      const { id, type } = frame
      const known = typeof type === 'string' && (!sent.has(id) || sent.get(id) === type)
      if (id !== undefined) sent.set(id, known ? type : undefined)
      socket.send(JSON.stringify(frame))
    },
    ask(frame) {
      const id = randomUUID()
      return new Promise((resolve, reject) => {
        asked.set(id, resolve)
        socket.once('close', () => reject(new Error('closed before the answer')))
        client.send({ id, ...frame })
      })
    },
    async frame(fits, what = 'a frame') {
      await until(() => frames.some(fits), what)
      return frames.find(fits) as Json
    },
    events: (topic) => frames.filter((frame) => frame['type'] === 'event' && frame['topic'] === topic) as never,
    close: () => socket.close(),
  }
  socket.setMaxListeners(0)
  socket.on('message', (data: Buffer) => {
    const frame = JSON.parse(data.toString('utf8')) as Json
    frames.push(frame)
    const id = frame['id']
    const fault = faultOfFrame(frame, sent.get(id))
    if (fault !== undefined) t.fail(`this frame is not as documented: ${fault}`, { frame })
    sent.delete(id)
    if (frame['type'] === 'ok' || frame['type'] === 'error') asked.get(id)?.(frame)
    asked.delete(id)
  })
  socket.on('close', (code, reason) => (client.closed = { code, reason: reason.toString() }))
  await new Promise<void>((resolve, reject) => socket.once('open', resolve).once('error', reject))
  return client
}

/** Creates a mission assigned to alice. Returns its id and number. */
export const makeMission = async (instance: Door, more: Json = {}): Promise<{ id: string; number: number }> => {
  const { json, status, text } = await instance.request('POST', '/api/missions', admin, {
    title: 'Telegram Notifier',
    client: 'Acme Corp',
    budget: 300,
    deadline: '2030-01-01T00:00:00Z',
    assigned_to: 'alice',
    ...more,
  })
  if (status !== 201) throw new Error(text)
  return json as { id: string; number: number }
}
