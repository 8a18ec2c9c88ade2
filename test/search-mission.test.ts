// A search of a mission finds what a plain model finds, in its order, page by page, whatever wrote it; what is marked is what was
// looked for. Filters of one chat are search.test.ts's, what it costs is bench/search.ts's.
import fc from 'fast-check'
import t from 'tap'
import type { Test } from 'tap'
import type { FreshDatabase } from './database.ts'
import { refused } from './forms.ts'
import { admin, alice, bob, makeMission, rafael, startDeck, startInstance, token, until, type Json } from './helper.ts'
import { fill, lines, newChat } from './streams.ts'

const { database, instance } = await startDeck(t, { limits: { pollEvery: 300 } })
const other = await startInstance(t, database.url, { limits: { pollEvery: 300 } })

type Hit = Json & { kind: string; topic: string; seq: number; at: string; id: string; snippet: Snippet }
type Snippet = { text: string; hits: [number, number][] }
const queryOf = (query: object): string =>
  new URLSearchParams(
    Object.entries(query).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])),
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
    if (page.length !== limit) throw new Error(`a page of ${page.length} with more to come`)
  }
}
/** A hit in short: its kind, the end of its topic and its seq. */
const short = ({ kind, topic, seq }: Hit): string => `${kind} ${topic.slice(46)} ${seq}`
const marked = ({ text, hits }: Snippet): string[] => hits.map(([start, length]) => text.slice(start, start + length))

/** Waits until the mission's blocks reach as far as they can, know their code, and nothing is to be mended. */
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

/** Words in lower case. */
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

/** All that is there, as its own routes tell it. */
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
  'a search finds what a plain model finds, in its order: with blocks and without, on two instances',
  async (t) => {
    const { id } = await makeMission(instance)
    const sample = fc.sample(said, { numRuns: 2600, seed: 7 })
    const minute = fc.integer({ min: -1, max: 61 }).map((n) => new Date(Date.UTC(2025, 0, 1, 0, n)).toISOString())
    const check = async (what: string, runs: number): Promise<void> => {
      const known = await everything(id)
      let found = 0
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
            const hits = await find(id, query, Math.min(500, Math.max(limit, Math.ceil(want.length / 6))), second ? other : instance)
            const got = hits.map(short)
            if (JSON.stringify(got) !== JSON.stringify(want)) {
              const i = got.findIndex((hit, i) => hit !== want[i])
              throw new Error(`${got.length} of ${want.length}: at ${i} ${got[i]} for ${want[i]}`)
            }
          },
        ),
        { numRuns: runs },
      )
      t.ok(found > 100, `${what}: ${found} hits were to be found`)
    }
    await save(id, sample.slice(0, 600))
    await saveRest(t, id, 1)
    await check('no blocks', 25)
    await save(id, sample.slice(600))
    await indexed(database, id)
    const [{ n } = {}] = await database.query(
      'select count(*)::int as n from deck.search_blocks where mission_id = $1',
      [id],
    )
    t.ok(Number(n) >= 3, 'three blocks by now, the rest without')
    await check('blocks', 40)
    await database.query(
      `update chat_messages set message = 'alpha changed' where mission_id = $1 and seq in (7, 300)`,
      [id],
    )
    await database.query(`delete from chat_messages where mission_id = $1 and seq % 5 = 0`, [id])
    await check('changed', 15)
    await indexed(database, id)
    await check('mended', 15)
  },
)
