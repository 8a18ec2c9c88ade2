// ask, questions, retry, cancel and citizens against a server: their output and exit codes.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { lineOf, makeStateLine } from '../../src/cli/question-line.ts'
import type { Io } from '../../src/cli/output.ts'
import type { Question } from '../../src/protocol/rows.ts'
import { deck, folder, start } from '../support/cli.ts'
import { admin, alice, makeMission, rafael, secret, startDeck, until, type Json } from '../support/server.ts'

const lines = (out: string): Json[] =>
  out
    .trimEnd()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Json)

const open = async (t: Test) => {
  const { database, instance } = await startDeck(t)
  const { id, number } = await makeMission(instance)
  const env = { DECK_URL: instance.url, DECK_TOKEN: alice }
  return { database, instance, id, mission: String(number), env, topic: `missions/${id}/chat/rafael` }
}

/** Commands that are refused, each with its exit code and error code. */
const refuses = async (t: Test, refused: [args: string[], env: NodeJS.ProcessEnv, code: number, fault: string][]) => {
  for (const [args, env, code, fault] of refused) {
    const ended = await deck(t, [...args, '--json'], env)
    t.match([ended.code, (JSON.parse(ended.err) as Json)['code']], [code, fault], args.join(' '))
  }
}

/** The ID of the question that `ask --json` has sent. */
const question = (out: string): string => String((lines(out)[0]?.['data'] as Json | undefined)?.['id'])
const stored = (asking: { out(): string }): Promise<void> =>
  until(() => asking.out().includes('message.created'), 'the question is stored')
const questionEvents = (out: string): Json[] => lines(out).filter(({ event }) => event === 'question')

void t.test(
  'ask: each question ends with the reply that names it, whatever the order, with its own draft',
  async (t) => {
    const { env, mission, topic, instance } = await open(t)
    const agent = await instance.connect(rafael)
    t.match(await agent.ask({ type: 'work', credit: 5 }), { type: 'ok' })
    const [first, second] = [1, 2].map((n) => start(t, ['ask', mission, 'rafael', `${n}?`, '--json'], env))
    if (!first || !second) return
    await Promise.all([stored(first), stored(second)])
    await until(() => agent.frames.filter(({ type }) => type === 'task').length === 2, 'both tasks')
    const reply = async (asking: { out(): string }, more: Json): Promise<void> => {
      const task = question(asking.out())
      const given = { ...more, ...('done' in more ? { task } : {}) }
      t.match(await agent.ask({ type: 'stream', topic, key: `task:${task}`, ...given }), { type: 'ok' })
    }
    await reply(second, { delta: 'to the ' })
    await until(() => lines(second.out()).some(({ event }) => event === 'draft'), 'the reply to grow')
    await reply(second, { delta: 'second' })
    await agent.ask({ type: 'send', topic, message: 'names no question' })
    await reply(second, { done: true })
    await reply(first, { done: true, message: 'to the first' })
    for (const [asking, message] of [
      [first, 'to the first'],
      [second, 'to the second'],
    ] as const) {
      const { code, out } = await asking.ended
      t.equal(code, 0)
      const id = question(out)
      t.match(lines(out).at(-1), { event: 'message.created', data: { message, in_reply_to: id, key: `task:${id}` } })
      t.ok(lines(out).every(({ event, key }) => event !== 'draft' || key === `task:${id}`))
      t.ok(questionEvents(out).some(({ state, id: of }) => state === 'working' && of === id))
    }
    t.notOk(lines(first.out()).some(({ event }) => event === 'draft'))
  },
)

void t.test('ask: says that nobody listens, and since when, until a worker answers', async (t) => {
  const { database, env, mission, instance } = await open(t)
  await database.query(
    `insert into deck.inboxes (citizen, seen) values ('rafael', clock_timestamp() - interval '2 hours')`,
  )
  const asking = start(t, ['ask', mission, 'rafael', 'Anybody?'], env)
  const json = start(t, ['ask', mission, 'rafael', 'Anybody?', '--json'], env)
  const unregistered = start(t, ['ask', mission, 'zoe', 'Anybody?'], env)
  const never = start(t, ['ask', mission, 'sofia', 'Anybody?'], env)
  await until(() => asking.err().includes('waiting: Rafael is not connected (last seen 2 h ago)\n'), 'the line')
  await until(() => questionEvents(json.out()).length > 0, 'the event')
  t.match(questionEvents(json.out()), [{ state: 'waiting', listening: false, attempt: 0, last_seen: /Z$/ }])
  await until(() => unregistered.err().includes('waiting: Zoe is not connected\n'), 'a citizen that is not registered')
  await until(() => never.err().includes('waiting: Sofia is not connected (never seen)\n'), 'never seen')
  const agent = await instance.connect(rafael)
  await agent.ask({ type: 'work', credit: 5 })
  await until(() => asking.err().includes('\nworking'), 'the worker has it')
  for (const { task, topic } of agent.frames.filter(({ type }) => type === 'task'))
    await agent.ask({ type: 'send', topic, task, message: 'Yes.' })
  t.match(await asking.ended, { code: 0, out: 'Yes.\n' })
  t.equal((await json.ended).code, 0)
})

void t.test('ask: without an agent it exits 4 after --wait, and 1 after --timeout; the question stays', async (t) => {
  const { env, mission, id, instance } = await open(t)
  const alone = await deck(t, ['ask', mission, 'rafael', 'Anybody?', '--wait', '0'], env)
  t.match(alone, {
    code: 4,
    out: '',
    err: /\nrafael is not connected \(never seen\); the question stays: mission-deck questions \d+ rafael\n$/,
  })
  const json = await deck(t, ['ask', mission, 'rafael', 'Anybody?', '--wait', '1', '--json'], env)
  t.equal(json.code, 4)
  t.match(JSON.parse(json.err), { code: 'unavailable', detail: /rafael is not connected \(never seen\)/ })
  const silent = await deck(t, ['ask', mission, 'rafael', 'Anybody?', '--timeout', '1', '--json'], env)
  t.equal(silent.code, 1)
  t.match(JSON.parse(silent.err), {
    code: 'unavailable',
    detail: /no reply within 1 s; the question is stored: mission-deck tail/,
  })
  const { json: page } = await instance.request('GET', `/api/missions/${id}/chat/rafael/questions`, alice)
  t.match(page['questions'], [{ state: 'waiting' }, { state: 'waiting' }, { state: 'waiting' }])
  const away = start(t, ['ask', mission, 'rafael', 'Still?'], env)
  await until(() => away.err().includes('is stored'), 'the question')
  away.child.kill('SIGINT')
  t.match(await away.ended, { code: 130, out: '' })
})

void t.test('ask: exits 3 when the question failed or was closed, and says how to try again', async (t) => {
  const { database, env, mission, instance } = await open(t)
  const failing = start(t, ['ask', mission, 'rafael', 'One?', '--json'], env)
  await stored(failing)
  const closing = start(t, ['ask', mission, 'rafael', 'Two?', '--json'], env)
  await stored(closing)
  const agent = await instance.connect(rafael)
  await agent.ask({ type: 'work', credit: 5 })
  await until(() => questionEvents(closing.out()).some(({ state }) => state === 'working'), 'the worker has it')
  await agent.ask({ type: 'done', task: question(closing.out()) })
  const closed = await closing.ended
  t.equal(closed.code, 3)
  t.match(JSON.parse(closed.err), { code: 'conflict', detail: 'the question was closed without a reply' })
  await database.query(`update deck.tasks set attempt = 5, lease_until = null, dead = true where ended is null`)
  const failed = await failing.ended
  t.equal(failed.code, 3)
  const detail = `rafael gave up after five attempts: try again with mission-deck retry ${mission} rafael 1`
  t.strictSame(JSON.parse(failed.err), { code: 'unavailable', detail })
  t.match(questionEvents(failed.out).at(-1), { state: 'failed', attempt: 5 })
})

void t.test('ask: a question that was answered before is answered at once when it is sent again', async (t) => {
  const { env, mission, topic, instance } = await open(t)
  const agent = await instance.connect(rafael)
  const asking = start(t, ['ask', mission, 'rafael', 'Does it?', '--key', 'k', '--json'], env)
  await stored(asking)
  const reply_to = question(asking.out())
  await agent.ask({ type: 'send', topic, message: 'It does.', reply_to })
  await agent.ask({ type: 'send', topic, message: 'Later.' })
  t.match(lines((await asking.ended).out).at(-1), { data: { message: 'It does.', in_reply_to: reply_to } })
  const again = await deck(t, ['ask', mission, 'rafael', 'Does it?', '--key', 'k'], env)
  t.match(again, { code: 0, out: 'It does.\n' })
})

void t.test(
  'ask: without an inbox, a message that names nothing is the reply, unless its draft is older',
  async (t) => {
    const { env, mission, topic, instance, id } = await open(t)
    const agent = await instance.connect(rafael)
    await agent.ask({ type: 'subscribe', topic })
    await agent.ask({ type: 'stream', topic, key: 'old', delta: 'an old' })
    const asking = start(t, ['ask', mission, 'rafael', '-'], env, 'And\nthis?')
    await until(() => asking.err().includes('is stored'), 'the question')
    await agent.ask({ type: 'stream', topic, key: 'old', delta: ' reply' })
    await agent.ask({ type: 'stream', topic, key: 'old', done: true })
    await until(() => asking.err().includes('Rafael has written since, without naming this question'), 'the line')
    await agent.ask({ type: 'send', topic, message: 'At once.' })
    t.match(await asking.ended, { code: 0, out: 'At once.\n' })
    const cleared = start(t, ['ask', mission, 'rafael', 'Still?'], env)
    await until(() => cleared.err().includes('is stored'), 'the question')
    t.equal((await instance.request('DELETE', `/api/missions/${id}/chat/rafael`, admin)).status, 204)
    t.match(await cleared.ended, { code: 1, err: /the chat was cleared, with the question/ })
  },
)

void t.test('questions: are listed, retried and cancelled by seq or ID', async (t) => {
  const { database, env, mission } = await open(t)
  for (const text of ['One?', 'Two?', 'Three?']) await deck(t, ['say', mission, 'rafael', text], env)
  const agentless = await deck(t, ['questions', mission, 'rafael', '--limit', '2'], env)
  t.match(agentless, { code: 0, out: /^#2 {2}waiting {3}since \S+Z\n#3 {2}waiting {3}since \S+Z\n$/ })
  t.equal(agentless.err, 'older ones: --before 2\nrafael is not connected\n')
  t.match(await deck(t, ['cancel', mission, 'rafael', '#2'], env), { code: 0, out: /^#2 {2}closed/ })
  await database.query(
    `insert into deck.tasks (id, citizen, mission_id, seq, at, attempt, dead)
     select id, citizen, mission_id, seq, at, 5, true from chat_messages where seq = 3`,
  )
  const { out } = await deck(t, ['questions', mission, 'rafael', '--state', 'failed', '--json'], env)
  const { questions } = JSON.parse(out) as { questions: Json[] }
  t.match(JSON.parse(out), { questions: [{ seq: 3, attempt: 5 }], listening: false, has_more: false })
  const retried = await deck(t, ['retry', mission, 'rafael', String(questions[0]?.['id']), '--json'], env)
  t.match(JSON.parse(retried.out), { seq: 3, state: 'waiting', attempt: 0 })
  await refuses(t, [
    [['retry', mission, 'rafael', '3'], env, 1, 'conflict'],
    [['cancel', mission, 'rafael', '9'], env, 1, 'not_found'],
    [['retry', mission, 'rafael', '#x'], env, 2, 'bad_request'],
    [['questions', mission, 'rafael', '--state', 'lost'], env, 2, 'bad_request'],
    [['questions', mission, 'rafael', '--limit', '501'], env, 1, 'bad_request'],
    [['ask', mission, 'rafael', 'x', '--wait', '-1'], env, 2, 'bad_request'],
  ])
})

void t.test('citizens: are listed, registered and removed', async (t) => {
  const { database, env } = await open(t)
  await database.query(
    `insert into deck.inboxes (citizen, seen) values ('emma', now()), ('sofia', now() - interval '3 days')`,
  )
  const root = { ...env, DECK_TOKEN: admin }
  t.match(await deck(t, ['citizens', 'put', 'zoe', '--title', 'Research', '--about', 'Ask\nher'], root), {
    code: 0,
    out: '  6  zoe  Research  (never seen)\n     Ask her\n',
  })
  const listed = await deck(t, ['citizens'], env)
  t.match(listed, { code: 0, err: '' })
  t.match(listed.out, /^ {2}1 {2}emma {2}Scope {2}\(connected\)\n/)
  t.match(listed.out, / {2}4 {2}sofia {2}Quality {2}\(last seen 3 days ago\)\n/)
  const put = await deck(t, ['citizens', 'put', 'zoe', '--title', 'Reading', '--position', '-1', '--json'], root)
  t.match(JSON.parse(put.out), { name: 'zoe', title: 'Reading', about: null, position: -1 })
  const all = JSON.parse((await deck(t, ['citizens', '--json'], env)).out) as Json[]
  t.match(all[0], { name: 'zoe', listening: false, last_seen: null })
  t.equal(all.length, 6)
  t.match(await deck(t, ['citizens', '--json', 'delete', 'zoe'], root), { code: 0, out: '{"name":"zoe"}\n' })
  await refuses(t, [
    [['citizens', 'delete', 'zoe'], root, 1, 'not_found'],
    [['citizens', 'delete', 'emma'], env, 1, 'forbidden'],
    [['citizens', 'put', 'Zoe', '--title', 'x'], root, 2, 'bad_request'],
    [['citizens', 'put', 'zoe'], root, 2, 'bad_request'],
    [['citizens', 'put', 'zoe', '--title', ''], root, 1, 'bad_request'],
    [['citizens', 'put', 'zoe', '--title', 'x', '--position', '4294967296'], root, 2, 'bad_request'],
    [['citizens', 'list'], env, 2, 'bad_request'],
  ])
  // A server of this folder: an admin's token is signed.
  await writeFile(join(folder, 'jwt-secret'), secret)
  const own = { DECK_URL: env.DECK_URL, DATA_DIR: folder }
  t.match(await deck(t, ['citizens', 'put', 'zoe', '--title', 'x'], own), { code: 0, err: /acting as admin/ })
})

void t.test(
  'state line: names the state, the time in it, the attempt, and since when a citizen is not connected',
  (t) => {
    const now = Date.parse('2026-01-02T00:00:00Z')
    const at = (seconds: number): string => new Date(now - seconds * 1000).toISOString()
    const line = (change: Partial<Question>, listening: boolean, last_seen?: string | null): string => {
      const question = {
        id: 'q',
        seq: 1,
        state: 'waiting',
        attempt: 0,
        since: at(12),
        until: null,
        answer: null,
      } as const
      return lineOf('rafael', { question: { ...question, ...change }, listening, last_seen }, now)
    }
    t.strictSame(
      [
        line({}, false, at(7200)),
        line({}, false, null),
        line({}, false),
        line({ attempt: 2 }, false, at(59)),
        line({}, true),
        line({ attempt: 1, since: at(120) }, true),
        line({ state: 'working', attempt: 1, since: at(0) }, true),
        line({ state: 'working', attempt: 2 }, true),
        line({ state: 'working', attempt: 1, since: at(-60) }, true),
      ],
      [
        'waiting: Rafael is not connected (last seen 2 h ago)',
        'waiting: Rafael is not connected (never seen)',
        'waiting: Rafael is not connected',
        'waiting after 2 attempts: Rafael is not connected (last seen 59 s ago)',
        'waiting for 12 s: Rafael is connected',
        'waiting for 2 min after 1 attempt: Rafael is connected',
        'working',
        'working for 12 s, attempt 2',
        'working',
      ],
    )
    t.end()
  },
)

void t.test('state line: is updated in place on a terminal, and otherwise printed when the state changes', (t) => {
  const notes: string[] = []
  const io: Io = {
    json: false,
    live: false,
    paint: (_colour, text) => text,
    print: () => {},
    write: () => {},
    note: (line) => void notes.push(line),
  }
  const question: Question = {
    id: 'q',
    seq: 1,
    state: 'working',
    attempt: 1,
    since: new Date().toISOString(),
    until: null,
    answer: null,
  }
  const run = (isTTY: boolean): string => {
    let seen = ''
    const line = makeStateLine(io, 'rafael', { isTTY, columns: 20, write: (text) => void (seen += text) })
    line.show({ question: undefined, listening: true })
    line.show({ question, listening: true })
    line.show({ question: { ...question, until: question.since }, listening: true })
    line.hide(true)
    line.show({ question: { ...question, attempt: 2 }, listening: true })
    line.hide(false)
    line.stop()
    return seen
  }
  t.equal(run(false), '')
  const changes = ['Rafael has written since, without naming this question', 'working', 'working, attempt 2']
  t.strictSame(notes, changes)
  t.equal(
    run(true),
    'Rafael has written \x1b[K\r' + 'working\x1b[K\r'.repeat(2) + '\x1b[K' + 'working, attempt 2\x1b[K\r' + '\x1b[K',
  )
  t.equal(notes.length, changes.length, 'a terminal gets no further lines')
  t.end()
})

void t.test('ask: shows the steps of the worker as lines on stderr, with --json in the drafts', async (t) => {
  const { env, mission, topic, instance } = await open(t)
  const agent = await instance.connect(rafael)
  t.match(await agent.ask({ type: 'work', credit: 5 }), { type: 'ok' })
  for (const more of [[], ['--json']]) {
    const asking = start(t, ['ask', mission, 'rafael', 'Does it run?', ...more], env)
    const before = agent.frames.filter(({ type }) => type === 'task').length
    await until(() => agent.frames.filter(({ type }) => type === 'task').length > before, 'the task')
    const task = agent.frames.findLast(({ type }) => type === 'task')?.['task']
    const write = async (frame: Json): Promise<void> => {
      t.match(await agent.ask({ type: 'stream', topic, key: `task:${String(task)}`, ...frame }), { type: 'ok' })
    }
    const shows = (text: string): Promise<void> =>
      until(() => (more.length > 0 ? asking.out() : asking.err()).includes(text), text)
    await write({ activity: { id: 'a', line: 'Reads \x1b[31m the code', status: 'running' } })
    await shows(more.length > 0 ? '"line":"Reads ' : '· Reads \ufffd[31m the code')
    await write({ activity: { id: 'a', line: 'Has read it', status: 'done' } })
    await write({ activity: { id: 'b', line: 'Runs the tests', status: 'failed' }, delta: 'It ' })
    await shows(more.length > 0 ? 'Runs the tests' : '✗ Runs the tests')
    await write({ delta: 'does not.', done: true, task })
    const { code, out, err } = await asking.ended
    t.equal(code, 0)
    if (more.length === 0) {
      t.equal(out, 'It does not.\n', 'only the reply')
      t.equal(err.split('✓ Has read it').length, 2, 'each change once')
      continue
    }
    const drafts = lines(out).filter(({ event }) => event === 'draft')
    t.match(drafts[0], { offset: 0, delta: '', activity: [{ status: 'running' }] })
    t.match(drafts.at(-1), { activity: [{ line: 'Has read it', status: 'done' }, { line: 'Runs the tests' }] })
    t.match(lines(out).at(-1), { data: { activity: [{ line: 'Has read it' }, { status: 'failed' }] } })
  }
})
