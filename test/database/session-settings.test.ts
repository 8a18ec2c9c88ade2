// The server's session settings override those of the URL, PGOPTIONS, the role and the database: rows and JSON are the same.
import t, { type Test } from 'tap'
import { makeServerAddress } from '../../src/database/postgres/server-address.ts'
import { deck } from '../support/cli.ts'
import { freshDatabase, type FreshDatabase } from '../support/database.ts'
import { admin, alice, makeMission, rafael, secret, startInstance, until, type Json } from '../support/server.ts'

const hostile: Record<string, string> = {
  search_path: 'nowhere',
  datestyle: 'German',
  timezone: 'Asia/Tokyo',
  intervalstyle: 'iso_8601',
  bytea_output: 'escape',
  extra_float_digits: '-15',
  transform_null_equals: 'on',
  array_nulls: 'off',
  quote_all_identifiers: 'on',
  row_security: 'off',
  gin_fuzzy_search_limit: '1',
  default_transaction_isolation: 'serializable',
  default_transaction_deferrable: 'on',
  statement_timeout: '1',
  lock_timeout: '1',
  idle_in_transaction_session_timeout: '1',
  enable_nestloop: 'off',
  enable_indexscan: 'off',
  plan_cache_mode: 'force_custom_plan',
  client_min_messages: 'error',
  jit: 'on',
}

/** Runs typical requests. Returns the answers without the parts that differ between two databases. */
const use = async (t: Test, { url }: Pick<FreshDatabase, 'url'>): Promise<unknown> => {
  const instance = await startInstance(t, url)
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  const client = await instance.connect(alice)
  t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
  t.match(await client.ask({ type: 'send', topic, message: 'by socket' }), { type: 'ok' })
  const answers: Json[] = []
  const ask = async (bearer: string, method: string, path: string, body?: Json): Promise<Json> => {
    const { status, json, text } = await instance.request(method, `/api/missions/${id}${path}`, bearer, body)
    t.ok(status < 300, `${method} ${path}: ${String(status)} ${text}`)
    answers.push(json)
    return json
  }
  await ask(rafael, 'POST', '/chat/rafael', {
    message: 'C:\\\\temp “quoted”',
    code_blocks: [{ language: 'ts', code: 'a\\nb' }],
  })
  const item = await ask(admin, 'POST', '/dod', { category: 'tests', text: 'passes', test_name: 'a' })
  const results = [{ name: 'a', status: 'passed', duration_ms: 0.1 }]
  const run = await ask(rafael, 'POST', '/tests', { status: 'passed', logs: 'one\\n', results })
  await ask(alice, 'PATCH', `/dod/${String(item['id'])}`, { completed: true })
  await ask(admin, 'PATCH', '', { deadline: '2031-02-03T04:05:06.789Z' })
  for (const path of [
    '',
    '/chat/rafael',
    '/dod',
    '/tests',
    `/tests/${String(run['id'])}`,
    '/timeline',
    '/search?q=temp',
  ])
    await ask(alice, 'GET', path)
  await until(() => client.events(topic).length === 2, 'both messages')
  answers.push(...client.events(topic).map(({ data }) => data))
  const differs =
    /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|202[56]-\d\d-\d\dT[\d:.]+Z|"(number|head|next|cursor|epoch)":\s*("[^"]*"|\d+)/g
  return JSON.stringify(answers).replace(differs, '*')
}

void t.test('session settings: those of role, database and URL do not change rows or answers', async (t) => {
  const plain = await freshDatabase(t, true)
  const expected = await use(t, plain)
  const set = await freshDatabase(t, true)
  const name = new URL(set.url).pathname.slice(1)
  for (const [setting, value] of Object.entries(hostile))
    await set.query(`alter database ${name} set ${setting} = '${value}'`)
  t.equal(await use(t, set), expected, 'set by the database')

  const asked = await freshDatabase(t, true)
  const url = new URL(asked.url)
  url.searchParams.set(
    'options',
    Object.entries(hostile)
      .map(([setting, value]) => `-c ${setting}=${value}`)
      .join(' '),
  )
  for (const [setting, value] of Object.entries({
    ...hostile,
    client_encoding: 'LATIN1',
    binary: 'true',
    query_timeout: '1',
    replication: 'database',
  }))
    url.searchParams.set(setting, value)
  t.equal(await use(t, { url: url.href }), expected, 'set by the URL')

  // A migration and an export have separate sessions.
  const empty = await freshDatabase(t)
  const bare = new URL(empty.url)
  bare.search = url.search
  t.equal(await use(t, { url: bare.href }), expected, 'also migrated with these settings')
  const { code, err } = await deck(t, ['export', '--all'], {
    DATABASE_URL: bare.href,
    JWT_SECRET: secret,
  })
  t.equal(code, 0, err)
})

void t.test('session settings: options of the URL that the server does not set are kept', async (t) => {
  const database = await freshDatabase(t, true)
  const url = new URL(database.url)
  url.searchParams.set('options', '-c work_mem=5MB -c deck.of_test=a\\ b')
  await database.query(`do $$ begin
    if current_setting('server_version_num')::int >= 170000 then
      execute format('alter database %I set transaction_timeout = 5000', current_database());
    end if; end $$`)
  const instance = await startInstance(t, url.href)
  await database.query(
    `create function keep() returns trigger language plpgsql as $$ begin
       new.message := current_setting('work_mem') || ' ' || current_setting('deck.of_test', true) || ' ' ||
         coalesce(current_setting('transaction_timeout', true), '0'); return new; end $$;
     create trigger keep before insert on chat_messages for each row execute function keep()`,
  )
  const { id } = await makeMission(instance)
  const { json } = await instance.request('POST', `/api/missions/${id}/chat/rafael`, alice, { message: 'x' })
  t.equal(json['message'], '5MB a b 0')
  t.equal(makeServerAddress('postgres://a/b?options=endpoint%3Dx', { primary: true }).options, 'endpoint=x')
  t.equal(makeServerAddress('postgres://a/b', { primary: true, options: '-c a=b' }).options, '-c a=b')
})

void t.test('doctor: lists each setting of the role or the database that the server overrides', async (t) => {
  const database = await freshDatabase(t, true)
  const name = new URL(database.url).pathname.slice(1)
  await database.query(`alter database ${name} set datestyle = German; alter database ${name} set default_transaction_read_only = off;
    alter database ${name} set work_mem = '5MB'; alter database ${name} set jit = off`)
  const { out } = await deck(t, ['doctor', '--json'], { DATABASE_URL: database.url, JWT_SECRET: secret })
  const { checks } = JSON.parse(out) as { checks: { check: string; detail: string }[] }
  const { detail = '' } = checks.find(({ check }) => check === 'role settings') ?? {}
  t.equal(
    detail,
    'datestyle = german by the database (the server uses ISO), default_transaction_read_only = off by the database',
  )
})
