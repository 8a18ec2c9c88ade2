// Locks: transactions that write to several topics never deadlock on the topics' rows in deck.heads. The server's batch
// (deck.save_messages) never waits for another transaction, however long that stays open. Also the outcome of each entry.
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import pg from 'pg'
import t from 'tap'
import type { Test } from 'tap'
import { migrate } from '../../src/database/postgres/migrate.ts'
import { append, type Entry, type Outcome } from '../support/append.ts'
import { freshDatabase, insertMission, type Row } from '../support/database.ts'
import { until } from '../support/server.ts'

const db = await freshDatabase(t)
await migrate(await db.connect(), () => undefined)

const newMission = (): Promise<string> => insertMission(db)

const connect = async (lockTimeout: string): Promise<pg.Client> => {
  const client = await db.connect()
  await client.query(`set lock_timeout = '${lockTimeout}'`)
  return client
}

/** Time in ms that deck.save_messages may wait for each lock. Without it, it never waits. */
const wait = 20_000

const outcomes = (rows: Outcome[]) => rows.map(({ outcome, seq }) => [outcome, seq])

const failure = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) => (error instanceof pg.DatabaseError ? (error.code ?? '') : Promise.reject(error)),
  )

const say = `insert into chat_messages (mission_id, citizen, sender, message) values ($1, $2, 'user', 'hi')`
const chatOf = (mission: string, citizen = 'rafael'): Promise<Row[]> =>
  db.query('select seq::int, message from chat_messages where mission_id = $1 and citizen = $2 order by seq', [
    mission,
    citizen,
  ])

/** Topics whose seqs have a gap after 1 or after their last clearing, or whose times go back. */
const faults = `
  with item as (
    select 'missions/' || mission_id || '/chat/' || citizen as topic, mission_id, null as event, seq, at from chat_messages
    union all
    select topic, deck.topic_mission(topic), event, seq, at from deck.events
  ), lane as (
    select *, row_number() over w as nth, lag(at) over w as before,
      coalesce(max(seq) filter (where event = 'chat.cleared') over (partition by topic), 1) as first
    from item where mission_id = any ($1) window w as (partition by topic order by seq)
  )
  select l.* from lane l left join deck.heads h using (topic)
  where seq is distinct from first + nth - 1 or at is null or at < before or h.floor is null
    or h.floor > (select max(seq) from lane x where x.topic = l.topic)`
const sound = async (t: Test, ...missions: string[]): Promise<void> => {
  t.strictSame(await db.query(faults, [missions]), [], 'no gap, and no time that goes back')
}

await t.test('append: saves entries in their order', async (t) => {
  const [a, b] = [await newMission(), await newMission()]
  const client = await connect('5s')
  t.strictSame(
    outcomes(await append(client, [{ mission: a }])),
    [['busy', null]],
    'the chat has no row in deck.heads yet',
  )
  t.strictSame(outcomes(await append(client, [{ mission: a }, { mission: b }], wait)), [
    ['saved', 1],
    ['saved', 1],
  ])
  await append(client, [{ mission: a, citizen: 'sofia' }], wait)
  const rows = await append(client, [
    { mission: a, message: 'one' },
    { mission: b, message: 'two' },
    { mission: a, citizen: 'sofia', message: 'three' },
    { mission: a, message: 'four' },
  ])
  t.strictSame(outcomes(rows), [
    ['saved', 2],
    ['saved', 2],
    ['saved', 2],
    ['saved', 3],
  ])
  for (const { created_at } of rows) t.match(created_at, /^\d{4}-\d\d-\d\dT.*Z$/)
  t.match(await chatOf(a), [{ seq: 1 }, { seq: 2, message: 'one' }, { seq: 3, message: 'four' }])
  await sound(t, a, b)
})

await t.test('append: an entry that was saved before is reported as seen, and not saved again', async (t) => {
  const m = await newMission()
  const client = await connect('5s')
  const id = randomUUID()
  const first = { mission: m, id, author: 'person1', message: 'first', key: 'k' }
  t.strictSame(outcomes(await append(client, [first], wait)), [['saved', 1]])
  const [again] = await append(client, [{ ...first, id: randomUUID(), message: 'second' }])
  t.match(again, { outcome: 'seen', seq: 1, saved: { id, sender: 'user', author: 'person1', message: 'first' } })
  t.match(again?.created_at, /Z$/)
  const others = [
    { ...first, id: randomUUID(), author: 'person2' },
    { mission: m, key: 'k' },
    { mission: m, key: 'K', author: 'person1' },
  ]
  t.strictSame(outcomes(await append(client, others)), [
    ['saved', 2],
    ['saved', 3],
    ['saved', 4],
  ])

  const lost = { mission: m, id: randomUUID(), message: 'answer lost' }
  t.strictSame(outcomes(await append(client, [{ ...lost, again: true }])), [['saved', 5]], 'it had not committed')
  t.match(await append(client, [{ ...lost, again: true }]), [{ outcome: 'seen', seq: 5, saved: { id: lost.id } }])
  await sound(t, m)
})

await t.test('append: distinguishes keys of a cleared chat from missions that are missing or foreign', async (t) => {
  const m = await newMission()
  const client = await connect('5s')
  await append(client, [{ mission: m, key: 'k', author: 'person1' }], wait)
  await client.query(`select deck.clear_chat($1, 'rafael', 'person1')`, [m])
  const entries = [
    { mission: m, key: 'k', author: 'person1' },
    { mission: m, key: 'k', author: 'person2', assigned: 'person1' },
    { mission: m, assigned: 'person2' },
    { mission: randomUUID() },
    { mission: m },
  ]
  t.strictSame(outcomes(await append(client, entries)), [
    ['cleared', null],
    ['saved', 3],
    ['gone', null],
    ['gone', null],
    ['saved', 4],
  ])
  t.strictSame(outcomes(await append(client, [{ mission: randomUUID() }], wait)), [['gone', null]])
  await db.query(`update deck.cleared_keys set cleared_at = cleared_at - interval '24 hours' where mission_id = $1`, [
    m,
  ])
  t.strictSame(outcomes(await append(client, entries.slice(0, 1))), [['saved', 5]], 'a day later')
  await sound(t, m)
})

await t.test('append: a batch never waits for a transaction that stays open', async (t) => {
  const open = await db.connect()
  const server = await connect('50ms')
  const other = await newMission()
  await append(server, [{ mission: other }], wait)
  type Work = { key?: string; end?: 'commit' | 'rollback' }
  /** Returns the outcomes of a message while a transaction with `work` is open, of its `end`, and of a message afterwards. */
  const during = async (work: (m: string) => Promise<unknown>, { key = randomUUID(), end = 'commit' }: Work = {}) => {
    const m = await newMission()
    await append(server, [{ mission: m }], wait)
    await open.query('begin')
    await work(m)
    const rows = await append(server, [{ mission: m, key }, { mission: other }, { mission: m, citizen: 'nobody' }])
    t.equal(rows[1]?.outcome, 'saved', 'the other mission’s message')
    t.equal(rows[2]?.outcome, 'busy', 'a chat without a row in deck.heads')
    const ended = await failure(open.query(end))
    // Postgres reports a failure before it releases the locks. The next statement runs after the release.
    await open.query('select')
    const [later] = await append(server, [{ mission: m }])
    await sound(t, m, other)
    return [rows[0]?.outcome, ended, later?.outcome, later?.seq]
  }
  const sayWithKey = `insert into chat_messages (mission_id, sender, message, key) values ($1, 'user', 'hi', $2)`

  const removed = await during((m) => open.query('delete from missions where id = $1', [m]))
  t.strictSame(removed, ['busy', 'none', 'gone', null])
  const kept = await during((m) => open.query('delete from missions where id = $1', [m]), { end: 'rollback' })
  t.strictSame(kept, ['busy', 'none', 'saved', 2])
  const numbered = await during(async (m) => {
    await open.query(say, [m, 'rafael'])
    await open.query('set constraints all immediate')
  })
  t.strictSame(numbered, ['busy', 'none', 'saved', 3])
  const cleared = await during((m) => open.query(`select deck.clear_chat($1, 'rafael', 'person1')`, [m]))
  t.strictSame(cleared, ['busy', 'none', 'saved', 3])
  const keyed = await during((m) => open.query(sayWithKey, [m, 'mine']))
  t.strictSame(keyed, ['saved', 'none', 'saved', 4])
  const sameKey = await during((m) => open.query(sayWithKey, [m, 'same']), { key: 'same' })
  t.strictSame(sameKey, ['saved', '23505', 'saved', 3])
  const renamed = await during((m) => open.query(`update missions set title = 'x' where id = $1`, [m]))
  t.strictSame(renamed, ['saved', 'none', 'saved', 3])
  const busybody = async (m: string) => {
    await open.query(sayWithKey, [m, 'same'])
    await open.query(`insert into dod_items (mission_id, text, category) values ($1, 'x', 'tests')`, [m])
    await open.query('select from chat_messages where mission_id = $1 for update', [m])
    await open.query('delete from chat_messages where mission_id = $1', [m])
  }
  t.strictSame(await during(busybody, { key: 'same', end: 'rollback' }), ['saved', 'none', 'saved', 3])
})

await t.test('append: one key on two connections at once saves one message, and both receive its seq', async (t) => {
  const m = await newMission()
  const [a, b] = [await connect('5s'), await connect('5s')]
  await append(a, [{ mission: m }], wait)
  /** Like the server: a first call that may not wait, then one that does. */
  const insist = async (client: pg.Client, entry: Entry, patience: number) => {
    const [first] = await append(client, [entry], patience)
    return first?.outcome === 'busy' ? (await append(client, [entry], wait))[0] : first
  }
  for (let n = 0; n < 200; n++) {
    const key = `key ${n}`
    const both = await Promise.all([
      insist(a, { mission: m, key, message: 'a' }, n % 2 && wait),
      insist(b, { mission: m, key, message: 'b' }, n % 3 && wait),
    ])
    const found = [both.map((row) => row?.outcome).sort(), both.map((row) => row?.seq)]
    const rows = await db.query('select seq::int from chat_messages where mission_id = $1 and key = $2', [m, key])
    const want = [
      ['saved', 'seen'],
      [n + 2, n + 2],
    ]
    if (rows.length !== 1 || JSON.stringify(found) !== JSON.stringify(want)) t.strictSame([found, rows], want, key)
  }
  t.equal((await chatOf(m)).length, 201)
  await sound(t, m)
})

await t.test('locks: writers that use topics of two missions in opposite orders never deadlock', async (t) => {
  const missions = [await newMission(), await newMission()]
  const jobs = ['rows', 'rows', 'rows', 'append', 'wait', 'log', 'rename', 'clear', 'clear', 'clear'] as const
  type Job = { kind: (typeof jobs)[number]; swap: boolean; citizen: number }
  const job: fc.Arbitrary<Job> = fc.record({ kind: fc.constantFrom(...jobs), swap: fc.boolean(), citizen: fc.nat(1) })
  const writers = await Promise.all(
    Array.from({ length: 8 }, async (_, w) => {
      const runs = missions.map(() => randomUUID())
      for (const [i, m] of missions.entries()) {
        await db.query(`insert into test_runs (id, mission_id, status) values ($1, $2, 'running')`, [runs[i], m])
        await db.query(`insert into dod_items (mission_id, text, category) values ($1, $2, 'tests')`, [m, `of ${w}`])
      }
      return { client: await connect('20s'), name: `of ${w}`, runs }
    }),
  )
  const perform = async ({ client, name, runs }: (typeof writers)[number], { kind, swap, citizen }: Job) => {
    const order = swap ? [1, 0] : [0, 1]
    const both = order.map((n) => missions[n] ?? '')
    const [m = ''] = both
    const entries = both.flatMap((mission) => [
      { mission, citizen: 'c0' },
      { mission, citizen: `c${citizen}` },
    ])
    if (kind === 'rows') {
      await client.query('begin')
      for (const mission of both) {
        await client.query(say, [mission, `c${citizen}`])
        await client.query('update dod_items set completed = not completed where mission_id = $1 and text = $2', [
          mission,
          name,
        ])
        await client.query(`insert into dod_items (mission_id, text, category) values ($1, 'new', 'tests')`, [mission])
        await client.query(`insert into test_runs (mission_id, status, logs) values ($1, 'passed', 'ok')`, [mission])
        await client.query(say, [mission, `c${1 - citizen}`])
      }
      await client.query('commit')
    } else if (kind === 'append' || kind === 'wait') await append(client, entries, kind === 'wait' ? wait : 0)
    else if (kind === 'log') await client.query(`select deck.append_log($1, $2, 'chunk')`, [m, runs[swap ? 1 : 0]])
    else if (kind === 'rename')
      await client.query('update missions set title = title || $2 where id = $1', [m, citizen])
    else await client.query(`select deck.clear_chat($1, $2, 'person1')`, [m, `c${citizen}`])
  }
  const rounds = fc.array(fc.array(job, { minLength: 60, maxLength: 60 }), { minLength: 8, maxLength: 8 })
  const [script = []] = fc.sample(rounds, 1)
  const errors: string[] = []
  await Promise.all(
    writers.map(async (writer, w) => {
      for (const job of script[w] ?? []) {
        if (errors.length > 5) break
        const code = await failure(perform(writer, job))
        if (code !== 'none') errors.push(`${job.kind}: ${code}`)
        if (code !== 'none') await writer.client.query('rollback')
      }
    }),
  )
  t.strictSame(errors, [])
  await sound(t, ...missions)
})

void t.test(
  'migrate: retries while another session locks the list of applied files for longer than one try',
  async (t) => {
    const [holder, starter] = [await connect('0'), await db.connect()]
    await holder.query('begin; lock table deck.schema_files in access exclusive mode')
    const done = migrate(starter, () => undefined).then(
      () => 'migrated',
      (error: unknown) => String(error),
    )
    let ended = false
    void done.then(() => (ended = true))
    // Each try is a separate statement.
    const tries = new Set<unknown>()
    await until(async () => {
      const waiting = await db.query(
        `select query_start::text as at from pg_stat_activity
       where wait_event_type = 'Lock' and datname = current_database() and query like '%from deck.schema_files%'`,
      )
      for (const { at } of waiting) tries.add(at)
      return ended || tries.size > 1
    }, 'a second try')
    await holder.query('rollback')
    t.equal(await done, 'migrated')
  },
)
