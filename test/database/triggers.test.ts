// Custom triggers on the four tables. Followers and senders receive the stored rows, and rows that a trigger writes are numbered like
// any other change.
import t, { type Test } from 'tap'
import {
  admin,
  alice,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  until,
  type Client,
  type Json,
} from '../support/server.ts'

type Row = { seq: string; id: string; message: string; sender: string; created_at: string; key: string | null }

const makeDeck = async (t: Test, sql: string) => {
  const { instance, database } = await startDeck(t)
  const other = await startInstance(t, database.url)
  await database.query(sql)
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  const followers = await Promise.all(
    [instance, other].map(async (at) => {
      const client = await at.connect(alice)
      t.match(await client.ask({ type: 'subscribe', topic }), { type: 'ok' })
      return client
    }),
  )
  /** Asserts that seqs have no gap, followers received the stored rows, and each `ok` names a stored row. Returns the rows. */
  const holds = async (t: Test, senders: Client[]): Promise<Row[]> => {
    const stored = `select seq, id, message, sender, key, created_at::text from chat_messages
      where mission_id = '${id}' and citizen = 'rafael' order by seq`
    const rows = (await database.query(stored)) as Row[]
    t.strictSame(
      rows.map(({ seq }) => Number(seq)),
      rows.map((_, n) => n + 1),
      'no gap, no duplicate',
    )
    for (const follower of followers) {
      await until(() => follower.events(topic).length >= rows.length, 'all messages')
      const partOf = ({ id, message, sender, key }: Json) => ({ id, message, sender, key })
      t.strictSame(
        follower.events(topic).map(({ data }) => partOf(data)),
        rows.map((row) => partOf(row as unknown as Json)),
        'received as stored',
      )
    }
    const known = new Set(rows.map(({ seq, id }) => `${Number(seq)} ${id}`))
    for (const { type, seq, message_id } of senders
      .flatMap(({ frames }) => frames)
      .filter((f) => f['message_id'] ?? f['code']))
      if (type === 'ok') t.ok(known.has(`${String(seq)} ${String(message_id)}`), 'an answer names a row that is stored')
    return rows
  }
  return { instance, other, database, id, topic, followers, holds }
}

void t.test('custom triggers: messages that one changes or skips arrive as stored, without a gap', async (t) => {
  const { instance, other, database, id, topic, holds } = await makeDeck(
    t,
    `create function judge() returns trigger language plpgsql as $$
     begin
       if new.message like 'drop%' then return null; end if;
       if new.message like 'shout%' then new.message := upper(new.message); end if;
       if new.message like 'old%' then new.created_at := '2020-01-01 00:00:00'; end if;
       if new.message like 'id%' then new.id := gen_random_uuid(); end if;
       return new;
     end $$;
     create trigger judge before insert on chat_messages for each row execute function judge();`,
  )
  const senders = await Promise.all([instance, other].flatMap((at) => [at.connect(rafael), at.connect(alice)]))
  const texts = Array.from({ length: 60 }, (_, n) => `${['plain', 'drop', 'shout', 'old', 'id'][n % 5] ?? ''} ${n}`)
  const answers = await Promise.all(
    senders.flatMap((client) => texts.map((message) => client.ask({ type: 'send', topic, message }))),
  )
  for (const [n, answer] of answers.entries())
    if (texts[n % texts.length]?.startsWith('drop')) t.match(answer, { type: 'error', code: 'bad_request' })
    else t.match(answer, { type: 'ok' })
  const { status, json } = await instance.request('POST', `/api/${topic}`, rafael, {
    message: 'shout by HTTP',
    key: 'k',
  })
  t.equal(status, 201)
  t.match(json, { message: 'SHOUT BY HTTP', key: 'k' })
  t.match((await instance.request('POST', `/api/${topic}`, rafael, { message: 'drop by HTTP' })).status, 400)
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) select $1, 'rafael', 'user', unnest($2::text[])`,
    [id, texts],
  )
  const rows = await holds(t, senders)
  t.equal(rows.length, 4 * 48 + 1 + 48)
  t.equal(rows.filter(({ message }) => message.startsWith('SHOUT')).length, 4 * 12 + 1 + 12)
  t.ok(rows.filter(({ message }) => message.startsWith('old')).every(({ created_at }) => created_at.startsWith('2020')))
})

void t.test('custom triggers: an after trigger may change or delete the inserted message', async (t) => {
  const { instance, topic, holds } = await makeDeck(
    t,
    `create function judge() returns trigger language plpgsql as $$
     begin
       if new.message like 'drop%' then delete from chat_messages where id = new.id;
       elsif new.message like 'shout%' then update chat_messages set message = upper(message) where id = new.id; end if;
       return null;
     end $$;
     create trigger judge after insert on chat_messages for each row execute function judge();`,
  )
  const client = await instance.connect(rafael)
  const texts = Array.from({ length: 30 }, (_, n) => `${['plain', 'drop', 'shout'][n % 3] ?? ''} ${n}`)
  const answers = await Promise.all(texts.map((message) => client.ask({ type: 'send', topic, message })))
  for (const [n, answer] of answers.entries())
    t.match(answer, texts[n]?.startsWith('drop') ? { type: 'error', code: 'bad_request' } : { type: 'ok' })
  const rows = await holds(t, [client])
  t.equal(rows.filter(({ message }) => message.startsWith('SHOUT')).length, 10)
  t.equal(rows.length, 20)
})

void t.test('custom triggers: a message is refused if a trigger changes its chat or its seq', async (t) => {
  const { instance, database, topic, holds } = await makeDeck(
    t,
    `create function judge() returns trigger language plpgsql as $$
     begin
       if new.message like 'move%' then new.citizen := 'sofia'; end if;
       if new.message like 'seq%' then new.seq := new.seq + 1; end if;
       if new.message like 'null%' then new.seq := null; end if;
       if new.message like 'no%' then raise exception 'not here'; end if;
       return new;
     end $$;
     create trigger zz before insert on chat_messages for each row execute function judge();`,
  )
  const client = await instance.connect(rafael)
  const texts = Array.from({ length: 50 }, (_, n) => `${['plain', 'move', 'seq', 'null', 'no'][n % 5] ?? ''} ${n}`)
  const answers = await Promise.all(texts.map((message) => client.ask({ type: 'send', topic, message })))
  for (const [n, answer] of answers.entries())
    t.match(answer, texts[n]?.startsWith('plain') ? { type: 'ok' } : { type: 'error', code: 'bad_request' })
  t.equal((await holds(t, [client])).length, 10)
  t.equal((await database.query('select from chat_messages')).length, 10)
})

void t.test('custom triggers: rows that a trigger writes for a message are numbered and received', async (t) => {
  const { instance, database, id, topic, followers, holds } = await makeDeck(
    t,
    `create function follow_up() returns trigger language plpgsql as $$
     begin
       if new.message = 'ping' then
         insert into chat_messages (mission_id, citizen, sender, message) values (new.mission_id, new.citizen, 'citizen', 'pong');
         insert into dod_items (mission_id, category, text) values (new.mission_id, 'tests', 'answer');
         insert into test_runs (mission_id, status) values (new.mission_id, 'running');
         update missions set title = title || '!' where id = new.mission_id;
       end if;
       return null;
     end $$;
     create trigger follow_up after insert on chat_messages for each row execute function follow_up();`,
  )
  const [follower] = followers
  if (!follower) throw new Error('no follower')
  for (const part of ['', '/dod', '/tests']) await follower.ask({ type: 'subscribe', topic: `missions/${id}${part}` })
  const client = await instance.connect(rafael)
  await Promise.all(['ping', 'plain', 'ping'].map((message) => client.ask({ type: 'send', topic, message })))
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'ping')`,
    [id],
  )
  const rows = await holds(t, [client])
  t.strictSame(rows.map(({ message }) => message).sort(), ['ping', 'ping', 'ping', 'plain', 'pong', 'pong', 'pong'])
  for (const [part, event] of Object.entries({
    '': 'mission.updated',
    '/dod': 'dod_item.created',
    '/tests': 'test_run.created',
  })) {
    const events = () => follower.events(`missions/${id}${part}`).filter((received) => received.event === event)
    await until(() => events().length === 3, event)
  }
})

void t.test('custom triggers: a message is not committed if a trigger prevents its numbering', async (t) => {
  const { database, id, holds } = await makeDeck(
    t,
    `create function keep() returns trigger language plpgsql as $$ begin return null; end $$;
     create trigger keep before update on chat_messages for each row when (old.message = 'stay') execute function keep();`,
  )
  const say = (message: string) =>
    database.query(
      `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', $2)`,
      [id, message],
    )
  await say('go')
  await t.rejects(say('stay'), { code: '23514' })
  await say('go')
  t.equal((await holds(t, [])).length, 2)
})

void t.test('custom triggers: audit triggers that use the search path work for every write', async (t) => {
  const { instance, database, id, topic, holds } = await makeDeck(
    t,
    `create table history (what text, of text);
     create function keep_history() returns trigger language plpgsql as $$
     begin
       insert into history values (tg_op, tg_table_name);
       return null;
     end $$;
     ${['missions', 'dod_items', 'test_runs', 'chat_messages']
       .map(
         (of) =>
           `create trigger history after insert or update or delete on ${of} for each row execute function keep_history();`,
       )
       .join('\n')}`,
  )
  const ask = async (method: string, path: string, body?: Json): Promise<Json> => {
    const { status, json, text } = await instance.request(method, `/api/missions/${id}${path}`, admin, body)
    t.ok(status < 300, `${method} ${path}: ${String(status)} ${text}`)
    return json
  }
  const client = await instance.connect(rafael)
  t.match(await client.ask({ type: 'send', topic, message: 'by socket' }), { type: 'ok' })
  await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'by SQL')`,
    [id],
  )
  await holds(t, [client])
  await ask('PATCH', '', { title: 'changed' })
  const item = await ask('POST', '/dod', { category: 'tests', text: 'it passes', test_name: 'a test' })
  const run = await ask('POST', '/tests', { status: 'running', logs: 'one\n' })
  await ask('PATCH', `/tests/${String(run['id'])}`, {
    status: 'passed',
    results: [{ name: 'a test', status: 'passed' }],
  })
  await ask('PATCH', `/dod/${String(item['id'])}`, { completed: true })
  await ask('DELETE', '/chat/rafael')
  await ask('DELETE', '')
  const kept = (await database.query('select distinct of, what from history order by 1, 2')) as {
    of: string
    what: string
  }[]
  for (const of of ['missions', 'dod_items', 'test_runs', 'chat_messages'])
    for (const what of ['INSERT', 'UPDATE', 'DELETE'])
      if (!(of === 'chat_messages' && what === 'UPDATE'))
        t.ok(
          kept.some((row) => row.of === of && row.what === what),
          `${what} ${of}`,
        )
})
