// The client's activity: a writer shows steps, and followers see them in the draft. Steps and usage are stored with the reply.
import t, { type Test } from 'tap'
import { connect, type Activity, type ConnectOptions, type Deck } from '../../src/client/index.ts'
import { makeSteps } from '../../src/client/reply-steps.ts'
import { startWire } from '../support/socket-proxy.ts'
import { alice, makeMission, rafael, startDeck, startInstance, until } from '../support/server.ts'

const { instance: one, database } = await startDeck(t)
const two = await startInstance(t, database.url)

const open = (t: Test, options: Partial<ConnectOptions> = {}): Deck => {
  const deck = connect({ url: one.url, token: alice, ...options })
  t.teardown(deck.close)
  return deck
}
const shown = (activity: readonly Activity[] = []): string =>
  activity.map(({ line, status }) => `${line} ${status}`).join()
/** Follows a chat's drafts: for each key its text and its steps; undefined once it was aborted. */
const watch = async (deck: Deck, mission: string) => {
  const drafts = new Map<string, string | undefined>()
  deck.chat(mission, 'rafael').on('*', (event) => {
    if (event.event === 'draft') drafts.set(event.key, `${event.text}|${shown(event.activity)}`)
    if (event.event === 'aborted') drafts.set(event.key, undefined)
  })
  const feed = deck.chat(mission, 'rafael').follow()
  await feed.ready
  return drafts
}
const becomes = (drafts: Map<string, string | undefined>, key: string, text: string): Promise<void> =>
  until(() => drafts.get(key) === text, text)

void t.test('reply.activity: followers see each step, before the text and with it; done stores them', async (t) => {
  const { id } = await makeMission(one)
  const drafts = await watch(open(t, { url: two.url }), id)
  const reply = open(t, { token: rafael }).chat(id, 'rafael').stream()
  const read = reply.activity('Reads')
  await becomes(drafts, reply.key, '|Reads running')
  read.done('Has read')
  reply.activity('Looks', 'failed')
  await becomes(drafts, reply.key, '|Has read done,Looks failed')
  reply.write('It is ')
  const runs = reply.activity('Runs')
  await becomes(drafts, reply.key, 'It is |Has read done,Looks failed,Runs running')
  runs.update('Runs 2 of 3')
  await becomes(drafts, reply.key, 'It is |Has read done,Looks failed,Runs 2 of 3 running')
  runs.failed()
  reply.write('green.')
  const message = await reply.done({ usage: { tokens: 3 } })
  t.match(message, {
    message: 'It is green.',
    usage: { tokens: 3 },
    activity: [
      { line: 'Has read', status: 'done' },
      { line: 'Looks', status: 'failed' },
      { line: 'Runs 2 of 3', status: 'failed' },
    ],
  })
  t.throws(() => reply.activity('late'), { code: 'conflict' })
  runs.done('late')
  const [stored] = (await open(t).chat(id, 'rafael').history()).messages
  t.strictSame(stored, message, 'a step that ends after its reply changes nothing')
})

void t.test('reply.activity: all steps are stored in order, across lost connections and instances', async (t) => {
  const { id } = await makeMission(one)
  const wire = await startWire(t, one.url)
  const drafts = await watch(open(t, { url: two.url }), id)
  const reply = open(t, { url: wire.url, token: rafael }).chat(id, 'rafael').stream()
  const wanted: string[] = []
  for (let n = 0; n < 30; n++) {
    const step = reply.activity(`Step ${n}`)
    if (n % 2) step.done()
    wanted.push(`Step ${n} ${n % 2 ? 'done' : 'running'}`)
    reply.write(`${n} `)
    if (n % 10 !== 5) continue
    wire.target = n % 20 === 5 ? two.url : one.url
    await until(() => drafts.get(reply.key)?.includes(`Step ${n} `) === true, 'the step at the follower')
    wire.cut()
  }
  wire.cut()
  const { activity, message } = await reply.done()
  t.strictSame(
    activity?.map(({ line, status }) => `${line} ${status}`),
    wanted,
  )
  t.equal(message, reply.text)
})

void t.test('reply.activity: a reply with a text of its own keeps steps across a lost connection', async (t) => {
  const { id } = await makeMission(one)
  const wire = await startWire(t, one.url)
  const reply = open(t, { url: wire.url, token: rafael }).chat(id, 'rafael').stream()
  for (let n = 0; n < 3; n++) reply.activity(`Step ${n}`, 'done')
  wire.target = two.url
  wire.cut()
  const { activity, message } = await reply.done({ message: 'Its own.' })
  t.strictSame([message, activity?.map(({ line }) => line)], ['Its own.', ['Step 0', 'Step 1', 'Step 2']])
})

void t.test('reply.activity: a long line is shortened; the last 50 steps are kept', async (t) => {
  const { id } = await makeMission(one)
  const reply = open(t, { token: rafael }).chat(id, 'rafael').stream()
  for (let n = 0; n < 60; n++) reply.activity(`Step ${n}`, 'done')
  reply.activity('🎛'.repeat(300))
  const { activity = [] } = await reply.done({ message: 'x' })
  t.strictSame([activity.length, activity[0]?.line], [50, 'Step 11'])
  t.equal(activity.at(-1)?.line, `${'🎛'.repeat(199)}…`)
})

void t.test('answer: steps without a reply end with the task', async (t) => {
  const { id } = await makeMission(one)
  const user = open(t, { url: two.url })
  const drafts = await watch(user, id)
  const ending = new AbortController()
  const lines: string[] = []
  const answering = open(t, { token: rafael })
    .citizen('rafael')
    .answer(
      async (message, reply) => {
        reply.activity('Reads')
        await becomes(drafts, reply.key, '|Reads running')
        lines.push(reply.key)
        if (message.message === 'answer') return 'Answered.'
        return undefined
      },
      { signal: ending.signal },
    )
  await until(async () => (await user.citizens()).some(({ listening }) => listening), 'the worker')
  const asked = await user.chat(id, 'rafael').send('ignore')
  await until(() => lines.length === 1, 'the handler')
  await until(
    () => drafts.has(`task:${asked.id}`) && drafts.get(`task:${asked.id}`) === undefined,
    'the end of the draft',
  )
  const { questions } = await user.chat(id, 'rafael').questions()
  t.match(questions, [{ state: 'closed' }])
  await user.chat(id, 'rafael').send('answer')
  await until(async () => (await user.chat(id, 'rafael').history()).last_seq === 3, 'the reply')
  const { messages } = await user.chat(id, 'rafael').history()
  t.match(messages.at(-1), { message: 'Answered.', activity: [{ line: 'Reads', status: 'running' }] })
  ending.abort()
  await answering
})

void t.test('steps: a running step is sent again while nothing else is, until it ends', async (t) => {
  let reports = 0
  const steps = makeSteps(() => {
    reports++
    const next = steps.next()
    if (next) steps.sent(next)
  }, 5)
  const step = steps.add('Runs', 'running')
  await until(() => reports > 3, 'signs of life')
  step.done()
  const ended = reports
  step.done()
  step.done('Runs')
  t.equal(reports, ended, 'a report that changes nothing is not sent')
  const other = steps.add('Waits', 'running')
  await until(() => reports > ended + 3, 'signs of life of the next step')
  other.failed()
  steps.end()
  t.equal(steps.next(), undefined)
})
