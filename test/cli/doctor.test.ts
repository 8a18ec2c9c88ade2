// doctor on databases that are sound, empty, damaged or unreachable. It changes nothing and prints no secret.
import { readFile } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { node } from '../../src/cli/doctor/environment.ts'
import { migrate, seedFile } from '../../src/database/postgres/migrate.ts'
import { deck, migrated } from '../support/cli.ts'
import { freshDatabase, insertMission } from '../support/database.ts'
import { secret } from '../support/server.ts'

type Report = { status: string; checks: { check: string; status: string; detail: string; advice?: string }[] }

/** Runs doctor. Returns its findings, and in `bad` those that are not ok, by check. */
const examine = async (t: Test, env: NodeJS.ProcessEnv, ...args: string[]) => {
  const { code, out, err } = await deck(t, ['doctor', '--json', ...args], { JWT_SECRET: secret, ...env })
  t.equal(err, '')
  t.notMatch(out, secret)
  const { status, checks } = JSON.parse(out) as Report
  const bad = new Map(checks.filter(({ status }) => status !== 'ok').map((finding) => [finding.check, finding]))
  for (const [check, { advice }] of bad) t.ok(advice, `${check} has advice`)
  return { code, status, checks, bad }
}
/** Settings that the tests' temporary cluster has off. */
const ofTests = ['fsync', 'full_page_writes']

void t.test('doctor: finds nothing wrong with a sound database, and changes nothing', async (t) => {
  const { url, query } = await migrated(t)
  const env = { DATABASE_URL: url }
  await query(await readFile(seedFile, 'utf8'))
  const before = await query(
    'select pg_current_xact_id_if_assigned() as own, sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables',
  )
  const { code, checks, bad } = await examine(t, env)
  t.equal(code, 0)
  t.strictSame(
    [...bad.keys()].filter((check) => !ofTests.includes(check)),
    [],
  )
  const names = checks.map(({ check }) => check)
  for (const check of [
    'node',
    'configuration',
    'secrets',
    'database',
    'version',
    'encoding',
    'primary',
    'clocks',
    'listen',
    'connections',
    'settings',
    'session',
    'privileges',
    'migrations',
    'triggers',
    'rows',
    'seqs',
    'transactions',
    'notifications',
  ])
    t.ok(names.includes(check), check)
  t.match(checks.find(({ check }) => check === 'seqs')?.detail, /valid in [1-9]/)
  t.strictSame(
    await query(
      'select pg_current_xact_id_if_assigned() as own, sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables',
    ),
    before,
  )
  const plain = await deck(t, ['doctor'], { ...env, JWT_SECRET: secret })
  t.match(plain, { code: 0, out: /^ok {4}node {15}Node \d+/ })
  t.notMatch(plain.out, '\x1b', 'no colours without a terminal')
})

void t.test('doctor: checks Node against the versions in package.json', (t) => {
  for (const version of ['20.19.0', '20.20.2', '22.13.0', '24.0.0', '26.1.0'])
    t.match(node(version), { status: 'ok' }, version)
  for (const version of ['18.20.8', '20.18.3', '21.7.3', '22.12.0', '23.11.0'])
    t.match(node(version), { status: 'fail', advice: /install Node 24/ }, version)
  t.end()
})

void t.test('doctor: reports a database that is not migrated, or only partly', async (t) => {
  const { url, query, connect } = await freshDatabase(t)
  const before = await examine(t, { DATABASE_URL: url })
  t.match(before, { code: 1, status: 'fail' })
  t.match(before.bad.get('migrations'), { status: 'fail', detail: /not migrated/, advice: /deck migrate/ })
  t.strictSame(await query("select from pg_namespace where nspname = 'deck'"), [], 'doctor did not migrate')
  await migrate(await connect(), () => {})
  await query("delete from deck.schema_files where path = 'functions/inbox.sql'")
  await query("insert into deck.schema_files (path, hash, version) values ('migrations/999_later.sql', '', '99.0.0')")
  t.match((await examine(t, { DATABASE_URL: url })).bad.get('migrations'), {
    status: 'fail',
    detail: /functions\/inbox\.sql/,
  })
})

void t.test('doctor: finds damaged rows, triggers and seqs', async (t) => {
  const database = await migrated(t)
  const { url, query } = database
  const mission = await insertMission(database)
  const say = (sender: string) =>
    query(`insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', $2, 'hi')`, [
      mission,
      sender,
    ])
  await say('user')
  await query('alter table chat_messages drop constraint chat_messages_sender_valid')
  await say('robot')
  await query(
    `alter table chat_messages add constraint chat_messages_sender_valid check (sender in ('user', 'citizen')) not valid`,
  )
  const broken = await examine(t, { DATABASE_URL: url })
  t.match(broken, { code: 0, status: 'warn' }, 'a warning, because the rows are readable')
  t.match(broken.bad.get('rows'), { status: 'warn', detail: /^1 break.*chat_messages .*chat_messages_sender_valid/ })

  await query('alter table chat_messages disable trigger note_inserted')
  await say('user')
  const damaged = await examine(t, { DATABASE_URL: url })
  t.match(damaged, { code: 1, status: 'fail' })
  t.match(damaged.bad.get('triggers'), { status: 'fail', detail: 'disabled: chat_messages.note_inserted' })
  t.match(damaged.bad.get('seqs'), {
    status: 'fail',
    detail: `messages without a seq in missions/${mission}/chat/rafael`,
  })
})

void t.test('doctor: reports a transaction that is left open, and unneeded privileges', async (t) => {
  const database = await migrated(t)
  const mission = await insertMission(database)
  const client = await database.connect()
  await client.query('begin')
  await client.query(
    `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'hi')`,
    [mission],
  )
  const { code, bad } = await examine(t, { DATABASE_URL: database.adminUrl }, '--long', '0')
  t.equal(code, 0)
  t.match(bad.get('transactions'), {
    detail: /idle in transaction for \d+ s and holds .*chat_messages RowExclusiveLock/,
    advice: /pg_terminate_backend\(\d+\)/,
  })
  // If the tests' role may not create roles, it is the owner itself.
  const own = new URL(database.adminUrl).username === new URL(database.url).username
  if (!own) t.match(bad.get('privileges'), { status: 'warn', detail: /is a superuser/ })
})

void t.test('doctor: reports why a database is unreachable, never its password', async (t) => {
  const { url } = await freshDatabase(t)
  const change = (what: Partial<URL>): string => Object.assign(new URL(url), what).href
  const cases: [string, RegExp, RegExp][] = [
    [change({ port: '1', password: 'hush' }), /ECONNREFUSED/, /host and port/],
    [change({ password: 'hush' }), /password authentication failed/, /user and password/],
    [change({ pathname: '/deck_test_none' }), /does not exist/, /createdb/],
    ['postgres://deck:hu#sh@127.0.0.1/x', /Invalid URL/, /%-encoded/],
  ]
  await Promise.all(
    cases.map(async ([DATABASE_URL, detail, advice]) => {
      const { code, bad, checks } = await examine(t, { DATABASE_URL })
      t.equal(code, 1)
      t.match(bad.get('database'), { status: 'fail', detail, advice })
      t.notMatch(JSON.stringify(checks), /hush|hu#sh/)
      t.notMatch(JSON.stringify(checks), new URL(url).password)
    }),
  )
})

void t.test('doctor: reads the settings like the server, and checks for the embedded database', async (t) => {
  const wrong = await examine(t, { PORT: 'many', NODE_ENV: 'production' })
  t.equal(wrong.code, 1)
  t.match(wrong.bad.get('configuration'), { status: 'fail', detail: /PORT/ })
  const unsafe = await examine(t, { JWT_SECRET: 'short', NODE_ENV: 'production' })
  t.match(unsafe.bad.get('configuration'), { detail: /too short|DATABASE_URL is required/ })
  t.notMatch(JSON.stringify(unsafe.checks), '"short')
  const none = await examine(t, {})
  t.match(none, { code: 0, status: 'warn' })
  t.match(none.bad.get('embedded database'), { detail: /no database in/, advice: /npm start/ })
})
