// Checks docs/protocol.md: it has an example of every frame, and each example fits its schema. The test plays the conversations:
// the server must answer as the document shows. Values that vary, like times, are ignored.
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { readConfig } from '../../src/config/index.ts'
import { clientMessages, serverMessages } from '../../src/protocol/catalog.ts'
import { seedFile } from '../../src/database/postgres/migrate.ts'
import { events } from '../../src/protocol/events.ts'
import { admin, rafael, secret, startDeck, token, until, type Client, type Json } from '../support/server.ts'
import { faultOf, faultOfFrame, nameOfFrame } from '../support/shapes.ts'

// The document states the default limits.
const { framesPerSecond, framesBurst, subjectFramesPerSecond, subjectFramesBurst, requestsPerMinute } = readConfig({
  DATABASE_URL: 'postgres://localhost/deck',
  JWT_SECRET: secret,
}).limits
const { instance, database } = await startDeck(t, {
  limits: { framesPerSecond, framesBurst, subjectFramesPerSecond, subjectFramesBurst, requestsPerMinute },
})
await database.query(await readFile(seedFile, 'utf8'))

// Awaited before the first test: if all tests are done while the module still awaits, tap ends the file.
const user = await token({ sub: 'person1@scopelock.ai', role: 'user' })
const document = await readFile(new URL('../../docs/protocol.md', import.meta.url), 'utf8')

/** A line of a conversation: the socket's name, the direction (`>` to the server, `<` from it), and a frame or a request. */
type Line = { who: string; to: boolean; text: string; frame: Json }
const lines: Line[] = [...document.matchAll(/^(\w*) *([<>]) (.*)$/gm)].map(([, who = '', way, text = '']) => ({
  who,
  to: way === '>',
  text,
  frame: text.startsWith('{') ? (JSON.parse(text) as Json) : {},
}))
/** The table of client frames: the frame and its expected answer, `ok` or an error code. */
const table = [...document.matchAll(/^\| `(\{"type".*?\})` \| `(\w+)`/gm)].map(([, text = '', answer]) => ({
  frame: JSON.parse(text) as Json,
  answer,
}))

// The type of each request, by socket and `id`.
const asked = new Map(
  lines.filter(({ to }) => to).map(({ who, frame }) => [`${who} ${String(frame['id'])}`, String(frame['type'])]),
)
const fromServer = lines
  .filter(({ to }) => !to)
  .map(({ who, frame }) => ({ frame, asked: asked.get(`${who} ${String(frame['id'])}`) }))
const fromClients = [...lines.filter(({ to, text }) => to && text.startsWith('{')), ...table].map(({ frame }) => frame)

void t.test('protocol.md: every frame has an example', (t) => {
  const shown = new Set([
    ...fromClients.map(({ type }) => `client.${String(type)}`),
    ...fromServer.map(({ frame, asked }) => nameOfFrame(frame, asked)),
  ])
  for (const { name, type } of [...clientMessages, ...serverMessages]) if (type !== 'event') t.ok(shown.has(name), name)
  // If several events share a schema, one example is enough.
  for (const form of new Set(Object.values(events).map(({ data }) => data))) {
    const names = Object.entries(events).filter(([, { data }]) => data === form)
    t.ok(
      names.some(([name]) => shown.has(`event.${name}`)),
      names.map(([name]) => name).join(),
    )
  }
  t.end()
})

void t.test('protocol.md: every example fits its schema', (t) => {
  for (const frame of fromClients)
    t.equal(faultOf(`client.${String(frame['type'])}`, frame), undefined, JSON.stringify(frame))
  for (const { frame, asked } of fromServer) t.equal(faultOfFrame(frame, asked), undefined, JSON.stringify(frame))
  for (const { name, examples } of [...clientMessages, ...serverMessages]) {
    t.ok(examples.length > 0, `${name} has an example in the catalogue`)
    for (const example of examples) t.equal(faultOf(name, example as Json), undefined, JSON.stringify(example))
  }
  t.end()
})

const varies = ['session', 'lease_until', 'instance', 'expires_at', 'epoch', 'created_at', 'detail', 'ms']
/** A frame without the values that vary between runs. */
const lasting = (value: unknown, name = ''): unknown => {
  if (varies.includes(name)) return '…'
  // IDs of new rows vary. Those of the seed rows begin with the mission's number.
  if (typeof value === 'string') return /^(?!47)[0-9a-f]{8}-[0-9a-f-]{27}$/.test(value) ? '…' : value
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map((part) => lasting(part))
  return Object.fromEntries(
    Object.entries(value)
      .sort()
      .map(([name, part]) => [name, lasting(part, name)]),
  )
}
const sameAs = (frame: Json) => {
  const want = JSON.stringify(lasting(frame))
  return (given: Json): boolean => JSON.stringify(lasting(given)) === want
}

const tokens: Record<string, string> = { user, phone: user, rafael, admin }
// The task IDs of the document, mapped to those of this run.
const tasks = new Map<unknown, unknown>()
const sendable = (frame: Json): Json => ({
  ...frame,
  ...(frame['type'] === 'auth' ? { token: user } : {}),
  ...(frame['task'] === undefined ? {} : { task: tasks.get(frame['task']) }),
})

await t.test('protocol.md: the server answers each conversation as the document shows', async (t) => {
  const clients = new Map<string, Client>()
  const client = async (who: string): Promise<Client> => {
    const there = clients.get(who) ?? (await instance.connect(tokens[who] ?? ''))
    clients.set(who, there)
    return there
  }
  const expected = new Set<string>()
  for (const { who, to, text, frame } of lines.filter(({ who }) => who !== '')) {
    if (text.startsWith('{')) {
      const { frames, send } = await client(who)
      if (to) {
        const { id } = frame
        send(sendable(frame))
        await until(() => frames.some((answer) => answer['id'] === id), `the answer to ${text}`)
        continue
      }
      expected.add(`${who} ${String(frame['id'])}`)
      const near = (given: Json): boolean => given['type'] === frame['type'] && given['id'] === frame['id']
      await until(() => frames.some(sameAs(frame)), text).catch(() => {})
      t.ok(frames.some(sameAs(frame)), text, { received: frames.filter(near) })
      if (frame['type'] === 'task') tasks.set(frame['task'], frames.find(sameAs(frame))?.['task'])
    } else {
      const [method = '', path = '', body] = text.split(' ')
      const { status } = await instance.request(method, path, tokens[who], body && JSON.parse(body))
      t.ok(status < 300, text)
    }
  }
  for (const [who, { frames }] of clients)
    for (const { type, id, code } of frames)
      if (type === 'error') t.ok(expected.has(`${who} ${String(id)}`), `${who}: ${String(code)} is in the document`)
})

await t.test('protocol.md: each client frame gets the answer in the table', async (t) => {
  const client = await instance.connect(user)
  const citizen = await instance.connect(rafael)
  t.ok(table.length >= clientMessages.length)
  for (const { frame, answer } of table) {
    const inbox = ['work', 'done', 'release'].includes(String(frame['type']))
    if (frame['task'] !== undefined) {
      t.match(await client.ask({ type: 'send', topic: 'missions/47/chat/rafael', message: 'A question' }), {
        type: 'ok',
      })
      const given = await citizen.frame(({ type, task }) => type === 'task' && ![...tasks.values()].includes(task))
      tasks.set(frame['task'], given['task'])
    }
    await answered(inbox ? citizen : client, frame, answer)
  }
  async function answered(client: Client, frame: Json, answer: string | undefined): Promise<void> {
    client.send(sendable(frame))
    const reply = await client.frame(({ id }) => id === frame['id'], JSON.stringify(frame))
    t.equal(reply['type'] === 'error' ? reply['code'] : reply['type'], answer, JSON.stringify(frame))
  }
})
