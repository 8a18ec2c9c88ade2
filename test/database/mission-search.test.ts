// A search of a mission returns what a simple model returns, in the same order, page by page, whatever wrote the rows. Highlights are
// the words of the query. chat-search.test.ts covers the filters of one chat; bench/search.ts measures the cost.
import fc from 'fast-check'
import t from 'tap'
import type { Test } from 'tap'
import type { FreshDatabase } from '../support/database.ts'
import { refused } from '../support/forms.ts'
import {
  admin,
  alice,
  bob,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  token,
  until,
  type Json,
} from '../support/server.ts'
import { fill, lines, newChat } from '../support/stream-readers.ts'

const { database, instance } = await startDeck(t, { limits: { pollEvery: 300 } })
const other = await startInstance(t, database.url, { limits: { pollEvery: 300 } })

type Hit = Json & { kind: string; topic: string; seq: number; at: string; id: string; snippet: Snippet }
type Snippet = { text: string; hits: [number, number][] }
const queryOf = (query: object): string =>
  new URLSearchParams(
    Object.entries(query).flatMap(([name, value]): [string, string][] =>
      value === undefined ? [] : [[name, String(value)]],
    ),
  ).toString()
const ask = (id: string, query: object, bearer = alice, door = instance) =>
  door.request('GET', `/api/missions/${id}/search?${queryOf(query)}`, bearer)

/** All hits, page by page. */
const find = async (id: string, query: object, limit = 500, door = instance): Promise<Hit[]> => {
  const hits: Hit[] = []
  for (let cursor: unknown = undefined; ;) {
    const answer = await ask(id, { ...query, limit, cursor }, alice, door)
    if (answer.status !== 200) throw new Error(answer.text)
    const page = answer.json['hits'] as Hit[]
    hits.push(...page)
    cursor = answer.json['next']
    if (cursor === null) return hits
    if (page.length !== limit) throw new Error(`a page of ${page.length} with a next cursor`)
  }
}
/** Abbreviates a hit: its kind, the end of its topic and its seq. */
const short = ({ kind, topic, seq }: Hit): string => `${kind} ${topic.slice(46)} ${seq}`
const marked = ({ text, hits }: Snippet): string[] => hits.map(([start, length]) => text.slice(start, start + length))

/** Waits until the mission's blocks are complete and include code, and none is stale. */
const indexed = (db: FreshDatabase, mission: string): Promise<void> =>
  until(
    async () => {
      const [row] = await db.query(
        `select (select count(*) from deck.search_stale where mission_id = $1)::int
             + (select count(*) from deck.search_blocks where mission_id = $1 and not code)::int as stale,
           (select max(c.seq - coalesce((select max(last) from deck.search_blocks b where b.mission_id = $1 and b.citizen = c.citizen), 0))
            from chat_messages c where c.mission_id = $1) as ahead`,
        [mission],
      )
      return row?.['stale'] === 0 && Number(row['ahead']) < 500
    },
    'the blocks',
    20_000,
  )

const citizens = ['rafael', 'sofia', 'emma']
const words = ['alpha', 'Beta', 'GAMMA', 'delta', 'über', 'foo.bar', 'x', '<b']
const text = fc.array(fc.constantFrom(...words), { minLength: 1, maxLength: 4 }).map((some) => some.join(' '))
const said = fc
  .record({
    text,
    code: text,
    how: fc.constantFrom('plain', 'plain', 'blocks', 'fence', 'both'),
    citizen: fc.constantFrom(...citizens),
    minute: fc.integer({ min: 0, max: 60 }),
  })
  .map(({ text, code, how, citizen, minute }) => ({
    citizen,
    message: how === 'fence' || how === 'both' ? `${text}\n\n> ~~~ ts\n> ${code}\n> ~~~\n` : text,
    code_blocks:
      how === 'blocks' || how === 'both'
        ? [
            { language: null, code: 'none' },
            { language: 'sql', code },
          ]
        : null,
    at: new Date(Date.UTC(2025, 0, 1, 0, minute)).toISOString(),
  }))
const run = fc.record({
  status: fc.constantFrom('passed', 'failed', 'running'),
  summary: fc.option(text.map((note) => ({ total: 3, note }))),
  results: fc.option(
    fc.array(
      fc.record({
        name: text,
        status: fc.constantFrom('passed', 'failed'),
        error: fc.option(text),
        ms: fc.constant(12),
      }),
      {
        maxLength: 4,
      },
    ),
  ),
  minute: fc.integer({ min: 0, max: 60 }),
})

/** The lower-case words of a text. */
const tokens = (text: string): string[] => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []
const asks: Record<string, (has: (word: string) => boolean, all: string[]) => boolean> = {
  alpha: (has) => has('alpha'),
  'BETA gamma': (has) => has('beta') && has('gamma'),
  '"alpha beta"': (_has, all) => all.some((word, i) => word === 'alpha' && all[i + 1] === 'beta'),
  'alpha or x': (has) => has('alpha') || has('x'),
  '-delta': (has) => !has('delta'),
  'alpha -x': (has) => has('alpha') && !has('x'),
  'foo.bar': (_has, all) => all.some((word, i) => word === 'foo' && all[i + 1] === 'bar'),
  failed: (has) => has('failed'),
  'passed total': (has) => has('passed') && has('total'),
  nowhere: () => false,
  Über: (has) => has('über'),
}
type Known = { kind: string; topic: string; seq: number; at: string; texts: string[] }

/** Everything that can be found, read from its own routes. */
const everything = async (id: string): Promise<Known[]> => {
  const known: Known[] = []
  for (const citizen of citizens) {
    const { text } = await instance.request('GET', `/api/missions/${id}/chat/${citizen}`, alice, undefined, lines)
    for (const line of text.split('\n').filter(Boolean)) {
      const { seq, created_at, message, code_blocks } = JSON.parse(line) as Json
      const row = { topic: `chat/${citizen}`, seq: Number(seq), at: String(created_at) }
      const codes = ((code_blocks ?? []) as { code: string }[]).map(({ code }) => code)
      known.push({ ...row, kind: 'message', texts: [String(message)] }, { ...row, kind: 'code', texts: codes })
    }
  }
  const { json } = await instance.request('GET', `/api/missions/${id}/tests?limit=500`, alice)
  for (const { seq, created_at, status, summary, results } of json['test_runs'] as Json[])
    known.push({
      kind: 'test',
      topic: 'tests',
      seq: Number(seq),
      at: String(created_at),
      texts: [
        [status, ...Object.entries((summary ?? {}) as Json).flat()].join(' '),
        ...((results ?? []) as Json[]).map(({ name, status, error }) => [name, status, error ?? ''].join(' ')),
      ],
    })
  const dod = await instance.request('GET', `/api/missions/${id}/dod`, alice)
  const events = await database.query(`select seq, deck.iso(at) as at from deck.events where topic = $1`, [
    `missions/${id}/dod`,
  ])
  for (const { seq, text } of dod.json['items'] as Json[])
    known.push({
      kind: 'dod',
      topic: 'dod',
      seq: Number(seq),
      at: String(events.find((event) => event['seq'] === String(seq))?.['at']),
      texts: [String(text)],
    })
  return known
}
const order = (a: string | number, b: string | number): number => (a < b ? -1 : a > b ? 1 : 0)
const expected = (
  known: Known[],
  { q, kind, since, until }: { q: string; kind?: string; since?: string; until?: string },
): string[] =>
  known
    .filter((row) => kind === undefined || row.kind === kind)
    .filter(
      ({ at }) =>
        (since === undefined || Date.parse(at) >= Date.parse(since)) &&
        (until === undefined || Date.parse(at) < Date.parse(until)),
    )
    .filter(({ texts }) =>
      texts.some((text) => {
        const all = tokens(text)
        return asks[q]?.((word) => all.includes(word), all) === true
      }),
    )
    .sort(
      (a, b) =>
        Date.parse(b.at) - Date.parse(a.at) || order(b.topic, a.topic) || b.seq - a.seq || order(b.kind, a.kind),
    )
    .map(({ kind, topic, seq }) => `${kind} ${topic} ${seq}`)

const save = (mission: string, messages: unknown[]): Promise<unknown> =>
  database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, code_blocks, created_at)
     select $1, m ->> 'citizen', 'user', m ->> 'message', nullif(m -> 'code_blocks', 'null'), (m ->> 'at')::timestamptz at time zone 'utc'
     from jsonb_array_elements($2::jsonb) with ordinality as x (m, n) order by n`,
    [mission, JSON.stringify(messages)],
  )
const saveRest = async (t: Test, id: string, seed: number): Promise<void> => {
  await database.query(
    `insert into test_runs (mission_id, status, summary, results, created_at)
     select $1, r ->> 'status', nullif(r -> 'summary', 'null'), nullif(r -> 'results', 'null'), timestamp '2025-01-01' + (r ->> 'minute')::int * interval '1 minute'
     from jsonb_array_elements($2::jsonb) r`,
    [id, JSON.stringify(fc.sample(run, { numRuns: 120, seed }))],
  )
  for (const item of fc.sample(text, { numRuns: 8, seed }))
    t.equal(
      (await instance.request('POST', `/api/missions/${id}/dod`, admin, { text: item, category: 'tests' })).status,
      201,
    )
}

void t.test(
  'mission search: returns what a simple model returns, in its order, with and without blocks, on two instances',
  async (t) => {
    const { id } = await makeMission(instance)
    const sample = fc.sample(said, { numRuns: 2600, seed: 7 })
    const minute = fc.integer({ min: -1, max: 61 }).map((n) => new Date(Date.UTC(2025, 0, 1, 0, n)).toISOString())
    const check = async (what: string, runs: number): Promise<void> => {
      const known = await everything(id)
      let found = 0
      // Random queries may find little, so they are repeated until there are enough results to compare.
      for (let round = 0; found <= 100 && round < 20; round++)
        await fc.assert(
          fc.asyncProperty(
            fc.constantFrom(...Object.keys(asks)),
            fc.option(fc.constantFrom('message', 'code', 'test', 'dod'), { nil: undefined, freq: 2 }),
            fc.option(minute, { nil: undefined, freq: 2 }),
            fc.option(minute, { nil: undefined, freq: 2 }),
            fc.constantFrom(1, 7, 50, 500),
            fc.boolean(),
            async (q, kind, since, until, limit, second) => {
              const query = { q, ...(kind ? { kind } : {}), ...(since ? { since } : {}), ...(until ? { until } : {}) }
              const want = expected(known, query)
              found += want.length
              const hits = await find(
                id,
                query,
                Math.min(500, Math.max(limit, Math.ceil(want.length / 6))),
                second ? other : instance,
              )
              const got = hits.map(short)
              if (JSON.stringify(got) !== JSON.stringify(want)) {
                const i = got.findIndex((hit, i) => hit !== want[i])
                throw new Error(`${got.length} of ${want.length}: at ${i} ${got[i]} for ${want[i]}`)
              }
            },
          ),
          { numRuns: runs },
        )
      t.ok(found > 100, `${what}: ${found} hits expected`)
    }
    await save(id, sample.slice(0, 600))
    await saveRest(t, id, 1)
    await check('no blocks', 15)
    await save(id, sample.slice(600))
    await indexed(database, id)
    const [{ n } = {}] = await database.query(
      'select count(*)::int as n from deck.search_blocks where mission_id = $1',
      [id],
    )
    t.ok(Number(n) >= 3, 'at least three blocks, and the other messages without a block')
    await check('blocks', 30)
    await database.query(
      `update chat_messages set message = 'alpha changed' where mission_id = $1 and seq in (7, 300)`,
      [id],
    )
    await database.query(`delete from chat_messages where mission_id = $1 and seq % 5 = 0`, [id])
    await check('changed', 8)
    await indexed(database, id)
    await check('mended', 8)
  },
)

void t.test('mission search: rank order is best first, then newest, each hit once across pages', async (t) => {
  const { id, chat } = await newChat(instance)
  const at = (n: number): string => new Date(Date.UTC(2025, 0, 1, 0, n)).toISOString()
  const texts = [
    'alpha and beta',
    'alpha beta alpha beta',
    'beta',
    'alpha alpha',
    'alpha',
    'alpha far away from the other word which is beta',
  ]
  await save(
    id,
    [...texts, ...texts].map((message, n) => ({ citizen: citizens[n % 3], message, code_blocks: null, at: at(n) })),
  )
  await instance.request('POST', `/api/missions/${id}/dod`, admin, { text: 'alpha beta', category: 'tests' })
  const rankOf = async (id: string): Promise<number> => {
    const [row] = await database.query(
      `select ts_rank_cd(deck.words(coalesce(c.message, d.text)), websearch_to_tsquery('simple', 'alpha beta'), 1)::float4 as rank
       from (select $1::uuid as id) x left join chat_messages c on c.id = x.id left join dod_items d on d.id = x.id`,
      [id],
    )
    return Number(row?.['rank'])
  }
  const whole = await find(id, { q: 'alpha beta', order: 'rank' })
  t.equal(whole.length, 7)
  const ranks = await Promise.all(whole.map((hit) => rankOf(hit.id)))
  t.strictSame(
    ranks,
    ranks.toSorted((a, b) => b - a),
  )
  t.match(whole[0]?.snippet.text, 'alpha beta alpha beta')
  for (const [i, hit] of whole.entries()) if (ranks[i] === ranks[i + 1]) t.ok(hit.at > (whole[i + 1]?.at ?? ''))
  for (const limit of [1, 2, 3]) t.strictSame(await find(id, { q: 'alpha beta', order: 'rank' }, limit), whole)
  // A message written between two pages is not in the ranked result.
  const first = await ask(id, { q: 'alpha beta', order: 'rank', limit: 2 })
  await instance.request('POST', chat, alice, { message: 'alpha beta alpha beta alpha beta' })
  const second = await ask(id, { q: 'alpha beta', order: 'rank', limit: 500, cursor: first.json['next'] })
  t.strictSame([...(first.json['hits'] as Hit[]), ...(second.json['hits'] as Hit[])], whole)
})

void t.test('mission search: only the newest 1,000 hits are ranked', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(
    database,
    id,
    1300,
    `case when n = 100 then 'needle needle needle' else 'needle in much other hay ' || n end`,
  )
  t.equal((await find(id, { q: 'needle', order: 'rank' })).length, 1000)
  const { json } = await instance.request('GET', `${chat}?q=needle&order=rank&limit=500`, alice)
  t.match(json, { has_more: true, last_seq: 1300 })
  t.notOk(
    (json['messages'] as Json[]).some(({ seq }) => seq === 100),
    'the best hit is older than these',
  )
  const bounded = await instance.request('GET', `${chat}?q=needle&order=rank&limit=1&before=600`, alice)
  t.match(bounded.json, { has_more: true, messages: [{ seq: 100 }] })
  const all = await instance.request('GET', `${chat}?q=needle&order=rank&limit=500&after=10&before=110`, alice)
  t.equal(all.json['has_more'], false)
  t.strictSame(
    (all.json['messages'] as Json[]).map(({ seq }) => seq),
    [100, ...Array.from({ length: 99 }, (_, n) => 109 - n).filter((seq) => seq !== 100)],
  )
})

/** The model: every position of these words in a text. */
const places = (text: string, some: string[]): [number, number][] =>
  Array.from(text.matchAll(/[\p{L}\p{N}_]+/gu)).flatMap((found) =>
    some.includes(found[0].toLowerCase()) ? [[found.index, found[0].length] as [number, number]] : [],
  )

void t.test('highlights: mark exactly the words of the query, in UTF-16 code units, in any text', async (t) => {
  const { id, chat } = await newChat(instance)
  const piece = fc.constantFrom(
    'alpha',
    'ALPHA',
    'Über',
    'über',
    'gamma',
    '<b>',
    '&amp;',
    '😀',
    'e\u0301',
    '\x01',
    '\x02',
    '\n',
    'x.alpha',
    '"',
    '漢字',
    `w${'y'.repeat(2100)}`,
    'https://alpha.example/über?q=1',
  )
  const message = fc
    .array(
      fc.tuple(piece, fc.constantFrom(' ', ' ', '\n', ', ')).map(([a, b]) => a + b),
      { minLength: 1, maxLength: 60 },
    )
    .map((some) => some.join('').trimEnd().slice(0, 9000))
    .filter((text) => text !== '' && text.isWellFormed())
  const texts = fc.sample(message, { numRuns: 200, seed: 3 })
  await save(
    id,
    texts.map((message, n) => ({
      citizen: 'rafael',
      message,
      code_blocks: null,
      at: new Date(Date.UTC(2025, 0, 1, 0, n)).toISOString(),
    })),
  )
  const { json } = await instance.request(
    'GET',
    `${chat}?${queryOf({ q: 'alpha or ÜBER', highlight: true, limit: 500 })}`,
    alice,
  )
  const shown = json['messages'] as (Json & { message: string; snippet: Snippet & { matches: [number, number][] } })[]
  t.ok(shown.length > 100)
  for (const { message, snippet } of shown) {
    t.strictSame(snippet.matches, places(message, ['alpha', 'über']), JSON.stringify(message.slice(0, 200)))
    t.ok(snippet.hits.length > 0 && snippet.text.isWellFormed() && snippet.text.length < 400)
    for (const word of marked(snippet)) t.match(word, /^(alpha|über)$/i)
    for (const part of snippet.text.split(' … ')) t.ok(message.includes(part.replace(/^… | …$/g, '')))
  }
  const plain = await instance.request(
    'GET',
    `${chat}?${queryOf({ q: 'alpha or ÜBER', highlight: false, limit: 500 })}`,
    alice,
  )
  t.strictSame(
    plain.json['messages'],
    shown.map((message) => Object.fromEntries(Object.entries(message).filter(([name]) => name !== 'snippet'))),
  )
  const without = await instance.request('GET', `${chat}?${queryOf({ q: '-alpha', highlight: true })}`, alice)
  for (const { snippet } of without.json['messages'] as { snippet: Json }[]) t.match(snippet, { hits: [], matches: [] })
})

void t.test('mission search: a hit has its topic and seq, and a snippet with its words', async (t) => {
  const { id, number, chat } = await newChat(instance)
  const long = `${'hay '.repeat(200)}needle${' hay'.repeat(200)} other ${'hay '.repeat(100)}`
  const posted = await instance.request('POST', chat, alice, {
    message: long,
    code_blocks: [{ language: 'python', code: 'needle(other)' }],
  })
  const item = await instance.request('POST', `/api/missions/${id}/dod`, admin, {
    text: 'A needle, other than that',
    category: 'tests',
  })
  const made = await instance.request('POST', `/api/missions/${id}/tests`, admin, {
    status: 'failed',
    summary: { failed: 1 },
    results: [
      { name: 'first', status: 'passed' },
      { name: 'finds the needle', status: 'failed', error: { message: 'found other' } },
    ],
  })
  const hits = await find(id, { q: 'needle other' })
  const place = {
    id: posted.json['id'],
    seq: 1,
    at: posted.json['created_at'],
    topic: `missions/${id}/chat/rafael`,
    sender: 'user',
    author: 'alice',
  }
  t.match(hits, [
    {
      kind: 'test',
      id: made.json['id'],
      seq: made.json['seq'],
      topic: `missions/${id}/tests`,
      status: 'failed',
      result: 1,
    },
    { kind: 'dod', id: item.json['id'], seq: item.json['seq'], topic: `missions/${id}/dod`, completed: false },
    { kind: 'message', ...place },
    { kind: 'code', ...place, block: 0, language: 'python' },
  ])
  for (const { snippet, kind } of hits) {
    t.strictSame(
      marked(snippet).toSorted(),
      kind === 'message' ? marked(snippet).toSorted() : ['needle', 'other'],
      kind,
    )
    t.ok(
      ['needle', 'other'].every((word) => marked(snippet).includes(word)),
      `${kind}: all words are shown`,
    )
  }
  t.match(hits[2]?.snippet.text, /^… .*hay needle hay.* … /)
  t.strictSame(await find(String(number), { q: 'needle other' }), hits, 'by number')
  t.match(await find(id, { q: 'failed', kind: 'test' }), [{ result: null }], 'the text with the most matches')
})

void t.test('mission search: rows written by SQL are found at once, in text, code, tests and checklist', async (t) => {
  const { id } = await newChat(instance)
  await fill(database, id, 600, `'n ' || n`)
  await indexed(database, id)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'emma', 'citizen', E'see\\n~~~\\nlet fresh = 1\\n~~~')`,
    [id],
  )
  await database.query(
    `insert into test_runs (mission_id, status, results) values ($1, 'failed', '[{"name": "fresh"}]')`,
    [id],
  )
  await database.query(`insert into dod_items (mission_id, text, category) values ($1, 'fresh', 'tests')`, [id])
  const kinds = ['code', 'dod', 'message', 'test']
  for (const door of [instance, other])
    t.strictSame((await find(id, { q: 'FRESH' }, 50, door)).map(({ kind }) => kind).sort(), kinds)
})

void t.test(
  'mission search: a database with blocks of an older version is searched correctly, and its blocks are rebuilt',
  async (t) => {
    const { id } = await newChat(instance)
    await fill(
      database,
      id,
      1200,
      `'n ' || n`,
      `case n when 300 then '[{"language": "sql", "code": "select hidden"}]'::jsonb end`,
    )
    await indexed(database, id)
    // Blocks as migration 014 created them: without words of code.
    await database.query(
      `update deck.search_blocks b set code = false, words = (
       select array_to_tsvector(array(select lexeme from unnest(b.words) where lexeme !~ E'^\\x05'))) where mission_id = $1`,
      [id],
    )
    t.strictSame((await find(id, { q: 'hidden' })).map(short), ['code chat/rafael 300'])
    await indexed(database, id)
    const [row] = await database.query(
      `select count(*)::int as n from deck.search_blocks where mission_id = $1 and words @@ E'''\\x05hidden'''::tsquery`,
      [id],
    )
    t.equal(row?.['n'], 1)
    t.strictSame((await find(id, { q: 'hidden' })).map(short), ['code chat/rafael 300'])
  },
)

void t.test('mission search: blocks are sized by uncompressed code; compressible code is found', async (t) => {
  const { id } = await newChat(instance)
  const code = (text: string): string => `jsonb_build_array(jsonb_build_object('language', null, 'code', ${text}))`
  await fill(database, id, 60, `'n ' || n`, code(`'needle' || n || repeat(' hay', 25000)`))
  await fill(
    database,
    id,
    3,
    `'m ' || n`,
    code(`(select string_agg(md5(i::text || n), ' ') from generate_series(1, 7000) i)`),
  )
  const found = async (): Promise<void> => {
    for (const n of [3, 55]) t.strictSame((await find(id, { q: `needle${n}` })).map(short), [`code chat/rafael ${n}`])
    const [row] = await database.query(`select md5('70002') as word`)
    t.strictSame((await find(id, { q: String(row?.['word']) })).map(short), ['code chat/rafael 62'])
  }
  await found()
  const [made] = await database.query(`select deck.search_index($1, 'rafael', 100) as n`, [id])
  t.ok(Number(made?.['n']) >= 20, 'a block holds 256 KiB of uncompressed code')
  await found()
})

void t.test('mission search: invalid queries and parameters unsupported by streams are refused', async (t) => {
  const { id, chat } = await newChat(instance)
  await fill(database, id, 3)
  const bad: Record<string, string>[] = [
    {},
    ...['', ' ', '!?', '-', 'x'.repeat(501), 'a\0'].map((q) => ({ q })),
    ...['', 'Message', 'message,code', 'log'].map((kind) => ({ q: 'n', kind })),
    ...['', 'seq', 'best'].map((order) => ({ q: 'n', order })),
    ...['0', '501', 'x', '-1'].map((limit) => ({ q: 'n', limit })),
    ...['', 'x', '2024-02-30T00:00:00Z'].map((since) => ({ q: 'n', since })),
  ]
  const { json } = await ask(id, { q: 'n', limit: 1 })
  const cursor = String(json['next'])
  const ranked = String((await ask(id, { q: 'n', limit: 1, order: 'rank' })).json['next'])
  const forged = (parts: unknown[]): string => Buffer.from(JSON.stringify(parts)).toString('base64url')
  for (const cursor of [
    '',
    'x',
    ranked,
    `${ranked}x`,
    forged([]),
    forged(['2025-13-01T00:00:00.000000', 'dod', 1, 'dod']),
    forged(["2025-01-01T00:00:00.000000' or", 'dod', 1, 'dod']),
    forged(['2025-01-01T00:00:00.000000', 'chat/Ä', 1, 'code']),
    forged(['2025-01-01T00:00:00.000000', 'dod', -1, 'dod']),
    forged(['2025-01-01T00:00:00.000000', 'dod', 1, 'x']),
  ])
    bad.push({ q: 'n', cursor })
  bad.push({ q: 'n', order: 'rank', cursor })
  for (const query of bad) refused(t, await ask(id, query), 400, 'bad_request', JSON.stringify(query))
  refused(t, await instance.request('GET', `/api/missions/${id}/search?q=n&q=m`, alice), 400, 'bad_request')
  for (const q of [
    `'`,
    `a' | 'b`,
    `\\`,
    `a\\' b`,
    `😀 :* & ! ( <->`,
    'x'.repeat(500),
    'ẞ'.repeat(500),
    'İ'.repeat(500),
    "o'neill",
    'a/b\\c',
    '"a b" or -c',
  ])
    t.equal((await ask(id, { q: `n ${q}`.slice(0, 500) })).status, 200, q)
  const highlight = { highlight: 'true' }
  for (const query of [
    highlight,
    { order: 'rank' },
    { order: 'seq' },
    { language: 'c', ...highlight },
    { q: 'n', highlight: 'yes' },
    { q: 'n', highlight: '' },
    { q: 'n', order: 'newest' },
  ])
    refused(
      t,
      await instance.request('GET', `${chat}?${queryOf(query)}`, alice),
      400,
      'bad_request',
      JSON.stringify(query),
    )
  for (const query of [
    { q: 'n', ...highlight },
    { q: 'n', order: 'rank' },
  ])
    for (const accept of ['application/x-ndjson', 'text/event-stream'])
      refused(
        t,
        await instance.request('GET', `${chat}?${queryOf(query)}`, alice, undefined, { accept }),
        400,
        'bad_request',
        accept,
      )
})

void t.test('mission search: needs read access to the mission, and returns nothing of other missions', async (t) => {
  const mine = await newChat(instance)
  const theirs = await newChat(instance)
  for (const { id } of [mine, theirs]) await fill(database, id, 3, `'secret ' || n`)
  await instance.request('PATCH', `/api/missions/${theirs.id}`, admin, { assigned_to: 'carol' })
  refused(t, await ask(theirs.id, { q: 'secret' }), 404, 'not_found')
  refused(t, await ask(crypto.randomUUID(), { q: 'secret' }, admin), 404, 'not_found')
  refused(t, await ask(mine.id, { q: 'secret' }, bob), 404, 'not_found')
  const claim = await token({ sub: 'rafael', role: 'citizen', missions: [mine.number] })
  refused(t, await ask(theirs.id, { q: 'secret' }, claim), 404, 'not_found')
  for (const bearer of [alice, claim, rafael, admin])
    for (const { topic } of (await ask(mine.id, { q: 'secret' }, bearer)).json['hits'] as Hit[])
      t.equal(topic, `missions/${mine.id}/chat/rafael`)
  await instance.request('DELETE', mine.chat, admin)
  t.strictSame(await find(mine.id, { q: 'secret' }), [], 'cleared messages are not found')
})

void t.test('mission search: a search that exceeds its time limit is unavailable', async (t) => {
  const slow = await startInstance(t, database.url, { limits: { searchPatience: 0 } })
  const { id, chat } = await newChat(instance)
  await fill(database, id, 3)
  refused(t, await ask(id, { q: 'n' }, alice, slow), 503, 'unavailable')
  refused(t, await slow.request('GET', `${chat}?q=n`, alice), 503, 'unavailable')
})
