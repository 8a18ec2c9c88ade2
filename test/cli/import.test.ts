// Messages of any program become messages of a chat: numbered, live, in order, and each once, even after repeated or cut imports.
// A bad line is reported by its number, and its batch is not saved.
import { randomUUID } from 'node:crypto'
import { basename } from 'node:path'
import t, { type Test } from 'tap'
import fc from 'fast-check'
import { microsOf, type Defaults } from '../../src/protocol/transfer.ts'
import { fileOf, taken, type Taken } from '../support/transfer.ts'
import { deck, start, type Ended } from '../support/cli.ts'
import type { FreshDatabase } from '../support/database.ts'
import { admin, alice, makeMission, startDeck, token, until, type Json } from '../support/server.ts'

const ndjson = (lines: unknown[]): string => lines.map((line) => `${JSON.stringify(line)}\n`).join('')
const run = (t: Test, { url }: FreshDatabase, file: string, ...args: string[]): Promise<Ended> =>
  deck(t, ['import', file, ...args], { DATABASE_URL: url })
const messagesOf = async ({ query }: FreshDatabase, mission: string, citizen = 'rafael'): Promise<unknown[]> =>
  (
    await query(`select message from chat_messages where mission_id = $1 and citizen = $2 order by seq`, [
      mission,
      citizen,
    ])
  ).map(({ message }) => message)

void t.test('import: saves messages into the named chats, in order, with their times, and live', async (t) => {
  const { instance, database } = await startDeck(t)
  const [one, two] = [await makeMission(instance), await makeMission(instance)]
  const topic = `missions/${one.id}/chat/rafael`
  await instance.request('POST', `/api/${topic}`, alice, { message: 'before' })
  const follower = await instance.connect(alice)
  await follower.ask({ type: 'subscribe', topic })
  const id = randomUUID()
  const lines: Json[] = [
    {
      mission: one.number,
      citizen: 'rafael',
      sender: 'user',
      message: 'one',
      created_at: '2020-01-01T12:00:00.123456+02:00',
    },
    {
      mission: one.id,
      citizen: 'rafael',
      sender: 'citizen',
      message: 'two',
      author: 'bot',
      key: 'k',
      id,
      more: { ignored: 1 },
    },
    {
      mission: String(two.number),
      citizen: 'emma',
      sender: 'user',
      message: 'elsewhere',
      code_blocks: [{ language: 'js', code: '1' }],
    },
    { mission_id: one.id, citizen: 'rafael', sender: 'user', message: '```py\n3\n```', code_blocks: null },
    { mission: one.number, citizen: 'rafael', sender: 'user', message: 'one', created_at: '0001-01-01T00:00:00Z' },
  ]
  const file = await fileOf(`\ufeff${ndjson(lines).replaceAll('\n', '\r\n\n')}`)
  t.match(await run(t, database, file), { code: 0, out: /^5 saved, 0 there already \(\d+\/s\)\n$/, err: '' })
  await until(() => follower.events(topic).length === 4, 'the messages, live')
  t.match(
    follower.events(topic).map(({ seq, data }) => ({ seq, ...data })),
    [
      { seq: 2, message: 'one', created_at: '2020-01-01T10:00:00.123456Z', sender: 'user', author: null, key: null },
      { seq: 3, message: 'two', id, sender: 'citizen', author: 'bot', key: 'k' },
      { seq: 4, code_blocks: [{ language: 'py', code: '3\n' }] },
      { seq: 5, message: 'one', created_at: '0001-01-01T00:00:00Z' },
    ],
  )
  const { json } = await instance.request('GET', `/api/missions/${two.id}/chat/emma`, alice)
  t.match(json, { last_seq: 1, messages: [{ message: 'elsewhere', code_blocks: [{ language: 'js', code: '1' }] }] })

  // The same file again saves nothing, and the API returns the imported message for its key.
  t.match(await run(t, database, file, '--json'), { code: 0, out: '{"saved":0,"seen":5,"bad":0}\n' })
  t.match(await instance.request('POST', `/api/${topic}`, admin, { message: 'x', author: 'bot', key: 'k' }), {
    status: 200,
  })
  t.strictSame((await messagesOf(database, one.id)).length, 5)
})

void t.test(
  'import: a grown or corrected file adds its new lines; a file of another name adds all its lines',
  async (t) => {
    const { instance, database } = await startDeck(t)
    const { id, number } = await makeMission(instance)
    const line = (message: string) => ({ mission: number, citizen: 'rafael', sender: 'user', message })
    const lines = [line('same'), line('same'), line(''), line('three')]
    const name = 'log.ndjson'
    const take = (some: unknown[], options = {}): Promise<Taken> =>
      taken(database.url, ndjson(some), { name, ...options })
    t.match(await take(lines), { saved: 0, why: /^line 3: message / })
    t.strictSame(await messagesOf(database, id), [], 'its batch is not saved')
    t.match(await take(lines, { skip: true }), { saved: 3, seen: 0, bad: 1, lines: [{ line: 3, why: /^message / }] })
    const corrected = [...lines.with(2, line('corrected')), line('new')]
    t.match(await take(corrected), { saved: 2, seen: 3, bad: 0 })
    t.strictSame(await messagesOf(database, id), ['same', 'same', 'three', 'corrected', 'new'])
    t.match(await take([line('same')], { name: 'another' }), { saved: 1, seen: 0 })
    t.match(await take([line('same')]), { saved: 0, seen: 1 })
  },
)

void t.test("import: a chat's NDJSON is saved once into another chat, and adds nothing to its own", async (t) => {
  const { instance, database } = await startDeck(t)
  const { id, number } = await makeMission(instance)
  for (const message of ['one', '```js\n2\n```', 'three'])
    await instance.request('POST', `/api/missions/${id}/chat/rafael`, alice, { message, key: message.slice(0, 3) })
  const stream = { accept: 'application/x-ndjson' }
  const { text } = await instance.request('GET', `/api/missions/${id}/chat/rafael`, alice, undefined, stream)
  t.match(await taken(database.url, text), { saved: 0, seen: 3, bad: 0 })
  const other = await makeMission(instance)
  const chats: Defaults[] = [
    { mission: { number: other.number } },
    { citizen: 'emma' },
    { mission: { id: other.id }, citizen: 'emma' },
  ]
  for (const given of chats) {
    t.match(await taken(database.url, text, { given }), { saved: 3, seen: 0, bad: 0 })
    t.match(await taken(database.url, text, { given }), { saved: 0, seen: 3, bad: 0 })
  }
  const read = async (mission: string, who: string): Promise<unknown> => {
    const { json } = await instance.request('GET', `/api/missions/${mission}/chat/${who}`, alice)
    return (json['messages'] as Json[]).map((row) => ({ ...row, id: '', mission_id: '', citizen: '' }))
  }
  t.strictSame(await read(other.id, 'emma'), await read(id, 'rafael'))
  const bare = ndjson([{ message: 'bare' }])
  t.match(await taken(database.url, bare), { why: /line 1: mission is missing/ })
  t.match(await taken(database.url, bare, { given: { mission: { number } } }), { why: /line 1: citizen is missing/ })
  // The file comes from stdin.
  const args = ['--mission', String(number), '--citizen', 'leo', '--sender', 'citizen']
  const piped = await deck(t, ['import', '-', ...args], { DATABASE_URL: database.url }, '{"message":"piped"}')
  t.match(piped, { code: 0, out: /^1 saved/ })
})

void t.test('import: reports each bad line with its number and its fault', async (t) => {
  const { instance, database } = await startDeck(t)
  const { id, number } = await makeMission(instance)
  const other = await instance.request('POST', `/api/missions/${id}/chat/emma`, alice, { message: 'here', key: 'old' })
  await instance.request('POST', `/api/missions/${id}/chat/leo`, alice, { message: 'gone', key: 'old' })
  await instance.request('DELETE', `/api/missions/${id}/chat/leo`, admin)
  const good = { mission: number, citizen: 'rafael', sender: 'user', message: 'good' }
  const text = JSON.stringify(good)
  const lines: [string | Buffer, RegExp | undefined][] = [
    [text, undefined],
    ['{"message":', /not JSON/],
    ['[1]', /not a JSON object/],
    ['null', /not a JSON object/],
    [JSON.stringify({ ...good, mission: 4711 }), /no such mission/],
    [JSON.stringify({ ...good, mission: 'x' }), /UUID or its number/],
    [JSON.stringify({ ...good, citizen: 'Rafael' }), /citizen/],
    [JSON.stringify({ ...good, sender: 'king' }), /sender/],
    [JSON.stringify({ ...good, message: 'x'.repeat(10_001) }), /message/],
    [text.replace('good', '\\u0000'), /U\+0000/],
    [text.replace('good', '\\ud800'), /lone surrogates/],
    [JSON.stringify({ ...good, author: '' }), /author/],
    [JSON.stringify({ ...good, key: 'é' }), /key/],
    [JSON.stringify({ ...good, id: '47' }), /id/],
    [JSON.stringify({ ...good, id: other.json['id'] }), /its id is that of a message in another chat/],
    [JSON.stringify({ ...good, citizen: 'leo', key: 'old', author: 'alice' }), /used before the chat was cleared/],
    [JSON.stringify({ ...good, created_at: '2021-02-29T00:00:00Z' }), /created_at/],
    [JSON.stringify({ ...good, created_at: '0001-01-01T00:00:00+01:00' }), /created_at is out of range/],
    [JSON.stringify({ ...good, created_at: 1600000000 }), /created_at/],
    [JSON.stringify({ ...good, code_blocks: [{ code: 'x'.repeat(262_145) }] }), /over 256 KiB/],
    [`{"a":${'['.repeat(40_000)}`, /nested too deep/],
    [Buffer.from([0x22, 0xff, 0x22]), /not UTF-8/],
    [`{"a":"${'x'.repeat(4 * 1024 * 1024)}"}`, /over 4 MiB/],
    [JSON.stringify({ ...good, message: 'the last' }), undefined],
  ]
  const bytes = (some: (string | Buffer)[]): Buffer =>
    Buffer.concat(some.flatMap((line) => [Buffer.from(line), Buffer.from('\n')]))
  const all = bytes(lines.map(([line]) => line))
  const found = await taken(database.url, all, { skip: true })
  t.match(found, { saved: 2, seen: 0, bad: lines.length - 2 })
  const wrong = lines.flatMap(([, why], n) => (why ? [{ line: n + 1, why }] : []))
  t.match(
    found.lines.sort((a, b) => a.line - b.line),
    wrong,
  )
  t.strictSame(await messagesOf(database, id), ['good', 'the last'])
  const skipped = await run(t, database, await fileOf(all), '--skip-bad')
  t.match(skipped, { code: 0, err: /^line 2: not JSON\nline 3: / })
  // Without --skip-bad the first bad line ends the import and its batch is not saved, even if only the database finds the fault.
  for (const n of [1, 14]) {
    const file = await fileOf(bytes([text.replace('good', 'never'), lines[n]?.[0] ?? '']))
    t.match(await run(t, database, file), { code: 1, err: new RegExp(`line 2: .*${lines[n]?.[1]?.source}`) })
  }
  t.notOk((await messagesOf(database, id)).includes('never'))
})

/** Returns `count` lines that alternate between two chats. */
const many = (number: number, count: number): Json[] =>
  Array.from({ length: count }, (_, n) => ({
    mission: number,
    citizen: n % 2 ? 'rafael' : 'emma',
    sender: 'user',
    message: `${n} ${'x'.repeat(150)}`,
  }))
const saved = async (database: FreshDatabase): Promise<number> =>
  Number((await database.query('select count(*) as n from chat_messages'))[0]?.['n'])
/** Asserts that all lines are saved once, in order, and that the seqs have no gap. */
const isWhole = async (t: Test, database: FreshDatabase, mission: string, lines: Json[]): Promise<void> => {
  for (const citizen of ['rafael', 'emma'])
    t.strictSame(
      await messagesOf(database, mission, citizen),
      lines.filter((line) => line['citizen'] === citizen).map(({ message }) => message),
    )
  t.match(
    await database.query(
      `select max(seq)::int as last, count(distinct seq)::int as n from chat_messages group by citizen`,
    ),
    [1, 2].map(() => ({ last: lines.length / 2, n: lines.length / 2 })),
  )
}

void t.test('import: resumes when it is run again after a kill, an interrupt or the loss of Postgres', async (t) => {
  const { instance, database } = await startDeck(t)
  const { id, number } = await makeMission(instance)
  const lines = many(number, 40_000)
  const file = await fileOf(ndjson(lines))
  const cuts: [string, (child: ReturnType<typeof start>) => Promise<unknown> | boolean, Json][] = [
    ['killed', ({ child }) => child.kill('SIGKILL'), { code: null }],
    ['interrupted', ({ child }) => child.kill('SIGINT'), { code: 130, out: /interrupted: run it again/ }],
    [
      'without Postgres',
      () =>
        database.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where query like '%import_messages%' and pid <> pg_backend_pid()`,
        ),
      { code: 1, err: /run it again to continue/ },
    ],
  ]
  for (const [what, cut, end] of cuts) {
    const before = await saved(database)
    const child = start(t, ['import', file], { DATABASE_URL: database.url })
    await until(async () => (await saved(database)) > before, `${what}: the first batch`, 60_000)
    await cut(child)
    t.match(await child.ended, end, what)
    await until(
      async () =>
        (
          await database.query(`select from pg_stat_activity where query like '%deck.import_messages($1%'
        and state = 'active' and pid <> pg_backend_pid()`)
        ).length === 0,
      'the end of its last batch',
      60_000,
    )
    t.ok((await saved(database)) < lines.length, `${what}: it was cut off`)
  }
  const before = await saved(database)
  t.match(await taken(database.url, ndjson(lines), { name: basename(file) }), {
    saved: lines.length - before,
    seen: before,
    bad: 0,
  })
  await isWhole(t, database, id, lines)
  t.match(await taken(database.url, ndjson(lines), { name: basename(file) }), { saved: 0, seen: lines.length, bad: 0 })
})

void t.test('import: two at once of one file save each line once while messages are posted', async (t) => {
  const { instance, database } = await startDeck(t)
  const { id, number } = await makeMission(instance)
  const lines = many(number, 10_000)
  let over = false
  const both = Promise.all([1, 2].map(() => taken(database.url, ndjson(lines), { name: 'one' }))).finally(
    () => (over = true),
  )
  let posted = 0
  while (!over) {
    const { status } = await instance.request('POST', `/api/missions/${id}/chat/rafael`, alice, { message: 'posted' })
    t.equal(status, 201)
    posted++
  }
  const [a, b] = await both
  t.equal((a?.saved ?? 0) + (b?.saved ?? 0), lines.length)
  t.equal((a?.seen ?? 0) + (b?.seen ?? 0), lines.length)
  t.ok(posted > 0)
  const messages = await messagesOf(database, id)
  t.equal(messages.filter((message) => message === 'posted').length, posted)
  t.strictSame(
    messages.filter((message) => message !== 'posted').sort(),
    lines
      .filter((line) => line['citizen'] === 'rafael')
      .map(({ message }) => message)
      .sort(),
  )
  t.match(await database.query(`select max(seq)::int as last from chat_messages where citizen = 'rafael'`), [
    { last: messages.length },
  ])
})

void t.test('import: random text, authors, blocks and times are saved unchanged', async (t) => {
  const { instance, database } = await startDeck(t)
  const { number } = await makeMission(instance)
  const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 50 }).filter((s) => !s.includes('\0'))
  const line = fc.record({
    mission: fc.constant(number),
    citizen: fc.stringMatching(/^[a-z][a-z0-9_-]{0,5}$/),
    sender: fc.constantFrom('user', 'citizen'),
    author: fc.option(text),
    message: text,
    code_blocks: fc.option(fc.array(fc.record({ language: fc.option(text), code: text }), { maxLength: 2 })),
    id: fc.uuid(),
    created_at: fc
      .tuple(
        fc.date({ min: new Date('0001-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:59Z'), noInvalidDate: true }),
        fc.integer({ min: 0, max: 999 }),
      )
      .map(([date, micros]) => date.toISOString().replace('Z', `${String(micros).padStart(3, '0')}Z`)),
  })
  const lines = fc.sample(line, 500).map((line) => JSON.parse(JSON.stringify(line)) as typeof line)
  t.match(await taken(database.url, ndjson(lines)), { saved: lines.length, bad: 0 })
  const rows = await database.query(
    `select id, citizen, sender, author, message, code_blocks, to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at from chat_messages`,
  )
  const found = new Map(rows.map((row) => [row['id'], row]))
  for (const { mission, ...line } of lines) {
    const row = found.get(line.id)
    if (mission !== number || !row) return t.fail(line.id)
    t.strictSame({ ...row }, { ...line, code_blocks: line.code_blocks }, line.id)
  }
})

void t.test('import: times are read to the microsecond, with any offset', async (t) => {
  const { database } = await startDeck(t)
  const times = [
    '2020-02-29T23:59:60Z',
    '1999-12-31t23:59:59.9999999z',
    '0099-03-01T00:00:00.5+14:00',
    '2024-06-01T00:00:00.000001-11:30',
  ]
  for (const time of times) {
    const [row] = await database.query(
      `select (extract(epoch from $1::timestamptz at time zone 'utc' - timestamp '2000-01-01') * 1000000)::bigint::text as us`,
      [time],
    )
    t.equal(String(microsOf(time)), row?.['us'], time)
  }
  for (const time of [
    '2020-01-01',
    '2020-01-01T00:00:00',
    '2020-13-01T00:00:00Z',
    '2020-04-31T00:00:00Z',
    '2020-01-01T24:00:00Z',
    '0000-01-01T00:00:00Z',
  ])
    t.throws(() => microsOf(time), time)
})

void t.test('import: keeps what replies answer, also in another chat, and makes no tasks', async (t) => {
  const { instance, database } = await startDeck(t)
  const { id, number } = await makeMission(instance)
  const chat = (citizen: string): string => `/api/missions/${id}/chat/${citizen}`
  const live = await instance.request('POST', chat('rafael'), alice, { message: 'live' })
  const [question, answer] = [randomUUID(), randomUUID()]
  const line = { mission: number, citizen: 'rafael', created_at: new Date().toISOString() }
  const lines = [
    { ...line, id: question, sender: 'user', message: 'Does it run?' },
    { ...line, id: answer, sender: 'citizen', message: 'It does.', in_reply_to: question },
    { ...line, id: randomUUID(), sender: 'citizen', message: 'Yes.', in_reply_to: randomUUID() },
    { ...line, id: randomUUID(), sender: 'user', message: 'imported last' },
  ]
  const file = await fileOf(ndjson(lines))
  t.match(await run(t, database, file), { code: 0 })
  t.match(await run(t, database, file, '--citizen', 'emma'), { code: 0 })
  t.match(await run(t, database, file), { code: 0, out: /4 .*already/ }, 'again: nothing new')
  const read = async (citizen: string): Promise<Json[]> =>
    (await instance.request('GET', chat(citizen), alice)).json['messages'] as Json[]
  const [, asked, replied, lost] = await read('rafael')
  t.strictSame([asked?.['id'], replied?.['in_reply_to'], lost?.['in_reply_to']], [question, question, null])
  const [copy, reply] = await read('emma')
  t.not(copy?.['id'], question)
  t.equal(reply?.['in_reply_to'], copy?.['id'], 'the copies name each other')
  const questions = (await instance.request('GET', `${chat('rafael')}/questions?state=answered`, alice)).json
  t.match(questions['questions'], [{ id: question, answer: { id: answer } }])

  // The first work, after the import: only the message that was waiting before becomes a task.
  for (const citizen of ['rafael', 'emma'])
    await database.query(`select deck.open_inbox($1), deck.find_tasks($1, null, 100)`, [citizen])
  const open = `select id from deck.tasks where ended is null order by at`
  t.strictSame(await database.query(open), [{ id: live.json['id'] }])
  // And with an open inbox: a message that waits and is not found yet stays a task; an imported message behind it does not become one.
  const next = await instance.request('POST', chat('rafael'), alice, { message: 'live, too' })
  const more = await fileOf(ndjson([{ ...line, id: randomUUID(), sender: 'user', message: 'imported later' }]))
  t.match(await run(t, database, more), { code: 0 })
  await database.query(`select deck.find_tasks('rafael', null, 100)`)
  t.strictSame(await database.query(open), [{ id: live.json['id'] }, { id: next.json['id'] }])
})

void t.test('import: keeps activity and usage, and refuses what no message may have', async (t) => {
  const { instance, database } = await startDeck(t)
  const { id, number } = await makeMission(instance)
  const path = `/api/missions/${id}/chat/rafael`
  const rafael = await instance.connect(await token({ sub: 'rafael', role: 'citizen' }))
  const topic = path.slice('/api/'.length)
  await rafael.ask({ type: 'stream', topic, key: 'k', activity: { id: 'a', line: 'Reads 🎛', status: 'failed' } })
  await rafael.ask({ type: 'stream', topic, key: 'k', done: true, message: 'x', usage: { tokens: 1 } })
  await rafael.ask({ type: 'send', topic, message: 'y' })
  // The lines of a chat's stream are imported into another chat as they are.
  const { text } = await instance.request('GET', path, alice, undefined, { accept: 'application/x-ndjson' })
  t.match(await run(t, database, await fileOf(text), '--citizen', 'emma'), { code: 0 })
  const { json } = await instance.request('GET', `/api/missions/${id}/chat/emma`, alice)
  const [first, second] = json['messages'] as Json[]
  t.match(first, { usage: { tokens: 1 }, activity: [{ line: 'Reads 🎛', status: 'failed' }] })
  t.strictSame(first?.['activity'], (JSON.parse(text.split('\n')[0] ?? '') as Json)['activity'])
  t.notOk('usage' in (second ?? {}) || 'activity' in (second ?? {}))
  const line = { mission: number, citizen: 'rafael', sender: 'citizen', message: 'z' }
  const step = { line: 'x', status: 'done', ms: 1 }
  for (const more of [
    { usage: [] },
    { usage: { text: 'x'.repeat(4097) } },
    { usage: { text: '\ud800' } },
    { activity: 'x' },
    { activity: [{ ...step, status: 'x' }] },
    { activity: [{ ...step, line: '' }] },
    { activity: [{ ...step, line: 'a\0b' }] },
    { activity: [{ ...step, ms: -1 }] },
    { activity: Array.from({ length: 51 }, () => step) },
  ])
    t.match(
      await run(t, database, await fileOf(ndjson([{ ...line, ...more }]))),
      { code: 1 },
      JSON.stringify(more).slice(0, 60),
    )
  for (const nothing of [{ usage: null, activity: null }, { activity: [] }])
    t.match(await run(t, database, await fileOf(ndjson([{ ...line, ...nothing }]))), { code: 0 })
})
