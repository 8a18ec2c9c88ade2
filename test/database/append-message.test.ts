// deck.append_message: one message is written as a batch of one would be, in every case that the short way leaves to save_messages, too.
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import pg from 'pg'
import t from 'tap'
import { migrate } from '../../src/database/postgres/migrate.ts'
import { channelOf } from '../../src/sync/channels.ts'
import { freshDatabase, insertMission, type Row } from '../support/database.ts'
import { until } from '../support/server.ts'

const db = await freshDatabase(t)
await migrate(await db.connect(), () => undefined)

type Message = { author?: string; assigned?: string; message: string; blocks?: string; key?: string }
type Answer = { head: string | null; at: Date | null; others: Row[] | null; number: number | null; assigned_to: string }

/** The values of one message, in the order of deck.append_message's parameters. */
const valuesOf = (mission: string, id: string, { author, assigned, message, blocks, key }: Message): unknown[] =>
  [mission, 'rafael', id, 'user', author, assigned, message, blocks, key, 'test'].map((value) => value ?? null)

const appendMessage = async (client: pg.ClientBase, mission: string, message: Message, id = randomUUID()) =>
  (
    await client.query<Answer>(
      'call deck.append_message($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)',
      valuesOf(mission, id, message),
    )
  ).rows[0] as Answer

/** The same by a batch of one. */
const appendBatch = async (client: pg.ClientBase, mission: string, message: Message, id = randomUUID()) => {
  const [, , , ...columns] = valuesOf(mission, id, message)
  const [sender, author, assigned, text, blocks, key] = columns.map((value) => (value === null ? null : [value]))
  const { rows } = await client.query<{
    places: [string | null, string | null][]
    others: Row[] | null
    rights: Row[] | null
  }>(
    `call deck.append_messages($1::text[], '{1}', $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
       null, null, 0, 'test')`,
    [[`missions/${mission}/chat/rafael`], [id], sender, author, assigned, text, blocks, key],
  )
  const [{ places, others, rights }] = rows as [(typeof rows)[number]]
  const [, number = null, assigned_to = null] = (rights?.[0] ?? []) as unknown as [string, number?, string?]
  return { head: places[0]?.[0] ?? null, others, number, assigned_to }
}

const failure = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) =>
      error instanceof pg.DatabaseError
        ? `${error.code ?? ''} ${error.constraint ?? error.message}`
        : Promise.reject(error),
  )
const say = `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', $2)`
const stored = (mission: string): Promise<Row[]> =>
  db.query(
    `select seq::int, sender, author, message, code_blocks, key from chat_messages
     where mission_id = $1 order by seq`,
    [mission],
  )
const newMission = async (): Promise<string> => {
  const mission = await insertMission(db)
  await db.query(say, [mission, 'the first'])
  return mission
}

void t.test('append_message: an ordinary message takes the short way, anything else that of a batch', async (t) => {
  const own = await freshDatabase(t)
  const client = await own.connect()
  await migrate(client, () => undefined)
  const mission = await insertMission(own)
  await own.query(say, [mission, 'the first'])
  await own.query('alter function deck.save_messages rename to away')
  for (const message of [
    { message: 'plain' },
    { message: 'with key', author: 'alice', key: 'k1' },
    { message: 'with code', blocks: '[{"language": "js", "code": "let a = 1"}]' },
  ])
    t.strictSame((await appendMessage(client, mission, message)).others, null, message.message)
  for (const message of [
    { message: 'of another person’s mission', assigned: 'nobody' },
    { message: 'with a key that was used', author: 'alice', key: 'k1' },
  ])
    t.match(await failure(appendMessage(client, mission, message)), /^42883/, message.message)
})

void t.test('append_message: whatever happens to a chat, it answers as a batch of one', async (t) => {
  await db.query(`
    create function public.meddle() returns trigger language plpgsql as $$
    begin
      if new.message = 'drop' then return null; end if;
      if new.message = 'shout' then new.message := 'SHOUT'; end if;
      if new.message = 'move' and new.seq is not null then new.seq := new.seq + 3; end if;
      return new;
    end $$;
    create trigger meddle before insert on chat_messages for each row execute function public.meddle();
    create function public.correct() returns trigger language plpgsql as $$
    begin
      update chat_messages set message = 'corrected' where id = new.id;
      return null;
    end $$;
    create trigger correct after insert on chat_messages for each row when (new.message = 'correct') execute function public.correct();`)
  t.teardown(() => db.query('drop trigger meddle on chat_messages; drop trigger correct on chat_messages'))
  const client = await db.connect()
  const other = await db.connect()
  const text = fc.constantFrom('hi', 'hi', 'hi', 'drop', 'shout', 'move', 'correct', '', 'x'.repeat(10_001))
  const op = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record(
        {
          message: text,
          author: fc.constantFrom('alice', 'bob', ''),
          assigned: fc.constantFrom('dev', 'alice'),
          key: fc.constantFrom('k1', 'k2', 'k3', '\n'),
          blocks: fc.constantFrom('[]', '[{"code": "a"}]', '[{"code": 1}]', '{}'),
        },
        { requiredKeys: ['message'] },
      ),
    },
    fc.constantFrom('sql', 'clear', 'remove newest', 'remove oldest', 'assign', 'forget keys'),
    fc.record(
      { locked: fc.constantFrom('mission', 'head', 'message'), message: text },
      { requiredKeys: ['locked', 'message'] },
    ),
  )
  const both = async <T>(missions: [string, string], work: (mission: string) => Promise<T>): Promise<void> => {
    for (const mission of missions) await work(mission)
  }
  const statements: Record<string, string> = {
    sql: `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'sql')`,
    clear: `select deck.clear_chat($1, 'rafael', 'root')`,
    'remove newest': `delete from chat_messages where id = (select id from chat_messages where mission_id = $1 order by seq desc limit 1)`,
    'remove oldest': `delete from chat_messages where id = (select id from chat_messages where mission_id = $1 order by seq limit 1)`,
    assign: `update missions set assigned_to = case assigned_to when 'alice' then 'dev' else 'alice' end where id = $1`,
    'forget keys': `delete from deck.cleared_keys where mission_id = $1`,
  }
  const locks: Record<string, string> = {
    mission: `select from missions where id = $1 for update`,
    head: `select from deck.heads where topic = 'missions/' || $1::uuid || '/chat/rafael' for update`,
    // (A clearing that meets a locked message leaves it until the lock is gone.)
    message: `select from chat_messages where mission_id = $1 order by seq desc limit 1 for update`,
  }
  const told = ({
    head,
    others,
    number,
    assigned_to,
  }: Pick<Answer, 'head' | 'others' | 'number'> & { assigned_to: string | null }) => ({
    // (Of a message that was not saved the place means nothing.)
    head: others === null ? Number(head) : null,
    others: others?.map(({ outcome, seq, saved }) => {
      const { message, key, author } = (saved ?? {}) as Record<string, unknown>
      return { outcome, seq: seq ?? null, message, key, author }
    }),
    rights: number === null ? null : assigned_to,
  })
  const compare = async (missions: [string, string], message: Message): Promise<void> => {
    const [one, batch] = missions
    let answer: Answer | undefined
    const mine = await failure(appendMessage(client, one, message).then((given) => (answer = given)))
    let answers: Awaited<ReturnType<typeof appendBatch>> | undefined
    const theirs = await failure(appendBatch(client, batch, message).then((given) => (answers = given)))
    if (mine !== theirs) throw new Error(`${JSON.stringify(message)}: ${mine}, as a batch ${theirs}`)
    const [a, b] = [answer && told(answer), answers && told(answers)].map((one) => JSON.stringify(one))
    if (a !== b) throw new Error(`${JSON.stringify(message)}: ${String(a)}, as a batch ${String(b)}`)
  }
  await fc.assert(
    fc.asyncProperty(fc.array(op, { minLength: 1, maxLength: 25 }), async (ops) => {
      const missions = [await newMission(), await newMission()] as [string, string]
      await both(missions, (mission) => db.query(`update missions set assigned_to = 'dev' where id = $1`, [mission]))
      for (const step of ops) {
        if (typeof step === 'string') await both(missions, (mission) => db.query(statements[step] as string, [mission]))
        else if (!('locked' in step)) await compare(missions, step)
        else {
          await other.query('begin')
          await both(missions, (mission) => other.query(locks[step.locked] as string, [mission]))
          await compare(missions, step)
          await other.query('rollback')
        }
      }
      const [mine, theirs] = await Promise.all(missions.map(stored))
      const chat = (rows: Row[] = []) => JSON.stringify(rows)
      if (chat(mine) !== chat(theirs)) throw new Error(`${chat(mine)}, as a batch ${chat(theirs)}`)
      const times = (await db.query(
        `select at from (select seq, at from chat_messages where mission_id = $1 and citizen = 'rafael'
           union all select seq, at from deck.events where topic = 'missions/' || $1::uuid || '/chat/rafael') x order by seq`,
        [missions[0]],
      )) as { at: Date }[]
      if (times.some(({ at }, n) => n > 0 && at < (times[n - 1] as { at: Date }).at)) throw new Error('time went back')
    }),
    { numRuns: 150 },
  )
  t.pass('150 random histories')
  await Promise.all([client.end(), other.end()])
})

void t.test(
  'append_message: a chat whose newest message stands before a clearing or an imported event is numbered after it',
  async (t) => {
    const client = await db.connect()
    t.teardown(() => client.end())
    const mission = await newMission()
    const topic = `missions/${mission}/chat/rafael`
    await db.query(
      `insert into deck.events (topic, seq, event, data, at) values ($1, 9, 'chat.cleared', '{}', deck.now() + interval '1 hour')`,
      [topic],
    )
    const { head } = await appendMessage(client, mission, { message: 'after it' })
    t.equal(Number(head), 9)
    const { head: next, at } = await appendMessage(client, mission, { message: 'and so on' })
    t.equal(Number(next), 10)
    t.ok(at && at.getTime() > Date.now() + 3_000_000, 'the chat’s time does not go back')
  },
)

void t.test('append_message: one notification after the commit, none where deck.hints is off', async (t) => {
  const mission = await newMission()
  const [client, listener] = await Promise.all([db.connect(), db.connect()])
  t.teardown(() => Promise.all([client.end(), listener.end()]))
  const heard: string[] = []
  listener.on('notification', ({ payload }) => heard.push(payload ?? ''))
  await listener.query(`listen ${channelOf(`missions/${mission}`)}`)
  await appendMessage(client, mission, { message: 'a' })
  await client.query(`set deck.hints = off`)
  await appendMessage(client, mission, { message: 'b' })
  await client.query(`reset deck.hints`)
  await appendMessage(client, mission, { message: 'c' })
  await until(() => heard.length >= 2, 'both')
  t.strictSame(heard, [`test 2 missions/${mission}/chat/rafael`, `test 4 missions/${mission}/chat/rafael`])
})
