// Drafts: followers receive a reply while it is written. It is stored once, and only when it is complete. Two instances of one database.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { Receiver } from '../../src/live/hub/subscription.ts'
import { makeSlices } from '../../src/live/ephemeral/draft-fanout.ts'
import { makeMirror } from '../../src/live/ephemeral/draft-mirror.ts'
import { makeRegistry, type Stored } from '../../src/live/ephemeral/draft-registry.ts'
import {
  alice,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  textsOf,
  token,
  until,
  type Client,
  type Instance,
  type Json,
} from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)
const both = [one, two]

const makeChat = async () => {
  const { id } = await makeMission(one)
  return { topic: `missions/${id}/chat/rafael`, key: randomUUID() }
}
type Watcher = Client & { text(key: string): string; aborted(key: string): number }
/** Follows a chat and assembles its drafts from deltas as the protocol describes. */
const watch = async (on: Instance, topic: string): Promise<Watcher> => {
  const client = await on.connect(alice)
  t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
  const deltas = (key: string): Json[] =>
    client.frames.filter((frame) => frame['type'] === 'delta' && frame['key'] === key)
  return {
    ...client,
    text(key) {
      let text = ''
      for (const { offset, delta, aborted } of deltas(key)) {
        if (aborted) {
          text = ''
          continue
        }
        if (Number(offset) > text.length) throw new Error(`a gap: ${String(offset)} after ${text.length}`)
        text = text.slice(0, Number(offset)) + String(delta)
      }
      return text
    },
    aborted: (key) => deltas(key).filter(({ aborted }) => aborted).length,
  }
}
const sees = (watchers: Watcher[], key: string, text: string): Promise<void> =>
  until(() => watchers.every((watcher) => watcher.text(key) === text), 'the text so far')
const stored = async (topic: string, key: string): Promise<Json[]> => {
  const { json } = await one.request('GET', `/api/${topic}`, alice)
  return (json['messages'] as Json[]).filter((message) => message['key'] === key)
}

void t.test('drafts: every follower sees the text grow, on both instances; it is stored once', async (t) => {
  const { topic, key } = await makeChat()
  const early = await Promise.all(both.map((on) => watch(on, topic)))
  const writer = await one.connect(rafael)
  const words = ['Inline ', 'buttons 🎛 ', 'are ', '\n```js\nx\n```']
  let text = ''
  const watchers = [...early]
  for (const [i, delta] of words.entries()) {
    text += delta
    t.match(
      await writer.ask({
        type: 'stream',
        topic,
        key,
        delta,
        ...(i % 2 ? {} : { offset: text.length - delta.length }),
      }),
      {
        type: 'ok',
        offset: text.length,
      },
    )
    await sees(watchers, key, text)
    for (const on of both) watchers.push(await watch(on, topic))
    await sees(watchers, key, text)
  }
  t.strictSame(await stored(topic, key), [], 'the history does not contain the draft')
  const { message } = await writer.ask({ type: 'stream', topic, key, done: true })
  t.match(message, { message: text, key, sender: 'citizen', author: 'rafael', code_blocks: [{ language: 'js' }] })
  t.strictSame(await stored(topic, key), [message])
  for (const watcher of watchers) {
    await until(() => watcher.events(topic).length === 1, 'the message')
    t.strictSame(watcher.events(topic)[0]?.data, message)
    t.equal(watcher.text(key), text)
  }
  t.match(await writer.ask({ type: 'stream', topic, key, delta: 'again' }), { type: 'ok', message: message as Json })
  t.match(await (await two.connect(rafael)).ask({ type: 'stream', topic, key, done: true }), {
    message: message as Json,
  })
  t.equal((await stored(topic, key)).length, 1)
  t.equal((await database.query('select from deck.drafts where key = $1', [key])).length, 0)
})

void t.test('drafts: a writer that lost its socket continues through another instance', async (t) => {
  const { topic, key } = await makeChat()
  const watchers = await Promise.all(both.map((on) => watch(on, topic)))
  const first = await one.connect(rafael)
  await first.ask({ type: 'stream', topic, key, delta: 'half a ' })
  first.socket.terminate()
  await until(
    async () => (await database.query('select from deck.drafts where key = $1 and units = 7', [key])).length === 1,
    'the text to be saved',
  )
  const second = await two.connect(rafael)
  t.match(await second.ask({ type: 'stream', topic, key, offset: 3, delta: 'x' }), { code: 'conflict', offset: 7 })
  t.match(await second.ask({ type: 'stream', topic, key, offset: 7, delta: 'reply' }), { type: 'ok', offset: 12 })
  watchers.push(await watch(one, topic))
  await sees(watchers, key, 'half a reply')
  t.match(await second.ask({ type: 'stream', topic, key, done: true }), { message: { message: 'half a reply' } })
  t.equal((await stored(topic, key)).length, 1)
})

void t.test('drafts: the last socket that wrote owns the draft; the former writer gets conflict', async (t) => {
  const { topic, key } = await makeChat()
  for (const on of both) {
    const draft = `${key.slice(0, 8)}${both.indexOf(on)}`
    const watchers = await Promise.all(both.map((where) => watch(where, topic)))
    const former = await one.connect(rafael)
    await former.ask({ type: 'stream', topic, key: draft, delta: 'the former' })
    const next = await on.connect(rafael)
    t.match(await next.ask({ type: 'stream', topic, key: draft, offset: 0, delta: 'the next' }), {
      type: 'ok',
      offset: 8,
    })
    await sees(watchers, draft, 'the next')
    t.match(await former.ask({ type: 'stream', topic, key: draft, offset: 10, delta: '!' }), {
      code: 'conflict',
      offset: 8,
    })
    t.match(await former.ask({ type: 'stream', topic, key: draft, done: true }), { code: 'conflict' })
    t.match(await next.ask({ type: 'stream', topic, key: draft, done: true }), { message: { message: 'the next' } })
    t.equal((await stored(topic, draft)).length, 1)
  }
})

void t.test('drafts: the former writer’s next delta is conflict, on either instance and at any offset', async (t) => {
  const { topic } = await makeChat()
  // The other instance learns of the new writer by a notification. Once a follower there has the delta, that instance refuses the former one.
  const watcher = await watch(one, topic)
  for (const on of both)
    for (const more of [{}, { offset: 5 }, { offset: 6 }]) {
      const key = randomUUID()
      const former = await one.connect(rafael)
      const stream = (client: Client, frame: Json): Promise<Json> =>
        client.ask({ type: 'stream', topic, key, ...frame })
      await stream(former, { delta: 'begun' })
      await until(
        async () => (await database.query('select from deck.drafts where key = $1 and units = 5', [key])).length === 1,
        'the text to be saved',
      )
      const next = await on.connect(rafael)
      t.match(await stream(next, { offset: 5, delta: '!' }), { type: 'ok', offset: 6 })
      if (on !== one) await sees([watcher], key, 'begun!')
      t.match(await stream(former, { delta: ' late', ...more }), { code: 'conflict' })
      t.match(await stream(next, { delta: '!' }), { type: 'ok', offset: 7 }, 'the new writer still owns it')
      t.match(await stream(next, { done: true }), { message: { message: 'begun!!' } })
    }
})

void t.test('drafts: offset 0 starts over, and a wrong offset changes nothing', async (t) => {
  const { topic, key } = await makeChat()
  const watchers = await Promise.all(both.map((on) => watch(on, topic)))
  const writer = await two.connect(rafael)
  await writer.ask({ type: 'stream', topic, key, delta: 'a first try' })
  await sees(watchers, key, 'a first try')
  t.match(await writer.ask({ type: 'stream', topic, key, offset: 5, delta: 'x' }), { code: 'conflict', offset: 11 })
  t.match(await writer.ask({ type: 'stream', topic, key, offset: 0, delta: 'second' }), { type: 'ok', offset: 6 })
  await sees(watchers, key, 'second')
  t.match(await writer.ask({ type: 'stream', topic, key: 'unknown', offset: 4, delta: 'x' }), {
    code: 'conflict',
    offset: 0,
  })
  for (const bad of [{}, { delta: '\ud83d' }, { done: true, abort: true }, { delta: 1 }, { delta: 'x'.repeat(20_001) }])
    t.match(await writer.ask({ type: 'stream', topic, key, ...bad }), { code: 'bad_request' })
  t.match(await writer.ask({ type: 'stream', topic, key, done: true, message: 'Third' }), {
    message: { message: 'Third' },
  })
})

void t.test('drafts: a refused frame leaves the draft unchanged', async (t) => {
  const { topic, key } = await makeChat()
  const watcher = await watch(one, topic)
  const writer = await one.connect(rafael)
  const other = await two.connect(rafael)
  await writer.ask({ type: 'stream', topic, key, delta: 'kept' })
  await sees([watcher], key, 'kept')
  const tooLong = 'x'.repeat(20_001)
  for (const more of [{ delta: tooLong }, { delta: '', done: true }, { delta: 'x'.repeat(10_001), done: true }])
    t.match(await other.ask({ type: 'stream', topic, key, offset: 0, ...more }), { code: 'bad_request' })
  t.match(await writer.ask({ type: 'stream', topic, key, delta: ', too', offset: 4 }), { type: 'ok', offset: 9 })
  await sees([watcher], key, 'kept, too')
})

void t.test('drafts: a draft ends when any socket of the citizen sends the whole message with its key', async (t) => {
  const { topic, key } = await makeChat()
  const early = await watch(two, topic)
  const writer = await one.connect(rafael)
  await writer.ask({ type: 'stream', topic, key, delta: 'half' })
  await sees([early], key, 'half')
  const again = await two.connect(rafael)
  const { message } = await again.ask({ type: 'stream', topic, key, done: true, message: 'The whole.' })
  t.match(message, { message: 'The whole.', key })
  t.equal((await database.query('select from deck.drafts where key = $1', [key])).length, 0)
  let n = 0
  /** Whether a new subscriber receives no draft with this key. The marker draft comes last, so all earlier drafts have arrived. */
  const isOver = async (on: Instance): Promise<boolean> => {
    const late = await watch(on, topic)
    const marker = `marker${n++}`
    await writer.ask({ type: 'stream', topic, key: marker, delta: 'x' })
    await sees([late], marker, 'x')
    return late.text(key) === ''
  }
  for (const on of both) await until(() => isOver(on), 'the end of the draft')
  t.match(await writer.ask({ type: 'stream', topic, key, delta: '!' }), { type: 'ok', message: message as Json })
  t.equal((await stored(topic, key)).length, 1)
})

void t.test('drafts: a follower with a full buffer gets one longer delta later, and no text twice', (t) => {
  const make = (): Receiver & { room: boolean; got: Json[] } => ({
    form: 'frames',
    room: true,
    got: [],
    actor: { sub: 'alice', role: 'user', missions: '*', expires: Infinity } as unknown as Receiver['actor'],
    send(bytes) {
      for (const text of textsOf(bytes)) this.got.push(JSON.parse(text) as Json)
      return true
    },
    fits() {
      return this.room
    },
    drained: () => Promise.resolve(),
    ended: () => {},
  })
  const [slow, quick] = [make(), make()]
  let here: Receiver[] = [slow, quick]
  const slices = makeSlices({ receivers: () => here })
  const topic = 'missions/00000000-0000-4000-8000-000000000000/chat/rafael'
  const draft = { topic, key: 'k', text: '', behind: new Map<Receiver, number>() }
  const grow = (delta: string): void => {
    draft.text += delta
    slices.send(draft, draft.text.length - delta.length)
  }
  const of = ({ got }: { got: Json[] }): unknown[] => got.map(({ offset, delta }) => [offset, delta])
  grow('a')
  slow.room = false
  grow('b')
  grow('c')
  slices.catchUp(draft)
  t.strictSame(of(slow), [[0, 'a']])
  slow.room = true
  slices.catchUp(draft)
  slices.catchUp(draft)
  t.strictSame(of(slow), [
    [0, 'a'],
    [1, 'bc'],
  ])
  t.strictSame(of(quick), [
    [0, 'a'],
    [1, 'b'],
    [2, 'c'],
  ])
  slow.room = false
  grow('d')
  here = [quick]
  slices.catchUp(draft)
  t.equal(draft.behind.size, 0, 'a closed follower is removed from the list of those behind')
  t.end()
})

void t.test(
  'drafts: an instance’s copy is complete at the end when deltas arrive while it reads the saved text',
  async (t) => {
    const topic = 'missions/00000000-0000-4000-8000-000000000000/chat/rafael'
    const bounds = { draftBytes: 1e6, draftBytesPerSubject: 1e6 }
    const registry = makeRegistry({ onWritten: () => {}, onGone: () => {}, bounds })
    const stored: Stored = { topic, key: 'k', generation: 1, text: '' }
    let text = ''
    let onRead = (): void => {}
    const mirror = makeMirror({
      registry,
      slices: { followed: () => true },
      toFollowers: () => {},
      load: () => {
        const found = { ...stored }
        onRead()
        return Promise.resolve([found])
      },
      onError: (error) => t.fail(String(error)),
      repairEvery: 1,
    })
    /** Announces more text than a notification holds. */
    const grow = (): void => {
      const offset = text.length
      text += 'x'
      mirror.take({ type: 'delta', topic, key: 'k', generation: 1, offset, upto: text.length })
    }
    const whole = (): Promise<void> => until(() => registry.find(stored)?.text === text, 'the whole text')
    // A delta arrives after the read that completes the text has started and before it ends.
    onRead = () => {
      if (text.length === 2) grow()
      stored.text = text
    }
    grow()
    grow()
    await whole()
    // The saved text is one delta behind for 100 reads, more than one repair makes.
    let reads = 0
    onRead = () => {
      stored.text = text
      if (++reads < 100) grow()
    }
    grow()
    await whole()
    t.equal(registry.find(stored)?.text, text)
    t.ok(reads > 100)
    mirror.close()
  },
)

void t.test('drafts: cancel reaches the writer on any instance; abort drops the draft for all', async (t) => {
  for (const on of both) {
    const { topic, key } = await makeChat()
    const watchers = await Promise.all(both.map((where) => watch(where, topic)))
    const writer = await one.connect(rafael)
    await writer.ask({ type: 'stream', topic, key, delta: 'too long' })
    await sees(watchers, key, 'too long')
    const user = await on.connect(alice)
    t.match(await user.ask({ type: 'cancel', topic, key }), { type: 'ok' })
    t.match(await writer.frame(({ type }) => type === 'cancel', 'the cancel'), { topic, key, by: 'alice' })
    t.match(await writer.ask({ type: 'stream', topic, key, abort: true }), { type: 'ok' })
    await until(() => watchers.every((watcher) => watcher.aborted(key) === 1), 'the end')
    t.strictSame(await stored(topic, key), [])
    t.match(await user.ask({ type: 'cancel', topic, key }), { code: 'not_found' })
  }
})

void t.test('drafts: a silent draft is aborted for followers, and its writer may continue', async (t) => {
  const short = await startInstance(t, database.url, { limits: { draftSilence: 400 } })
  const { topic, key } = await makeChat()
  const watchers = await Promise.all([short, two].map((on) => watch(on, topic)))
  const writer = await short.connect(rafael)
  await writer.ask({ type: 'stream', topic, key, delta: 'hm' })
  await until(() => watchers.every((watcher) => watcher.aborted(key) === 1), 'the draft to be aborted')
  t.match(await writer.ask({ type: 'stream', topic, key, offset: 2, delta: ', yes' }), { type: 'ok', offset: 7 })
  await sees(watchers, key, 'hm, yes')
  t.match(await writer.ask({ type: 'stream', topic, key, done: true }), { message: { message: 'hm, yes' } })
  await short.close()
})

void t.test('drafts: accept mission numbers; a socket’s open drafts are limited like its topics', async (t) => {
  const few = await startInstance(t, database.url, { limits: { topics: 3 } })
  const { id, number } = await makeMission(one)
  const watcher = await watch(one, `missions/${id}/chat/rafael`)
  const writer = await few.connect(rafael)
  const topic = `missions/${number}/chat/rafael`
  for (const key of ['a', 'b', 'c'])
    for (const delta of ['one ', 'two'])
      t.match(await writer.ask({ type: 'stream', topic, key, delta }), { type: 'ok' })
  t.match(await writer.ask({ type: 'stream', topic, key: 'd', delta: 'x' }), { code: 'bad_request' })
  t.equal((await database.query(`select from deck.drafts where mission_id = $1 and key = 'd'`, [id])).length, 0)
  for (const key of ['a', 'b', 'c']) await sees([watcher], key, 'one two')
  t.match(await writer.ask({ type: 'stream', topic, key: 'a', done: true }), { message: { message: 'one two' } })
  t.match(await writer.ask({ type: 'stream', topic, key: 'd', delta: 'x' }), { type: 'ok' })
  await few.close()
})

void t.test('drafts: many at once, in small and large deltas, end as they were written', async (t) => {
  const { topic } = await makeChat()
  const watchers = await Promise.all([...both, ...both].map((on) => watch(on, topic)))
  await Promise.all(
    Array.from({ length: 20 }, async (_, n) => {
      const writer = await (n % 2 ? one : two).connect(rafael)
      const key = `many${n}`
      let text = ''
      for (let i = 0; i < 25; i++) {
        const delta = i % 10 === 9 ? 'ä🎛'.repeat(1000) : `${n}.${i} `
        if (text.length + delta.length > 9_000) break
        text += delta
        t.match(await writer.ask({ type: 'stream', topic, key, delta }), { type: 'ok' }, 'a slice')
      }
      await sees(watchers, key, text)
      const { message } = await writer.ask({ type: 'stream', topic, key, done: true })
      t.match(message, { message: text })
    }),
  )
})

void t.test('drafts: bounded in bytes per user ID, per instance and for a new subscriber', async (t) => {
  const limits = { draftBytes: 60_000, draftBytesPerSubject: 36_000 }
  const full = await startInstance(t, database.url, { limits })
  const { id } = await makeMission(one)
  const names = ['rafael', 'sofia', 'emma']
  const [first, again, second, third] = await Promise.all(
    ['rafael', ...names].map(async (sub) => full.connect(await token({ sub, role: 'citizen' }))),
  )
  const watchers = await Promise.all(names.map((name) => watch(two, `missions/${id}/chat/${name}`)))
  const write = (client: Client | undefined, n: number, key: string, units: number, more: Json = {}) =>
    client?.ask({ type: 'stream', topic: `missions/${id}/chat/${names[n]}`, key, delta: 'x'.repeat(units), ...more })
  t.match(await write(first, 0, 'a', 9000), { type: 'ok' })
  t.match(await write(again, 0, 'b', 9000), { type: 'ok' })
  t.match(
    await write(first, 0, 'a', 1),
    { code: 'rate_limited', retry_after: 1 },
    'all sockets of the user ID count together',
  )
  t.match(await write(again, 0, 'c', 1), { code: 'rate_limited' })
  t.match(await write(second, 1, 'a', 9000), { type: 'ok' }, 'another user ID has its own bound')
  t.match(await write(third, 2, 'a', 4000), { code: 'unavailable' }, 'not more than the instance holds')
  t.match(
    await write(first, 0, 'a', 10, { done: true }),
    { message: { message: /^x{9010}$/ } },
    'a draft can always be finished',
  )
  t.match(await write(third, 2, 'a', 4000), { type: 'ok' }, 'the finished draft made room')
  const impatient = await startInstance(t, database.url, { limits: { ...limits, draftSilence: 400 } })
  const silent = await impatient.connect(rafael)
  t.match(await write(silent, 0, 'silent', 9000), { type: 'ok' })
  await until(() => watchers[0]?.aborted('silent') === 1, 'the silent draft to be aborted')
  t.match(await write(silent, 0, 'silent', 1), { offset: 9001 }, 'continues at its offset')
  await impatient.close()
  await full.close()

  const { topic } = await makeChat()
  await database.query(
    `insert into deck.drafts (mission_id, citizen, key, author, text, units, touched)
     select $1, 'rafael', 'old ' || n, 'rafael', repeat('x', 20000), 20000, now() - n * interval '1 ms' from generate_series(1, 80) n`,
    [topic.split('/')[1]],
  )
  const watcher = await watch(one, topic)
  await until(() => watcher.frames.filter(({ type }) => type === 'delta').length >= 53, 'the latest')
  t.strictSame(
    watcher.frames.filter(({ type }) => type === 'delta').map(({ key }) => key),
    Array.from({ length: 53 }, (_, i) => `old ${i + 1}`),
    'the latest MiB',
  )
})
