// Filters of a chat's history. Pages and streams return the same messages as a simple model, whatever wrote the messages,
// with or without index blocks. bench/search.ts measures their cost.
import fc from 'fast-check'
import t from 'tap'
import type { FreshDatabase } from '../support/database.ts'
import { refused } from '../support/forms.ts'
import { admin, alice, bob, startDeck, startInstance, until, type Door, type Json } from '../support/server.ts'
import { fill, lines, newChat, range } from '../support/stream-readers.ts'

const { database, instance } = await startDeck(t, { limits: { pollEvery: 300 } })
const other = await startInstance(t, database.url, { limits: { pollEvery: 300 } })

type Found = { seqs: number[]; pages: number }
const seqsOf = ({ json }: { json: Json }): number[] => (json['messages'] as Json[]).map(({ seq }) => Number(seq))
const queryOf = (query: object): string =>
  new URLSearchParams(
    Object.fromEntries(Object.entries(query).map(([name, value]) => [name, String(value)])),
  ).toString()

/** All results of a query, page by page through has_more. */
const byPages = async (door: Door, chat: string, query: Query, forward: boolean, limit: number): Promise<Found> => {
  const seqs: number[] = []
  for (let pages = 1, bound: Query = forward ? { after: 0 } : {}; ; pages++) {
    const answer = await door.request('GET', `${chat}?${queryOf({ ...bound, limit, ...query })}`, alice)
    if (answer.status !== 200) throw new Error(answer.text)
    const found = seqsOf(answer)
    if (forward) seqs.push(...found)
    else seqs.unshift(...found)
    if (answer.json['has_more'] !== true) return { seqs, pages }
    if (found.length !== limit) throw new Error(`a page of ${found.length} with has_more`)
    bound = forward ? { after: found.at(-1) ?? 0 } : { before: found[0] ?? 0 }
  }
}
const byStream = async (door: Door, chat: string, query: Query): Promise<number[]> => {
  const { status, text } = await door.request('GET', `${chat}?${queryOf(query)}`, alice, undefined, lines)
  if (status !== 200) throw new Error(text)
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => Number((JSON.parse(line) as Json)['seq']))
}

/** Waits until the chat's blocks cover all but fewer than 500 messages, and none is stale. */
const indexed = (db: FreshDatabase, mission: string): Promise<void> =>
  until(
    async () => {
      const [row] = await db.query(
        `select (select count(*) from deck.search_stale where mission_id = $1)::int as stale,
           (select max(seq) from chat_messages where mission_id = $1) -
             coalesce((select max(last) from deck.search_blocks where mission_id = $1), 0) as ahead`,
        [mission],
      )
      return row?.['stale'] === 0 && Number(row['ahead']) < 500
    },
    'the blocks',
    20_000,
  )

type Said = {
  message: string
  code_blocks: { language: string | null; code: string }[] | null
  sender: string
  at: string
}
const words = ['alpha', 'Beta', 'GAMMA', 'delta', 'über', 'foo-bar', 'x', '<b']
const languages = ['python', 'Python', 'py', 'c++', 'C#', 'ÄÖ', 'a b']
const hour = (n: number): string => new Date(Date.UTC(2025, 0, 1, n)).toISOString()
const text = fc.array(fc.constantFrom(...words), { minLength: 1, maxLength: 4 }).map((some) => some.join(' '))
const said: fc.Arbitrary<Said> = fc
  .record({
    text,
    how: fc.constantFrom('plain', 'plain', 'blocks', 'fence', 'fence with blocks', 'empty'),
    language: fc.constantFrom(...languages),
    fence: fc.constantFrom('```', '~~~~', '> ```', '1. ~~~ '),
    sender: fc.constantFrom('user', 'user', 'user', 'citizen'),
    hour: fc.integer({ min: 0, max: 9 }),
  })
  .map(({ text, how, language, fence, sender, hour: n }) => ({
    message: how.startsWith('fence') ? `${text}\n\n${fence}${language} more\nfenced` : text,
    code_blocks:
      how === 'blocks' || how === 'fence with blocks'
        ? [{ language: how === 'blocks' ? language : 'sql', code: 'inside' }]
        : how === 'empty'
          ? []
          : null,
    sender,
    at: hour(n),
  }))

const filters = fc.record({
  language: fc.constantFrom('python', 'PY', 'C++', 'c#', 'äö', 'A B', 'sql', 'java', '1'),
  q: fc.constantFrom(
    'alpha',
    'BETA gamma',
    '"alpha beta"',
    'alpha or x',
    '-delta',
    'alpha -x',
    'fenced',
    'inside',
    'nowhere',
    'Über',
  ),
  sender: fc.constantFrom('user', 'citizen'),
  since: fc.integer({ min: -1, max: 10 }).map(hour),
  until: fc.integer({ min: -1, max: 10 }).map(hour),
})
type Query = {
  language?: string
  q?: string
  sender?: string
  since?: string
  until?: string
  after?: number
  before?: number
}
const seq = fc.option(fc.integer({ min: 0, max: 1300 }), { nil: undefined, freq: 2 })
/** One to three filters, half of the time with bounds. */
const query: fc.Arbitrary<Query> = fc
  .record({
    names: fc.subarray(['language', 'q', 'sender', 'since', 'until'] as const, { minLength: 1, maxLength: 3 }),
    all: filters,
    bounded: fc.boolean(),
    after: seq,
    before: seq,
  })
  .map(({ names, all, bounded, after, before }) => ({
    ...Object.fromEntries(names.map((name) => [name, all[name]])),
    ...(bounded && after !== undefined ? { after } : {}),
    ...(bounded && before !== undefined ? { before } : {}),
  }))

/** Lower-case words: letters of any language and digits, without hyphens. */
const tokens = (message: string): string[] => message.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []
const asks: Record<string, (has: (word: string) => boolean, all: string[]) => boolean> = {
  alpha: (has) => has('alpha'),
  'BETA gamma': (has) => has('beta') && has('gamma'),
  '"alpha beta"': (_has, all) => all.some((word, i) => word === 'alpha' && all[i + 1] === 'beta'),
  'alpha or x': (has) => has('alpha') || has('x'),
  '-delta': (has) => !has('delta'),
  'alpha -x': (has) => has('alpha') && !has('x'),
  fenced: (has) => has('fenced'),
  inside: (has) => has('inside'),
  nowhere: (has) => has('nowhere'),
  Über: (has) => has('über'),
}
/** A row as its page shows it. The code blocks come from the server (test/http/code-blocks.test.ts). */
const fits = (row: Json, { language, q, sender, since, until, after, before }: Query): boolean => {
  const all = tokens(String(row['message']))
  const blocks = (row['code_blocks'] ?? []) as { language: string | null }[]
  const [seq, at] = [Number(row['seq']), Date.parse(String(row['created_at']))]
  return (
    (language === undefined || blocks.some((block) => block.language?.toLowerCase() === language.toLowerCase())) &&
    (q === undefined || asks[q]?.((word) => all.includes(word), all) === true) &&
    (sender === undefined || row['sender'] === sender) &&
    (since === undefined || at >= Date.parse(since)) &&
    (until === undefined || at < Date.parse(until)) &&
    (after === undefined || seq > after) &&
    (before === undefined || seq < before)
  )
}

const save = async (mission: string, chat: string, messages: Said[]): Promise<void> => {
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, code_blocks, created_at)
     select $1, 'rafael', m ->> 'sender', m ->> 'message', nullif(m -> 'code_blocks', 'null'), (m ->> 'at')::timestamptz at time zone 'utc'
     from jsonb_array_elements($2::jsonb) with ordinality as x (m, n) order by n`,
    [mission, JSON.stringify(messages)],
  )
  for (const { message, code_blocks, sender } of messages.slice(0, 3)) {
    const { status, text } = await instance.request('POST', chat, admin, { message, code_blocks, sender })
    if (status !== 201) throw new Error(text)
  }
}
const everything = async (chat: string): Promise<Json[]> => {
  const { text } = await instance.request('GET', chat, alice, undefined, lines)
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Json)
}

void t.test(
  'chat search: filters return what a simple model returns, on pages in both directions, as a stream, on two instances, with and without blocks',
  async (t) => {
    const { id, chat } = await newChat(instance)
    const sample = fc.sample(said, { numRuns: 1100, seed: 6 })
    const check = async (what: string, runs: number): Promise<void> => {
      const rows = await everything(chat)
      let found = 0
      // Random queries may find little, so they are repeated until there are enough results to compare.
      for (let round = 0; found <= 100 && round < 20; round++)
        await fc.assert(
          fc.asyncProperty(query, fc.constantFrom(1, 7, 50, 500), fc.boolean(), async (given, limit, second) => {
            const door = second ? other : instance
            const expected = rows.filter((row) => fits(row, given)).map(({ seq }) => Number(seq))
            found += expected.length
            // A larger page keeps the number of pages small.
            const size = Math.max(limit, Math.ceil(expected.length / 8))
            const { after, before, ...rest } = given
            const bounds = { ...(after === undefined ? {} : { after }), ...(before === undefined ? {} : { before }) }
            t.strictSame(await byStream(door, chat, given), expected, 'the stream')
            if (after === undefined && before === undefined) {
              for (const forward of [true, false]) {
                const { seqs } = await byPages(door, chat, rest, forward, size)
                if (JSON.stringify(seqs) !== JSON.stringify(expected))
                  throw new Error(`${seqs.join()} instead of ${expected.join()}`)
              }
            } else {
              const answer = await door.request('GET', `${chat}?${queryOf({ ...given, limit })}`, alice)
              const part = after === undefined ? expected.slice(-limit) : expected.slice(0, limit)
              if (JSON.stringify(seqsOf(answer)) !== JSON.stringify(part))
                throw new Error(`${seqsOf(answer).join()} for ${JSON.stringify(bounds)}`)
              if ((answer.json['has_more'] === true) !== expected.length > part.length) throw new Error('has_more')
              if (answer.json['last_seq'] !== rows.at(-1)?.['seq']) throw new Error('last_seq')
            }
          }),
          { numRuns: runs },
        )
      t.ok(found > 100, `${what}: ${found} messages expected`)
    }
    await save(id, chat, sample.slice(0, 400))
    await check('no blocks', 25)
    await save(id, chat, sample.slice(400))
    await indexed(database, id)
    const blocks = await database.query(
      'select first, last from deck.search_blocks where mission_id = $1 order by first',
      [id],
    )
    t.match(blocks, [{ first: '1' }, { first: '501' }], 'two blocks of 500, and the other messages without a block')
    await check('blocks', 50)
    // Changes and deletions by SQL take effect at once, and still hold after the blocks are rebuilt.
    await database.query(
      `update chat_messages set message = 'nowhere', created_at = '2025-01-02' where mission_id = $1 and seq in (7, 700)`,
      [id],
    )
    await database.query(`delete from chat_messages where mission_id = $1 and seq % 5 = 0`, [id])
    const nowhere = async (): Promise<void> => {
      t.strictSame(
        await byStream(other, chat, { q: 'nowhere' }),
        [7, 7 + 693].filter((n) => n % 5 !== 0),
      )
    }
    await nowhere()
    await check('changed', 15)
    await indexed(database, id)
    await nowhere()
    await check('mended', 15)
  },
)

void t.test('chat search: a Markdown code block written by SQL is found before and after indexing', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(
    database,
    id,
    600,
    `case n when 300 then E'see\\n~~~ Rust,ignore\\nfn\\n~~~' when 301 then E'- \`\`\`c\\\\+\\\\+ x' when 302 then E'\`\`\`r&amp;d' else 'n' end`,
  )
  const find = async (): Promise<void> => {
    for (const [language, seqs] of [
      ['rust,ignore', [300]],
      ['C++', [301]],
      ['r&d', [302]],
      ['rust', []],
      ['n', []],
    ] as const)
      t.strictSame(await byStream(instance, chat, { language }), seqs, language)
  }
  await find()
  await indexed(database, id)
  await find()
})

void t.test('chat search: words are found as written, inside and outside code, each message once', async (t) => {
  const { id, chat } = await newChat(instance)
  const texts = [
    'await bot.sendMessage(chat_id, text)',
    'see <a href="https://example.com/docs/Inline_Keyboard.md?x=1">vector<int></a>',
    'mail me at rafael@example.org',
    '\u212aelvin and \u0130stanbul, 100%',
    'nothing of that',
  ]
  await database.query(
    `insert into chat_messages (mission_id, sender, message) select $1, 'user', m from unnest($2::text[]) with ordinality x (m, n) order by n`,
    [id, texts],
  )
  const cases: [q: string, seqs: number[]][] = [
    ['sendmessage', [1]],
    ['bot.sendMessage', [1]],
    ['sendMessage.bot', []],
    ['chat_id', [1]],
    ['example.com', [2]],
    ['example', [2, 3]],
    ['example -rafael@example.org', [2]],
    ['-example.org text', [1]],
    ['INT', [2]],
    ['"vector int"', [2]],
    ['inline_keyboard.md', [2]],
    ['kelvin', [4]],
    ['istanbul or vector', [2, 4]],
    ['100%', [4]],
    ['"nothing of" -that', []],
    ['noth', []],
  ]
  const find = async (): Promise<void> => {
    for (const [q, seqs] of cases) t.strictSame(await byStream(instance, chat, { q }), seqs, q)
  }
  await find()
  await fill(database, id, 600, `'n'`)
  await indexed(database, id)
  await find()
})

void t.test('chat search: since is inclusive, until exclusive, to the microsecond and in any zone', async (t) => {
  const { id, chat } = await newChat(instance)
  for (const at of [
    '0001-01-01',
    '2024-02-29 12:00:00.123456',
    '2024-02-29 12:00:00.123457',
    '9999-12-31 23:59:59.999999',
  ])
    await database.query(
      `insert into chat_messages (mission_id, sender, message, created_at) values ($1, 'user', 'n', $2)`,
      [id, at],
    )
  const cases: [query: Record<string, string>, seqs: number[]][] = [
    [{ since: '2024-02-29T12:00:00.123456Z' }, [2, 3, 4]],
    [{ since: '2024-02-29T12:00:00.1234561Z' }, [3, 4]],
    [{ until: '2024-02-29T12:00:00.123456Z' }, [1]],
    [{ until: '2024-02-29t14:00:00.1234561+02:00' }, [1, 2]],
    [{ since: '2024-02-29 06:30:00-05:30', until: '2024-02-29T12:00:01z' }, [2, 3]],
    [{ since: '2024-02-29T12:00:00.999999999Z', until: '9999-12-31T23:59:59.999999Z' }, []],
    [{ since: '0001-01-01T00:00:00Z', until: '9999-12-31T23:59:59.999999Z' }, [1, 2, 3]],
    [{ since: '2024-02-29T11:59:60Z' }, [2, 3, 4]],
    [{ since: '2025-01-01T00:00:00Z', until: '2024-01-01T00:00:00Z' }, []],
  ]
  for (const [query, seqs] of cases) {
    const answer = await instance.request('GET', `${chat}?${queryOf(query)}`, alice)
    t.strictSame([answer.status, seqsOf(answer)], [200, seqs], JSON.stringify(query))
    t.strictSame(await byStream(instance, chat, query), seqs)
  }
})

void t.test('chat search: invalid filters are refused, never clamped', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 3)
  const bad: Record<string, string>[] = [
    ...[
      '',
      'x',
      '2024-01-01',
      '2024-01-01T00:00:00',
      '2024-02-30T00:00:00Z',
      '2023-02-29T00:00:00Z',
      '2024-01-01T24:00:00Z',
    ].map((since) => ({ since })),
    ...[
      '2024-01-01T00:00:00+24:00',
      '0000-12-31T00:00:00Z',
      '0001-01-01T00:00:00+01:00',
      '9999-12-31T23:59:59-01:00',
      '9999-12-31T23:59:60Z',
    ].map((until) => ({ until })),
    ...[
      '2024-01-01T00:00:00 02:00',
      '10000-01-01T00:00:00Z',
      'infinity',
      '2024-13-01T00:00:00Z',
      '9999-12-31T23:59:59.9999999Z',
    ].map((since) => ({ since })),
    ...['', 'admin', 'User'].map((sender) => ({ sender })),
    ...['', ' ', '!?', '""', '-', 'x'.repeat(501), 'a\0'].map((q) => ({ q })),
    ...['', 'x'.repeat(257), '\0'].map((language) => ({ language })),
    { language: 'x', limit: '501' },
    { q: 'x', after: '-1' },
  ]
  for (const query of bad) {
    refused(
      t,
      await instance.request('GET', `${chat}?${queryOf(query)}`, alice),
      400,
      'bad_request',
      JSON.stringify(query),
    )
    const { limit, ...rest } = query
    if (limit === undefined)
      refused(
        t,
        await instance.request('GET', `${chat}?${queryOf(rest)}`, alice, undefined, lines),
        400,
        'bad_request',
        'a stream',
      )
  }
  refused(t, await instance.request('GET', `${chat}?q=a&q=b`, alice), 400, 'bad_request', 'a repeated parameter')
  for (const q of [
    `'`,
    `a' | 'b`,
    `\\`,
    `a\\' b`,
    `😀 :* & ! ( <->`,
    'x'.repeat(500),
    'ẞ'.repeat(500),
    "o'neill",
    'a/b\\c',
  ])
    for (const language of [`'`, `\\`, `\\'`, "'|'"]) {
      const answer = await instance.request('GET', `${chat}?${queryOf({ q: `n ${q}`.slice(0, 500), language })}`, alice)
      t.strictSame([answer.status, seqsOf(answer)], [200, []], `${q} ${language}`)
    }
  refused(t, await instance.request('GET', `${chat}?q=n`, bob), 404, 'not_found', "another user's mission")
  refused(
    t,
    await instance.request('GET', `/api/missions/${crypto.randomUUID()}/chat/rafael?q=n`, admin),
    404,
    'not_found',
  )
  const none = await instance.request('GET', `${chat.replace('rafael', 'emma')}?q=n`, alice)
  t.match(none.json, { messages: [], last_seq: 0, has_more: false })
})

void t.test('chat search: cleared and deleted messages are not found, and leave the index', async (t) => {
  const one = await newChat(instance)
  const two = await newChat(instance)
  for (const { id } of [one, two]) {
    await fill(database, id, 1100, `'secret ' || n`)
    await indexed(database, id)
  }
  await instance.request('DELETE', one.chat, admin)
  await instance.request('DELETE', `/api/missions/${two.id}`, admin)
  await fill(database, one.id, 600, `'open ' || n`)
  t.strictSame(await byStream(other, one.chat, { q: 'secret' }), [])
  t.strictSame(await byStream(other, one.chat, { q: 'open' }), range(1102, 1701))
  const left = () =>
    database.query(
      `select mission_id, first, last from deck.search_blocks where mission_id = any ($1) and words @@ 'secret'
       union all select mission_id, first, last from deck.search_stale where mission_id = any ($1)
       union all select mission_id, first, last from deck.search_blocks where mission_id = $2`,
      [[one.id, two.id], two.id],
    )
  await until(async () => (await left()).length === 0, 'nothing left', 20_000)
  await indexed(database, one.id)
  t.strictSame(await byStream(other, one.chat, { q: 'open' }), range(1102, 1701))
  t.strictSame(await byStream(other, one.chat, { q: '"open 600"' }), [1701])
})

void t.test('chat search: a page ends at 4 MiB with has_more; pages return every message once', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(
    database,
    id,
    140,
    `'n'`,
    `jsonb_build_array(jsonb_build_object('language', 'ts', 'code', repeat('x', 261000)))`,
  )
  const seqs: number[] = []
  for (let after = 0, more = true; more;) {
    const answer = await instance.request('GET', `${chat}?language=TS&limit=500&after=${after}`, alice)
    t.ok(answer.text.length <= 4 * 1024 * 1024)
    seqs.push(...seqsOf(answer))
    after = seqs.at(-1) ?? 0
    more = answer.json['has_more'] === true
  }
  t.strictSame(seqs, range(1, 140))
  t.strictSame(await byStream(instance, chat, { language: 'TS' }), range(1, 140))
})
