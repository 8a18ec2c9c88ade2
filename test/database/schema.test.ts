// The schema: the result of db/ on an empty database and on one at 022_scale, what a start applies and what it does not, and the rules
// for the files.
import { readFileSync, readdirSync } from 'node:fs'
import type pg from 'pg'
import t, { type Test } from 'tap'
import { migrate, schemaFiles } from '../../src/database/postgres/migrate.ts'
import { loadDatabase022 } from '../support/adopted.ts'
import { freshDatabase, type FreshDatabase, type Row } from '../support/database.ts'

const silent = (): void => {}
const db = new URL('../../db/', import.meta.url)
const sqlFiles = readdirSync(db, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.sql'))
  .sort()
const textOf = (file: string): string => readFileSync(new URL(file, db), 'utf8')
const withoutComments = (text: string): string => text.replace(/--[^\n]*/g, '')

/** A database at 022_scale. */
const database022 = async (t: Test): Promise<FreshDatabase> => {
  const database = await freshDatabase(t)
  await loadDatabase022(await database.connect())
  return database
}

const ours = `in (select oid from pg_namespace where nspname in ('public', 'deck'))`
/** Returns what the schemas consist of: a name and a definition each. Without oids, which differ. */
const catalog = async ({ query }: Pick<FreshDatabase, 'query'>): Promise<Map<string, string>> => {
  const rows = await query(`
    select format('relation %s', c.oid::regclass) as name,
           concat_ws(' ', c.relkind, c.relpersistence, c.reloptions, case when c.relkind = 'v' then pg_get_viewdef(c.oid) end) as definition
    from pg_class c where c.relnamespace ${ours} and c.relkind in ('r', 'v', 'S', 'i')
    union all
    select format('column %s.%s', c.oid::regclass, a.attname),
           concat_ws(' ', a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, l.collname, pg_get_expr(d.adbin, d.adrelid))
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    left join pg_collation l on l.oid = a.attcollation
    where c.relnamespace ${ours} and c.relkind in ('r', 'v')
    union all
    -- (A dump has other parentheses: it flattens nested ANDs.)
    select format('constraint %s.%s', conrelid::regclass, conname),
           concat_ws(' ', contype, convalidated, translate(pg_get_constraintdef(oid), '()', ''))
    from pg_constraint where connamespace ${ours}
    union all
    select format('index %s', c.oid::regclass), pg_get_indexdef(c.oid) from pg_class c where c.relnamespace ${ours} and c.relkind = 'i'
    union all
    select format('trigger %s.%s', tgrelid::regclass, tgname), concat_ws(' ', tgenabled, pg_get_triggerdef(oid))
    from pg_trigger where not tgisinternal
    union all
    select format('function %s', oid::regprocedure), concat_ws(' ', proacl, pg_get_functiondef(oid)) from pg_proc where pronamespace ${ours}
    union all
    select format('sequence %s', seqrelid::regclass), concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax, seqcycle)
    from pg_sequence s join pg_class c on c.oid = s.seqrelid where c.relnamespace ${ours}`)
  return new Map(rows.map(({ name, definition }) => [String(name), String(definition)]))
}

/** Returns the row versions of the catalog. They are equal if nothing was applied in between. */
const versions = (query: FreshDatabase['query']): Promise<Row[]> =>
  query(`
    select 'pg_proc' as tab, oid, xmin::text from pg_proc where pronamespace ${ours}
    union all select 'pg_class', oid, xmin::text from pg_class where relnamespace ${ours} and relkind in ('r', 'v', 'S')
    union all select 'pg_trigger', t.oid, t.xmin::text from pg_trigger t where not t.tgisinternal
    union all select 'pg_constraint', oid, xmin::text from pg_constraint where connamespace ${ours}
    union all select 'schema_files', id::oid, xmin::text from deck.schema_files
    order by 1, 2`)

/** Objects of 022_scale that this version drops on purpose. */
/** The error message of a failed start, or 'none'. */
const failure = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  )

const dropped = [
  'column deck.change.data',
  'column deck.change.event',
  'column deck.change.mission_id',
  'column deck.change.ord',
  'column deck.change.row_id',
  'column deck.change.stmt',
  'column deck.change.topic',
  'function deck.append(uuid[],text[],json,integer)',
  'function deck.append_replies(text[],integer[],uuid[],text[],text[],text[],text[],text[],text[],boolean[],text[],integer,text,uuid[],uuid[],json,json,json,text)',
  'function deck.append_unmarked(uuid[],text[],json,integer)',
  'function deck.claim_tasks(text,uuid[],uuid[],integer[],integer)',
  'function deck.give_seqs()',
  'function deck.import_messages(text[],integer[],uuid[],text[],text[],text[],text[],text[],timestamp without time zone[],boolean)',
  'function deck.save_messages(text[],integer[],uuid[],text[],text[],text[],text[],text[],text[],boolean[],text[],integer,text)',
  'function deck.search_block(uuid,text,bigint,bigint,integer)',
  'function deck.tidy_inboxes()',
  'relation deck.change',
]

await t.test('schema: a fresh database equals one at 022_scale that is adopted', async (t) => {
  const [fresh, adopted] = [await freshDatabase(t), await database022(t)]
  const before = await catalog(adopted)
  await migrate(await fresh.connect(), silent)
  await migrate(await adopted.connect(), silent)
  const [one, two] = [await catalog(fresh), await catalog(adopted)]
  t.strictSame(Object.fromEntries(two), Object.fromEntries(one))
  t.strictSame(
    [...before.keys()].filter((name) => !one.has(name)).sort(),
    dropped,
    'only the listed objects are dropped',
  )
  // Since 022_scale, triggers recognize numbering by deck.numbers(), and the index of words has no pending list.
  const numbering =
    "((NOT (current_setting('deck.numbering'::text, true) IS DISTINCT FROM 'on'::text)) AND has_table_privilege(('deck.heads'::regclass)::oid, 'update'::text))"
  // Since 013_questions the view deck.noted has one more column; since 020_redaction a redacted message may be empty.
  const changed = ['relation deck.noted', 'constraint chat_messages.chat_messages_message_valid']
  const kept = [...before].filter(([name]) => !name.startsWith('function ') && !changed.includes(name) && one.has(name))
  const asBefore = (definition = '') =>
    definition
      .replaceAll('(pg_trigger_depth())::text', "'on'::text")
      .replaceAll('deck.numbers()', numbering)
      .replace(/ ?\{fastupdate=off\}| WITH \(fastupdate=(off|'off')\)/, '')
  t.strictSame(
    kept.filter(([name, definition]) => asBefore(one.get(name)) !== definition),
    [],
    'every table, index, constraint, trigger and view is unchanged',
  )
  t.comment(`dropped on purpose: ${dropped.join('; ')}`)
})

await t.test('schema: calls of the previous version find functions that have more parameters now', async (t) => {
  const client = await (await freshDatabase(t)).connect()
  await migrate(client, silent)
  const texts = Array<string>(6).fill('text[]')
  const batch = ['text[]', 'integer[]', 'uuid[]', ...texts, 'boolean[]', 'text[]', 'integer', 'text']
  const calls: [call: string, types: string[]][] = [
    ['call deck.append_messages', batch],
    ['call deck.append_replies', [...batch, 'uuid[]', 'uuid[]']],
    [
      'select holder, task, attempt, message, key from deck.claim_tasks',
      ['text', 'uuid[]', 'uuid[]', 'integer[]', 'integer'],
    ],
    ['select others from deck.import_messages', [...batch.slice(0, 3), ...texts.slice(1), 'timestamp[]', 'boolean']],
    ['select deck.tidy_inboxes', []],
  ]
  for (const [call, types] of calls) {
    // Arguments of null may be refused, but the function is found.
    const state = await failure(client.query(`${call}(${types.map((type) => `null::${type}`).join(', ')})`))
    t.notMatch(state, /does not exist|is not unique/, call)
  }
})

await t.test('schema: functions keep the names, types and results that the previous version calls', async (t) => {
  const adopted = await database022(t)
  const signatures = (): Promise<Row[]> =>
    adopted.query(
      `select oid::regprocedure::text as name, prokind, proretset, prosecdef, provolatile, replace(proconfig::text, 'pg_catalog, public, pg_temp', 'pg_catalog, pg_temp') as proconfig,
              prorettype::regtype::text, proallargtypes::regtype[]::text,
              -- The names of result columns. The name of an INOUT parameter counts only for a procedure.
              case when proretset or prokind = 'p' or 'o' = any (proargmodes) then array(
                select a.name from unnest(proargnames, proargmodes) as a (name, mode)
                where a.mode in ('o', 't') or (a.mode = 'b' and prokind = 'p'))::text end as results
       from pg_proc where pronamespace = 'deck'::regnamespace order by 1`,
    )
  const before = await signatures()
  await migrate(await adopted.connect(), silent)
  const after = new Map((await signatures()).map((row) => [row['name'], row]))
  for (const row of before) {
    const { name } = row
    if (dropped.includes(`function ${String(name)}`)) continue
    // Its INOUT parameters became IN and OUT parameters: the call and the columns are the same.
    const parts =
      name === `deck.prune_runs(uuid,timestamp without time zone,timestamp without time zone,uuid,integer,bigint)`
    const now = after.get(name)
    t.strictSame(
      parts ? { ...now, proallargtypes: '', results: '' } : now,
      parts ? { ...row, proallargtypes: '', results: '' } : row,
    )
  }
})

await t.test(
  'schema: the previous version finds its list of migrations, on a fresh and on an adopted database',
  async (t) => {
    const list = [
      ...['000_base_schema', '001_add_github_url', '002_add_citizen_to_chat', '003_create_test_runs', '004_topics'],
      ...[
        '005_numbering',
        '006_append',
        '007_access',
        '008_batches',
        '009_numbering',
        '010_reads',
        '011_list',
        '012_drafts',
      ],
      ...['013_inbox', '014_search', '015_evidence', '016_timeline', '017_carry', '018_logs', '019_find', '020_words'],
      ...['021_numbering', '022_scale'],
    ]
    for (const database of [await freshDatabase(t), await database022(t)]) {
      await migrate(await database.connect(), silent)
      const rows = await database.query('select name from deck.migrations order by run_on, id')
      t.strictSame(
        rows.map(({ name }) => name),
        list,
      )
    }
  },
)

await t.test('schema: a second start applies nothing', async (t) => {
  for (const database of [await freshDatabase(t), await database022(t)]) {
    const client = await database.connect()
    await migrate(client, silent)
    const before = await versions(database.query)
    const lines: string[] = []
    await migrate(client, (line) => lines.push(line))
    t.strictSame(lines, [])
    t.strictSame(await versions(database.query), before)
  }
})

/** A function's source in the database. */
const bodyOf = async ({ query }: FreshDatabase, name: string): Promise<unknown> =>
  (await query('select prosrc from pg_proc where oid = $1::regprocedure', [name]))[0]?.['prosrc']

await t.test('schema: a changed file of functions is applied at the next start, the others are not', async (t) => {
  const database = await freshDatabase(t)
  const client = await database.connect()
  await migrate(client, silent)
  const name = 'deck.tidy()'
  const body = await bodyOf(database, name)
  await client.query(`create or replace function deck.tidy() returns void language plpgsql as 'begin end'`)
  await client.query(`update deck.schema_files set hash = 'another' where path = 'functions/housekeeping.sql'`)
  const lines: string[] = []
  await migrate(client, (line) => lines.push(line))
  t.strictSame(lines, ['applied: functions/housekeeping.sql'])
  t.equal(await bodyOf(database, name), body)
})

await t.test('schema: an older version leaves the functions of a newer one alone', async (t) => {
  const database = await freshDatabase(t)
  const client = await database.connect()
  await migrate(client, silent, '1.10.0')
  await client.query(`create or replace function deck.tidy() returns void language plpgsql as 'begin end'`)
  await client.query(`update deck.schema_files set hash = 'another' where path = 'functions/housekeeping.sql'`)
  const before = await versions(database.query)
  for (const older of ['1.9.9', '1.10.0-beta.1']) {
    await migrate(client, silent, older)
    t.strictSame(await versions(database.query), before, older)
  }
  await migrate(client, silent, '1.10.0')
  t.not(await bodyOf(database, 'deck.tidy()'), 'begin end', 'within a version, any edit is applied')
})

await t.test('schema: a database between 004 and 021 is refused with one sentence, and not changed', async (t) => {
  const database = await database022(t)
  const client = await database.connect()
  await client.query(`drop table deck.pruned; delete from deck.migrations where name = '022_scale'`)
  const before = await catalog(database)
  const said = await failure(migrate(client, silent))
  t.match(said, /^The database stands at migration 021_numbering, which this version can't upgrade: [^.]+\.$/)
  t.strictSame(await catalog(database), before)
})

await t.test('schema: a start that fails leaves the database unchanged', async (t) => {
  const database = await freshDatabase(t)
  const client: pg.Client = await database.connect()
  // A view where 000 expects or makes a table.
  await client.query('create view public.dod_items as select 1 as id')
  const before = await catalog(database)
  t.match(await failure(migrate(client, silent)), /dod_items/)
  t.strictSame(await catalog(database), before)
  await client.query('drop view public.dod_items')
  t.equal(await failure(migrate(client, silent)), 'none', 'the next start succeeds')
})

await t.test('schema: each function is defined in exactly one file', async (t) => {
  const found = new Map<string, string[]>()
  for (const file of sqlFiles)
    for (const [, name = ''] of withoutComments(textOf(file)).matchAll(
      /\bcreate\s+(?:or\s+replace\s+)?(?:function|procedure)\s+(deck\.\w+)/gi,
    ))
      found.set(name, [...(found.get(name) ?? []), file])
  t.strictSame(
    [...found].filter(([, files]) => files.length > 1),
    [],
    'defined more than once',
  )
  const database = await freshDatabase(t)
  await migrate(await database.connect(), silent)
  const rows = await database.query(
    `select format('deck.%s', proname) as name from pg_proc where pronamespace = 'deck'::regnamespace order by 1`,
  )
  t.strictSame(
    rows.map(({ name }) => name),
    [...found.keys()].sort(),
    'the catalog has exactly the functions of the files, each with one signature',
  )
  for (const [name, [file = '']] of found)
    if (!file.startsWith('functions/'))
      t.ok(
        [
          'deck.key_name',
          'deck.finite',
          'deck.valid_blocks',
          'deck.valid_options',
          'deck.valid_details',
          'deck.numbers',
        ].includes(name),
        `${name}: an index, a CHECK or a trigger needs it`,
      )
})

await t.test('schema: parameters have a prefix, and only topic.sql splits topics', async (t) => {
  for (const file of sqlFiles) {
    const text = withoutComments(textOf(file))
    t.notMatch(text, /#variable_conflict/, file)
    if (file !== 'functions/topic.sql')
      t.notMatch(text, /substr\(\s*[\w.]*(topic|log)[\w.]*\s*,/, `${file}: no offset into a topic`)
  }
  const database = await freshDatabase(t)
  await migrate(await database.connect(), silent)
  const rows = await database.query(
    `select p.proname || '.' || a.name as name
     from pg_proc p cross join lateral unnest(p.proargnames, coalesce(p.proargmodes, array_fill('i'::"char", array[p.pronargs]))) as a (name, mode)
     where p.pronamespace = 'deck'::regnamespace and a.mode = 'i' and a.name !~ '^p_' order by 1`,
  )
  t.strictSame(
    rows.map(({ name }) => name),
    [
      ...['answer.answer', 'answer.request', 'ask.body', 'ask.citizen', 'ask.expires_in', 'ask.kind', 'ask.mission'],
      ...['ask.options', 'ask.task', 'ask.title'],
      ...['finite.t', 'key_name.author', 'key_name.citizen', 'key_name.key', 'key_name.mission'],
      ...['redact.id', 'redact.reason', 'revoke.by', 'revoke.name', 'unrevoke.by', 'unrevoke.name', 'valid_blocks.b'],
    ],
    'the exceptions: an index, a CHECK, an operator or a SQL writer depends on the name',
  )
  const { functions } = await schemaFiles()
  t.ok(functions.length >= 15)
})

await t.test('schema: each table has a primary key, as tools that replicate or repack a table need it', async (t) => {
  for (const database of [await freshDatabase(t), await database022(t)]) {
    await migrate(await database.connect(), silent)
    t.strictSame(
      await database.query(
        `select c.oid::regclass::text as tab from pg_class c
         where c.relnamespace ${ours} and c.relkind in ('r', 'p')
           and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)`,
      ),
      [],
    )
  }
})
