// The client against a fake server: refusals, gaps, silence, goodbyes, and a citizen's inbox.
import t, { type Test } from 'tap'
import { connect, type Deck, type Reply } from '../../src/client/index.ts'
import { backoff, coalesce, mostWhenAnswered } from '../../src/client/async.ts'
import { makeLink } from '../../src/client/link.ts'
import type { Follower } from '../../src/client/follower.ts'
import { makeTopics } from '../../src/client/topics.ts'
import { startFake, type Visit } from '../support/fake-server.ts'
import { rafael, until, type Json } from '../support/server.ts'

const topic = 'missions/7b1c6a52-0000-4000-8000-000000000000/chat/rafael'
const message = (seq: number, text: string, key = `k${seq}`): Json => ({ id: `m${seq}`, message: text, seq, key })
const event = (seq: number): Json => ({
  type: 'event',
  topic,
  seq,
  event: 'message.created',
  data: message(seq, `${seq}`),
})
const of = (visit: Visit, type: string): Json[] => visit.frames.filter((frame) => frame['type'] === type)
const open = (t: Test, url: string, faults: unknown[] = []): Deck => {
  const deck = connect({ url, token: rafael })
  deck.on('error', (error) => faults.push(error))
  t.teardown(deck.close)
  return deck
}

void t.test('send queue: a message refused for now is sent again with its key, before later messages', async (t) => {
  let seq = 0
  const refusals = ['rate_limited', 'unavailable']
  const fake = await startFake(t, {
    answer(frame) {
      if (frame['type'] !== 'send') return {}
      const code = frame['message'] === 'b' ? refusals.shift() : undefined
      if (code) return { code, detail: 'not now', retry_after: 0.05 }
      return { seq: ++seq, message: message(seq, String(frame['message'])) }
    },
  })
  const chat = open(t, fake.url).chat(47, 'rafael')
  const sent = await Promise.all(['a', 'b', 'c', 'd'].map((text) => chat.send(text)))
  t.same(
    sent.map((m) => m.message),
    ['a', 'b', 'c', 'd'],
  )
  const frames = of(await fake.visit(0), 'send')
  t.same(
    frames.map((frame) => frame['message']),
    ['a', 'b', 'b', 'b', 'c', 'd'],
  )
  t.equal(new Set(frames.map((frame) => frame['key'])).size, 4)
})

void t.test('client: waits as long as goodbye asks, and reports a close with 4400 as bad_request', async (t) => {
  const fake = await startFake(t)
  const faults: unknown[] = []
  const deck = open(t, fake.url, faults)
  const states: string[] = []
  deck.on('state', (state, error) => states.push(error ? `${state} ${error.code}` : state))
  const first = await fake.visit(0)
  await until(() => deck.state === 'open', 'the welcome')
  first.say({ type: 'goodbye', reason: 'restart', retry_after: 0.4 })
  const since = performance.now()
  first.close(1012)
  const second = await fake.visit(1)
  t.ok(performance.now() - since >= 400, 'not sooner')
  await until(() => deck.state === 'open', 'the second welcome')
  second.close(4400)
  await until(() => deck.state === 'waiting', 'the close')
  t.match(faults, [{ code: 'bad_request' }])
  t.same(states, ['open', 'waiting unavailable', 'connecting', 'open', 'waiting unavailable'])
  deck.close()
  t.equal(deck.state, 'closed')
})

/** A socket in this process: all frames of a `say` arrive in one turn, like frames of one packet. */
const makeSocket = (answer: (frame: Json) => Json[]) =>
  class extends EventTarget {
    constructor() {
      super()
      const expires_at = new Date(Date.now() + 3_600_000).toISOString()
      setTimeout(() => this.say([{ type: 'welcome', expires_at, limits: {} }]))
    }
    say(frames: Json[]): void {
      for (const frame of frames) this.dispatchEvent(new MessageEvent('message', { data: JSON.stringify(frame) }))
    }
    send(text: string): void {
      const frame = JSON.parse(text) as Json
      setTimeout(() => this.say(answer(frame).map((members) => ({ type: 'ok', id: frame['id'], ...members }))))
    }
    close(): void {}
  }

void t.test('subscription: events in one packet with its answer are not missed', async (t) => {
  let subscribed = 0
  const Socket = makeSocket(({ after = 0 }) => {
    subscribed++
    return [
      { topic, seq: 40, epoch: 'e' },
      ...Array.from({ length: 40 - Number(after) }, (_, n) => event(Number(after) + n + 1)),
    ]
  })
  const deck = connect({ url: 'http://deck.invalid', token: rafael, WebSocket: Socket })
  t.teardown(deck.close)
  const seqs: number[] = []
  // With a small buffer the feed leaves and joins again. Its first events arrive with the answer each time.
  for await (const event of deck.chat(47, 'rafael').follow({ after: 0, buffer: 7 })) {
    seqs.push(event.seq)
    if (event.seq === 40) break
  }
  t.same(
    seqs,
    Array.from({ length: 40 }, (_, n) => n + 1),
  )
  t.ok(subscribed > 4)
})

void t.test('client: reconnects in a runtime that reports no close of a socket that never opened', async (t) => {
  let made = 0
  class Silent extends EventTarget {
    constructor() {
      super()
      made++
      queueMicrotask(() => this.dispatchEvent(new Event('error')))
    }
    send(): void {}
    close(): void {}
  }
  const deck = connect({ url: 'http://deck.invalid', token: rafael, WebSocket: Silent })
  t.teardown(deck.close)
  await until(() => made > 2, 'further tries')
  t.not(deck.state, 'open')
})

const listen = (t: Test, fake: { url: string }, patience: number, silence?: number) => {
  const received: number[] = []
  const link = makeLink({
    url: fake.url,
    token: rafael,
    onFault: (error) => t.fail(error.message),
    onFrame: (frame, size) => topics.receive(frame, size),
    ...(silence ? { silence } : {}),
  })
  t.teardown(() => link.end())
  const topics = makeTopics(link, patience)
  const follower: Follower = {
    last: 0,
    epoch: undefined,
    replay: true,
    presence: false,
    give: (event) => received.push((event as { seq: number }).seq),
    joined: () => {},
    end: () => {},
  }
  link.start()
  topics.join('missions/47/chat/rafael', follower)
  return { received, link, topics }
}

void t.test('client: subscribes again when a seq is missing; a seq that stays missing was removed', async (t) => {
  let head = 2
  const fake = await startFake(t, {
    answer: (frame) => (frame['type'] === 'subscribe' ? { topic, seq: head, epoch: 'e' } : {}),
  })
  const { received } = listen(t, fake, 200)
  const visit = await fake.visit(0)
  await visit.frame('subscribe')
  // 2 was removed: gaps below the latest seq are normal.
  for (const seq of [1, 3, 3, 1]) visit.say(event(seq))
  // 3 follows the latest seq of the subscription; 5 is behind a gap.
  head = 6
  visit.say(event(5))
  t.match(await visit.frame('subscribe', 1), { topic, after: 3, epoch: 'e' })
  for (const seq of [4, 6]) visit.say(event(seq))
  await until(() => received.length === 4, 'all existing events')
  t.same(received, [1, 3, 4, 6])
  // `heads` reports seq 7, but no event with it arrives.
  head = 8
  visit.say({ type: 'heads', topics: { [topic]: 7, other: 3 } })
  t.match(await visit.frame('subscribe', 2), { after: 6 })
  visit.say({ type: 'heads', topics: { [topic]: 7 } })
  visit.say(event(8))
  await until(() => received.length === 5, 'the event after it')
  t.equal(received.at(-1), 8)
})

void t.test('subscription: events behind a gap cause one further subscribe until it is answered', async (t) => {
  let answers = 1
  const fake = await startFake(t, {
    answer: (frame) => (frame['type'] !== 'subscribe' ? {} : answers-- > 0 ? { topic, seq: 0, epoch: 'e' } : undefined),
  })
  const { received, link } = listen(t, fake, 60_000)
  const visit = await fake.visit(0)
  await visit.frame('subscribe')
  visit.say(event(1))
  visit.say(event(3))
  const { id } = await visit.frame('subscribe', 1)
  for (const seq of [4, 5]) visit.say(event(seq))
  visit.say({ type: 'ok', id, topic, seq: 5, epoch: 'e' })
  for (const seq of [2, 3, 4, 5]) visit.say(event(seq))
  await until(() => received.length === 5, 'the missing events')
  t.same(received, [1, 2, 3, 4, 5])
  // The answer shows that every earlier frame was received.
  await link.ask({ type: 'ping' })
  t.equal(of(visit, 'subscribe').length, 2)
})

void t.test('coalesce: calls of one turn share a run; a call during a run causes a further run', async (t) => {
  const runs: ((again: boolean) => void)[] = []
  const soon = coalesce(() => new Promise((resolve) => runs.push(resolve)))
  soon()
  soon()
  t.equal(runs.length, 0, 'not in this turn')
  await until(() => runs.length === 1, 'the first run')
  soon()
  soon()
  await new Promise(setImmediate)
  t.equal(runs.length, 1, 'never two at a time')
  runs[0]?.(false)
  await until(() => runs.length === 2, 'the run for the calls during the first')
  runs[1]?.(true)
  await until(() => runs.length === 3, 'the repeated run')
  runs[2]?.(false)
  await new Promise(setImmediate)
  t.equal(runs.length, 3)
  soon()
  await until(() => runs.length === 4, 'a run after the end of the others')
})

void t.test('client: reports how many events it is behind, until all arrived or were removed', async (t) => {
  const fake = await startFake(t, {
    answer: (frame) => (frame['type'] === 'subscribe' ? { topic, seq: 4, epoch: 'e' } : {}),
  })
  const { topics } = listen(t, fake, 200)
  const reports: number[] = []
  topics.onBehind((events) => reports.push(events))
  const visit = await fake.visit(0)
  await visit.frame('subscribe')
  for (const seq of [1, 3]) visit.say(event(seq))
  await until(() => reports.length === 3, 'three reports')
  t.same(reports, [4, 3, 1])
  // 4 was removed, so the client stops waiting for it.
  await until(() => reports.length === 4, 'the end of waiting')
  t.equal(reports.at(-1), 0)
})

void t.test('client: replaces a connection that has become silent', async (t) => {
  const fake = await startFake(t, {
    answer: (frame) => (frame['type'] === 'ping' ? undefined : { topic, seq: 0, epoch: 'e' }),
  })
  const { link } = listen(t, fake, 1000, 300)
  const first = await fake.visit(0)
  await first.frame('ping')
  const second = await fake.visit(1)
  t.match(await second.frame('subscribe'), { after: 0, epoch: 'e' })
  link.end()
})

void t.test('patience: a request without an answer ends the connection unless other frames arrive', async (t) => {
  const fake = await startFake(t, {
    answer: (frame) => (frame['type'] === 'ping' ? undefined : { seq: 0, epoch: 'e' }),
  })
  let ended = 0
  const link = makeLink({
    url: fake.url,
    token: rafael,
    patience: 200,
    onFault: (error) => t.fail(error.message),
    onFrame: () => {},
  })
  t.teardown(() => link.end())
  link.onState((state) => void (state === 'waiting' && ended++))
  link.start()
  const first = await fake.visit(0)
  await until(() => link.state === 'open', 'the welcome')
  // The request is answered, so the client sends no ping.
  await link.ask({ type: 'subscribe' })
  t.equal(first.frames.filter(({ type }) => type === 'ping').length, 0)
  await t.rejects(link.ask({ type: 'ping' }), { code: 'unavailable' })
  await fake.visit(1)
  await until(() => link.state === 'open', 'a second connection')
  t.equal(ended, 1)
})

void t.test('draft: ends when its message is saved; is aborted when it ended during a disconnect', async (t) => {
  const fake = await startFake(t, { answer: () => ({ topic, seq: 0, epoch: 'e' }) })
  const seen: object[] = []
  const link = makeLink({
    url: fake.url,
    token: rafael,
    onFault: (error) => t.fail(error.message),
    onFrame: (frame, size) => topics.receive(frame, size),
  })
  t.teardown(() => link.end())
  const topics = makeTopics(link, 200)
  const follower = {
    last: undefined,
    epoch: undefined,
    replay: false,
    presence: false,
    joined: () => {},
    end: () => {},
  }
  link.start()
  topics.join(topic, { ...follower, give: (signal, _size, stored) => void (stored || seen.push(signal)) })
  const visit = await fake.visit(0)
  await visit.frame('subscribe')
  const delta = (key: string, offset: number, delta: string): Json => ({
    ...{ type: 'delta', topic, key, citizen: 'rafael', offset, delta },
  })
  visit.say(delta('a', 0, 'one '))
  visit.say(delta('a', 4, 'two'))
  visit.say(delta('a', 9, 'a gap'))
  visit.say(delta('a', 4, 'three'))
  visit.say(delta('b', 0, 'x'))
  visit.say({ ...event(1), data: message(1, 'x', 'b') })
  visit.say(delta('b', 1, 'late'))
  await until(() => seen.length >= 4, 'the drafts')
  visit.close(1012)
  await (await fake.visit(1)).frame('subscribe')
  await until(() => seen.length >= 5, 'the end of the draft')
  t.match(seen, [
    { event: 'draft', key: 'a', text: 'one ' },
    { event: 'draft', key: 'a', text: 'one two', offset: 4, delta: 'two' },
    { event: 'draft', key: 'a', text: 'one three' },
    { event: 'draft', key: 'b', text: 'x' },
    { event: 'aborted', key: 'a', citizen: 'rafael' },
  ])
  t.equal(seen.length, 5)
})

/** A fake server with an inbox: sends tasks, stores replies, and refuses the frames in `refuse`. */
const startInbox = async (t: Test) => {
  let stored = 0
  const texts = new Map<string, string>()
  const refuse = new Map<string, Json>()
  const fake = await startFake(t, {
    answer(frame) {
      const { type, key, offset, delta = '', done, abort, message: given } = frame as Record<string, string | undefined>
      const refused = refuse.get(`${type} ${key ?? String(frame['task'])}${done ? ' done' : ''}`)
      if (refused) return refused
      if (type !== 'stream' || key === undefined) return {}
      const text = (offset === undefined ? '' : (texts.get(key) ?? '').slice(0, Number(offset))) + delta
      texts.set(key, text)
      if (done) return { seq: ++stored, message: message(stored, given ?? text, key) }
      return { offset: abort ? 0 : text.length }
    },
  })
  const give = (visit: Visit, task: string, text: string, attempt = 1): void =>
    visit.say({ type: 'task', task, topic, message: message(1, text), attempt, lease_until: '2030-01-01T00:00:00Z' })
  return { fake, give, refuse }
}

void t.test('answer: replies to each task once, written or returned, up to `concurrency` at a time', async (t) => {
  const { fake, give } = await startInbox(t)
  const faults: unknown[] = []
  const deck = open(t, fake.url, faults)
  const stopping = new AbortController()
  const replies: Reply[] = []
  let hold = (): void => {}
  const answering = deck.citizen('rafael').answer(
    async ({ message }, reply) => {
      replies.push(reply)
      if (message === 'write') {
        reply.write('wri')
        reply.write('tten')
      }
      if (message === 'return') return 'returned'
      if (message === 'blocks') await reply.done({ message: 'own', code_blocks: [{ language: 'ts', code: '1' }] })
      if (message === 'throw') {
        reply.write('half')
        throw new Error('on purpose')
      }
      if (message === 'stop') {
        reply.write('as far as this')
        await new Promise<void>((resolve) => reply.signal.addEventListener('abort', () => resolve()))
        throw reply.signal.reason
      }
      if (message === 'wait') await new Promise<void>((resolve) => (hold = resolve))
    },
    { concurrency: 3, signal: stopping.signal },
  )
  const visit = await fake.visit(0)
  t.match(await visit.frame('work'), { credit: 3 })
  const end = (task: string) => (frame: Json) =>
    frame['task'] === task && ['stream', 'done', 'release'].includes(String(frame['type']))
  const ended = async (task: string): Promise<Json> => {
    await until(() => visit.frames.some(end(task)), `the end of ${task}`)
    return visit.frames.find(end(task)) as Json
  }
  give(visit, 't1', 'write')
  t.match(await ended('t1'), { type: 'stream', topic, key: 'task:t1', done: true, task: 't1' })
  give(visit, 't2', 'return')
  t.match(await ended('t2'), { type: 'stream', key: 'task:t2', message: 'returned', done: true })
  give(visit, 't3', 'neither')
  t.match(await ended('t3'), { type: 'done' })
  give(visit, 't4', 'blocks')
  t.match(await ended('t4'), { type: 'stream', message: 'own', code_blocks: [{ code: '1' }] })
  give(visit, 't5', 'throw', 3)
  t.match(await ended('t5'), { type: 'release', after: 8 })
  t.match(
    visit.frames.filter((frame) => frame['key'] === 'task:t5' && frame['abort']),
    [{ abort: true }],
  )
  t.match(faults, [{ message: 'on purpose' }])
  give(visit, 't6', 'stop')
  await until(() => replies.at(-1)?.text === 'as far as this', 'the beginning of the reply')
  visit.say({ type: 'cancel', topic, key: 'task:t6', by: 'alice' })
  // The text so far becomes the reply, and the task ends.
  t.match(await ended('t6'), { type: 'stream', done: true, task: 't6' })
  give(visit, 't7', 'wait')
  give(visit, 't8', 'stop')
  await until(() => replies.length === 8, 'the last two')
  give(visit, 't7', 'wait', 2)
  stopping.abort()
  t.match(await ended('t8'), { type: 'release', after: 0 })
  hold()
  await answering
  t.match(visit.frames.filter((frame) => frame['type'] === 'work').at(-1), { credit: 0 })
  t.equal(replies.length, 8)
  t.equal(faults.length, 1)
})

void t.test('answer: a task lost to another worker is not ended, and starts again when it returns', async (t) => {
  const { fake, give, refuse } = await startInbox(t)
  const faults: unknown[] = []
  const deck = open(t, fake.url, faults)
  const attempts: number[] = []
  let go = (): void => {}
  void deck.citizen('rafael').answer(async (_message, { attempt, write }) => {
    attempts.push(attempt)
    await new Promise<void>((resolve) => (go = resolve))
    write(`attempt ${attempt}`)
  })
  const first = await fake.visit(0)
  await first.frame('work')
  give(first, 't', 'question')
  await until(() => attempts.length === 1, 'the first attempt')
  first.close(1012)
  // The same worker reconnects, sends `work` and gets its task again.
  const second = await fake.visit(1)
  t.match(await second.frame('work'), { credit: 4 })
  give(second, 't', 'question', 2)
  refuse.set('stream task:t done', { code: 'conflict', detail: 'the task is held by another' })
  await until(() => deck.state === 'open', 'the connection')
  go()
  await until(() => attempts.length === 2, 'the second attempt')
  refuse.clear()
  go()
  await until(() => of(second, 'stream').filter(({ done }) => done).length === 2, 'the reply')
  t.same(attempts, [1, 2])
  t.same(of(second, 'release'), [])
  t.same(faults, [])
})

void t.test('answer: rejects when the role is not allowed to answer, or when the deck already answers', async (t) => {
  const { fake } = await startInbox(t)
  const deck = open(t, fake.url)
  await t.rejects(
    deck.citizen('emma').answer(() => 'x'),
    { name: 'DeckError', code: 'forbidden' },
  )
  const one = deck.citizen('rafael').answer(() => 'x')
  await t.rejects(
    deck.citizen('rafael').answer(() => 'x'),
    { code: 'conflict' },
  )
  deck.close()
  await one
})

void t.test('backoff: at most 3 s while the server answers, growing to 15 s while it is down', (t) => {
  for (let n = 0; n < 40; n++) {
    t.ok(backoff(n, mostWhenAnswered) <= 3000)
    t.ok(backoff(n) <= Math.min(15_000, 300 * 2 ** n))
  }
  t.end()
})
