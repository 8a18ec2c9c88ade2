// A server is killed in the middle of a draft. Its writer continues on a second instance at the stored offset.
// Every follower ends with the text of the one stored message.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { alice, door, makeMission, rafael, startDeck, until, type Client, type Json } from '../support/server.ts'
import { spawnServer } from '../support/processes.ts'

const { instance: two, database } = await startDeck(t)

/** A draft's text as a follower received it. */
const textOf = (client: Client, key: string): string => {
  let text = ''
  for (const { type, key: of, offset, delta } of client.frames as { [name: string]: unknown; delta?: string }[]) {
    if (type !== 'delta' || of !== key || delta === undefined) continue
    if (Number(offset) > text.length) throw new Error(`a gap: offset ${String(offset)} after ${text.length}`)
    text = text.slice(0, Number(offset)) + delta
  }
  return text
}

void t.test('drafts: kill -9 of the writer’s server leaves one message, and one text for every follower', async (t) => {
  const { id } = await makeMission(two)
  const topic = `missions/${id}/chat/rafael`
  const follow = async (): Promise<Client> => {
    const client = await two.connect(alice)
    t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
    return client
  }
  for (let round = 0; round < 3; round++) {
    const key = randomUUID()
    const one = await spawnServer(t, { DATABASE_URL: database.url })
    const watchers = [await follow()]
    const whole = Array.from({ length: 60 }, (_, i) => `word ${round}.${i} 🎛 `)
    const writer = await door(t, one.url).connect(rafael)
    let written = 0
    for (const delta of whole.slice(0, 20 + 10 * round)) {
      written = Number((await writer.ask({ type: 'stream', topic, key, delta }))['offset'])
      await new Promise((resolve) => setImmediate(resolve))
    }
    await until(() => textOf(watchers[0] as Client, key).length > 0, 'the followers to receive the beginning')
    one.process.kill('SIGKILL')
    await one.exited()
    watchers.push(await follow())
    const text = whole.join('')
    const again = await two.connect(rafael)
    // Text that followers received but that was not stored is sent again.
    const refused: Json = await again.ask({ type: 'stream', topic, key, offset: text.length, delta: '!' })
    t.match(refused, { code: 'conflict' })
    let offset = Number(refused['offset'])
    t.ok(offset <= written, `${offset} of ${written} were stored`)
    while (offset < text.length) {
      // A delta ends at a character boundary, not inside a surrogate pair.
      const end = /^.{1,50}/su.exec(text.slice(offset))?.[0].length ?? 0
      const answer = await again.ask({ type: 'stream', topic, key, offset, delta: text.slice(offset, offset + end) })
      offset = Number(answer['offset'])
    }
    watchers.push(await follow())
    t.match(await again.ask({ type: 'stream', topic, key, done: true }), { type: 'ok', message: { message: text } })
    await until(() => watchers.every((watcher) => textOf(watcher, key) === text), 'the whole text')
    const { json } = await two.request('GET', `/api/${topic}`, alice)
    t.equal((json['messages'] as Json[]).filter((message) => message['key'] === key).length, 1)
  }
})
