// Chats over HTTP: posting, history, keys, clearing and channels, as in the contract.
// Code blocks are in code-blocks.test.ts, refusals in bad-input.test.ts, rights in policy.test.ts.
import fc from 'fast-check'
import t from 'tap'
import { isForm, messageForm, refused, time } from '../support/forms.ts'
import {
  admin,
  alice,
  bob,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  type Answer,
  type Json,
} from '../support/server.ts'

const { database, instance } = await startDeck(t)
const { request } = instance
const newChat = async (citizen = 'rafael'): Promise<{ id: string; number: number; chat: string }> => {
  const mission = await makeMission(instance)
  return { ...mission, chat: `/api/missions/${mission.id}/chat/${citizen}` }
}
type History = { messages: Json[]; last_seq: number; has_more: boolean; epoch: string }
const history = async (chat: string, query = ''): Promise<History> => {
  const { status, json, text } = await request('GET', chat + query, alice)
  if (status !== 200) throw new Error(text)
  return json as History
}
const seqs = ({ messages }: History): unknown[] => messages.map(({ seq }) => seq)

void t.test('chat: the answer to a POST and the history have the message exactly as saved', async (t) => {
  const { id, number, chat } = await newChat('sofia-2_x')
  const { status, json, headers } = await request('POST', chat, alice, { message: 'hello' })
  t.equal(status, 201)
  t.match(headers.get('content-type'), /^application\/json/)
  isForm(t, json, messageForm({ mission_id: id, citizen: 'sofia-2_x' }), 'Message')
  const reply = await request('POST', `/api/missions/${number}/chat/sofia-2_x`, admin, {
    message: 'hi',
    sender: 'citizen',
    author: 'sofia-2_x',
    key: ' ~',
  })
  const form = { mission_id: id, citizen: 'sofia-2_x', sender: 'citizen', author: 'sofia-2_x', message: 'hi', seq: 2 }
  isForm(t, reply.json, messageForm({ ...form, key: ' ~' }), 'an answer')
  t.ok(String(reply.json['created_at']) >= String(json['created_at']), 'created_at never decreases with seq')
  for (const name of [id, id.toUpperCase(), number]) {
    const found = await history(`/api/missions/${name}/chat/sofia-2_x`)
    t.strictSame(found.messages, [json, reply.json], `as ${name}`)
    isForm(t, found, { messages: found.messages, last_seq: 2, has_more: false, epoch: /./ }, 'history')
  }
  t.strictSame(
    (await history(chat)).epoch,
    (await history((await newChat()).chat)).epoch,
    'all chats have the same epoch',
  )
})

void t.test('chat: is empty before its first message', async (t) => {
  const found = await history((await newChat('emma')).chat)
  isForm(t, found, { messages: [], last_seq: 0, has_more: false, epoch: /./ }, 'history')
})

void t.test('messages: text is returned byte for byte', async (t) => {
  const { chat } = await newChat()
  const odd = [
    'e\u0301 is not \u00e9, \u212b is not \u00c5',
    'a\r\nb\rc\n',
    '\uFEFFwith a BOM\uFEFF',
    '  spaces and tabs \t ',
    ' ',
    '\u0001\u001f\u007f\u0085\u2028\u2029',
    '\uffff\ufdd0\u{10ffff}',
    '👩‍👩‍👧‍👦 🇩🇪',
    '\\u0000 \\n " \\" null',
    `'); drop table chat_messages; --`,
    '{"$type":1} %00 <b> &amp; $1 ${x}',
    'e\u0301'.repeat(5000),
    '😀'.repeat(10_000),
    '\u0001'.repeat(10_000),
  ]
  for (const [n, message] of odd.entries()) {
    const { status, json } = await request('POST', chat, alice, { message })
    t.equal(status, 201)
    t.ok(json['message'] === message, `answered as sent: ${n}`)
  }
  const found = (await history(chat)).messages.map(({ message }) => message)
  t.ok(JSON.stringify(found) === JSON.stringify(odd), 'read as sent')
  const inDatabase = await database.query(
    `select encode(convert_to(message, 'UTF8'), 'hex') as hex from chat_messages
     where mission_id = $1 order by seq`,
    [chat.split('/')[3]],
  )
  t.strictSame(
    inDatabase.map(({ hex }) => hex),
    odd.map((message) => Buffer.from(message).toString('hex')),
    'stored as sent',
  )
})

void t.test('messages: random text is returned unchanged', async (t) => {
  const { chat } = await newChat()
  const text = fc
    .string({ unit: 'binary', minLength: 1, maxLength: 50 })
    .filter((s) => !s.includes('\0') && s.isWellFormed())
  await fc.assert(
    fc.asyncProperty(fc.array(text, { minLength: 1, maxLength: 8 }), async (messages) => {
      const { last_seq } = await history(chat)
      for (const message of messages) await request('POST', chat, alice, { message, code_blocks: [{ code: message }] })
      const found = await history(chat, `?after=${last_seq}`)
      t.strictSame(
        found.messages.map((m) => m['message']),
        messages,
      )
      t.strictSame(
        found.messages.map((m) => m['code_blocks']),
        messages.map((code) => [{ language: null, code }]),
      )
    }),
    { numRuns: 15 },
  )
})

void t.test('history: after, before and both return a page in ascending order', async (t) => {
  const { chat } = await newChat()
  for (let i = 1; i <= 55; i++) await request('POST', chat, alice, { message: `${i}` })
  const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)
  const cases: [query: string, from: number, to: number, more: boolean][] = [
    ['', 6, 55, true],
    ['?limit=55', 1, 55, false],
    ['?limit=500', 1, 55, false],
    ['?limit=1', 55, 55, true],
    ['?after=0', 1, 50, true],
    ['?after=5', 6, 55, false],
    ['?after=4&limit=50', 5, 54, true],
    ['?after=54', 55, 55, false],
    ['?after=55', 56, 55, false],
    ['?after=10&limit=3', 11, 13, true],
    ['?before=11&limit=3', 8, 10, true],
    ['?before=4&limit=3', 1, 3, false],
    ['?before=1', 1, 0, false],
    ['?before=0', 1, 0, false],
    ['?before=1000&limit=2', 54, 55, true],
    ['?before=9007199254740991&limit=1', 55, 55, true],
    ['?after=10&before=14', 11, 13, false],
    ['?after=10&before=14&limit=3', 11, 13, false],
    ['?after=10&before=14&limit=2', 11, 12, true],
    ['?after=10&before=11', 11, 10, false],
    ['?after=20&before=10', 11, 10, false],
  ]
  for (const [query, from, to, more] of cases) {
    const found = await history(chat, query)
    t.strictSame([seqs(found), found.has_more, found.last_seq], [range(from, to), more, 55], query || 'the newest')
    t.strictSame(
      found.messages.map((m) => m['message']),
      range(from, to).map(String),
    )
  }
})

void t.test('history: a page over the byte limit is shorter and has has_more; the next one continues it', async (t) => {
  const { id } = await makeMission(instance)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, code_blocks)
     select $1, 'rafael', 'user', n::text, jsonb_build_array(jsonb_build_object('code', repeat('x', 262144)))
     from generate_series(1, 150) n`,
    [id],
  )
  const chat = `/api/missions/${id}/chat/rafael`
  const read = async (query: string): Promise<{ seqs: number[]; more: unknown }> => {
    const { json } = await instance.request('GET', `${chat}?limit=500&${query}`, alice)
    return { seqs: (json['messages'] as { seq: number }[]).map(({ seq }) => seq), more: json['has_more'] }
  }
  const forward: number[] = []
  for (let more: unknown = true; more;) {
    const page = await read(`after=${forward.at(-1) ?? 0}`)
    t.ok(page.seqs.length <= 130, `${page.seqs.length} messages in one page`)
    forward.push(...page.seqs)
    more = page.more
  }
  const backward: number[] = []
  for (let more: unknown = true; more;) {
    const page = await read(backward.length ? `before=${backward[0]}` : '')
    backward.unshift(...page.seqs)
    more = page.more
  }
  const all = Array.from({ length: 150 }, (_, n) => n + 1)
  t.strictSame([forward, backward], [all, all])
})

void t.test('idempotency key: a repeated key returns the first message and saves nothing', async (t) => {
  const { chat } = await newChat()
  const first = await request('POST', chat, alice, { message: 'first', code_blocks: [{ code: 'x' }], key: 'k' })
  t.equal(first.status, 201)
  isForm(
    t,
    first.json,
    messageForm({ message: 'first', code_blocks: [{ language: null, code: 'x' }], key: 'k' }),
    'first',
  )
  const again: Answer[] = [
    await request('POST', chat, alice, { message: 'second', key: 'k' }),
    await request('POST', chat, alice, { message: 'second' }, { 'idempotency-key': 'k' }),
    await request('POST', chat, alice, { message: 'second', key: 'k' }, { 'idempotency-key': 'k' }),
    await request('POST', chat, admin, { message: 'second', key: 'k', sender: 'user', author: 'alice' }),
  ]
  for (const { status, json } of again) t.strictSame([status, json], [200, first.json])
  t.strictSame((await history(chat)).messages, [first.json])
})

void t.test('idempotency key: one message is saved when many sends with one key run at the same time', async (t) => {
  const { chat } = await newChat()
  const sends = Array.from({ length: 20 }, (_, i) => request('POST', chat, alice, { message: `${i}`, key: 'k' }))
  const answers = await Promise.all(sends)
  t.strictSame(answers.map(({ status }) => status).sort(), [...Array<number>(19).fill(200), 201])
  const { messages } = await history(chat)
  t.equal(messages.length, 1)
  for (const { json } of answers) t.strictSame(json, messages[0])
})

void t.test('idempotency key: belongs to one author in one chat', async (t) => {
  const { id, chat } = await newChat()
  const other = await newChat()
  const send = async (path: string, bearer: string, more: Json = {}): Promise<string> => {
    const { status, json } = await request('POST', path, bearer, { message: 'x', key: 'k'.repeat(64), ...more })
    t.equal(status, 201)
    return String(json['id'])
  }
  const ids = [
    await send(chat, alice),
    await send(chat, rafael),
    await send(chat, admin),
    await send(chat, admin, { author: null }),
    await send(chat, alice, { key: 'K'.repeat(64) }),
    await send(`/api/missions/${id}/chat/sofia`, alice),
    await send(other.chat, alice),
  ]
  t.equal(new Set(ids).size, ids.length)
  const none = await request('POST', chat, admin, { message: 'x', key: 'k'.repeat(64), author: null })
  t.strictSame(
    [none.status, none.json['id'], none.json['author']],
    [200, ids[3], null],
    'messages without an author share their keys',
  )
})

void t.test('idempotency key: a key that SQL used returns the message that SQL saved', async (t) => {
  const { id, chat } = await newChat()
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, author, message, key)
     values ($1, 'rafael', 'user', 'alice', E'by SQL\\n\`\`\`sql\\nselect 1\\n\`\`\`', 'k')`,
    [id],
  )
  const { status, json } = await request('POST', chat, alice, { message: 'again', key: 'k' })
  t.equal(status, 200)
  const message = 'by SQL\n```sql\nselect 1\n```'
  isForm(
    t,
    json,
    messageForm({ message, code_blocks: [{ language: 'sql', code: 'select 1\n' }], key: 'k' }),
    'as saved',
  )
  t.strictSame((await history(chat)).messages, [json])
})

void t.test('chat: after it is cleared, seq continues and used keys are conflicts', async (t) => {
  const { id, chat } = await newChat()
  for (const message of ['1', '2', '3']) await request('POST', chat, alice, { message, key: `k${message}` })
  const { epoch } = await history(chat)
  const cleared = await request('DELETE', chat, admin)
  t.strictSame([cleared.status, cleared.text], [204, ''])
  t.strictSame(await history(chat), { messages: [], last_seq: 4, has_more: false, epoch })
  t.strictSame(await history(chat, '?after=0'), { messages: [], last_seq: 4, has_more: false, epoch })
  refused(t, await request('POST', chat, alice, { message: 'x', key: 'k1' }), 409, 'conflict', 'a cleared key')
  const byHeader = await request('POST', chat, alice, { message: 'x' }, { 'idempotency-key': 'k2' })
  refused(t, byHeader, 409, 'conflict', 'a cleared key in the header')
  const next = await request('POST', chat, alice, { message: 'x', key: 'k4' })
  t.strictSame([next.status, next.json['seq']], [201, 5])
  const others = await request('POST', chat, rafael, { message: 'x', key: 'k1' })
  t.strictSame([others.status, others.json['seq']], [201, 6], "another author's key was never used")
  t.strictSame(seqs(await history(chat, '?after=2')), [5, 6])
  t.equal((await request('DELETE', chat, admin)).status, 204)
  t.equal((await request('DELETE', chat, admin)).status, 204, 'an empty chat can be cleared')
  t.equal((await request('POST', chat, alice, { message: 'x' })).json['seq'], 9)
  t.equal(
    (await request('DELETE', `/api/missions/${id}/chat/emma`, admin)).status,
    204,
    'and a chat that never had a message',
  )
})

void t.test('idempotency key: can be used again a day after the chat was cleared', async (t) => {
  const { id, chat } = await newChat()
  await request('POST', chat, alice, { message: 'old', key: 'k' })
  await request('DELETE', chat, admin)
  await database.query(
    `update deck.cleared_keys set cleared_at = cleared_at - interval '24 hours 1 second' where mission_id = $1`,
    [id],
  )
  const { status, json } = await request('POST', chat, alice, { message: 'new', key: 'k' })
  t.strictSame([status, json['message'], json['seq']], [201, 'new', 3])
})

void t.test('channels: a mission lists its chats, each with its newest message', async (t) => {
  const { id, number, chat } = await newChat()
  const channels = async () => (await request('GET', `/api/missions/${number}/chat`, bob)).status
  t.equal(await channels(), 404)
  const read = async (): Promise<Record<string, unknown>> => {
    const { status, json } = await request('GET', `/api/missions/${id}/chat`, alice)
    t.equal(status, 200)
    t.strictSame([Object.keys(json), json['next']], [['channels', 'next'], null])
    const rows = json['channels'] as Json[]
    return Object.fromEntries(
      rows.map((row) => [String(row['citizen']), [row['last_seq'], row['last_message']]] as const),
    )
  }
  t.strictSame(await read(), {})
  await request('POST', chat, alice, { message: '1' })
  const last = (await request('POST', chat, alice, { message: '2' })).json
  const other = (await request('POST', `/api/missions/${id}/chat/a_b-c`, alice, { message: '1' })).json
  t.strictSame(await read(), { 'a_b-c': [1, other], rafael: [2, last] })
  await request('DELETE', chat, admin)
  t.strictSame(await read(), { 'a_b-c': [1, other], rafael: [3, null] })
})

void t.test('channels: listed in pages, the newest first; a long message is cut to its beginning', async (t) => {
  const { id } = await newChat()
  const code = (bytes: number): string => JSON.stringify([{ language: null, code: 'x'.repeat(bytes) }])
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, code_blocks, created_at)
     select $1, 'c' || n, 'user', repeat('🎛', 9000), $2::jsonb, now() + n * interval '1 s' from generate_series(1, 600) n`,
    [id, code(20_000)],
  )
  const page = async (query: string) => {
    const { status, json, text } = await request('GET', `/api/missions/${id}/chat${query}`, alice)
    t.equal(status, 200)
    t.ok(Buffer.byteLength(text) < 4 * 1024 * 1024, `${text.length} characters`)
    return json as { channels: { citizen: string; last_message: Json }[]; next: string | null }
  }
  const first = await page('')
  t.equal(first.channels.length, 500)
  const second = await page(`?cursor=${first.next}`)
  t.equal(second.next, null)
  const all = [...first.channels, ...second.channels]
  t.equal(new Set(all.map(({ citizen }) => citizen)).size, 600, 'each once')
  t.strictSame(all[0]?.last_message['code_blocks'], null)
  t.equal(all[0]?.last_message['message'], '🎛'.repeat(300))
  t.equal(all[0]?.last_message['cut'], true)
  const small: string[] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const next: Awaited<ReturnType<typeof page>> = await page(`?limit=70${cursor && `&cursor=${cursor}`}`)
    small.push(...next.channels.map(({ citizen }) => citizen))
    cursor = next.next
  }
  t.strictSame(
    small,
    all.map(({ citizen }) => citizen),
  )

  const { id: other, chat } = await newChat()
  await request('POST', chat, alice, { message: `${'a'.repeat(300)}` })
  await request('POST', `/api/missions/${other}/chat/sofia`, alice, { message: `${'b'.repeat(301)}` })
  await request('POST', `/api/missions/${other}/chat/emma`, alice, {
    message: 'c',
    code_blocks: [{ language: 'x', code: 'y'.repeat(5000) }],
  })
  const { channels } = (await request('GET', `/api/missions/${other}/chat`, alice)).json as { channels: Json[] }
  t.match(
    channels,
    [
      { citizen: 'emma', last_message: { message: 'c', code_blocks: null, cut: true } },
      { citizen: 'sofia', last_message: { message: 'b'.repeat(300), cut: true } },
      { citizen: 'rafael', last_message: { message: 'a'.repeat(300), code_blocks: null, cut: undefined } },
    ],
    'the newest first',
  )
  for (const cursor of ['x', 'bm8', '%00', first.next?.slice(3) ?? ''])
    t.match(await request('GET', `/api/missions/${id}/chat?cursor=${cursor}`, alice), { status: 400 })
  for (const limit of [0, 501, 'x'])
    t.match(await request('GET', `/api/missions/${id}/chat?limit=${limit}`, alice), { status: 400 })
})

void t.test('history: has messages written by SQL at once, in one numbering with the others', async (t) => {
  const { id, chat } = await newChat()
  await request('POST', chat, alice, { message: '1' })
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     values ($1, 'rafael', 'user', '2'), ($1, 'rafael', 'citizen', '3')`,
    [id],
  )
  t.equal((await request('POST', chat, alice, { message: '4' })).json['seq'], 4)
  const found = await history(chat)
  isForm(
    t,
    found.messages[2],
    messageForm({ mission_id: id, sender: 'citizen', author: null, message: '3', seq: 3 }),
    'SQL',
  )
  t.strictSame(
    found.messages.map((m) => m['message']),
    ['1', '2', '3', '4'],
  )
  await database.query(`delete from chat_messages where mission_id = $1 and seq in (2, 4)`, [id])
  const gapped = await history(chat)
  t.strictSame([seqs(gapped), gapped.last_seq, gapped.has_more], [[1, 3], 4, false], 'readers skip gaps')
})

void t.test('mission number: when another mission takes it over, it names that mission at once', async (t) => {
  const first = await makeMission(instance, { number: 9001 })
  const chat = '/api/missions/9001/chat/rafael'
  t.equal((await request('POST', chat, alice, { message: '1' })).json['mission_id'], first.id)
  await request('DELETE', '/api/missions/9001', admin)
  refused(t, await request('POST', chat, alice, { message: '2' }), 404, 'not_found', 'a deleted mission')
  const second = await makeMission(instance, { number: 9001 })
  const { status, json } = await request('POST', chat, alice, { message: '3' })
  t.strictSame([status, json['mission_id'], json['seq']], [201, second.id, 1])
  await database.query('update missions set number = 9002 where id = $1', [second.id])
  refused(t, await request('POST', chat, alice, { message: '4' }), 404, 'not_found', 'a mission with another number')
})

void t.test("times: do not depend on the database's date style or time zone", async (t) => {
  const { id, chat } = await newChat()
  await database.query(
    `do $$ begin
       execute format('alter database %I set datestyle = German', current_database());
       execute format('alter database %I set timezone = ''Asia/Tokyo''', current_database());
     end $$`,
  )
  const other = await startInstance(t, database.url)
  const { json } = await other.request('POST', chat, alice, { message: 'x' })
  t.match(json['created_at'], time)
  t.strictSame((await other.request('GET', chat, alice)).json['messages'], [json])
  await other.request('POST', `/api/missions/${id}/tests/run`, alice)
  await other.request('POST', `/api/missions/${id}/tests/run`, alice)
  const { next } = (await other.request('GET', `/api/missions/${id}/tests?limit=1`, alice)).json
  const second = await other.request('GET', `/api/missions/${id}/tests?limit=1&cursor=${next as string}`, alice)
  t.strictSame([second.status, second.json['next']], [200, null])
})
