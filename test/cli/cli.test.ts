// The command line as a process: the output of each command as text and as JSON, and the exit codes of mistakes and failures.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { seedFile } from '../../src/database/postgres/migrate.ts'
import { deck, migrated } from '../support/cli.ts'
import { freshDatabase } from '../support/database.ts'
import { secret } from '../support/server.ts'
import { root } from '../support/processes.ts'

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
  'questions',
  'retry',
  'cancel',
  'citizens',
  'inbox',
  'export',
  'import',
]

void t.test('CLI: prints version, help and the help of each command to stdout', async (t) => {
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  t.match(await deck(t, ['--version']), { code: 0, out: `${version}\n`, err: '' })
  const help = await deck(t, ['--help'])
  t.match(help, { code: 0, err: '' })
  await Promise.all(
    commands.map(async (name) => {
      t.match(help.out, new RegExp(`^  ${name} `, 'm'))
      // One command of each group.
      if (!['serve', 'token', 'tail', 'citizens', 'inbox', 'import'].includes(name)) return
      const own = await deck(t, [name, '--help'])
      t.match(own, { code: 0, err: '' })
      t.match(own.out, new RegExp(`^Usage: mission-deck ${name} [\\s\\S]*--json`))
    }),
  )
})

void t.test('CLI: a wrong command, option or argument exits with 2 and a hint', async (t) => {
  const asJson = ['tokn', 'seed']
  const mistakes: [string[], RegExp][] = [
    [[], /^Usage: mission-deck /],
    [['tokn'], /^unknown command 'tokn'\n\(Did you mean token\?\)\n\(see mission-deck --help\)\n$|Did you mean/],
    [['doctor', '--jsn'], /^unknown option '--jsn'[\s\S]*\(see mission-deck doctor --help\)\n$/],
    [['token', 'rafael'], /^missing required argument 'role'\n\(see mission-deck token --help\)\n$/],
    [['token', 'rafael', 'king'], /Allowed choices are user, citizen, admin/],
    [['token', 'rafael', 'citizen', '--seconds', '-1'], /whole number/],
    [['seed', 'more'], /^too many arguments/],
  ]
  await Promise.all(
    mistakes.map(async ([args, expected]) => {
      const plain = await deck(t, args)
      t.match(plain, { code: 2, out: '', err: expected }, args.join(' '))
      if (!asJson.includes(args[0] ?? '')) return
      const { code, out, err } = await deck(t, [...args, '--json'])
      t.match({ code, out }, { code: 2, out: '' })
      t.match(JSON.parse(err), { code: 'bad_request', detail: String }, `${args.join(' ')} --json`)
    }),
  )
})

void t.test('CLI: a failure exits with 1 and prints one line to stderr, with --json a code and a detail', async (t) => {
  const nowhere = { DATABASE_URL: 'postgres://nobody:hush@127.0.0.1:1/none' }
  const failures: [string[], NodeJS.ProcessEnv, string, RegExp][] = [
    [['migrate'], {}, 'bad_request', /^DATABASE_URL is needed\.$/],
    [['token', 'rafael', 'citizen'], {}, 'bad_request', /^JWT_SECRET is needed/],
    [['migrate'], nowhere, 'unavailable', /ECONNREFUSED/],
    [['revoked'], nowhere, 'unavailable', /ECONNREFUSED/],
    [
      ['serve'],
      { ...nowhere, JWT_SECRET: secret, START_PATIENCE: '0' },
      'unavailable',
      /did not start: .*ECONNREFUSED/,
    ],
    [['seed'], { DATABASE_URL: 'mysql://x' }, 'internal', /DATABASE_URL must begin with/],
  ]
  await Promise.all(
    failures.map(async ([args, env, code, detail]) => {
      const json = await deck(t, [...args, '--json'], env)
      t.match(json, { code: 1, out: '' })
      t.match(JSON.parse(json.err), { code, detail })
      t.notMatch(json.err, /hush/)
    }),
  )
  t.match(await deck(t, ['seed'], nowhere), { code: 1, out: '', err: /^[^\n]*ECONNREFUSED[^\n]*\n$/ })
})

void t.test('inbox: lists waiting and set-aside tasks, and retries a set-aside one', async (t) => {
  const { url, query } = await migrated(t)
  const env = { DATABASE_URL: url }
  await query(await readFile(seedFile, 'utf8'))
  t.match(await deck(t, ['inbox'], env), { code: 0, out: '', err: 'no open tasks\n' })
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
  t.match(await retry(last?.task), { code: 0, out: `${last?.task} is back in its inbox\n` })
  t.match(await retry(first?.task), { code: 1, err: /set aside/ })
  t.match(await query('select attempt, dead from deck.tasks'), [{ attempt: 0 }, { attempt: 0 }])
})

void t.test('migrate, seed, token, revoke: print their result as text and as one JSON value', async (t) => {
  const { url, query } = await freshDatabase(t)
  const env = { DATABASE_URL: url, JWT_SECRET: secret }
  const json = async (...args: string[]): Promise<unknown> => {
    const { code, out, err } = await deck(t, [...args, '--json'], env)
    t.strictSame({ code, err }, { code: 0, err: '' }, args.join(' '))
    return JSON.parse(out)
  }
  t.match((await deck(t, ['revoked', '--json'], env)).err, /not migrated: run mission-deck migrate/)
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
