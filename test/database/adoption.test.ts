// Adoption: migrate() adopts a database that was created by hand with any stage of the original schema.
// No row is lost or changed. Old messages are numbered by time. Rows that break a rule are reported and stay readable.
// The files 000 to 003 may have been run by hand (psql -f).
import { readFile } from 'node:fs/promises'
import pg from 'pg'
import t from 'tap'
import type { Test } from 'tap'
import { migrate, schemaFiles, seedFile } from '../../src/database/postgres/migrate.ts'
import { append } from '../support/append.ts'
import { freshDatabase, type FreshDatabase, type Row } from '../support/database.ts'

const files = await schemaFiles()
/** The original files, before 004_deck.sql. */
const first = files.migrations.filter(({ path }) => path < 'migrations/004').map(({ text }) => text)
const seed = await readFile(seedFile, 'utf8')

/** The original schema by stages: base, 001, 002, 003. */
const original = [
  `CREATE TABLE missions (
     id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
     title TEXT NOT NULL,
     client TEXT NOT NULL,
     budget INTEGER NOT NULL,
     deadline TIMESTAMP NOT NULL,
     status TEXT NOT NULL,
     assigned_to TEXT NOT NULL,
     created_at TIMESTAMP DEFAULT NOW()
   );
   CREATE TABLE dod_items (
     id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
     mission_id UUID NOT NULL REFERENCES missions(id),
     text TEXT NOT NULL,
     category TEXT NOT NULL,
     completed BOOLEAN DEFAULT FALSE,
     completed_at TIMESTAMP
   );
   CREATE TABLE chat_messages (
     id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
     mission_id UUID NOT NULL REFERENCES missions(id),
     sender TEXT NOT NULL,
     message TEXT NOT NULL,
     code_blocks JSONB,
     created_at TIMESTAMP DEFAULT NOW()
   );`,
  `ALTER TABLE missions ADD COLUMN github_url TEXT;`,
  `ALTER TABLE chat_messages ADD COLUMN citizen TEXT NOT NULL DEFAULT 'rafael';
   CREATE INDEX idx_chat_mission_citizen ON chat_messages(mission_id, citizen);`,
  `CREATE TABLE test_runs (
     id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
     mission_id UUID NOT NULL REFERENCES missions(id),
     status TEXT NOT NULL,
     summary JSONB,
     results JSONB,
     logs TEXT,
     created_at TIMESTAMP DEFAULT NOW()
   );
   CREATE INDEX idx_test_runs_mission ON test_runs(mission_id, created_at DESC);`,
]

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`
const [A, B, C] = [id(1), id(2), id(3)]
type Message = { id: string; mission: string; citizen?: string; sender?: string; message?: string; at: string | null }
/** In the order of their insertion, which is not the order of their times. */
const messages: Message[] = [
  { id: id(109), mission: A, at: '2025-01-02 10:00:00.123456' },
  { id: id(104), mission: A, at: '2025-01-01 10:00:00' },
  { id: id(102), mission: A, at: '2025-01-01 10:00:00' },
  { id: id(103), mission: A, at: '2025-01-01 10:00:00', sender: 'citizen' },
  { id: id(101), mission: A, at: '2025-01-01 09:00:00', sender: 'bot' },
  { id: id(108), mission: A, at: null },
  { id: id(107), mission: A, at: '2025-01-01 11:00:00', message: 'x'.repeat(10_001) },
  { id: id(106), mission: A, at: '2025-01-01 10:30:00', citizen: 'sofia' },
  { id: id(105), mission: A, at: '2025-01-01 10:20:00', citizen: 'sofia' },
  { id: id(110), mission: A, at: '2025-01-03 10:00:00', citizen: 'Rafael' },
  { id: id(114), mission: A, at: '2025-01-03 10:00:00', citizen: '' },
  { id: id(111), mission: B, at: 'infinity' },
  { id: id(112), mission: B, at: '2999-12-31 00:00:00' },
  { id: id(113), mission: B, at: '2025-01-05 00:00:00' },
]

/** Creates the original database up to a stage (0: nothing, 4: everything), with rows. Returns its messages. */
const makeLegacy = async (db: FreshDatabase, stage: number): Promise<Required<Message>[]> => {
  for (const text of original.slice(0, stage)) await db.query(text)
  if (stage === 0) return []
  await db.query(
    `insert into missions (id, title, client, budget, deadline, status, assigned_to, created_at) values
       ('${B}', 'Second', 'Acme', 1, '2025-02-01', 'qa', 'person1', '2025-01-01'),
       ('${A}', 'First', 'Acme', 2, '2025-02-01', 'active', 'person2', '2025-01-01'),
       ('${C}', 'No time', 'Acme', -3, '2025-02-01', 'paused', 'person1', null)`,
  )
  await db.query(
    `insert into dod_items (id, mission_id, text, category, completed, completed_at) values
       ('${id(202)}', '${A}', 'later id', 'tests', true, '2025-01-01 12:00:00'),
       ('${id(201)}', '${A}', 'no time', 'functional', true, null),
       ('${id(203)}', '${A}', 'odd', 'misc', null, null)`,
  )
  const said = messages.map((message) => ({ sender: 'user', message: 'text', ...message, citizen: 'rafael' }))
  if (stage >= 3)
    for (const [i, { citizen = 'rafael' }] of messages.entries()) Object.assign(said[i] ?? {}, { citizen })
  for (const { id, mission, citizen, sender, message, at } of said) {
    const names = `id, mission_id, sender, message, created_at, code_blocks${stage >= 3 ? ', citizen' : ''}`
    await db.query(
      `insert into chat_messages (${names}) values ($1, $2, $3, $4, $5, '[{"code": "x", "language": "ts"}]'${stage >= 3 ? ', $6' : ''})`,
      [id, mission, sender, message, at, ...(stage >= 3 ? [citizen] : [])],
    )
  }
  if (stage < 4) return said
  await db.query(
    `insert into test_runs (id, mission_id, status, summary, results, logs, created_at) values
       ('${id(301)}', '${A}', 'passed', '{"n": 1}', '[1]', 'all of it', '2025-01-01 10:10:00'),
       ('${id(302)}', '${A}', 'queued', '[]', '{}', '', '2025-01-01 08:00:00'),
       ('${id(303)}', '${B}', 'running', null, null, null, null)`,
  )
  return said
}

const tables = ['missions', 'dod_items', 'chat_messages', 'test_runs']
const columnsOf = (db: FreshDatabase): Promise<Row[]> =>
  db.query(
    `select table_name as tab, string_agg(quote_ident(column_name), ', ' order by ordinal_position) as names
     from information_schema.columns where table_schema = 'public' and table_name = any ($1) group by 1 order by 1`,
    [tables],
  )
const rowsOf = async (db: FreshDatabase, columns: Row[]): Promise<Row[]> => {
  const all: Row[] = []
  for (const { tab, names } of columns) {
    const rows = await db.query(`select row_to_json(x)::text as row from (select ${names} from ${tab} order by id) x`)
    all.push(...rows.map(({ row }) => ({ tab, row })))
  }
  return all
}

/** The rows of all tables and the definition of the schema. */
const dump = async (db: FreshDatabase): Promise<Row> => {
  const names = await db.query(
    `select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname in ('public', 'deck') order by 1`,
  )
  const rows: Row = {}
  for (const { name } of names) {
    rows[String(name)] = await db.query(`select to_jsonb(x)::text as row from ${name} x order by 1`)
  }
  rows['constraints'] = await db.query(
    `select conrelid::regclass::text as tab, conname, convalidated, pg_get_constraintdef(oid) as def from pg_constraint
     where connamespace in ('public'::regnamespace, 'deck'::regnamespace) order by 1, 2`,
  )
  rows['indexes'] = await db.query(`select indexdef from pg_indexes where schemaname in ('public', 'deck') order by 1`)
  rows['triggers'] = await db.query(
    `select pg_get_triggerdef(oid) as def from pg_trigger where not tgisinternal order by 1`,
  )
  rows['functions'] = await db.query(
    `select pg_get_functiondef(oid) as def from pg_proc where pronamespace = 'deck'::regnamespace order by 1`,
  )
  rows['columns'] = await db.query(
    `select table_schema, table_name, column_name, column_default, is_nullable from information_schema.columns
     where table_schema in ('public', 'deck') order by 1, 2, 3`,
  )
  return rows
}

const failure = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) => (error instanceof pg.DatabaseError ? (error.code ?? '') : Promise.reject(error)),
  )

/** The statements of a file, to be run one by one as psql does. */
const statements = (text: string): string[] =>
  (text.match(/(?:--[^\n]*|'(?:[^']|'')*'|\$(\w*)\$[\s\S]*?\$\1\$|[^;])+/g) ?? []).filter(
    (part) => part.replace(/--[^\n]*/g, '').trim() !== '',
  )
const byHand = async (db: FreshDatabase, ...texts: string[]): Promise<void> => {
  for (const text of texts) for (const statement of statements(text)) await db.query(statement)
}
const silent = () => undefined

const sound = async (t: Test, db: FreshDatabase): Promise<void> => {
  const faults = await db.query(`
    with item as (
      select 'missions/' || mission_id || '/chat/' || citizen as topic, seq, at from chat_messages
      union all
      select topic, seq, at from deck.events
    ), lane as (
      select topic, seq, row_number() over w as nth, at, lag(at) over w as before
      from item window w as (partition by topic order by seq)
    )
    select l.* from lane l left join deck.heads h using (topic)
    where seq is distinct from nth or at is null or at < before or h.floor is null or h.floor > 0
      or at > now() at time zone 'utc' + interval '1 minute'`)
  t.strictSame(faults, [], 'the seqs have no gaps, and no time is in the future')
}

const broken: [stage: number, tab: string, id: string, constraint: string][] = [
  [1, 'chat_messages', id(101), 'chat_messages_sender_valid'],
  [1, 'chat_messages', id(107), 'chat_messages_message_valid'],
  [1, 'chat_messages', id(108), 'chat_messages_time_valid'],
  [1, 'chat_messages', id(111), 'chat_messages_time_valid'],
  [1, 'dod_items', id(203), 'dod_items_category_valid'],
  [1, 'missions', C, 'missions_status_valid'],
  [1, 'missions', C, 'missions_time_valid'],
  [3, 'chat_messages', id(110), 'chat_messages_citizen_valid'],
  [3, 'chat_messages', id(114), 'chat_messages_citizen_valid'],
  [4, 'test_runs', id(302), 'test_runs_results_valid'],
  [4, 'test_runs', id(302), 'test_runs_status_valid'],
  [4, 'test_runs', id(302), 'test_runs_summary_valid'],
  [4, 'test_runs', id(303), 'test_runs_time_valid'],
]

for (const [stage, name] of ['nothing', 'the base', 'base and 001', 'base, 001 and 002', 'all'].entries()) {
  await t.test(
    `adoption: ${name} applied by hand: every row is kept, numbered and checked against the rules, only once`,
    async (t) => {
      const db = await freshDatabase(t)
      const said = await makeLegacy(db, stage)
      const columns = await columnsOf(db)
      const before = await rowsOf(db, columns)
      const client = await db.connect()
      const violations = await migrate(client, silent)
      t.strictSame(await rowsOf(db, columns), before, 'no row has changed')
      await sound(t, db)

      const byTime = (a: Message, b: Message) => {
        const [x, y] = [a, b].map(({ at }) => (at === null ? '' : at === 'infinity' ? '9' : at))
        return x === y ? (a.id < b.id ? -1 : 1) : (x ?? '') < (y ?? '') ? -1 : 1
      }
      const next = new Map<string, number>()
      const expected = [...said].sort(byTime).map(({ id, mission, citizen }) => {
        const chat = `${mission}/${citizen}`
        next.set(chat, (next.get(chat) ?? 0) + 1)
        return { id, seq: next.get(chat) }
      })
      const found = await db.query('select id, seq::int from chat_messages order by id')
      t.strictSame(
        found,
        expected.sort((a, b) => (a.id < b.id ? -1 : 1)),
        'messages by time, then by id',
      )

      const known = broken.filter(([since]) => since <= stage)
      const lines = (rows: { tab: string; id: string; broken: string }[]) =>
        rows.map(({ tab, id, broken }) => `${tab} ${id} ${broken}`).sort()
      t.strictSame(
        lines(violations),
        known.map(([, ...line]) => line.join(' ')).sort(),
        'rows that break a rule are reported',
      )
      const invalid = await db.query(
        `select conname from pg_constraint where contype = 'c' and not convalidated and conrelid::regclass::text = any ($1) order by 1`,
        [tables],
      )
      t.strictSame(
        invalid.map(({ conname }) => conname),
        [...new Set(known.map(([, , , constraint]) => constraint))].sort(),
        'all other rules are validated',
      )

      const whole = await dump(db)
      t.strictSame(lines(await migrate(client, silent)), lines(violations))
      t.strictSame(await dump(db), whole, 'a second run changes nothing')

      if (stage === 0) return
      const numbers = await db.query('select id, number from missions order by number')
      t.strictSame(numbers, [
        { id: C, number: 47 },
        { id: A, number: 48 },
        { id: B, number: 49 },
      ])
      const events = await db.query(
        `select regexp_replace(topic, '^missions/[^/]+/', '') as topic, seq::int, event, data ->> 'id' as id, data ->> 'chunk' as chunk from deck.events order by 1, 2`,
      )
      const created = (n: number, seq: number) => ({ seq, id: id(n) })
      t.match(
        events.filter(({ topic }) => topic === 'dod'),
        [created(201, 1), created(202, 2), created(203, 3)],
      )
      if (stage === 4) {
        t.match(
          events.filter(({ event }) => event === 'log.appended'),
          [{ topic: `tests/${id(301)}/logs`, seq: 1, chunk: 'all of it' }],
        )
        t.equal(events.filter(({ event }) => event === 'test_run.created').length, 3)
      }

      const say = 'insert into chat_messages (mission_id, citizen, sender, message) values ($1, $2, $3, $4)'
      t.equal(await failure(db.query(say, [A, 'rafael', 'bot', 'x'])), '23514')
      t.equal(await failure(db.query(say, [A, 'Rafael', 'user', 'x'])), '23514')
      t.equal(await failure(db.query(say, [A, 'rafael', 'user', 'x'.repeat(10_001)])), '23514')
      t.equal(await failure(db.query(`update missions set status = 'paused' where id = '${A}'`)), '23514')
      const count = said.filter(({ mission, citizen }) => mission === B && citizen === 'rafael').length
      t.equal(await failure(db.query(say, [B, 'rafael', 'user', 'x'])), 'none')
      await db.query(`insert into dod_items (mission_id, text, category) values ('${A}', 'new', 'tests')`)
      await db.query(`insert into test_runs (mission_id, status, logs) values ('${A}', 'running', 'new')`)
      const [appended] = await append(db, [{ mission: B, id: id(400) }])
      t.match(appended, { outcome: 'saved', seq: count + 2 }, 'a new message gets the next seq after the old messages')
      t.ok(Date.parse(appended?.created_at ?? '') < Date.now() + 60_000, 'and its time is not in the future')
      await sound(t, db)
      await db.query(`delete from missions where id = '${A}'`)
      t.strictSame(
        await db.query('select id from chat_messages where mission_id = $1', [A]),
        [],
        'a mission can be deleted',
      )
    },
  )
}

await t.test('adoption: the log of a run that breaks a rule is readable, and does not stop housekeeping', async (t) => {
  const db = await freshDatabase(t)
  await makeLegacy(db, 4)
  await migrate(await db.connect(), silent)
  for (const run of [302, 301]) await db.query(`select deck.append_log('${A}', '${id(run)}', ' and more')`)
  await db.query('select deck.tidy()')
  t.strictSame(await db.query('select id, logs from test_runs where mission_id = $1 order by id', [A]), [
    { id: id(301), logs: 'all of it and more' },
    { id: id(302), logs: '' },
  ])
  t.match(await db.query(`select deck.log_text('${A}', '${id(302)}') as text`), [{ text: ' and more' }])
})

await t.test('adoption: files 000 to 003 run by hand, with or without rows, equal a fresh start', async (t) => {
  const [byHands, fresh] = [await freshDatabase(t), await freshDatabase(t)]
  await byHand(byHands, ...first)
  await byHand(byHands, ...first)
  for (const db of [byHands, fresh]) {
    await migrate(await db.connect(), silent)
    await byHand(db, seed)
    await byHand(db, seed)
    await db.query(seed)
  }
  const schema = ['constraints', 'indexes', 'triggers', 'functions', 'columns', 'public.missions', 'public.dod_items']
  const [one, two] = [await dump(byHands), await dump(fresh)]
  for (const part of [...schema, 'public.test_runs']) t.strictSame(one[part], two[part], part)
  await sound(t, fresh)
  t.strictSame(await fresh.query('select number from missions order by 1'), [{ number: 47 }, { number: 48 }])
  t.strictSame(await fresh.query('select tab, id, broken from deck.violations()'), [])
})

await t.test('adoption: migrate() succeeds after the original statements and the seed ran by hand', async (t) => {
  const db = await freshDatabase(t)
  for (const text of original) await byHand(db, text)
  t.strictSame(await migrate(await db.connect(), silent), [])
  await byHand(db, seed)
  t.equal((await db.query('select id from chat_messages')).length, 4)
  await sound(t, db)
})

await t.test('seed: does not change another mission 47', async (t) => {
  const db = await freshDatabase(t)
  await migrate(await db.connect(), silent)
  await db.query(
    `insert into missions (id, number, title, client, budget, deadline, status, assigned_to)
     values ('${A}', 47, 'Ours', 'Acme', 1, '2030-01-01', 'active', 'person1')`,
  )
  const before = await rowsOf(db, [{ tab: 'missions', names: '*' }])
  await byHand(db, seed)
  await byHand(db, seed)
  const after = await rowsOf(db, [{ tab: 'missions', names: '*' }])
  t.strictSame(after.slice(0, 1), before)
  t.strictSame(await db.query('select number from missions order by number'), [{ number: 47 }, { number: 48 }])
  for (const table of ['dod_items', 'chat_messages', 'test_runs']) {
    t.strictSame(await db.query(`select id from ${table} where mission_id = '${A}'`), [], table)
  }
})

await t.test('migrate: two concurrent runs on an empty database both succeed', async (t) => {
  const db = await freshDatabase(t)
  const clients = await Promise.all([db.connect(), db.connect(), db.connect()])
  const applied: string[] = []
  const found = await Promise.all(clients.map((client) => migrate(client, (line) => applied.push(line))))
  t.strictSame(found, [[], [], []])
  t.strictSame(
    applied.sort(),
    [
      ...files.functions.map(({ path }) => `applied: ${path}`),
      ...files.migrations.map(({ path }) => `migrated: ${path.slice('migrations/'.length, -'.sql'.length)}`),
    ].sort(),
    'each file once',
  )
  await byHand(db, seed)
  await sound(t, db)
})
