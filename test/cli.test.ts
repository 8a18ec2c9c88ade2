// The command line as a process: what each command prints as lines and as JSON, how mistakes and failures end, and what the
// doctor finds in databases that are well, empty, damaged, or not to be reached.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { migrate, seedFile } from '../src/log/migrate.ts'
import { deck } from './cli.ts'
import { freshDatabase, insertMission, type FreshDatabase } from './database.ts'
import { secret } from './helper.ts'
import { root } from './process.ts'

const commands = [
  'serve',
  'migrate',
  'seed',
  'token',
  'revoke',
  'unrevoke',
  'revoked',
  'doctor',
  'say',
  'tail',
  'ask',
  'inbox',
]

void t.test('help and version are told on stdout, of each command too', async (t) => {
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  t.match(await deck(t, ['--version']), { code: 0, out: `${version}\n`, err: '' })
  const help = await deck(t, ['--help'])
  t.match(help, { code: 0, err: '' })
  await Promise.all(
    commands.map(async (name) => {
      t.match(help.out, new RegExp(`^  ${name} `, 'm'))
      // One of each group.
      if (!['serve', 'token', 'tail', 'inbox'].includes(name)) return
      const own = await deck(t, [name, '--help'])
      t.match(own, { code: 0, err: '' })
      t.match(own.out, new RegExp(`^Usage: deck ${name} [\\s\\S]*--json`))
    }),
  )
})

void t.test('what is no command, option or argument ends with 2 and a hint', async (t) => {
  const asJson = ['tokn', 'seed']
  const mistakes: [string[], RegExp][] = [
    [[], /^Usage: deck/],
    [['tokn'], /^unknown command 'tokn'\n\(Did you mean token\?\)\n\(deck --help says more\)\n$|Did you mean/],
    [['doctor', '--jsn'], /^unknown option '--jsn'[\s\S]*\(deck doctor --help says more\)\n$/],
    [['token', 'rafael'], /^missing required argument 'role'\n\(deck token --help says more\)\n$/],
    [['token', 'rafael', 'king'], /Allowed choices are user, citizen, admin/],
    [['token', 'rafael', 'citizen', '--seconds', '-1'], /whole number/],
    [['seed', 'more'], /^too many arguments/],
  ]
  await Promise.all(
    mistakes.map(async ([args, told]) => {
      const plain = await deck(t, args)
      t.match(plain, { code: 2, out: '', err: told }, args.join(' '))
      if (!asJson.includes(args[0] ?? '')) return
      const { code, out, err } = await deck(t, [...args, '--json'])
      t.match({ code, out }, { code: 2, out: '' })
      t.match(JSON.parse(err), { code: 'bad_request', detail: String }, `${args.join(' ')} --json`)
    }),
  )
})

void t.test('a failure is one line on stderr and exit 1; with --json a code and a detail', async (t) => {
  const nowhere = { DATABASE_URL: 'postgres://nobody:hush@127.0.0.1:1/none' }
  const failures: [string[], NodeJS.ProcessEnv, string, RegExp][] = [
    [['migrate'], {}, 'bad_request', /^DATABASE_URL is needed\.$/],
    [['token', 'rafael', 'citizen'], {}, 'bad_request', /^JWT_SECRET is needed/],
    [['migrate'], nowhere, 'unavailable', /ECONNREFUSED/],
    [['revoked'], nowhere, 'unavailable', /ECONNREFUSED/],
    [['serve'], { ...nowhere, JWT_SECRET: secret }, 'unavailable', /did not start: .*ECONNREFUSED/],
    [['seed'], { DATABASE_URL: 'mysql://x' }, 'internal', /DATABASE_URL must begin with/],
  ]
  await Promise.all(
    failures.map(async ([args, env, code, told]) => {
      const json = await deck(t, [...args, '--json'], env)
      t.match(json, { code: 1, out: '' })
      t.match(JSON.parse(json.err), { code, detail: told })
      t.notMatch(json.err, /hush/)
    }),
  )
  t.match(await deck(t, ['seed'], nowhere), { code: 1, out: '', err: /^[^\n]*ECONNREFUSED[^\n]*\n$/ })
})

void t.test('inbox lists what waits and what was set aside, and gives that out again', async (t) => {
  const { url, query } = await freshDatabase(t)
  const env = { DATABASE_URL: url }
  await deck(t, ['migrate'], env)
  await deck(t, ['seed'], env)
  t.match(await deck(t, ['inbox'], env), { code: 0, out: '', err: 'nothing waits\n' })
  await query(`select deck.open_inbox('rafael')`)
  await query(
    `insert into chat_messages (mission_id, sender, message) select id, 'user', 'Does it\trun?' from missions`,
  )
  await query(`select deck.find_tasks('rafael', null, 100)`)
  await query(`update deck.tasks set attempt = 5 where mission_id = (select id from missions where number = 48)`)
  const { code, out } = await deck(t, ['inbox', 'rafael', '--json'], env)
  t.equal(code, 0)
  const [first, last] = (JSON.parse(out) as { mission: number; state: string; task: string }[]).sort(
    (a, b) => a.mission - b.mission,
  )
  t.match(first, { mission: 47, citizen: 'rafael', state: 'open', attempt: 0, message: 'Does it\trun?' })
  t.match(last, { mission: 48, state: 'set aside', attempt: 5 })
  t.match(await deck(t, ['inbox', '--dead'], env), {
    code: 0,
    out: new RegExp(`^set aside  ${last?.task}  #48 rafael .*Does it run\\?\n$`),
  })
  const retry = (task = '') => deck(t, ['inbox', '--retry', task], env)
  t.match(await retry(last?.task), { code: 0, out: `${last?.task} is given out again\n` })
  t.match(await retry(first?.task), { code: 1, err: /set aside/ })
  t.match(await query('select attempt, dead from deck.tasks'), [{ attempt: 0 }, { attempt: 0 }])
})

void t.test('migrate, seed, token and revoke say what they did, as a line and as one JSON value', async (t) => {
  const { url, query } = await freshDatabase(t)
  const env = { DATABASE_URL: url, JWT_SECRET: secret }
  const json = async (...args: string[]): Promise<unknown> => {
    const { code, out, err } = await deck(t, [...args, '--json'], env)
    t.strictSame({ code, err }, { code: 0, err: '' }, args.join(' '))
    return JSON.parse(out)
  }
  t.match((await deck(t, ['revoked', '--json'], env)).err, /not migrated: run deck migrate/)
  t.match(await deck(t, ['migrate'], env), { code: 0, out: /^migrated: 000_base_schema\n[\s\S]*up to date\n$/ })
  t.strictSame(await json('migrate'), { up_to_date: true, done: [] })
  t.strictSame(await json('seed'), { missions: [47, 48] })
  t.equal((await query('select from missions')).length, 2)
  t.match(await json('token', 'rafael', 'citizen', '--missions', '47,48', '--seconds', '60'), {
    token: /^ey/,
    sub: 'rafael',
    role: 'citizen',
    missions: ['47', '48'],
    expires_in: 60,
  })
  t.strictSame(await json('revoke', 'mallory'), { name: 'mallory', changed: true })
  t.strictSame(await json('revoke', 'mallory'), { name: 'mallory', changed: false })
  t.match(await json('revoked'), [{ name: 'mallory', by: /@/, at: /Z$/ }])
  t.strictSame(await json('unrevoke', 'mallory'), { name: 'mallory', changed: true })
})

type Report = { status: string; checks: { check: string; status: string; detail: string; advice?: string }[] }

/** What the doctor finds, and by check what is not well. */
const examine = async (t: Test, env: NodeJS.ProcessEnv, ...args: string[]) => {
  const { code, out, err } = await deck(t, ['doctor', '--json', ...args], { JWT_SECRET: secret, ...env })
  t.equal(err, '')
  t.notMatch(out, secret)
  const { status, checks } = JSON.parse(out) as Report
  const bad = new Map(checks.filter(({ status }) => status !== 'ok').map((finding) => [finding.check, finding]))
  for (const [check, { advice }] of bad) t.ok(advice, `${check} says what to do`)
  return { code, status, checks, bad }
}
const migrated = async (t: Test): Promise<FreshDatabase> => {
  const database = await freshDatabase(t)
  await migrate(await database.connect(), () => {})
  return database
}
/** Settings of the cluster of the tests, which is not meant to last. */
const ofTests = ['fsync']

void t.test('the doctor finds nothing wrong with a good database, and changes nothing', async (t) => {
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
  t.match(checks.find(({ check }) => check === 'seqs')?.detail, /sound in [1-9]/)
  t.strictSame(
    await query(
      'select pg_current_xact_id_if_assigned() as own, sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables',
    ),
    before,
  )
  const plain = await deck(t, ['doctor'], { ...env, JWT_SECRET: secret })
  t.match(plain, { code: 0, out: /^ok {4}node {15}Node \d+/ })
  t.notMatch(plain.out, '\x1b', 'no colours where nobody looks')
})

void t.test('the doctor says that a database is not migrated, or not wholly', async (t) => {
  const { url, query, connect } = await freshDatabase(t)
  const before = await examine(t, { DATABASE_URL: url })
  t.match(before, { code: 1, status: 'fail' })
  t.match(before.bad.get('migrations'), { status: 'fail', detail: /not migrated/, advice: /deck migrate/ })
  t.strictSame(await query("select from pg_namespace where nspname = 'deck'"), [], 'it did not migrate')
  await migrate(await connect(), () => {})
  await query("delete from deck.migrations where name = '012_drafts'")
  await query("insert into deck.migrations (name, run_on) values ('999_later', now())")
  t.match((await examine(t, { DATABASE_URL: url })).bad.get('migrations'), { status: 'fail', detail: /012_drafts/ })
})

void t.test('the doctor finds rows, triggers and seqs that are damaged', async (t) => {
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
  t.match(broken, { code: 0, status: 'warn' }, 'they are readable: a warning')
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

void t.test('the doctor names a transaction that was left open, and more rights than are needed', async (t) => {
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
  // Where the tests' role may not create roles, it is the owner itself.
  const own = new URL(database.adminUrl).username === new URL(database.url).username
  if (!own) t.match(bad.get('privileges'), { status: 'warn', detail: /is a superuser/ })
})

void t.test('the doctor tells why a database is not reached, and never its password', async (t) => {
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

void t.test('the doctor reads the settings as the server would, and looks for the embedded database', async (t) => {
  const wrong = await examine(t, { PORT: 'many', NODE_ENV: 'production' })
  t.equal(wrong.code, 1)
  t.match(wrong.bad.get('configuration'), { status: 'fail', detail: /PORT/ })
  const unsafe = await examine(t, { JWT_SECRET: 'short', NODE_ENV: 'production' })
  t.match(unsafe.bad.get('configuration'), { detail: /too short|DATABASE_URL is required/ })
  t.notMatch(JSON.stringify(unsafe.checks), '"short')
  const none = await examine(t, {})
  t.match(none, { code: 0, status: 'warn' })
  t.match(none.bad.get('embedded database'), { detail: /there is none/, advice: /npm start/ })
})
