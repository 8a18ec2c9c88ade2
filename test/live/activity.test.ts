// Activity: followers see the steps of a reply while its writer works. The last 50 are stored with the message, and so is its usage.
// Two instances of one database.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { makeSlices } from '../../src/live/ephemeral/draft-fanout.ts'
import { makeMirror } from '../../src/live/ephemeral/draft-mirror.ts'
import { makeRegistry, type Stored } from '../../src/live/ephemeral/draft-registry.ts'
import type { Receiver } from '../../src/live/hub/subscription.ts'
import type { Step } from '../../src/protocol/activity.ts'
import {
  admin,
  alice,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  textsOf,
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
  return { mission: id, topic: `missions/${id}/chat/rafael`, key: randomUUID() }
}
type Seen = { text: string; steps: [line: string, status: string][] }
type Watcher = Client & { sees(key: string): Seen }
/** Follows a chat and assembles its drafts as the protocol describes. */
const watch = async (on: Instance, topic: string): Promise<Watcher> => {
  const client = await on.connect(alice)
  t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
  return {
    ...client,
    sees(key) {
      let text = ''
      let steps = new Map<string, [string, string]>()
      for (const frame of client.frames) {
        if (frame['key'] !== key) continue
        const { type, offset, delta, aborted, id, line, status } = frame
        if (type === 'activity') steps.set(String(id), [String(line), String(status)])
        if (type !== 'delta') continue
        if (aborted || (offset === 0 && text !== '')) steps = new Map()
        text = aborted ? '' : text.slice(0, Number(offset)) + String(delta)
      }
      return { text, steps: [...steps.values()] }
    },
  }
}
const see = (watchers: Watcher[], key: string, text: string, ...steps: Seen['steps']): Promise<void> => {
  const wanted = JSON.stringify({ text, steps })
  return until(
    () => watchers.every((watcher) => JSON.stringify(watcher.sees(key)) === wanted),
    `${wanted}, not ${JSON.stringify(watchers.map((watcher) => watcher.sees(key)))}`,
  )
}
const step = (id: string, line: string, status = 'running'): Json => ({ activity: { id, line, status } })
const writerOf = (client: Client, topic: string, key: string) => (frame: Json) =>
  client.ask({ type: 'stream', topic, key, ...frame })
const messagesOf = async (topic: string, on: Instance = one): Promise<Json[]> =>
  (await on.request('GET', `/api/${topic}`, alice)).json['messages'] as Json[]
const isSaved = (key: string, condition: string): Promise<void> =>
  until(
    async () => (await database.query(`select from deck.drafts where key = $1 and ${condition}`, [key])).length === 1,
    'the draft to be saved',
  )

void t.test('activity: followers on both instances see steps before, with and after the text', async (t) => {
  const { topic, key } = await makeChat()
  const watchers = await Promise.all(both.map((on) => watch(on, topic)))
  const write = writerOf(await one.connect(rafael), topic, key)
  const join = async (): Promise<void> => void watchers.push(...(await Promise.all(both.map((on) => watch(on, topic)))))

  t.match(await write(step('a', 'Reads the specification')), { type: 'ok', offset: 0 })
  await see(watchers, key, '', ['Reads the specification', 'running'])
  for (const watcher of watchers)
    t.notOk(
      watcher.frames.some(({ type }) => type === 'delta'),
      'a draft without text',
    )
  await join()
  await see(watchers, key, '', ['Reads the specification', 'running'])

  t.match(await write({ ...step('a', 'Has read it', 'done'), offset: 0, delta: 'Edit ' }), { type: 'ok', offset: 5 })
  t.match(await write(step('b', 'Runs the tests')), { type: 'ok', offset: 5 })
  await see(watchers, key, 'Edit ', ['Has read it', 'done'], ['Runs the tests', 'running'])
  await join()
  await see(watchers, key, 'Edit ', ['Has read it', 'done'], ['Runs the tests', 'running'])

  const { message } = await write({ ...step('b', 'Runs the tests', 'failed'), delta: 'it.', done: true })
  t.match(message, {
    message: 'Edit it.',
    activity: [
      { line: 'Has read it', status: 'done' },
      { line: 'Runs the tests', status: 'failed' },
    ],
  })
  t.strictSame(Object.keys(((message as Json)['activity'] as Json[])[0] ?? {}).sort(), ['id', 'line', 'ms', 'status'])
  for (const watcher of watchers) {
    await until(() => watcher.events(topic).length === 1, 'the message')
    t.strictSame(watcher.events(topic)[0]?.data, message)
  }
  for (const on of both) t.strictSame(await messagesOf(topic, on), [message])
  t.equal((await database.query('select from deck.drafts where key = $1', [key])).length, 0)
  // The end of a draft reaches the other instance a little after the message. The marker draft comes last.
  let n = 0
  await until(async () => {
    const late = await watch(two, topic)
    const marker = `marker${n++}`
    await writerOf(await one.connect(rafael), topic, marker)({ delta: 'x' })
    await see([late], marker, 'x')
    return late.sees(key).steps.length === 0
  }, 'a stored reply has no draft')
})

void t.test('activity: every status of a step reaches followers, and only the latest line for it', async (t) => {
  const { topic, key } = await makeChat()
  const watchers = await Promise.all(both.map((on) => watch(on, topic)))
  const client = await one.connect(rafael)
  for (let n = 0; n <= 100; n++) client.send({ type: 'stream', topic, key, ...step('a', `Reads line ${n}`) })
  await writerOf(client, topic, key)(step('a', 'Has read it', 'done'))
  await see(watchers, key, '', ['Has read it', 'done'])
  const [here] = watchers
  const lines = (here?.frames ?? []).filter(({ type }) => type === 'activity')
  t.ok(lines.some(({ status }) => status === 'running'))
  t.ok(lines.length < 50, `${lines.length} frames for 102 reports`)
})

void t.test('activity: a draft that is continued on the other instance keeps its steps', async (t) => {
  for (const text of ['', 'half']) {
    const { topic, key } = await makeChat()
    const watchers = await Promise.all(both.map((on) => watch(on, topic)))
    const first = await one.connect(rafael)
    const write = writerOf(first, topic, key)
    await write(step('a', 'Reads', 'done'))
    await write({ ...step('b', 'Thinks'), ...(text ? { delta: text } : {}) })
    await see(watchers, key, text, ['Reads', 'done'], ['Thinks', 'running'])
    first.socket.terminate()
    await isSaved(key, `changes = 2 and units = ${text.length}`)
    const next = writerOf(await two.connect(rafael), topic, key)
    t.match(await next({ offset: text.length, delta: '!' }), { type: 'ok', offset: text.length + 1 })
    t.match(await next(step('b', 'Thinks', 'done')), { type: 'ok' })
    watchers.push(await watch(one, topic), await watch(two, topic))
    await see(watchers, key, `${text}!`, ['Reads', 'done'], ['Thinks', 'done'])
    t.match(await next({ done: true }), {
      message: { message: `${text}!`, activity: [{ line: 'Reads' }, { line: 'Thinks', status: 'done' }] },
    })
  }
})

void t.test('activity: a step is enough to continue a draft', async (t) => {
  const { topic, key } = await makeChat()
  const watchers = await Promise.all(both.map((on) => watch(on, topic)))
  const first = await one.connect(rafael)
  await writerOf(first, topic, key)({ ...step('a', 'Reads'), delta: 'half' })
  await isSaved(key, 'units = 4 and changes = 1')
  const next = writerOf(await two.connect(rafael), topic, key)
  t.match(await next({ ...step('b', 'Thinks'), offset: 3 }), { code: 'conflict', offset: 4 })
  t.match(await next({ ...step('b', 'Thinks'), offset: 4 }), { type: 'ok', offset: 4 })
  await see(watchers, key, 'half', ['Reads', 'running'], ['Thinks', 'running'])
  t.match(await writerOf(first, topic, key)(step('a', 'Reads', 'done')), { code: 'conflict' }, 'it lost the draft')
})

void t.test('activity: a draft that is started over has no former steps, also without a new text', async () => {
  for (const more of [{ delta: 'new' }, {}]) {
    const { topic, key } = await makeChat()
    const watchers = await Promise.all(both.map((on) => watch(on, topic)))
    await writerOf(await one.connect(rafael), topic, key)({ ...step('a', 'Reads'), delta: 'old' })
    await see(watchers, key, 'old', ['Reads', 'running'])
    await isSaved(key, 'units = 3')
    const next = writerOf(await two.connect(rafael), topic, key)
    await next({ ...step('b', 'Reads again'), offset: 0, ...more })
    watchers.push(await watch(one, topic), await watch(two, topic))
    await see(watchers, key, more.delta ?? '', ['Reads again', 'running'])
  }
})

void t.test('activity: the last 50 steps are kept and stored', async (t) => {
  const { topic, key } = await makeChat()
  const watcher = await watch(two, topic)
  const write = writerOf(await one.connect(rafael), topic, key)
  const line = '🎛'.repeat(200)
  for (let n = 1; n <= 60; n++) await write(step(`s${n}`, n === 60 ? line : `Step ${n}`, 'done'))
  await until(() => watcher.sees(key).steps.at(-1)?.[0] === line, 'the last step')
  const late = await watch(one, topic)
  await until(() => late.sees(key).steps.length > 0, 'the steps')
  const wanted = [...Array.from({ length: 49 }, (_, n) => `Step ${n + 11}`), line]
  t.strictSame(
    late.sees(key).steps.map(([text]) => text),
    wanted,
  )
  const { message } = await write({ done: true, message: 'Done.' })
  t.strictSame(
    ((message as Json)['activity'] as Json[]).map((one) => one['line']),
    wanted,
  )
})

void t.test('activity: steps that are too long for a notification reach the other instance', async () => {
  const { topic, key } = await makeChat()
  const watcher = await watch(two, topic)
  const write = writerOf(await one.connect(rafael), topic, key)
  await write(step('a', 'Reads'))
  await see([watcher], key, '', ['Reads', 'running'])
  // Longer together than a notification may be: the other instance reads the saved steps.
  const client = await one.connect(rafael)
  const longKey = randomUUID()
  const lines = Array.from({ length: 20 }, (_, n) => `${n} ${'ä🎛'.repeat(90)}`)
  for (const [n, line] of lines.entries()) client.send({ type: 'stream', topic, key: longKey, ...step(`s${n}`, line) })
  await see([watcher], longKey, '', ...lines.map((line): [string, string] => [line, 'running']))
})

void t.test(
  'activity: a step is a sign of life; a silent draft is aborted, and continues with its steps',
  async (t) => {
    const short = await startInstance(t, database.url, { limits: { draftSilence: 1500 } })
    const { topic, key } = await makeChat()
    const watchers = await Promise.all([short, two].map((on) => watch(on, topic)))
    const write = writerOf(await short.connect(rafael), topic, key)
    const silent = writerOf(await short.connect(rafael), topic, 'silent')
    const isAborted = (name: string) => (watcher: Watcher) =>
      watcher.frames.some((frame) => frame['key'] === name && frame['aborted'] === true)
    await write({ ...step('a', 'Runs the tests'), delta: 'hm' })
    await silent({ ...step('a', 'Runs the tests'), delta: 'hm' })
    await until(async () => {
      await write(step('a', 'Runs the tests'))
      return watchers.every(isAborted('silent'))
    }, 'the silent draft to be aborted')
    t.notOk(watchers.some(isAborted(key)), 'the draft with a sign of life goes on')
    const late = await watch(short, topic)
    await see([late], key, 'hm', ['Runs the tests', 'running'])
    t.strictSame(late.sees('silent').steps, [], 'an aborted draft has no steps')
    t.match(await silent(step('a', 'Runs the tests', 'done')), { type: 'ok', offset: 2 })
    await see([...watchers, late], 'silent', 'hm', ['Runs the tests', 'done'])
    t.match(await silent({ abort: true }), { type: 'ok' })
    await see([...watchers, late], 'silent', '')
    await short.close()
  },
)

void t.test('activity: the stored message has what steps took; a step that has ended keeps its time', async (t) => {
  const { topic, key } = await makeChat()
  const write = writerOf(await one.connect(rafael), topic, key)
  await write(step('a', 'Reads', 'running'))
  await until(() => new Promise((resolve) => setTimeout(() => resolve(true), 60)), 'some time')
  await write(step('a', 'Reads', 'done'))
  await write(step('b', 'Waits', 'running'))
  await until(() => new Promise((resolve) => setTimeout(() => resolve(true), 60)), 'some time')
  await write(step('a', 'Reads', 'done'))
  const { message } = await write({ done: true, delta: 'x' })
  const [read, waited] = (message as { activity: { ms: number; status: string }[] }).activity
  t.ok(read && waited && read.ms >= 50 && waited.ms >= 50 && waited.status === 'running')
  const [first] = await messagesOf(topic)
  t.strictSame(first, message)
})

void t.test('activity: bad input is refused and changes nothing', async (t) => {
  const { topic, key } = await makeChat()
  const client = await one.connect(rafael)
  const write = writerOf(client, topic, key)
  await write({ ...step('a', 'Reads'), delta: 'kept' })
  const big = { text: 'x'.repeat(4097) }
  const bad: Json[] = [
    { activity: {} },
    { activity: null },
    { activity: 'Reads' },
    { activity: [] },
    step('', 'x'),
    step('x'.repeat(65), 'x'),
    step('b', ''),
    step('b', 'x'.repeat(201)),
    step('b', '\ud83d'),
    step('b', 'a\0b'),
    step('b\0', 'x'),
    step('b', 'x', 'waiting'),
    { activity: { id: 1, line: 'x', status: 'done' } },
    { activity: { id: 'b', status: 'done' } },
    { usage: { tokens: 1 } },
    { ...step('b', 'x'), usage: { tokens: 1 } },
    ...[[], null, 'x', 1, big, { a: { b: '\0' } }].map((usage) => ({ done: true, usage })),
    { done: true, message: 'x', usage: big },
    { ...step('b', 'x'), done: true, abort: true },
  ]
  for (const frame of bad) t.match(await write(frame), { code: 'bad_request' }, JSON.stringify(frame).slice(0, 80))
  for (const usage of [[], null, 'x', big])
    t.match(await client.ask({ type: 'send', topic, message: 'x', usage }), { code: 'bad_request' })
  t.match(await one.request('POST', `/api/${topic}`, rafael, { message: 'x', usage: big }), { status: 400 })
  t.strictSame(await messagesOf(topic), [])
  await see([await watch(two, topic)], key, 'kept', ['Reads', 'running'])
  t.match(await write({ done: true }), { message: { message: 'kept', activity: [{ line: 'Reads' }] } })
  const ignored = await client.ask({
    type: 'send',
    topic,
    message: 'x',
    activity: [{ line: 'x', status: 'done', ms: 1 }],
  })
  t.notOk('activity' in (ignored['message'] as Json), 'only a draft has steps')
})

void t.test('activity: usage is stored with replies, and survives a key used twice', async (t) => {
  const { topic, key } = await makeChat()
  const client = await one.connect(rafael)
  const usage = { input_tokens: 1200, cost: 0.25, model: 'größte', parts: [1, { a: null }] }
  const write = writerOf(client, topic, key)
  await write({ ...step('a', 'Reads', 'done'), delta: 'x' })
  const { message } = await write({ done: true, usage })
  t.match(message, { usage, activity: [{ line: 'Reads', status: 'done' }] })
  const again = await writerOf(await two.connect(rafael), topic, key)({ done: true, message: 'other', usage: { a: 1 } })
  t.strictSame(again['message'], message)
  const sent = await client.ask({ type: 'send', topic, message: 'y', key: 'k', usage })
  t.match(sent, { message: { usage } })
  t.strictSame(
    (await (await two.connect(rafael)).ask({ type: 'send', topic, message: 'z', key: 'k' }))['message'],
    sent['message'],
  )
  const exact = { text: 'x'.repeat(4096 - '{"text":""}'.length) }
  const posted = await one.request('POST', `/api/${topic}`, rafael, { message: 'z', usage: exact })
  t.match(posted, { status: 201, json: { usage: exact } })
  const { message: empty } = await client.ask({ type: 'send', topic, message: 'e', usage: {} })
  t.strictSame((empty as Json)['usage'], {})
  const { message: plain } = await client.ask({ type: 'send', topic, message: 'p' })
  t.notOk('usage' in (plain as Json) || 'activity' in (plain as Json), 'other messages have neither')
  t.strictSame(await messagesOf(topic, two), [message, sent['message'], posted.json, empty, plain])
})

void t.test('activity: it is the same in history, events, streams, the timeline and search', async (t) => {
  const { mission, topic, key } = await makeChat()
  const follower = await watch(two, topic)
  const write = writerOf(await one.connect(rafael), topic, key)
  await write(step('a', 'Reads', 'done'))
  const { message } = await write({ done: true, message: 'grammY it is', usage: { tokens: 1 } })
  await until(() => follower.events(topic).length === 1, 'the event')
  const wanted = follower.events(topic)[0]?.data
  t.strictSame(wanted, message)
  const [found] = await messagesOf(topic)
  t.strictSame(found, wanted)
  const replay = await two.connect(alice)
  await replay.ask({ type: 'subscribe', topic, after: 0 })
  await until(() => replay.events(topic).length === 1, 'the replayed event')
  t.strictSame(replay.events(topic)[0]?.data, wanted)
  const { json: searched } = await one.request('GET', `/api/${topic}?q=grammy`, alice)
  t.strictSame(searched['messages'], [wanted])
  const lines = await one.request('GET', `/api/${topic}`, alice, undefined, { accept: 'application/x-ndjson' })
  t.strictSame(JSON.parse(lines.text), wanted)
  const { json: timeline } = await one.request('GET', `/api/missions/${mission}/timeline`, alice)
  t.strictSame((timeline['events'] as Json[]).find(({ event }) => event === 'message.created')?.['data'], wanted)
  const { id } = wanted as { id: string }
  t.strictSame((await one.request('GET', `/api/${topic}/messages/${id}`, alice)).json, wanted)
  const stream = await fetch(`${two.url}/api/${topic}?after=0`, {
    headers: { authorization: `Bearer ${alice}`, accept: 'text/event-stream' },
  })
  const reader = stream.body?.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  while (!text.includes('\n\n')) text += (await reader?.read())?.value ?? ''
  t.strictSame(JSON.parse(/^data: (.*)$/m.exec(text)?.[1] ?? ''), wanted)
  await reader?.cancel()
  await one.request('DELETE', `/api/${topic}`, admin)
  t.equal((await database.query('select from chat_messages where details is not null and id = $1', [id])).length, 0)
})

void t.test('activity: the list of chats has small activity, and leaves out more', async (t) => {
  const { mission, topic, key } = await makeChat()
  const write = writerOf(await one.connect(rafael), topic, key)
  const last = async (): Promise<Json> => {
    const { json } = await one.request('GET', `/api/missions/${mission}/chat`, alice)
    return (json['channels'] as { last_message: Json }[])[0]?.last_message ?? {}
  }
  await write(step('a', 'Reads', 'done'))
  const { message } = await write({ done: true, message: 'x' })
  t.strictSame(await last(), message)
  const large = writerOf(await one.connect(rafael), topic, randomUUID())
  for (let n = 0; n < 10; n++) await large(step(`s${n}`, 'x'.repeat(200)))
  const { message: long } = await large({ done: true, message: 'y' })
  const { activity, ...rest } = long as Json
  t.equal((activity as Json[]).length, 10)
  t.strictSame(await last(), { ...rest, cut: true })
})

void t.test('activity: SQL writers can set it, in its form only', async (t) => {
  const { mission, topic } = await makeChat()
  const follower = await watch(two, topic)
  const insert = (details: unknown) =>
    database.query(
      `insert into chat_messages (mission_id, citizen, sender, message, details) values ($1, 'rafael', 'citizen', 'x', $2)`,
      [mission, JSON.stringify(details)],
    )
  const good = { activity: [{ line: 'Reads', status: 'done', ms: 12 }], usage: { tokens: 1 } }
  await insert(good)
  await until(() => follower.events(topic).length === 1, 'the event')
  t.match(follower.events(topic)[0]?.data, good)
  const stepOf = (more: Json): Json => ({ activity: [{ line: 'x', status: 'done', ms: 1, ...more }] })
  const bad: unknown[] = [
    {},
    [],
    null,
    'x',
    { other: 1 },
    { ...good, other: 1 },
    { usage: [] },
    { usage: null },
    { activity: [] },
    { activity: {} },
    { activity: ['x'] },
    stepOf({ line: '' }),
    stepOf({ line: 'x'.repeat(201) }),
    stepOf({ line: 1 }),
    stepOf({ line: null }),
    stepOf({ status: 'x' }),
    stepOf({ ms: -1 }),
    stepOf({ ms: 1.5 }),
    stepOf({ ms: 'x' }),
    { activity: Array.from({ length: 51 }, () => good.activity[0]) },
    { usage: { text: 'x'.repeat(262_144) } },
  ]
  for (const details of bad) await t.rejects(insert(details), { code: '23514' }, JSON.stringify(details).slice(0, 80))
  await t.rejects(database.query(`update chat_messages set details = '{}' where mission_id = $1`, [mission]), {
    code: '23514',
  })
  t.equal((await messagesOf(topic)).length, 1)
})

void t.test('activity: over HTTP a claim reports steps, on any instance, and usage with the reply', async (t) => {
  const { topic } = await makeChat()
  const inbox = '/api/inbox/rafael'
  await one.request('POST', `${inbox}/claim`, rafael, {})
  const watchers = await Promise.all(both.map((on) => watch(on, topic)))
  const user = await one.connect(alice)
  await user.ask({ type: 'send', topic, message: 'How?', usage: { words: 1 } })
  const { json } = await one.request('POST', `${inbox}/claim`, rafael, { wait: 30 })
  const [task] = json['tasks'] as { task: string; claim: string; message: Json }[]
  t.match(task?.message, { usage: { words: 1 } })
  const { task: id = '', claim = '' } = task ?? {}
  const key = `task:${id}`
  const call = (n: number, what: string, body: Json) =>
    both[n % 2]?.request('POST', `${inbox}/tasks/${id}/${what}`, rafael, { claim, ...body })
  t.match(await call(0, 'draft', step('a', 'Reads')), { status: 200, json: { offset: 0, cancelled: false } })
  await see(watchers, key, '', ['Reads', 'running'])
  t.match(await call(1, 'draft', { ...step('a', 'Reads', 'done'), delta: 'Edit ' }), { json: { offset: 5 } })
  t.match(await call(0, 'draft', step('b', 'Runs the tests')), { json: { offset: 5 } })
  t.match(await call(1, 'draft', { delta: 'it.' }), { json: { offset: 8 } })
  t.match(await call(0, 'draft', { ...step('c', 'x'), offset: 3 }), { status: 409, json: { code: 'conflict' } })
  await see(watchers, key, 'Edit it.', ['Reads', 'done'], ['Runs the tests', 'running'])
  for (const bad of [step('b', ''), step('', 'x'), step('b', 'x', 'x'), { activity: null }, { activity: 'x' }])
    t.match(await call(0, 'draft', bad), { status: 400 }, JSON.stringify(bad))
  for (const usage of [[], 'x', { text: 'x'.repeat(4097) }])
    t.match(await call(0, 'reply', { usage }), { status: 400, json: { code: 'bad_request' } })
  const replied = await call(1, 'reply', { usage: { tokens: 7 } })
  t.match(replied, {
    status: 201,
    json: {
      message: 'Edit it.',
      usage: { tokens: 7 },
      activity: [
        { line: 'Reads', status: 'done' },
        { line: 'Runs the tests', status: 'running' },
      ],
    },
  })
  t.match(await call(0, 'reply', {}), { status: 200, json: replied?.json ?? {} })
  const [, stored] = await messagesOf(topic)
  t.strictSame(stored, replied?.json)
})

void t.test(
  'activity: a reply with a text of its own has the steps of its draft, from any socket and door',
  async (t) => {
    const { topic, key } = await makeChat()
    await writerOf(await one.connect(rafael), topic, key)({ ...step('a', 'Reads'), delta: 'half' })
    await isSaved(key, 'changes = 1')
    const other = writerOf(await two.connect(rafael), topic, key)
    t.match(await other({ ...step('b', 'Writes', 'done'), done: true, message: 'The whole.' }), {
      message: {
        message: 'The whole.',
        activity: [
          { line: 'Reads', status: 'running' },
          { line: 'Writes', status: 'done' },
        ],
      },
    })
  },
)

void t.test('activity: a task that ends without a reply over HTTP has no draft any more', async (t) => {
  const { topic } = await makeChat()
  const inbox = '/api/inbox/rafael'
  await one.request('POST', `${inbox}/claim`, rafael, {})
  const watchers = await Promise.all(both.map((on) => watch(on, topic)))
  await (await one.connect(alice)).ask({ type: 'send', topic, message: 'How?' })
  const { json } = await one.request('POST', `${inbox}/claim`, rafael, { wait: 30 })
  const [{ task = '', claim = '' } = {}] = json['tasks'] as { task?: string; claim?: string }[]
  const path = `${inbox}/tasks/${task}`
  const key = `task:${task}`
  await one.request('POST', `${path}/draft`, rafael, { claim, ...step('a', 'Reads'), delta: 'x' })
  await see(watchers, key, 'x', ['Reads', 'running'])
  t.equal((await two.request('POST', `${path}/done`, rafael, { claim })).status, 204)
  await see(watchers, key, '')
  t.equal((await two.request('POST', `${path}/done`, rafael, { claim })).status, 204)
  t.equal((await database.query('select from deck.drafts where key = $1', [key])).length, 0)
})

const nowhere = 'missions/00000000-0000-4000-8000-000000000000/chat/rafael'
const steps = (...lines: string[]): Step[] => lines.map((line) => ({ id: line, line, status: 'done', at: 0, ms: 0 }))

void t.test('activity: an instance that missed a notification of steps reads the saved draft', async (t) => {
  const registry = makeRegistry({
    onWritten: () => {},
    onGone: () => {},
    bounds: { draftBytes: 1e6, draftBytesPerSubject: 1e6 },
  })
  const shown: string[] = []
  const stored: Stored = { topic: nowhere, key: 'k', generation: 1, text: '', activity: [], changes: 0 }
  let reads = 0
  const mirror = makeMirror({
    registry,
    slices: { followed: () => true },
    toFollowers: (draft, offset, given = []) =>
      void shown.push([draft.text.slice(offset), ...given.map(({ line }) => line)].join()),
    load: () => {
      reads++
      return Promise.resolve([{ ...stored }])
    },
    onError: (error) => t.fail(String(error)),
    repairEvery: 1,
  })
  const name = { topic: nowhere, key: 'k', generation: 1, upto: 0 }
  mirror.takeSteps({ ...name, type: 'steps', after: 0, changes: 1, steps: steps('a') })
  mirror.takeSteps({ ...name, type: 'steps', after: 1, changes: 2, steps: steps('b') })
  t.strictSame([shown, reads], [[',a', ',b'], 0], 'steps that continue the copy need no read')
  mirror.takeSteps({ ...name, type: 'steps', after: 1, changes: 2, steps: steps('b') })
  t.equal(shown.length, 2, 'a notification that comes twice changes nothing')
  // The notification of c is lost; the text and the steps are saved a little later.
  mirror.takeSteps({ ...name, type: 'steps', after: 3, changes: 4, steps: steps('d') })
  await until(() => reads > 1, 'reads')
  Object.assign(stored, { activity: steps('a', 'b', 'c', 'd'), changes: 4 })
  await until(() => shown.length === 3, 'the repair')
  t.equal(shown.at(-1), ',c,d', 'followers get only what they miss')
  // The draft is started over by another writer.
  mirror.take({ ...name, type: 'delta', generation: 2, offset: 0, upto: 3, delta: 'new' })
  t.strictSame(registry.find(name)?.activity.length, 4, 'without a text the draft keeps its steps')
  mirror.take({ ...name, type: 'delta', generation: 3, offset: 0, upto: 5, delta: 'again' })
  t.strictSame(registry.find(name)?.activity, [])
  mirror.takeSteps({ ...name, type: 'steps', generation: 3, after: 0, changes: 1, steps: steps('e') })
  t.strictSame(
    registry.find(name)?.activity.map(({ line }) => line),
    ['e'],
  )
  mirror.close()
})

void t.test('activity: a follower with a full buffer gets all steps later, with the text it misses', (t) => {
  const got: Json[] = []
  const slow = {
    form: 'frames',
    room: true,
    send: (bytes: Buffer) => (got.push(...textsOf(bytes).map((text) => JSON.parse(text) as Json)), true),
    fits() {
      return this.room
    },
  }
  const slices = makeSlices({ receivers: () => [slow as unknown as Receiver] })
  const draft = { topic: nowhere, key: 'k', text: '', activity: steps('a'), behind: new Map<Receiver, number>() }
  slices.send(draft, 0, draft.activity)
  slow.room = false
  draft.activity = steps('a', 'b')
  slices.send(draft, 0, steps('b'))
  draft.text = 'It runs'
  slices.send(draft, 0)
  t.equal(got.length, 1)
  slow.room = true
  slices.catchUp(draft)
  slices.catchUp(draft)
  t.strictSame(
    got.map(({ type, line, delta }) => [type, line ?? delta]),
    [
      ['activity', 'a'],
      ['delta', 'It runs'],
      ['activity', 'a'],
      ['activity', 'b'],
    ],
  )
  t.end()
})
