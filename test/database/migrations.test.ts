// A lint of db/ that runs it. The files that a start applies to a database of the previous version, with rows, run in a transaction.
// The lint then reports tables that were locked, rewritten or read in full, and removed objects that the previous version uses: both
// versions run on one schema during an upgrade. Intended faults are listed in `meant`, with the reason.
import { readFile } from 'node:fs/promises'
import type pg from 'pg'
import t, { type Test } from 'tap'
import { migrate, schemaFiles } from '../../src/database/postgres/migrate.ts'
import { loadDatabase022 } from '../support/adopted.ts'
import { freshDatabase } from '../support/database.ts'

/** The last migration of the previous version, in its list and in this one. */
const released = 'migrations/004_deck.sql'
/** Intended faults by file: the reported text, and the reason. */
const meant: Record<string, Record<string, string>> = {
  'adopt_022.sql': {
    'deck.append(uuid[],text[],json,integer) is gone: the previous version uses it': 'only versions before 008 call it',
    'deck.append_unmarked(uuid[],text[],json,integer) is gone: the previous version uses it':
      'only deck.append calls it',
    'deck.give_seqs() is gone: the previous version uses it': 'only versions before 021 call it',
    ...Object.fromEntries(
      [
        'append_replies(text[],integer[],uuid[],text[],text[],text[],text[],text[],text[],boolean[],text[],integer,text,uuid[],uuid[],json,json,json,text)',
        'claim_tasks(text,uuid[],uuid[],integer[],integer)',
        'import_messages(text[],integer[],uuid[],text[],text[],text[],text[],text[],timestamp without time zone[],boolean)',
        'save_messages(text[],integer[],uuid[],text[],text[],text[],text[],text[],text[],boolean[],text[],integer,text)',
        'tidy_inboxes()',
      ].map((name) => [
        `deck.${name} is gone: the previous version uses it`,
        'it has more parameters, with defaults: the same call finds it',
      ]),
    ),
    'deck.search_block(uuid,text,bigint,bigint,integer) is gone: the previous version uses it':
      'only deck.search_index and deck.search_renew call it, which are replaced with it',
    ...Object.fromEntries(
      ['stmt', 'ord', 'topic', 'mission_id', 'row_id', 'event', 'data'].map((column) => [
        `deck.change.${column} is gone: the previous version uses it`,
        'only versions before 021 read it',
      ]),
    ),
  },
}

const rows = 20_000
const adopt = await readFile(new URL('../../db/adopt_022.sql', import.meta.url), 'utf8')
const { migrations, functions } = await schemaFiles()

/** A database of the previous version, with rows. */
const makeReleased = async (t: Test): Promise<pg.Client> => {
  const client = await (await freshDatabase(t)).connect()
  client.on('notice', () => {})
  await client.query('set search_path = public')
  await loadDatabase022(client)
  await client.query(`
    insert into missions (title, client, budget, deadline, status, assigned_to)
    select 'A', 'Acme', 1, '2030-01-01', 'active', 'alice' from generate_series(1, 20);
    insert into chat_messages (mission_id, citizen, sender, message)
    select m.id, 'c' || n % 5, 'user', 'message ' || n from missions m, generate_series(1, ${rows / 20}) n;
    insert into test_runs (mission_id, status, logs) select m.id, 'passed', 'x' from missions m, generate_series(1, 100);
    insert into dod_items (mission_id, text, category) select m.id, 'x', 'tests' from missions m, generate_series(1, 100)`)
  await client.query('vacuum analyze')
  return client
}

const state = async (client: pg.Client) => {
  const list = async (text: string): Promise<Map<string, string>> => {
    const found = await client.query<{ name: string; value: string }>(text)
    return new Map(found.rows.map(({ name, value }) => [name, value]))
  }
  const ours = `in ('public'::regnamespace, 'deck'::regnamespace)`
  return {
    // Only tables with rows: changing an empty one takes no time.
    tables: await list(`select c.oid::regclass::text as name, c.relfilenode::text as value from pg_class c
      where c.relnamespace ${ours} and c.relkind = 'r' and c.reltuples > 0`),
    parts: await list(`
      select c.oid::regclass || '.' || a.attname as name, format_type(a.atttypid, a.atttypmod) as value
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.relnamespace ${ours} and c.relkind in ('r', 'v', 'S')
      union all
      select p.oid::regprocedure::text, pg_get_function_result(p.oid) from pg_proc p where p.pronamespace ${ours}`),
  }
}

/** Returns the faults of a migration. Opens a transaction for it, which the caller ends. */
const faultsOf = async (client: pg.Client, text: string): Promise<string[]> => {
  const before = await state(client)
  await client.query('begin')
  const read = async (): Promise<Map<string, number>> => {
    const found = await client.query<{ name: string; n: number }>(
      `select relid::regclass::text as name, coalesce(seq_tup_read, 0)::int as n from pg_stat_xact_user_tables`,
    )
    return new Map(found.rows.map(({ name, n }) => [name, n]))
  }
  const readBefore = await read()
  await client.query(text)
  const readAfter = await read()
  const after = await state(client)
  const { rows: locks } = await client.query<{ name: string; mode: string }>(
    `select relation::regclass::text as name, mode from pg_locks
     where pid = pg_backend_pid() and locktype = 'relation' and mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`,
  )
  const strong = new Map<string, string[]>()
  for (const { name, mode } of locks) strong.set(name, [...(strong.get(name) ?? []), mode])
  const faults: string[] = []
  for (const [name, file] of before.tables) {
    const modes = strong.get(name) ?? []
    const now = after.tables.get(name)
    if (now !== undefined && now !== file) faults.push(`${name} is rewritten`)
    // An index of a table in use is created `concurrently`, by hand or after the start.
    if (modes.includes('ShareLock')) faults.push(`writers of ${name} wait for an index`)
    const looked = (readAfter.get(name) ?? 0) - (readBefore.get(name) ?? 0)
    if (modes.length > 0 && looked >= 2000)
      faults.push(`${name} is read in full (${looked} rows) under ${modes.sort().join(', ')}`)
  }
  for (const [name, value] of before.parts) {
    const now = after.parts.get(name)
    if (now === undefined) faults.push(`${name} is gone: the previous version uses it`)
    else if (now !== value) faults.push(`${name} was ${value}, and is ${now}`)
  }
  return faults
}

void t.test('migration lint: reports each kind of fault, and no others', async (t) => {
  const client = await makeReleased(t)
  const all = `select count(*) from chat_messages where message <> ''`
  for (const [text, ...want] of [
    ['select 1'],
    [`alter table chat_messages add column more text; create table deck.more (id uuid primary key)`],
    [`alter table missions add column more integer not null default 7`],
    [`alter table chat_messages add constraint c check (message <> 'x') not valid`],
    [all],
    ['create index on chat_messages (message)', /^writers of chat_messages wait/, /^chat_messages is read in full/],
    [`alter table chat_messages add constraint c check (message <> 'x')`, /^chat_messages is read in full/],
    [`lock table chat_messages in exclusive mode; ${all}`, /^chat_messages is read in full/],
    [
      'alter table deck.heads alter column floor type numeric',
      /^deck.heads is rewritten/,
      /floor was bigint, and is numeric/,
    ],
    [`alter table chat_messages add column r uuid default gen_random_uuid()`, /^chat_messages is rewritten/],
    ['alter table deck.tasks drop column attempt', /^deck.tasks.attempt is gone/],
    ['alter table deck.reads rename to marks', /^deck.reads.* is gone/],
    ['drop function deck.words(text) cascade', /^deck.words\(text\) is gone/],
  ] as [string, ...RegExp[]][]) {
    const found = await faultsOf(client, text)
    await client.query('rollback')
    if (want.length === 0) t.strictSame(found, [], text)
    for (const fault of want)
      t.ok(
        found.some((one) => fault.test(one)),
        `${text}: ${String(fault)}`,
        { found },
      )
  }
})

/** Applies a text, commits, and compares its faults with `meant`. */
const hold = async (t: Test, client: pg.Client, name: string, text: string): Promise<void> => {
  const since = performance.now()
  const found = await faultsOf(client, text)
  await client.query('commit')
  const known = meant[name] ?? {}
  t.strictSame(
    found.filter((fault) => !(fault in known)),
    [],
    name,
  )
  t.strictSame(
    Object.keys(known).filter((fault) => !found.includes(fault)),
    [],
    `${name}: every intended fault still occurs`,
  )
  t.comment(`${name}: ${Math.round(performance.now() - since)} ms`)
}

void t.test('migrations: a start locks no table for long, and keeps what the previous version uses', async (t) => {
  const client = await makeReleased(t)
  // In the order of a start: functions may need what the migrations add.
  const later = migrations.filter(({ path }) => path > released)
  await hold(t, client, 'adopt_022.sql', [adopt, ...[...later, ...functions].map(({ text }) => text)].join('\n'))
})

void t.test('functions: a changed file locks no relation when it is applied again', async (t) => {
  const client = await makeReleased(t)
  await migrate(client, () => {})
  for (const { path, text } of functions) {
    await hold(t, client, path, text)
    await client.query('begin')
    await client.query(text)
    const { rows: locks } = await client.query(
      `select relation::regclass::text as name, mode from pg_locks
       where pid = pg_backend_pid() and locktype = 'relation' and mode not in ('AccessShareLock', 'RowExclusiveLock')`,
    )
    t.strictSame(locks, [], path)
    await client.query('commit')
  }
})
