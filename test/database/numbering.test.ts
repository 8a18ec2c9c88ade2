// Numbering: every topic counts 1, 2, 3 ... without gaps in commit order, and its times never go back. This holds for any
// program that writes to the four tables, and for any interleaving of transactions.
// Covers the triggers and constraints for SQL writers. locks.test.ts covers the server's batches.
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import pg from 'pg'
import t from 'tap'
import type { Test } from 'tap'
import { channelOf } from '../../src/sync/channels.ts'
import { migrate } from '../../src/database/postgres/migrate.ts'
import { freshDatabase, insertMission, type Row } from '../support/database.ts'

const db = await freshDatabase(t)
await migrate(await db.connect(), () => undefined)
const admin = new pg.Client({ connectionString: db.adminUrl })
await admin.connect()
t.teardown(() => admin.end())
const isSuperuser = (await admin.query<Row>('select rolsuper from pg_roles where rolname = current_user')).rows[0]?.[
  'rolsuper'
]

const newMission = (): Promise<string> => insertMission(db)

/** A connection whose statements fail instead of waiting for another transaction. */
const impatient = async (): Promise<pg.Client> => {
  const client = await db.connect()
  await client.query(`set lock_timeout = '5s'`)
  return client
}

/** The SQLSTATE of the work's error, or 'none' if it succeeds. */
const failure = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) => (error instanceof pg.DatabaseError ? (error.code ?? '') : Promise.reject(error)),
  )

const say = 'insert into chat_messages (mission_id, citizen, sender, message) values ($1, $2, $3, $4)'
const sayWithKey = `insert into chat_messages (mission_id, citizen, sender, message, key) values ($1, 'rafael', 'user', 'hi', $2)`

const chatOf = (mission: string, citizen = 'rafael'): Promise<Row[]> =>
  db.query(
    'select seq::int, message from chat_messages where mission_id = $1 and citizen = $2 order by seq nulls first',
    [mission, citizen],
  )
const eventsOf = (topic: string): Promise<Row[]> =>
  db.query('select seq::int, event, data from deck.events where topic = $1 order by seq', [topic])
/** The latest seq that was assigned in a topic. */
const headOf = async (topic: string): Promise<unknown> =>
  (
    await db.query(
      `select greatest(floor,
         (select max(seq) from chat_messages where topic = 'missions/' || mission_id || '/chat/' || citizen),
         (select max(seq) from deck.events e where e.topic = h.topic))::int as seq
       from deck.heads h where topic = $1`,
      [topic],
    )
  )[0]?.['seq']
const texts = (...messages: string[]): Row[] => messages.map((message, i) => ({ seq: i + 1, message }))

/** Selects violations of the numbering rules in one snapshot, for missions and chats without deleted rows. */
const faults = `
  with item as (
    select 'missions/' || mission_id || '/chat/' || citizen as topic, mission_id, seq, at from chat_messages
    union all
    select topic, deck.topic_mission(topic), seq, at from deck.events
  ), lane as (
    select topic, seq, row_number() over w as nth, at, lag(at) over w as before from item
    where mission_id = any ($1) window w as (partition by topic order by seq)
  )
  select topic, seq, nth, at, before from lane where seq is distinct from nth or at is null or at < before
  union all
  select topic, floor, n, null, null
  from (select topic, count(*) as n from lane group by topic) l left join deck.heads h using (topic)
  where h.topic is null or h.floor > n`

const sound = async (t: Test, ...missions: string[]): Promise<void> => {
  t.strictSame(await db.query(faults, [missions]), [], 'no gap, and no time that goes back')
}

/** COPY ... FROM STDIN with node-postgres alone. */
class CopyIn extends pg.Query {
  readonly #lines: string
  constructor(text: string, lines: string, done: (error: Error | undefined) => void) {
    super(text, done)
    this.#lines = lines
  }
  handleCopyInResponse(connection: { sendCopyFromChunk(chunk: Buffer): void; endCopyFrom(): void }): void {
    connection.sendCopyFromChunk(Buffer.from(this.#lines))
    connection.endCopyFrom()
  }
}
const copy = (client: pg.Client, text: string, lines: string[]): Promise<void> =>
  new Promise((resolve, reject) => {
    client.query(new CopyIn(text, lines.join('\n') + '\n', (error) => (error ? reject(error) : resolve())))
  })

await t.test('numbering: rows of a statement or transaction are numbered in insertion order', async (t) => {
  const m = await newMission()
  const client = await db.connect()
  await client.query(say, [m, 'rafael', 'user', 'a'])
  await client.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     values ($1, 'rafael', 'citizen', 'b'), ($1, 'sofia', 'user', 'c'), ($1, 'rafael', 'user', 'd')`,
    [m],
  )
  await client.query('begin')
  await client.query(say, [m, 'rafael', 'user', 'e'])
  await client.query(say, [m, 'rafael', 'user', 'f'])
  await client.query('commit')
  t.strictSame(await chatOf(m), texts('a', 'b', 'd', 'e', 'f'))
  t.strictSame(await chatOf(m, 'sofia'), texts('c'))
  await sound(t, m)
})

await t.test('numbering: bulk inserts and COPY are numbered in order', async (t) => {
  const m = await newMission()
  await db.query(
    `insert into chat_messages (mission_id, sender, message)
     select $1, 'user', 'bulk ' || n from generate_series(1, 20500) n`,
    [m],
  )
  const client = await db.connect()
  const lines = Array.from({ length: 500 }, (_, i) => `${m}\tuser\tbulk ${20_501 + i}`)
  await copy(client, 'copy chat_messages (mission_id, sender, message) from stdin', lines)
  await copy(client, 'copy dod_items (mission_id, text, category) from stdin', [`${m}\tone\ttests`, `${m}\ttwo\ttests`])
  await copy(client, 'copy test_runs (mission_id, status, logs) from stdin', [`${m}\trunning\tline`])
  const bad = await db.query(
    `select seq, message from chat_messages where mission_id = $1 and message is distinct from 'bulk ' || seq`,
    [m],
  )
  t.strictSame(bad, [])
  t.equal(await headOf(`missions/${m}/chat/rafael`), 21_000)
  const items = await eventsOf(`missions/${m}/dod`)
  t.match(items, [{ event: 'dod_item.created', data: { text: 'one' } }, { data: { text: 'two' } }])
  t.match(await eventsOf(`missions/${m}/tests`), [{ event: 'test_run.created', seq: 1 }])
  await sound(t, m)
})

await t.test('events: an event contains the row as of that change', async (t) => {
  const m = await newMission()
  const client = await db.connect()
  const [item, run] = [randomUUID(), randomUUID()]
  await client.query('begin')
  await client.query(`insert into dod_items (id, mission_id, text, category) values ($1, $2, 'draft', 'tests')`, [
    item,
    m,
  ])
  await client.query(`update dod_items set text = 'final', completed = true where id = $1`, [item])
  await client.query(`insert into test_runs (id, mission_id, status) values ($1, $2, 'running')`, [run, m])
  await client.query(`update test_runs set status = 'passed', summary = '{"n": 1}' where id = $1`, [run])
  await client.query(`update missions set title = 'Another title' where id = $1`, [m])
  await client.query('commit')
  await client.query(`update test_runs set status = status where id = $1`, [run])
  await client.query('delete from dod_items where id = $1', [item])

  const shown = (events: Row[]) => events.map(({ seq, event, data }) => ({ seq, event, ...(data as Row) }))
  t.match(shown(await eventsOf(`missions/${m}/dod`)), [
    { seq: 1, event: 'dod_item.created', id: item, text: 'draft', completed: false, completed_at: null },
    { seq: 2, event: 'dod_item.updated', id: item, text: 'final', completed: true, completed_at: /^\d{4}-.*Z$/ },
    { seq: 3, event: 'dod_item.deleted', id: item, text: 'final', completed: true },
  ])
  const runs = shown(await eventsOf(`missions/${m}/tests`))
  t.equal(runs.length, 2, 'an update that changes nothing creates no event')
  t.match(runs, [
    { seq: 1, event: 'test_run.created', id: run, status: 'running', summary: null },
    { seq: 2, event: 'test_run.updated', id: run, status: 'passed', summary: { n: 1 } },
  ])
  t.match(shown(await eventsOf(`missions/${m}`)), [{ seq: 1, event: 'mission.updated', id: m, title: 'Another title' }])
  t.match(await db.query('select seq::int from missions where id = $1', [m]), [{ seq: 1 }])
  t.match(await db.query('select seq::int from test_runs where id = $1', [run]), [{ seq: 2 }])
  await sound(t, m)
})

await t.test('run log: each change is an event with the appended text, or the whole replaced log', async (t) => {
  const m = await newMission()
  const run = randomUUID()
  const topic = `missions/${m}/tests/${run}/logs`
  const log = async (text: string | null) => db.query('update test_runs set logs = $2 where id = $1', [run, text])
  await db.query(`insert into test_runs (id, mission_id, status, logs) values ($1, $2, 'running', 'one ')`, [run, m])
  await log('one two ')
  await log('one two ')
  await log('other ')
  await db.query(`select deck.append_log($1, $2, 'chunk ')`, [m, run])
  await db.query(`update test_runs set status = 'passed' where id = $1`, [run])
  await db.query('select deck.tidy()')
  t.match(await db.query('select logs from test_runs where id = $1', [run]), [{ logs: 'other chunk ' }])
  await log('other chunk end')
  await log(null)
  const chunks = (await eventsOf(topic)).map(({ event, data }) => [event, (data as Row)['chunk']])
  t.strictSame(chunks, [
    ['log.appended', 'one '],
    ['log.appended', 'two '],
    ['log.replaced', 'other '],
    ['log.appended', 'chunk '],
    ['log.appended', 'end'],
    ['log.replaced', ''],
  ])
  await sound(t, m)
})

await t.test('run log: deleted with its run, also when one transaction inserts and deletes the run', async (t) => {
  const m = await newMission()
  const [old, brief] = [randomUUID(), randomUUID()]
  const insert = `insert into test_runs (id, mission_id, status, logs) values ($1, $2, 'running', 'text')`
  await db.query(insert, [old, m])
  const client = await db.connect()
  await client.query('begin')
  await client.query(insert, [brief, m])
  await client.query('delete from test_runs where mission_id = $1', [m])
  await client.query('commit')
  t.strictSame(await eventsOf(`missions/${m}/tests/${old}/logs`), [])
  t.strictSame(await eventsOf(`missions/${m}/tests/${brief}/logs`), [])
  t.match(await eventsOf(`missions/${m}/tests`), [{ data: { id: old } }, { data: { id: brief } }])
})

await t.test(
  'numbering: a rollback leaves no gap, also with savepoints and with numbering before the commit',
  async (t) => {
    const m = await newMission()
    const client = await db.connect()
    await client.query(say, [m, 'rafael', 'user', 'a'])
    await client.query('begin')
    await client.query(say, [m, 'rafael', 'user', 'lost'])
    await client.query('set constraints all immediate')
    await client.query('rollback')
    await client.query('begin')
    await client.query(say, [m, 'rafael', 'user', 'b'])
    await client.query('savepoint s')
    await client.query(say, [m, 'rafael', 'user', 'lost'])
    await client.query(say, [m, 'sofia', 'user', 'lost'])
    await client.query(`insert into dod_items (mission_id, text, category) values ($1, 'lost', 'tests')`, [m])
    await client.query('set constraints all immediate')
    await client.query('rollback to s')
    await client.query(say, [m, 'rafael', 'user', 'c'])
    await client.query('savepoint s')
    await client.query(say, [m, 'rafael', 'user', 'lost'])
    await client.query('rollback to s')
    await client.query('commit')
    t.strictSame(await chatOf(m), texts('a', 'b', 'c'))
    t.strictSame(await chatOf(m, 'sofia'), [])
    t.strictSame(await eventsOf(`missions/${m}/dod`), [])
    t.strictSame(await db.query('select id from deck.pending'), [], 'no row waits to be numbered')
    await sound(t, m)
  },
)

await t.test('numbering: with constraints set immediate, rows are numbered before the commit', async (t) => {
  const m = await newMission()
  const client = await db.connect()
  const mine = 'select seq::int, message from chat_messages where mission_id = $1 order by seq'
  await client.query('begin')
  await client.query(say, [m, 'rafael', 'user', 'a'])
  await client.query('set constraints all immediate')
  t.strictSame((await client.query<Row>(mine, [m])).rows, texts('a'))
  await client.query(say, [m, 'rafael', 'user', 'b'])
  t.strictSame((await client.query<Row>(mine, [m])).rows, texts('a', 'b'))
  await client.query('commit')
  await sound(t, m)
})

await t.test('numbering: an open transaction delays no other; seqs follow the order of commits', async (t) => {
  const m = await newMission()
  const slow = await db.connect()
  const quick = await impatient()
  await slow.query('begin')
  await slow.query(say, [m, 'rafael', 'user', 'first said'])
  await slow.query(`insert into dod_items (mission_id, text, category) values ($1, 'slow', 'tests')`, [m])
  await slow.query(`update missions set title = 'Slow title' where id = $1`, [m])
  await quick.query(say, [m, 'rafael', 'user', 'first committed'])
  await quick.query(`insert into dod_items (mission_id, text, category) values ($1, 'quick', 'tests')`, [m])
  t.strictSame(await chatOf(m), texts('first committed'))
  await slow.query('commit')
  t.strictSame(await chatOf(m), texts('first committed', 'first said'))
  t.match(await eventsOf(`missions/${m}/dod`), [{ data: { text: 'quick' } }, { data: { text: 'slow' } }])
  await sound(t, m)
})

await t.test(
  'mission.deleted: deleting a mission deletes its rows; only mission.deleted is left; its seqs are never reused',
  async (t) => {
    const m = await newMission()
    const run = randomUUID()
    const fill = async () => {
      await db.query(say, [m, 'rafael', 'user', 'hi'])
      await db.query(`insert into dod_items (mission_id, text, category) values ($1, 'item', 'tests')`, [m])
    }
    await fill()
    await db.query(`insert into test_runs (id, mission_id, status, logs) values ($1, $2, 'running', 'line')`, [run, m])
    await db.query(`update missions set title = 'Renamed' where id = $1`, [m])
    const client = await db.connect()
    await client.query('begin')
    await client.query(say, [m, 'rafael', 'user', 'in vain'])
    await client.query(`update missions set title = 'Last title' where id = $1`, [m])
    await client.query('delete from missions where id = $1', [m])
    await client.query('commit')

    for (const table of ['dod_items', 'chat_messages', 'test_runs']) {
      t.strictSame(await db.query(`select id from ${table} where mission_id = $1`, [m]), [], table)
    }
    const left = await db.query('select topic, event, data from deck.events where topic like $1 order by topic, seq', [
      `missions/${m}%`,
    ])
    const own = left.filter(({ topic }) => topic === `missions/${m}`)
    t.equal(own.length, left.length, 'no event of a topic under the mission is left')
    t.match(own.at(-1), { event: 'mission.deleted', data: { id: m, title: 'Last title' } })
    t.notOk(
      own.some(({ data }) => (data as Row)['title'] === 'Last title' && (data as Row)['event'] === 'mission.updated'),
    )
    for (const topic of ['chat/rafael', 'dod', 'tests', `tests/${run}/logs`]) {
      t.equal(await headOf(`missions/${m}/${topic}`), 1, `${topic} keeps its latest seq`)
    }
    const latest = Number(await headOf(`missions/${m}`))

    await db.query(
      `insert into missions (id, title, client, budget, deadline, status, assigned_to)
     values ($1, 'Anew', 'Acme', 1, '2030-01-01', 'active', 'person1')`,
      [m],
    )
    await fill()
    await db.query(`update missions set title = 'Anew again' where id = $1`, [m])
    t.strictSame(await chatOf(m), [{ seq: 2, message: 'hi' }])
    t.equal(await headOf(`missions/${m}/dod`), 2)
    t.match((await eventsOf(`missions/${m}`)).at(-1), { seq: latest + 1, event: 'mission.updated' })
  },
)

await t.test('numbering: messages that SQL deletes create no event, and their seqs are not reused', async (t) => {
  const m = await newMission()
  const [slow, quick] = [await db.connect(), await impatient()]
  for (const message of ['a', 'b', 'c']) await quick.query(say, [m, 'rafael', 'user', message])
  const remove = 'delete from chat_messages where mission_id = $1 and message = any ($2)'
  await slow.query('begin')
  await slow.query(remove, [m, ['b', 'c']])
  await quick.query(say, [m, 'rafael', 'user', 'd'])
  await slow.query('commit')
  t.strictSame(await chatOf(m), [
    { seq: 1, message: 'a' },
    { seq: 4, message: 'd' },
  ])
  await slow.query(remove, [m, ['a', 'd']])
  t.equal(await headOf(`missions/${m}/chat/rafael`), 4)
  await slow.query('begin')
  await slow.query(say, [m, 'rafael', 'user', 'e'])
  await slow.query(remove, [m, ['e']])
  await slow.query(say, [m, 'rafael', 'user', 'f'])
  await slow.query('set constraints all immediate')
  await slow.query(remove, [m, ['f']])
  await slow.query(say, [m, 'rafael', 'user', 'g'])
  await slow.query('commit')
  t.strictSame(await chatOf(m), [{ seq: 6, message: 'g' }])
  t.strictSame(await eventsOf(`missions/${m}/chat/rafael`), [])
})

await t.test('idempotency key: unique per chat and author; a second insert fails at its commit', async (t) => {
  const m = await newMission()
  const client = await impatient()
  await client.query(sayWithKey, [m, 'k'])
  await client.query('begin')
  t.equal(await failure(client.query(sayWithKey, [m, 'k'])), 'none', 'not before the commit')
  t.equal(await failure(client.query('commit')), '23505')
  t.equal(
    await failure(
      client.query(
        `insert into chat_messages (mission_id, citizen, sender, message, key, author)
         values ($1, 'rafael', 'user', 'x', 'k', 'person1'), ($1, 'sofia', 'user', 'y', 'k', null)`,
        [m],
      ),
    ),
    'none',
    'a different author or a different chat may use the same key',
  )
  const twice = `insert into chat_messages (mission_id, sender, message, key) values ($1, 'user', 'a', 'z'), ($1, 'user', 'b', 'z')`
  t.equal(await failure(client.query(twice, [m])), '23505', 'twice in one statement')
  await sound(t, m)
})

await t.test('idempotency key: an open transaction does not delay others with the same key', async (t) => {
  const m = await newMission()
  const [slow, quick] = [await db.connect(), await impatient()]
  await slow.query('begin')
  await slow.query(sayWithKey, [m, 'k'])
  await quick.query(sayWithKey, [m, 'k'])
  t.equal(await failure(slow.query('commit')), '23505')
  t.strictSame(await chatOf(m), texts('hi'))

  await slow.query('begin')
  await slow.query(`delete from chat_messages where mission_id = $1 and key = 'k'`, [m])
  t.equal(
    await failure(quick.query(sayWithKey, [m, 'k'])),
    '23505',
    'its message is not deleted yet, and nothing waits',
  )
  await slow.query(sayWithKey, [m, 'k'])
  await slow.query('commit')
  t.match(await chatOf(m), [{ seq: 2 }], 'the transaction that deletes a message can use its key again')
})

await t.test('idempotency key: a key of a cleared chat can not be used again for 24 hours', async (t) => {
  const m = await newMission()
  await db.query(sayWithKey, [m, 'k'])
  await db.query(`select deck.clear_chat($1, 'rafael', 'person1')`, [m])
  t.strictSame(await chatOf(m), [])
  t.match(await eventsOf(`missions/${m}/chat/rafael`), [
    { seq: 2, event: 'chat.cleared', data: { mission_id: m, citizen: 'rafael', by: 'person1', seq: 2 } },
  ])
  t.equal(await failure(db.query(sayWithKey, [m, 'k'])), '23505')
  t.equal(await failure(db.query(sayWithKey, [m, 'other'])), 'none')
  await db.query(`update deck.cleared_keys set cleared_at = cleared_at - interval '24 hours' where mission_id = $1`, [
    m,
  ])
  t.equal(await failure(db.query(sayWithKey, [m, 'k'])), 'none', 'a day later')
  t.match(await chatOf(m), [{ seq: 3 }, { seq: 4 }])
})

const ownSeqs: [name: string, text: string][] = [
  [
    'missions',
    `insert into missions (title, client, budget, deadline, status, assigned_to, seq) values ('t', 'c', 1, '2030-01-01', 'qa', 'p', 7)`,
  ],
  ['dod_items', `insert into dod_items (mission_id, text, category, seq) values ('$m', 'x', 'tests', 7)`],
  ['test_runs', `insert into test_runs (mission_id, status, seq) values ('$m', 'passed', 7)`],
  ['chat_messages', `insert into chat_messages (mission_id, sender, message, seq) values ('$m', 'user', 'x', 7)`],
  ['chat_messages.at', `insert into chat_messages (mission_id, sender, message, at) values ('$m', 'user', 'x', now())`],
  ...['missions', 'dod_items', 'test_runs', 'chat_messages'].map((table): [string, string] => [
    `update ${table}`,
    `update ${table} set seq = seq + 1 where ${table === 'missions' ? 'id' : 'mission_id'} = '$m'`,
  ]),
]
const fillMission = async (m: string) => {
  await db.query(say, [m, 'rafael', 'user', 'hi'])
  await db.query(`insert into dod_items (mission_id, text, category) values ($1, 'item', 'tests')`, [m])
  await db.query(`insert into test_runs (mission_id, status) values ($1, 'running')`, [m])
}

await t.test('numbering: a seq or time set by a writer is refused', async (t) => {
  const m = await newMission()
  await fillMission(m)
  for (const [name, text] of ownSeqs) {
    t.equal(await failure(db.query(text.replace('$m', m))), '23514', name)
  }
  await sound(t, m)
})

await t.test('numbering: rows can not be moved to another mission', async (t) => {
  const [m, other] = [await newMission(), await newMission()]
  await fillMission(m)
  for (const table of ['dod_items', 'test_runs', 'chat_messages']) {
    const move = db.query(`update ${table} set mission_id = $2 where mission_id = $1`, [m, other])
    t.equal(await failure(move), '23514', table)
  }
  t.equal(await failure(db.query('update missions set id = gen_random_uuid() where id = $1', [m])), '23514')
})

await t.test(
  'numbering: rows of a role with grants on only the four tables are numbered, and no setting lets it choose a seq',
  { skip: isSuperuser ? false : 'needs a superuser' },
  async (t) => {
    const role = `deck_test_writer_${randomUUID().slice(0, 8)}`
    await admin.query(`create role ${role}`)
    const writer = new pg.Client({ connectionString: db.adminUrl })
    await writer.connect()
    t.teardown(async () => {
      await writer.end()
      await admin.query(`drop owned by ${role}; drop role ${role}`)
    })
    await db.query(`grant select, insert, update, delete on missions, dod_items, chat_messages, test_runs to ${role}`)
    await writer.query(`set session authorization ${role}`)
    t.equal(await failure(writer.query('select from deck.heads')), '42501')

    // Functions and operators of its own, found before those of Postgres, answer what it likes.
    await admin.query(`create schema ${role} authorization ${role}`)
    await writer.query(`
      create function ${role}.current_setting(text, boolean) returns text language sql return '0';
      create function ${role}.pg_trigger_depth() returns integer language sql return 0;
      create function ${role}.has_schema_privilege(text, text) returns boolean language sql return true;
      create function ${role}.has_table_privilege(text, text) returns boolean language sql return true;
      create function ${role}.never(text, text) returns boolean language sql return false;
      create operator ${role}.<> (function = ${role}.never, leftarg = text, rightarg = text);`)

    for (const [numbering, path] of [
      ['off', 'public'],
      ['0', 'public'],
      ['0', `${role}, pg_catalog, public`],
    ]) {
      const m = await newMission()
      await fillMission(m)
      await writer.query(`set "deck.numbering" = '${numbering}'; set search_path = ${path}`)
      for (const [name, text] of ownSeqs) {
        t.equal(await failure(writer.query(text.replace('$m', m))), '23514', `${name}, ${numbering}`)
      }
      await writer.query(say, [m, 'rafael', 'user', 'mine'])
      await writer.query(`insert into dod_items (mission_id, text, category) values ($1, 'mine', 'tests')`, [m])
      await writer.query('update dod_items set completed = true where mission_id = $1', [m])
      await writer.query(`insert into test_runs (mission_id, status, logs) values ($1, 'running', 'a')`, [m])
      await writer.query(`update test_runs set status = 'passed', logs = 'ab' where logs = 'a' and mission_id = $1`, [
        m,
      ])
      await writer.query(`update missions set title = 'mine' where id = $1`, [m])
      await writer.query('delete from dod_items where mission_id = $1', [m])
      await writer.query('delete from test_runs where mission_id = $1', [m])
      t.strictSame(await chatOf(m), texts('hi', 'mine'), `messages, ${numbering}`)
      t.equal(await headOf(`missions/${m}/dod`), 6, `items, ${numbering}`)
      t.equal(await headOf(`missions/${m}/tests`), 3, `runs, ${numbering}`)
      t.equal(await headOf(`missions/${m}`), 1, `mission, ${numbering}`)
      await writer.query('delete from missions where id = $1', [m])
      t.match(await eventsOf(`missions/${m}`), [{ seq: 1 }, { seq: 2, event: 'mission.deleted' }])
    }
  },
)

await t.test('constraints: values that readers can not interpret are refused', async (t) => {
  const m = await newMission()
  const base: Record<string, Row> = {
    missions: { title: 't', client: 'c', budget: 1, deadline: '2030-01-01', status: 'qa', assigned_to: 'p' },
    dod_items: { mission_id: m, text: 'x', category: 'tests' },
    chat_messages: { mission_id: m, citizen: 'rafael', sender: 'user', message: 'hi' },
    test_runs: { mission_id: m, status: 'passed' },
  }
  const insert = (table: string, change: Row) => {
    const row = Object.entries({ ...base[table], ...change })
    const names = row.map(([name]) => name).join(', ')
    const values = row.map(([, value]) => (typeof value === 'object' && value ? JSON.stringify(value) : value))
    return failure(
      db.query(`insert into ${table} (${names}) values (${row.map((_, i) => `$${i + 1}`).join(', ')})`, values),
    )
  }
  const MiB = 1_048_576
  const bad: Record<string, Row[]> = {
    missions: [
      ...['', 'open'].map((status) => ({ status })),
      ...['', 'x'.repeat(1001)].map((title) => ({ title })),
      { client: '' },
      { assigned_to: '' },
      { assigned_to: 'x'.repeat(257) },
      { number: 0 },
      { number: -1 },
      ...['', 'ftp://x', 'javascript:alert(1)', 'https://a b'].map((github_url) => ({ github_url })),
      ...['infinity', '-infinity', '10000-01-01'].flatMap((time) => [{ deadline: time }, { created_at: time }]),
      { created_at: null },
    ],
    dod_items: [
      ...['', 'other'].map((category) => ({ category })),
      ...['', 'x'.repeat(10_001)].map((text) => ({ text })),
      { completed: true, completed_at: 'infinity' },
    ],
    chat_messages: [
      ...['', 'bot', 'User'].map((sender) => ({ sender })),
      ...['', 'Rafael', 'a/b', '1a', 'é', 'rafael\n', 'a'.repeat(33)].map((citizen) => ({ citizen })),
      ...['', 'x'.repeat(10_001)].map((message) => ({ message })),
      ...['', 'x'.repeat(257)].map((author) => ({ author })),
      ...['', 'é', 'a\nb', 'x'.repeat(65)].map((key) => ({ key })),
      ...['infinity', '-infinity', '10000-01-01', null].map((created_at) => ({ created_at })),
      ...[
        'null',
        {},
        [1],
        [null],
        [[]],
        [{ language: 'ts' }],
        [{ code: null }],
        [{ code: 1 }],
        [{ code: 'x', language: 1 }],
        [{ code: 'x' }, { code: 'x'.repeat(262_144) }],
        [{ code: 'é'.repeat(131_073) }],
        [{ code: 'x', language: 'x'.repeat(262_144) }],
      ].map((code_blocks) => ({ code_blocks })),
    ],
    test_runs: [
      ...['', 'queued'].map((status) => ({ status })),
      ...[[], '1', 'null', { text: 'x'.repeat(MiB) }].map((summary) => ({ summary })),
      ...[{}, '1', 'null', ['x'.repeat(MiB)]].map((results) => ({ results })),
      ...['infinity', null].map((created_at) => ({ created_at })),
    ],
  }
  const good: Record<string, Row[]> = {
    missions: [{ title: 'x'.repeat(1000) }, { github_url: 'https://example.org/x' }, { github_url: null }],
    dod_items: [{ text: '🚀'.repeat(10_000) }, { category: 'functional' }, { category: 'non-functional' }],
    chat_messages: [
      ...['x', '🚀'.repeat(10_000)].map((message) => ({ message })),
      ...['a', 'a_b-9', 'a'.repeat(32)].map((citizen) => ({ citizen })),
      { sender: 'citizen', author: 'x'.repeat(256), key: '~ '.repeat(32) },
      ...[
        null,
        [],
        [{ code: '' }],
        [{ code: 'x'.repeat(262_144), language: null }],
        [{ language: 'ts', code: 'x' }],
      ].map((code_blocks) => ({ code_blocks })),
    ],
    test_runs: [{ summary: {}, results: [] }, { summary: { text: 'x'.repeat(MiB - 100) } }, { status: 'failed' }],
  }
  const short = (row: Row) => JSON.stringify(row).slice(0, 60)
  for (const [table, rows] of Object.entries(bad)) {
    for (const row of rows) t.equal(await insert(table, row), '23514', `${table}: ${short(row)}`)
  }
  for (const [table, rows] of Object.entries(good)) {
    for (const row of rows) t.equal(await insert(table, row), 'none', `${table}: ${short(row)}`)
  }
  await sound(t, m)
})

await t.test(
  'numbering: a snapshot transaction commits if it is alone on its topics, and otherwise fails with a retryable error',
  async (t) => {
    const m = await newMission()
    await fillMission(m)
    const client = await db.connect()
    for (const level of ['repeatable read', 'serializable']) {
      await client.query(`begin isolation level ${level}`)
      await client.query(say, [m, 'rafael', 'user', level])
      await client.query('update dod_items set completed = not completed where mission_id = $1', [m])
      t.equal(await failure(client.query('commit')), 'none', level)

      await client.query(`begin isolation level ${level}`)
      await client.query(say, [m, 'rafael', 'user', 'too late'])
      await db.query(say, [m, 'rafael', 'user', 'meanwhile'])
      t.equal(await failure(client.query('commit')), '40001', `${level}, not alone`)
    }
    await sound(t, m)
  },
)

await t.test('notifications: a commit sends one for each of its topics, however many there are', async (t) => {
  const m = await newMission()
  const listener = await db.connect()
  const lines: string[] = []
  const ends = new Map<string, () => void>()
  listener.on('notification', ({ payload = '' }) => {
    const end = ends.get(payload)
    if (end) end()
    // A payload starts with the instance that wrote the batch, here none (-).
    else lines.push(payload.replace(/^- /, ''))
  })
  await listener.query(`listen deck; listen ${channelOf(`missions/${m}`)}`)
  /** The notifications of the transactions that have committed so far. */
  const hints = async () => {
    const fence = randomUUID()
    const reached = new Promise<void>((resolve) => ends.set(fence, resolve))
    await db.query(`select pg_notify('deck', $1)`, [fence])
    await reached
    return lines.splice(0).sort()
  }
  await hints()
  await fillMission(m)
  t.strictSame(await hints(), [`1 missions/${m}/chat/rafael`, `1 missions/${m}/dod`, `1 missions/${m}/tests`])

  const client = await db.connect()
  await client.query('begin')
  await client.query(say, [m, 'rafael', 'user', 'lost'])
  await client.query('rollback')
  t.strictSame(await hints(), [], 'no notification for a rollback')

  const citizens = Array.from({ length: 333 }, (_, i) => `c${i}-`.padEnd(32, 'x'))
  await db.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     select $1, c, 'user', 'hi' from unnest($2::text[]) c, generate_series(1, 2)`,
    [m, citizens],
  )
  t.strictSame(await hints(), citizens.map((c) => `2 missions/${m}/chat/${c}`).sort())
})

await t.test('times: stored in UTC, whatever the zone of the session', async (t) => {
  const client = await db.connect()
  for (const zone of ['Asia/Tokyo', 'America/New_York']) {
    await client.query(`set timezone = '${zone}'`)
    await client.query('begin')
    const { rows } = await client.query<Row>(
      `with m as (
         insert into missions (title, client, budget, deadline, status, assigned_to)
         values ('t', 'c', 1, '2030-01-01', 'qa', 'p') returning id, created_at
       ) select created_at = now() at time zone 'utc' as utc, id from m`,
    )
    const [c, r] = [
      await client.query<Row>(
        `insert into chat_messages (mission_id, sender, message) values ($1, 'user', 'x') returning created_at = now() at time zone 'utc' as utc`,
        [rows[0]?.['id']],
      ),
      await client.query<Row>(
        `insert into test_runs (mission_id, status) values ($1, 'running') returning created_at = now() at time zone 'utc' as utc`,
        [rows[0]?.['id']],
      ),
    ]
    await client.query('set constraints all immediate')
    const at = await client.query<Row>(
      `select abs(extract(epoch from at - created_at)) < 600 as utc from chat_messages where mission_id = $1`,
      [rows[0]?.['id']],
    )
    await client.query('commit')
    t.strictSame(
      [rows[0]?.['utc'], c.rows[0]?.['utc'], r.rows[0]?.['utc'], at.rows[0]?.['utc']],
      [true, true, true, true],
      zone,
    )
  }
})

await t.test('mission number: a mission without one gets a number that is not in use', async (t) => {
  const numberOf = async (number?: number) => {
    const row = ['t', 'c', 1, '2030-01-01', 'active', 'p', number ?? null]
    const [added] = await db.query(
      `insert into missions (title, client, budget, deadline, status, assigned_to, number)
       values ($1, $2, $3, $4, $5, $6, $7) returning number`,
      row,
    )
    return Number(added?.['number'])
  }
  const n = await numberOf()
  t.equal(await numberOf(), n + 1)
  t.equal(await numberOf(n + 2), n + 2)
  t.equal(await numberOf(n + 3), n + 3)
  t.equal(await numberOf(), n + 4)
  t.equal(await failure(numberOf(n)), '23505')
})

// One transaction of a writer. It changes only its own rows, because two writers of one row wait for each other in any database.
const kinds = ['say', 'say', 'many', 'item', 'tick', 'drop', 'run', 'log', 'save', 'back', 'number'] as const
type Step = { kind: (typeof kinds)[number]; mission: number; citizen: number }
const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(...kinds),
  mission: fc.nat(1),
  citizen: fc.nat(1),
})
const transaction = fc.record({
  commit: fc.constantFrom(true, true, false),
  rename: fc.boolean(),
  focus: fc.boolean(),
  steps: fc.array(step, { minLength: 1, maxLength: 8 }),
})
type Transaction = { commit: boolean; rename: boolean; focus: boolean; steps: Step[] }

/** Runs the transaction. Returns its messages by topic, or nothing if it was rolled back. */
const perform = async (
  client: pg.Client,
  missions: string[],
  name: string,
  { commit, rename, focus, steps }: Transaction,
): Promise<[topic: string, message: string][]> => {
  let said: [string, string][] = []
  const saved: (typeof said)[] = []
  const at = (n: number) => missions[n] ?? ''
  const writer = name.split('.')[0]
  // A transaction that is numbered before its commit uses one topic only: locking rows of deck.heads twice could deadlock.
  const only = focus ? steps[0] : undefined
  const work = steps
    .filter(({ kind }) => !only || ['say', 'many', 'save', 'back', 'number'].includes(kind))
    .map(({ kind, mission, citizen }) => ({
      kind,
      mission: only?.mission ?? mission,
      citizen: only?.citizen ?? citizen,
    }))
  await client.query('begin')
  if (rename && !focus)
    await client.query('update missions set title = $2 where id = $1', [at(work[0]?.mission ?? 0), name])
  for (const [i, { kind, mission, citizen }] of work.entries()) {
    const m = at(mission)
    const topic = `missions/${m}/chat/c${citizen}`
    const lines = Array.from({ length: kind === 'many' ? 3 : 1 }, (_, n) => `${name}.${i}.${n}`)
    if (kind === 'say' || kind === 'many') {
      await client.query(
        `insert into chat_messages (mission_id, citizen, sender, message) select $1, $2, 'user', unnest($3::text[])`,
        [m, `c${citizen}`, lines],
      )
      said.push(...lines.map((line): [string, string] => [topic, line]))
    } else if (kind === 'item') {
      await client.query(`insert into dod_items (mission_id, text, category) values ($1, $2, 'tests')`, [m, writer])
    } else if (kind === 'tick') {
      await client.query('update dod_items set completed = not completed where mission_id = $1 and text = $2', [
        m,
        writer,
      ])
    } else if (kind === 'drop') {
      await client.query('delete from dod_items where mission_id = $1 and text = $2 and completed', [m, writer])
    } else if (kind === 'run') {
      await client.query(
        `insert into test_runs (mission_id, status, logs, summary) values ($1, 'running', 'begin', jsonb_build_object('by', $2::text))`,
        [m, writer],
      )
    } else if (kind === 'log') {
      await client.query(`update test_runs set logs = logs || $3 where mission_id = $1 and summary ->> 'by' = $2`, [
        m,
        writer,
        name,
      ])
    } else if (kind === 'save') {
      await client.query(`savepoint s${saved.length}`)
      saved.push([...said])
    } else if (kind === 'back') {
      const before = saved.pop()
      if (before) await client.query(`rollback to s${saved.length}`)
      said = before ?? said
    } else if (focus) {
      await client.query('set constraints all immediate')
    }
  }
  if (!focus && steps.some(({ kind }) => kind === 'number')) await client.query('set constraints all immediate')
  await client.query(commit ? 'commit' : 'rollback')
  return commit ? said : []
}

await t.test('numbering: seqs are always gapless in commit order, with 16 concurrent writers', async (t) => {
  const writers = await Promise.all(Array.from({ length: 16 }, () => impatient()))
  const watcher = await db.connect()
  const script = fc.array(fc.array(transaction, { minLength: 3, maxLength: 6 }), { minLength: 16, maxLength: 16 })
  const run = async (scripts: Transaction[][]): Promise<void> => {
    const missions = [await newMission(), await newMission()]
    const said = new Map<string, string[]>()
    const write = async (client: pg.Client, w: number) => {
      for (const [n, transaction] of (scripts[w] ?? []).entries()) {
        for (const [topic, line] of await perform(client, missions, `w${w}.${n}`, transaction)) {
          const key = `${topic} w${w}.${n}`
          said.set(key, [...(said.get(key) ?? []), line])
        }
      }
    }
    let busy = true
    // A seq that is visible before a lower one would be a gap here.
    const watch = async () => {
      for (let n = 0; busy && n < 10_000; n++) {
        const { rows } = await watcher.query<Row>(faults, [missions])
        if (rows.length) throw new Error(`seen while writers run: ${JSON.stringify(rows)}`)
      }
    }
    const watching = watch()
    const ends = await Promise.allSettled(writers.map((client, w) => write(client, w)))
    busy = false
    await watching
    for (const end of ends) if (end.status === 'rejected') throw end.reason

    const rows = await db.query(
      `select 'missions/' || mission_id || '/chat/' || citizen as topic, message from chat_messages
       where mission_id = any ($1) order by mission_id, citizen, seq`,
      [missions],
    )
    const found = new Map<string, string[]>()
    for (const { topic, message } of rows) {
      const key = `${String(topic)} ${String(message).split('.').slice(0, 2).join('.')}`
      found.set(key, [...(found.get(key) ?? []), String(message)])
    }
    const sorted = (map: Map<string, string[]>) => JSON.stringify([...map].sort(([a], [b]) => (a < b ? -1 : 1)))
    if (sorted(found) !== sorted(said)) throw new Error(`sent ${sorted(said)}, found ${sorted(found)}`)
    const left = [...(await db.query(faults, [missions])), ...(await db.query('select id from deck.pending'))]
    if (left.length) throw new Error(`left: ${JSON.stringify(left)}`)
  }
  await fc.assert(fc.asyncProperty(script, run), { numRuns: 10, endOnFailure: true })
  t.pass('10 runs')
})

await t.test('numbering: a session with cached plans of single inserts is fast for bulk inserts', async (t) => {
  const m = await newMission()
  const client = await db.connect()
  const other = await newMission()
  const one = async (): Promise<unknown> => client.query(say, [other, 'rafael', 'user', 'one'])
  for (let n = 0; n < 30; n++) await one()
  // Statistics of a small table, and cached plans.
  await db.query('analyze chat_messages')
  for (let n = 0; n < 30; n++) await one()
  // Linear work takes a second, quadratic work minutes. (No timeout applies at the commit.)
  await client.query(`begin; set local statement_timeout = '20s'`)
  await client.query(
    `insert into chat_messages (mission_id, citizen, sender, message, key)
     select $1, 'rafael', 'user', 'row ' || n, case when n % 2 = 0 then 'key ' || n end from generate_series(1, 30000) n`,
    [m],
  )
  await client.query('set constraints all immediate; commit')
  t.match(await db.query('select max(seq)::int as last, count(*)::int from chat_messages where mission_id = $1', [m]), [
    { last: 30_000, count: 30_000 },
  ])
})
