// A mission that is exported, deleted and imported keeps its seqs, gaps and times: a second export has the same bytes.
// If the file is incomplete, or the mission exists already, the import is refused and changes nothing.
// After an import, every follower receives goodbye, because the epoch changed.
import t, { type Test } from 'tap'
import fc from 'fast-check'
import pg from 'pg'
import { exported, imported, restored, sealed } from '../support/transfer.ts'
import { deck, migrated, type Ended } from '../support/cli.ts'
import type { FreshDatabase } from '../support/database.ts'
import {
  admin,
  alice,
  closed,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  until,
  type Door,
  type Instance,
  type Json,
} from '../support/server.ts'

const odd = `\u001b[31mred\u001b[0m\r\n\tÄ 𝄞 👩‍👩‍👧 "quoted" \\n \\\\ \u2028 \u007f \u0085 {"kind":"end"} \\.`

/** A mission with rows of every kind that an export has. */
const fullMission = async (t: Test, { instance, database }: { instance: Instance; database: FreshDatabase }) => {
  const mission = await makeMission(instance, { title: odd.slice(0, 100) })
  const api = `/api/missions/${mission.id}`
  const ask = async (method: string, path: string, body?: unknown, token = admin): Promise<Json> => {
    const { status, json, text } = await instance.request(method, api + path, token, body)
    if (status >= 300) t.fail(`${method} ${path}: ${text}`)
    return json
  }
  // Chats: with keys and code blocks, with gaps, cleared and continued, cleared and empty, and written by SQL.
  for (let n = 1; n <= 5; n++) await ask('POST', '/chat/rafael', { message: `${odd} ${n}`, key: `key ${n}` }, alice)
  await ask('POST', '/chat/rafael', { message: '```js\n1\n```', code_blocks: [{ language: null, code: odd }] }, rafael)
  await database.query(`delete from chat_messages where mission_id = $1 and seq in (2, 6)`, [mission.id])
  await database.query(`delete from chat_messages where mission_id = $1 and seq = 4`, [mission.id])
  for (const who of ['emma', 'sofia']) {
    await ask('POST', `/chat/${who}`, { message: 'gone', key: 'gone' }, alice)
    await ask('DELETE', `/chat/${who}`)
  }
  await ask('POST', '/chat/emma', { message: 'after' }, alice)
  // With what its writer did and used.
  await ask('POST', '/chat/maya', { message: 'used', usage: { tokens: 1, odd } })
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, details) values ($1, 'maya', 'citizen', 'did', $2)`,
    [mission.id, JSON.stringify({ activity: [{ line: odd, status: 'failed', ms: 1234 }] })],
  )
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message, created_at)
     select $1, 'leo', 'citizen', 'by SQL ' || n, '0001-01-01'::timestamp + n * interval '1 microsecond' from generate_series(1, 50) n`,
    [mission.id],
  )
  await instance
    .connect(alice)
    .then((client) => client.ask({ type: 'read', topic: `missions/${mission.id}/chat/leo`, seq: 7 }))
  // An inbox with tasks, one of them set aside.
  await database.query(`select deck.open_inbox('ida')`)
  for (let n = 0; n < 3; n++) await ask('POST', '/chat/ida', { message: 'a task' }, alice)
  await database.query(`select deck.find_tasks('ida', null, 100)`)
  await database.query('update deck.tasks set dead = true, attempt = 5 where seq = 2')
  // A run that was asked for, with its task.
  await ask('POST', '/tests/run')
  // The checklist: a completed and a deleted item.
  for (let n = 0; n < 3; n++) await ask('POST', '/dod', { text: `${odd} ${n}`, category: 'tests' })
  const { items } = (await ask('GET', '/dod')) as { items: { id: string }[] }
  await ask('PATCH', `/dod/${items[0]?.id}`, { completed: true })
  await ask('DELETE', `/dod/${items[1]?.id}`)
  // An item from before the triggers existed: completed without a time.
  const own = new pg.Client({ connectionString: database.adminUrl })
  await own.connect()
  await own.query(
    `set session_replication_role = replica; update dod_items set completed_at = null where id = '${items[0]?.id}'`,
  )
  await own.end()
  // Items that name a test: one completed by an override, one with a failed run as evidence, one whose test no run has.
  await ask('POST', '/tests', { status: 'failed', results: [{ name: odd, status: 'failed' }] })
  const named: string[] = []
  for (const test_name of [odd, odd, 'no run has it'])
    named.push(String((await ask('POST', '/dod', { text: 'x', category: 'tests', test_name }))['id']))
  await ask('PATCH', `/dod/${named[0]}`, { completed: true, override: `${odd} by hand` })
  // Runs: with a log that grew, with a replaced log, with a log too long to be folded at each chunk, and a deleted run.
  const runs: string[] = []
  for (const status of ['passed', 'failed', 'running', 'passed', 'failed']) {
    const { id } = await ask('POST', '/tests', { status, summary: { n: 1.5 }, results: [{ name: odd }], logs: odd })
    runs.push(String(id))
  }
  const log = async (run: number, chunk: string): Promise<void> => {
    const path = `${api}/tests/${runs[run]}/logs`
    const { status } = await instance.request('POST', path, rafael, chunk, { 'content-type': 'text/plain' })
    t.equal(status, 200)
  }
  await log(0, 'and more\n')
  for (let n = 0; n < 5; n++) await log(2, `${n} ${'x'.repeat(40_000)}\n`)
  await database.query(`update test_runs set logs = 'another' where id = $1`, [runs[1]])
  await database.query('delete from test_runs where id = $1', [runs[3]])
  // Numbers beyond a double.
  await database.query(`update test_runs set summary = '{"n": 12345678901234567890.10, "m": 1e-400}' where id = $1`, [
    runs[4],
  ])
  await ask('PATCH', '', { status: 'qa' })
  return mission
}

/** Returns the mission's resources as the API returns them, with their latest seqs, without the epoch. */
const read = async (instance: Door, mission: string): Promise<string[]> => {
  const paths = [
    '',
    '/dod',
    '/tests',
    '/chat',
    ...['rafael', 'emma', 'sofia', 'leo', 'ida'].map((who) => `/chat/${who}?after=0`),
  ]
  const answers = await Promise.all(
    paths.map((path) => instance.request('GET', `/api/missions/${mission}${path}`, admin)),
  )
  const runs = (answers[2]?.json['test_runs'] as { id: string }[]).map(({ id }) => id)
  const logs = await Promise.all(
    runs.map((run) => instance.request('GET', `/api/missions/${mission}/tests/${run}/logs`, admin)),
  )
  return [...answers, ...logs].map(({ status, text }) => `${status} ${text.replace(/"epoch":"\w+"/, '')}`)
}

/** Returns rows and counts of all tables, to check that nothing was changed. */
const snapshot = async ({ query }: FreshDatabase): Promise<unknown> =>
  query(`select (select jsonb_agg(to_jsonb(x) order by id) from missions x) as m, (select jsonb_agg(to_jsonb(x) order by id) from chat_messages x) as c,
    (select jsonb_agg(to_jsonb(x) order by topic, seq) from deck.events x) as e, (select jsonb_agg(to_jsonb(x) order by topic) from deck.heads x) as h,
    (select count(*) from test_runs) as t, (select count(*) from dod_items) as d, (select count(*) from deck.pending) as p,
    (select count(*) from deck.audit) as a, deck.epoch() as epoch`)

void t.test('transfer: export, delete and import restore the mission byte for byte, as the API shows it', async (t) => {
  const both = await startDeck(t)
  const { instance, database } = both
  const mission = await fullMission(t, both)
  const other = await makeMission(instance)
  await instance.request('POST', `/api/missions/${other.id}/chat/ida`, alice, { message: 'elsewhere' })
  const before = await read(instance, mission.id)
  const first = await exported(database.url, mission.id)
  const { out } = await deck(t, ['export', String(mission.number)], { DATABASE_URL: database.url })
  t.same(Buffer.from(out), first, 'by its number as well')
  t.match(await imported(t, database.url, first), { code: 1, out: '', err: /exists already; nothing was changed/ })

  t.equal((await instance.request('DELETE', `/api/missions/${mission.id}`, admin)).status, 204)
  t.match(await imported(t, database.url, first), { code: 0, out: /^1 mission is restored, with \d+ messages\n$/ })
  t.same(await exported(database.url, mission.id), first)
  t.strictSame(await read(instance, mission.id), before)
  t.strictSame(await database.query('select from deck.pending'), [])
  t.match(await database.query(`select mission_id from deck.audit where action = 'mission.import'`), [
    { mission_id: mission.id },
  ])
  const overrides = await database.query(`select actor from deck.audit where action = 'dod.override'`)
  t.strictSame(overrides, [{ actor: 'root' }], 'a restored override is not audited again')

  // The mission continues with its seqs and keys.
  const post = (who: string, body: Json) =>
    instance.request('POST', `/api/missions/${mission.id}/chat/${who}`, alice, body)
  t.match(await post('rafael', { message: 'next' }), { status: 201, json: { seq: 7 } })
  t.match(await post('rafael', { message: 'again', key: 'key 5' }), { status: 200, json: { seq: 5 } })
  t.match(await post('emma', { message: 'again', key: 'gone' }), { status: 409 })
  t.match(await post('sofia', { message: 'first of another life' }), { status: 201, json: { seq: 3 } })
  const item = { text: 'one more', category: 'tests' }
  await instance.request('POST', `/api/missions/${mission.id}/dod`, admin, item)
  const { json } = await instance.request('GET', `/api/missions/${mission.id}/dod`, alice)
  t.equal((json['items'] as Json[]).at(-1)?.['text'], 'one more')
  t.ok((await makeMission(instance)).number > other.number)
})

void t.test('transfer: one mission or all are restored in another database, with the same export', async (t) => {
  const both = await startDeck(t)
  const mission = await fullMission(t, both)
  const before = await read(both.instance, mission.id)
  await makeMission(both.instance)
  await both.instance.request('DELETE', `/api/missions/${(await makeMission(both.instance)).id}`, admin)
  const [one, all] = [await exported(both.database.url, mission.id), await exported(both.database.url, '--all')]
  for (const [file, which] of [
    [one, mission.id],
    [all, '--all'],
  ] as const) {
    const there = await startDeck(t)
    t.equal(await restored(there.database.url, file), undefined)
    t.same(await exported(there.database.url, which), file)
    t.strictSame(await read(there.instance, mission.id), before)
    // The tasks of the mission are found there as well. Messages to citizens without an inbox are not tasks.
    await there.database.query(`select deck.open_inbox('rafael')`)
    await there.database.query(`select deck.find_tasks(w, null, 100) from unnest(array['ida', 'rafael']) w`)
    const counts = 'count(*)::int as n, count(run)::int as runs'
    t.match(await there.database.query(`select ${counts} from deck.tasks`), [{ n: 4, runs: 1 }])
  }
})

void t.test('transfer: messages that were no tasks in the source are no tasks in the target', async (t) => {
  const [from, to] = [await startDeck(t), await startDeck(t)]
  const mission = await makeMission(from.instance)
  await from.instance.request('POST', `/api/missions/${mission.id}/chat/ida`, alice, { message: 'of old' })
  await to.database.query(`select deck.open_inbox('ida')`)
  t.equal(await restored(to.database.url, await exported(from.database.url, mission.id)), undefined)
  await to.database.query(`select deck.find_tasks('ida', null, 100)`)
  t.strictSame(await to.database.query('select from deck.tasks'), [])
  await to.instance.request('POST', `/api/missions/${mission.id}/chat/ida`, alice, { message: 'of now' })
  await to.database.query(`select deck.find_tasks('ida', null, 100)`)
  t.match(await to.database.query('select seq::int from deck.tasks'), [{ seq: 2 }])
})

void t.test('restore: a cut, changed or newer file is refused and changes nothing', async (t) => {
  const both = await startDeck(t)
  const { database, instance } = both
  const mission = await fullMission(t, both)
  const whole = (await exported(database.url, mission.id)).toString()
  await instance.request('DELETE', `/api/missions/${mission.id}`, admin)
  const taken = await makeMission(instance, { number: mission.number })
  const before = await snapshot(database)
  const rows = whole
    .trimEnd()
    .split('\n')
    .slice(0, -1)
    .map((line) => line.replace(`"number": ${mission.number}`, '"number": 4711'))
  const good = sealed(rows)
  const swap = (from: string | RegExp, to: string): string => sealed(rows.map((line) => line.replace(from, to)))
  const one = rows.findIndex((line) => line.includes('"chat_messages"'))
  const files: [string, string, RegExp][] = [
    ['with a taken number', whole, new RegExp(`another mission has the number ${mission.number}`)],
    ['empty', '', /is cut off/],
    ['without its last line', `${rows.join('\n')}\n`, /is cut off/],
    ['cut in the middle', good.slice(0, good.length >> 1), /not of an export|is cut off/],
    ['cut within its last line', good.slice(0, -10), /changed on the way/],
    ['without a row', good.replace(`${rows[one]}\n`, ''), /changed on the way/],
    ['with another word', good.replace('by SQL 9', 'by SQL 8'), /changed on the way/],
    ['with a row after its end', `${good}${rows[1]}\n`, /follows the end/],
    ['of a newer format', sealed(['{"kind":"deck","format":2}', ...rows.slice(1)]), /newer version/],
    ['with an unknown column', swap('{"at":', '{"mood": "good", "at":'), /has no column mood: the file is of a newer/],
    ['with an unknown kind', sealed([...rows, '{"kind":"moods","row":{"mission_id": 1}}']), /newer version/],
    ['with a line that is null', sealed([...rows, 'null']), /not of an export/],
    [
      'with rows of another mission',
      swap(/"mission_id": "[^"]+"/, `"mission_id": "${taken.id}"`),
      /no mission of the file/,
    ],
    ['with events of another mission', swap(/"missions\/.{36}/, `"missions/${taken.id}`), /no mission of the file/],
    [
      'with a row that a constraint refuses',
      swap('"sender": "citizen"', '"sender": "king"'),
      /refused: .*sender_valid/,
    ],
    [
      'with a row that would be stored differently',
      swap('"budget": 300', '"budget": "0300"'),
      /be stored with different values/,
    ],
    [
      'with a row twice',
      sealed([...rows.slice(0, one), ...rows.slice(one, one + 1), ...rows.slice(one)]),
      /has such a row/,
    ],
  ]
  for (const [what, file, why] of files) {
    t.match(await restored(database.url, file), why, what)
    t.strictSame(await snapshot(database), before, `${what}: nothing was changed`)
  }
  t.equal(await restored(database.url, good), undefined, 'the complete file is accepted')
})

void t.test('restore: of several at once, one restores the mission and the others are refused', async (t) => {
  const both = await startDeck(t)
  const mission = await fullMission(t, both)
  const file = await exported(both.database.url, mission.id)
  await both.instance.request('DELETE', `/api/missions/${mission.id}`, admin)
  const ends = await Promise.all([1, 2, 3].map(() => restored(both.database.url, file)))
  const refused = ends.filter((why) => why !== undefined)
  t.equal(refused.length, 2)
  for (const why of refused) t.match(why, /exists already|has such a row/)
  t.same(await exported(both.database.url, mission.id), file)
})

void t.test('restore: disconnects the followers on every instance, because the epoch changed', async (t) => {
  const { instance, database } = await startDeck(t)
  const second = await startInstance(t, database.url)
  const mission = await makeMission(instance)
  const topic = `missions/${mission.id}/chat/rafael`
  const send = (message: string) => instance.request('POST', `/api/${topic}`, alice, { message })
  await send('one')
  const file = await exported(database.url, mission.id)
  await send('two')
  const before = await (await instance.connect(alice)).ask({ type: 'subscribe', topic })
  t.match(before, { seq: 2 })
  await instance.request('DELETE', `/api/missions/${mission.id}`, admin)
  const other = await makeMission(instance)
  const followers = await Promise.all([instance, second].map((on) => on.connect(alice)))
  for (const client of followers)
    t.match(await client.ask({ type: 'subscribe', topic: `missions/${other.id}/chat/emma` }), { type: 'ok' })
  t.equal(await restored(database.url, file), undefined)
  for (const client of followers) {
    t.equal(await closed(client), 1012)
    t.match(
      client.frames.find(({ type }) => type === 'goodbye'),
      { reason: 'epoch' },
    )
  }
  // A cursor from before the import is a conflict, although its seq exists again.
  await send('another two')
  await until(async () => (await second.request('GET', `/api/${topic}`, alice)).json['last_seq'] === 2, 'the message')
  for (const on of [instance, second]) {
    const client = await on.connect(alice)
    t.match(await client.ask({ type: 'subscribe', topic, after: 2, epoch: before['epoch'] }), {
      code: 'conflict',
      seq: 2,
    })
    t.match(await client.ask({ type: 'subscribe', topic, after: 0 }), { type: 'ok', seq: 2 })
    await until(() => client.events(topic).length === 2, 'both messages')
    t.strictSame(
      client.events(topic).map(({ data }) => data['message']),
      ['one', 'another two'],
    )
  }
})

void t.test('transfer: random texts are restored unchanged', async (t) => {
  const { url, query } = await migrated(t)
  const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }).filter((s) => !s.includes('\0'))
  const rows = fc.sample(fc.tuple(text, fc.option(text), text, text), 300)
  const [mission] = await query(
    `insert into missions (title, client, budget, deadline, status, assigned_to)
     values ($1, $1, 1, '2030-01-01', 'active', $1) returning id, number`,
    [rows[0]?.[0]],
  )
  for (const [message, author, code, logs] of rows) {
    await query(
      `insert into chat_messages (mission_id, citizen, sender, message, author, code_blocks) values ($1, 'emma', 'user', $2, $3, $4)`,
      [mission?.['id'], message, author, JSON.stringify([{ language: code, code }])],
    )
    await query(`insert into test_runs (mission_id, status, logs, summary) values ($1, 'passed', $2, $3)`, [
      mission?.['id'],
      logs,
      JSON.stringify({ [code]: logs }),
    ])
  }
  const all = (): Promise<unknown> =>
    query(
      `select (select jsonb_agg(to_jsonb(c) order by c.seq) from chat_messages c) as c, (select jsonb_agg(to_jsonb(r) order by r.seq) from test_runs r) as r`,
    )
  const [before, file] = [await all(), await exported(url, '--all')]
  await query('delete from missions')
  t.equal(await restored(url, file), undefined)
  t.strictSame(await all(), before)
  t.same(await exported(url, '--all'), file)
})

void t.test('transfer: every table is exported or in the list of tables left out', async (t) => {
  const { query } = await migrated(t)
  const leftOut = [
    'audit',
    'citizen_keys',
    'citizens',
    'drafts',
    'epoch_salt',
    'imported_chats',
    'invites',
    'log_sizes',
    'migrations',
    'pending',
    'people',
    'revocations',
    'run_workers',
    'schema_files',
    'seal_key',
    'search_blocks',
    'search_parts',
    'search_stale',
    'search_turn',
    'sessions',
    'tickets',
    'used_states',
    'write_tests',
  ]
  const rows = await query(
    `select c.relname as name from pg_class c
     where c.relkind = 'r' and c.relnamespace in ('public'::regnamespace, 'deck'::regnamespace)
       and not exists (select from deck.carried() k where k.tab::regclass = c.oid) and c.relname <> all ($1)`,
    [leftOut],
  )
  t.strictSame(rows, [])
})

void t.test('export, import: report missing arguments; only the database owner may import', async (t) => {
  const { url, query, adminUrl } = await migrated(t)
  const env = { DATABASE_URL: url }
  const ends: [string[], Partial<Ended> | Record<string, RegExp | number>, string?][] = [
    [['export'], { code: 2, err: /takes a mission, or --all/ }],
    [['export', '47', '--all'], { code: 2 }],
    [['export', 'x'], { code: 2, err: /UUID or its number/ }],
    [['export', '47', '--json'], { code: 1, err: /"not_found"/ }],
    [['import', 'nowhere.ndjson', '--json'], { code: 1, err: /"not_found"/ }],
    [['import', '-', '--mission', '47'], { code: 2 }, sealed(['{"kind":"deck","format":1}'])],
    [['import', '-'], { code: 0, out: /^0 missions are restored/ }, (await exported(url, '--all')).toString()],
  ]
  await Promise.all(
    ends.map(async ([args, end, input]) => t.match(await deck(t, args, env, input), end, args.join(' '))),
  )
  const role = `writer_${Math.random().toString(36).slice(2)}`
  const root = new pg.Client({ connectionString: adminUrl })
  await root.connect()
  await root.query(
    `create role ${role} login password 'writer'; grant select, insert, update on missions, chat_messages, test_runs, dod_items to ${role}`,
  )
  const own = new URL(url)
  Object.assign(own, { username: role, password: 'writer' })
  await query(
    `insert into missions (title, client, budget, deadline, status, assigned_to) values ('A', 'A', 1, '2030-01-01', 'active', 'a')`,
  )
  const line = JSON.stringify({ mission: 47, citizen: 'emma', sender: 'user', message: 'x' })
  for (const file of [
    sealed(['{"kind":"deck","format":1}', '{"kind":"missions","row":{"id": "47000000-0000-4000-8000-000000000047"}}']),
    line,
  ])
    t.match(await deck(t, ['import', '-', '--json'], { DATABASE_URL: own.href }, file), { code: 1, err: /"forbidden"/ })
  await root.query(`drop owned by ${role}; drop role ${role}`)
  await root.end()
})
