// Retention: messages and runs before a time are deleted in batches while clients read, write and follow. The other rows are unchanged,
// no seq is reused, and no row refers to a deleted one.
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { prune, type Pruned } from '../../src/database/retention.ts'
import { exported, restored, withDirect } from '../support/transfer.ts'
import { deck, migrated, start } from '../support/cli.ts'
import type { FreshDatabase } from '../support/database.ts'
import { refused } from '../support/forms.ts'
import {
  admin,
  alice,
  makeMission,
  rafael,
  startDeck,
  startInstance,
  token,
  until,
  type Client,
  type Json,
} from '../support/server.ts'

const limits = { pollEvery: 300 }
const { instance: one, database } = await startDeck(t, { limits })
const two = await startInstance(t, database.url, { limits })

const cut = '2025-01-01T00:00:00Z'
/** Dates the mission's messages and events a year before the cut, up to these seqs of their topics. */
const age = async (mission: string, upto: Record<string, number>): Promise<void> => {
  const client = await database.connect()
  await client.query(`begin; set local deck.numbering = '0'`)
  for (const [part, seq] of Object.entries(upto)) {
    const values = [mission, part, seq]
    await client.query(
      `update chat_messages set at = timestamp '2024-01-01' + seq * interval '1 s', created_at = '2024-01-01'
       where mission_id = $1 and '/chat/' || citizen = $2 and seq <= $3`,
      values,
    )
    await client.query(
      `update deck.events set at = timestamp '2024-01-01' + seq * interval '1 s'
       where topic = 'missions/' || $1::uuid || $2::text and seq <= $3`,
      values,
    )
  }
  await client.query('commit')
}
const fill = (mission: string, citizen: string, count: number) =>
  database.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     select $1, $2, 'user', 'message ' || n from generate_series(1, $3::integer) n`,
    [mission, citizen, count],
  )
const pruned = (mission?: string, more: { dry?: boolean; before?: string; signal?: AbortSignal } = {}) =>
  withDirect(database.url, (client): Promise<Pruned> => {
    const { dry = false, before = cut, signal = new AbortController().signal } = more
    const ref = mission === undefined ? undefined : { id: mission }
    return prune(client, { before, mission: ref, dry, signal, onProgress: () => {} })
  })
const seqs = (client: Client, topic: string): number[] => client.events(topic).map(({ seq }) => seq)
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, n) => from + n)
const count = async (text: string, ...values: unknown[]): Promise<number> =>
  Number((await database.query(`select count(*)::int as n from ${text}`, values))[0]?.['n'])

void t.test('prune: pages, resumes and followers skip the deleted rows, and seqs continue', async (t) => {
  const { id } = await makeMission(one)
  const topic = `missions/${id}/chat/rafael`
  const gone = `missions/${id}/chat/sofia`
  await fill(id, 'rafael', 2500)
  await fill(id, 'sofia', 30)
  await age(id, { '/chat/rafael': 2450, '/chat/sofia': 30 })
  const live = await two.connect(alice)
  await live.ask({ type: 'subscribe', topic })
  await live.ask({ type: 'subscribe', topic: gone })

  t.match(await pruned(id, { dry: true }), { messages: 2480, runs: 0, missions: 1 })
  t.equal(await count('chat_messages where mission_id = $1', id), 2530, 'a dry run changes nothing')
  t.match(await pruned(id), { messages: 2480, runs: 0, missions: 1, kept: 0 })
  t.match(await pruned(id), { messages: 0 }, 'a second run deletes nothing')

  for (const instance of [one, two]) {
    const { json } = await instance.request('GET', `/api/${topic}?after=0&limit=500`, alice)
    t.strictSame(
      (json['messages'] as Json[]).map(({ seq }) => seq),
      range(2451, 2500),
    )
    t.match(json, { last_seq: 2500, has_more: false })
    const empty = await instance.request('GET', `/api/${gone}`, alice)
    t.match(empty.json, { messages: [], last_seq: 30, has_more: false })
    const { json: chats } = await instance.request('GET', `/api/missions/${id}/chat`, alice)
    t.match(chats['channels'], [
      { citizen: 'rafael', last_seq: 2500, unread: 50 },
      { citizen: 'sofia', last_seq: 30, last_message: null, unread: 0 },
    ])
    const below = await instance.connect(alice)
    t.match(await below.ask({ type: 'subscribe', topic, after: 17 }), { type: 'ok', seq: 2500 })
    await until(() => seqs(below, topic).length === 50, 'the remaining messages')
    t.strictSame(seqs(below, topic), range(2451, 2500), 'resumed from below')
    t.match(await below.ask({ type: 'subscribe', topic: gone, after: 30 }), { type: 'ok', seq: 30 })
    t.match(await below.ask({ type: 'subscribe', topic: gone, after: 31 }), {
      type: 'error',
      code: 'conflict',
      seq: 30,
    })
  }
  for (const [n, name] of [topic, gone].entries())
    t.match((await one.request('POST', `/api/${name}`, alice, { message: 'on' })).json, { seq: [2501, 31][n] })
  await until(() => seqs(live, gone).length === 1 && seqs(live, topic).length === 1, 'the live events')
  t.strictSame([seqs(live, topic), seqs(live, gone), live.closed], [[2501], [31], undefined])
  const floors = await database.query('select topic, floor from deck.heads where topic = any ($1) order by topic', [
    [topic, gone],
  ])
  t.strictSame(
    floors.map(({ floor }) => Number(floor)),
    [0, 30],
    'a floor only in a chat without messages',
  )
})

void t.test('prune: concurrent readers, followers and writers miss nothing and receive nothing twice', async (t) => {
  const { id } = await makeMission(one)
  const topic = `missions/${id}/chat/rafael`
  const old = 20_000
  await fill(id, 'rafael', old + 3000)
  await age(id, { '/chat/rafael': old })
  const live = await one.connect(alice)
  await live.ask({ type: 'subscribe', topic })
  let done = false
  const work = pruned(id).finally(() => (done = true))
  const check = (found: number[], last: number, what: string): void => {
    const fresh = found.filter((seq) => seq > old)
    const stale = found.slice(0, found.length - fresh.length)
    if (fresh.join() !== range(old + 1, last).join() || stale.some((seq, i) => seq <= (stale[i - 1] ?? 0)))
      t.fail(`${what}: ${stale.length} old ones, ${fresh.length} new ones up to ${last}`)
  }
  const rounds = { stream: 0, resume: 0, send: 0 }
  await Promise.all([
    (async () => {
      for (; !done || rounds.stream === 0; rounds.stream++) {
        const { text } = await two.request('GET', `/api/${topic}?after=0`, alice, undefined, {
          accept: 'application/x-ndjson',
        })
        const found = text
          .split('\n')
          .filter(Boolean)
          .map((line) => Number((JSON.parse(line) as Json)['seq']))
        check(found, found.at(-1) ?? 0, 'a stream')
      }
    })(),
    (async () => {
      for (; !done || rounds.resume === 0; rounds.resume++) {
        const reader = await two.connect(alice)
        const { seq } = await reader.ask({ type: 'subscribe', topic, after: old - 500 - rounds.resume })
        await until(() => (seqs(reader, topic).at(-1) ?? 0) >= Number(seq), 'the resume')
        check(seqs(reader, topic), seqs(reader, topic).at(-1) ?? 0, 'a resume')
        reader.close()
      }
    })(),
    (async () => {
      const writer = await two.connect(alice)
      for (; !done || rounds.send === 0; rounds.send++)
        t.match(await writer.ask({ type: 'send', topic, message: `new ${rounds.send}` }), {
          type: 'ok',
          seq: old + 3001 + rounds.send,
        })
    })(),
  ])
  t.match(await work, { messages: old, kept: 0 })
  await until(() => seqs(live, topic).length === rounds.send, 'all messages that were sent')
  t.strictSame(seqs(live, topic), range(old + 3001, old + 3000 + rounds.send))
  t.comment(JSON.stringify(rounds))
})

void t.test('prune: a killed or interrupted run can be resumed; a concurrent run is refused', async (t) => {
  const db = await migrated(t)
  const env = { DATABASE_URL: db.url }
  const [mission] = await db.query(
    `insert into missions (title, client, budget, deadline, status, assigned_to)
     values ('A', 'Acme', 1, '2030-01-01', 'active', 'alice') returning id`,
  )
  const all = 60_000
  await db.query(
    `insert into chat_messages (mission_id, citizen, sender, message)
     select $1, 'c' || n % 3, 'user', 'message ' || n from generate_series(1, ${all}) n`,
    [mission?.['id']],
  )
  const client = await db.connect()
  await client.query(`begin; set local deck.numbering = '0'; update chat_messages set at = '2024-01-01'; commit`)
  const left = async (): Promise<number> =>
    Number((await db.query('select count(*)::int as n from chat_messages'))[0]?.['n'])

  const args = ['prune', '--before', cut]
  await client.query('select pg_advisory_lock(4747003)')
  t.match(await deck(t, [...args, '--json'], env), { code: 1, err: /"conflict","detail":"another prune/ })
  await client.query('select pg_advisory_unlock(4747003)')
  const killed = start(t, args, env)
  await until(async () => (await left()) < all, 'the first batch')
  killed.child.kill('SIGKILL')
  await killed.ended
  // The killed process's last statement still ends on the server, which holds the lock until then.
  await until(
    async () => (await db.query(`select from pg_locks where locktype = 'advisory' and objid = 4747003`)).length === 0,
    'the end',
  )
  const some = await left()
  t.ok(some > 0 && some < all, `${some} of ${all} are left`)

  const stopped = start(t, args, env)
  await until(async () => (await left()) < some, 'the next batch')
  stopped.child.kill('SIGINT')
  const { code, out } = await stopped.ended
  t.equal(code, 130)
  t.match(out, /were deleted; interrupted: run it again to continue/)
  const fewer = await left()
  t.ok(fewer > 0 && fewer < some, `${fewer} are left`)

  const last = await deck(t, [...args, '--json'], env)
  t.match(JSON.parse(last.out), { missions: 1, messages: fewer, kept: 0, dry_run: false })
  t.equal(await left(), 0)
  const [head] = await db.query(`select sum(floor)::int as floors from deck.heads where topic like '%/chat/%'`)
  t.equal(head?.['floors'], all, 'floors keep the latest seqs')
})

void t.test('prune: messages that are locked or whose task is leased are kept for the next run', async (t) => {
  const { id } = await makeMission(one)
  const name = 'worker'
  const topic = `missions/${id}/chat/${name}`
  const worker = await one.connect(await token({ sub: name, role: 'citizen' }))
  await worker.ask({ type: 'work', credit: 1 })
  await fill(id, name, 10)
  await until(() => worker.frames.some(({ type }) => type === 'task'), 'a task')
  await until(async () => (await count('deck.tasks where mission_id = $1', id)) === 10, 'the tasks')
  await age(id, { [`/chat/${name}`]: 10 })
  const client = await database.connect()
  await client.query('begin')
  await client.query('select from chat_messages where mission_id = $1 and seq = 5 for update', [id])
  t.match(await pruned(id), { messages: 8, kept: 2 })
  t.strictSame(
    (await database.query('select seq::int from chat_messages where mission_id = $1 order by seq', [id])).map(
      ({ seq }) => seq,
    ),
    [1, 5],
  )
  t.equal(await count('deck.tasks where mission_id = $1', id), 2, 'tasks are deleted with their messages')
  await client.query('commit')
  await worker.ask({ type: 'work', credit: 0 })
  const task = worker.frames.find(({ type }) => type === 'task')?.['task']
  t.match(await worker.ask({ type: 'send', topic, task, message: 'an answer' }), { type: 'ok', seq: 11 })
  t.match(await pruned(id), { kept: 0 })
  t.strictSame(
    (await database.query('select seq::int from chat_messages where mission_id = $1 order by seq', [id])).map(
      ({ seq }) => seq,
    ),
    [11],
  )
})

void t.test('prune: old runs and their logs are deleted unless in use; later states are unchanged', async (t) => {
  const { id } = await makeMission(one)
  const api = `/api/missions/${id}`
  const ask = async (method: string, path: string, body?: unknown, as = admin): Promise<Json> => {
    const { status, json, text } = await one.request(method, api + path, as, body)
    if (status >= 300) throw new Error(text)
    return json
  }
  const run = async (body: Json): Promise<string> => String((await ask('POST', '/tests', body, rafael))['id'])
  const log = (name: string, text: string) =>
    one.request('POST', `${api}/tests/${name}/logs`, rafael, text, { 'content-type': 'text/plain' })
  await database.query(`update missions set created_at = '2023-01-01' where id = $1`, [id])
  const old = await run({ status: 'passed', results: [{ name: 'x', status: 'failed' }], logs: 'a\nb\n' })
  await log(old, 'more\n')
  const proof = await run({ status: 'passed', results: [{ name: 'x', status: 'passed' }] })
  const running = await run({ logs: 'still' })
  const printing = await run({ status: 'failed', logs: 'first\n' })
  const touched = await run({ status: 'failed' })
  const item = await ask('POST', '/dod', { text: 'a', category: 'tests', test_name: 'x' }, rafael)
  const other = await ask('POST', '/dod', { text: 'b', category: 'tests' }, rafael)
  await ask('PATCH', `/dod/${String(item['id'])}`, { completed: true }, alice)
  await ask('PATCH', `/dod/${String(item['id'])}`, { completed: false }, alice)
  await ask('DELETE', `/dod/${String(other['id'])}`)
  for (const title of ['One', 'Two', 'Three']) await ask('PATCH', '', { title })
  const newest = async (topic: string): Promise<number> =>
    Number(
      (await database.query('select max(seq) as n from deck.events where topic = $1', [`missions/${id}${topic}`]))[0]?.[
        'n'
      ],
    )
  const parts = ['', '/dod', '/tests', ...[old, proof, running, printing].map((name) => `/tests/${name}/logs`)]
  for (const part of parts) await age(id, { [part]: await newest(part) })
  await database.query(
    `update test_runs set created_at = case when id = $2 then date '2023-06-01' else '2024-01-01' end where mission_id = $1`,
    [id, old],
  )
  await age(id, { '/tests': await newest('/tests') })
  // After the cut: a log line of one run, a change of a second run, a title, a completed item.
  await log(printing, 'last\n')
  await ask('PATCH', `/tests/${touched}`, { summary: { failed: 1 } }, rafael)
  await run({ status: 'passed', results: [] })
  const now = async (): Promise<string> =>
    String((await database.query(`select deck.iso(clock_timestamp() at time zone 'utc') as now`))[0]?.['now'])
  const states: { at: string; state: Json[] }[] = []
  const look = async (at = ''): Promise<Json[]> =>
    Promise.all(['', '/dod', '/tests', `/tests/${proof}`].map((path) => ask('GET', `${path}${at && `?at=${at}`}`)))
  const note = async () => states.push({ at: await now(), state: await look() })
  states.push({ at: '2025-01-01T00:00:00Z', state: await look('2025-01-01T00:00:00Z') })
  await note()
  await ask('PATCH', '', { title: 'Four' })
  await note()
  await ask('PATCH', `/dod/${String(item['id'])}`, { completed: true }, alice)
  await note()

  t.match(await pruned(id, { dry: true }), { runs: 1 })
  t.match(await pruned(id), { runs: 1, kept: 0 })
  refused(t, await one.request('GET', `${api}/tests/${old}`, alice), 404, 'not_found', 'the run')
  refused(t, await one.request('GET', `${api}/tests/${old}/logs`, alice), 404, 'not_found', 'its log')
  for (const name of [proof, running, printing, touched]) await ask('GET', `/tests/${name}`)
  t.match(await one.request('GET', `${api}/tests/${printing}/logs`, alice), { text: 'first\nlast\n' })
  for (const [n, { at, state }] of states.entries()) {
    const want = state.map((part) =>
      Array.isArray(part['test_runs'])
        ? { ...part, test_runs: (part['test_runs'] as Json[]).filter((found) => found['id'] !== old) }
        : part,
    )
    t.strictSame(await look(at), want, `state ${n}`)
  }
  for (const path of ['', '/dod', '/tests', '/tests/latest', `/tests/${proof}`]) {
    const answer = await one.request('GET', `${api}${path}?at=2024-06-01T00:00:00Z`, alice)
    refused(t, answer, 404, 'not_found', path)
    t.match(answer.json, { detail: 'history before 2025-01-01T00:00:00Z was pruned' })
  }
  refused(
    t,
    await one.request('GET', `${api}?at=2024-06-01T00:00:00Z`, await token({ sub: 'x', role: 'user' })),
    404,
    'not_found',
  )
  t.equal(await count(`deck.events where topic = $1`, `missions/${id}/tests/${old}/logs`), 0)
  t.equal(await count(`deck.events where data ->> 'id' = $1`, old), 0)
  t.equal(await count('deck.log_sizes where run_id = $1', old), 0)
  t.equal(await count('deck.removed where id = $1', old), 0)
  t.equal(
    await count('deck.events where topic = $1 and at < $2', `missions/${id}`, cut),
    1,
    'only the last of three titles before the cut is left',
  )
  // A follower that resumes from before the cut reaches the current state.
  const client = await two.connect(alice)
  const dod = `missions/${id}/dod`
  await client.ask({ type: 'subscribe', topic: dod, after: 0 })
  await until(() => client.events(dod).at(-1)?.data['completed'] === true, 'the item')
  t.same(Object.fromEntries(client.events(dod).map(({ event, data }) => [data['id'], event])), {
    [String(item['id'])]: 'dod_item.updated',
    [String(other['id'])]: 'dod_item.deleted',
  })
  t.match((await one.request('GET', `${api}/timeline`, alice)).json['events'], Array)
})

void t.test('prune: search blocks are rebuilt, and an export contains the remaining rows', async (t) => {
  const { id } = await makeMission(one)
  const topic = `missions/${id}/chat/rafael`
  await fill(id, 'rafael', 2200)
  const blocks = (more: string) => count(`deck.search_blocks where mission_id = $1 ${more}`, id)
  await until(async () => (await blocks('')) === 4, 'the blocks')
  await age(id, { '/chat/rafael': 1200 })
  await pruned(id)
  const found = async (q: string) =>
    (await one.request('GET', `/api/${topic}?q=${q}`, alice)).json['messages'] as Json[]
  const search = async (q: string) =>
    (await one.request('GET', `/api/missions/${id}/search?q=${q}`, alice)).json['hits'] as Json[]
  t.strictSame([await found('1100'), (await found('1300')).length], [[], 1], 'at once')
  t.strictSame([await search('1100'), (await search('1300')).length], [[], 1], 'in the mission')
  await until(async () => (await count('deck.search_stale where mission_id = $1', id)) === 0, 'the rebuild', 30_000)
  t.strictSame([await blocks('and last <= 1200'), await blocks('')], [0, 2])
  t.equal(await blocks(`and last <= 1500 and words @@ '''1100'''`), 0, 'no words of deleted messages')
  t.strictSame([await found('1100'), (await found('1300')).length], [[], 1])
  t.strictSame([await search('1100'), (await search('1300')).length], [[], 1])
  await age(id, { '/chat/rafael': 2200 })
  await pruned(id)
  await until(async () => (await blocks('')) === 0, 'no block to be left')
  await fill(id, 'rafael', 20)
  t.strictSame(
    await database.query('select * from deck.search_due() where mission_id = $1', [id]),
    [],
    'twenty messages are too few for a block',
  )

  const file = await exported(database.url, id)
  t.match(file.toString(), /"kind":"pruned"/)
  await one.request('DELETE', `/api/missions/${id}`, admin)
  t.equal(await count('deck.pruned where mission_id = $1', id), 0, 'deleted with the mission')
  const fresh: FreshDatabase = await migrated(t)
  t.equal(await restored(fresh.url, file), undefined)
  t.equal((await exported(fresh.url, id)).equals(file), true, 'the restored mission exports the same bytes')
})

void t.test('prune: keeps chat.cleared events; fails if the cut is no time or under a day ago', async (t: Test) => {
  const { id } = await makeMission(one)
  await t.rejects(pruned(id, { before: new Date(Date.now() - 23 * 3_600_000).toISOString() }), {
    code: 'bad_request',
  })
  await t.rejects(pruned(randomUUID()), { code: 'not_found' })
  await fill(id, 'emma', 3)
  await one.request('DELETE', `/api/missions/${id}/chat/emma`, admin)
  await age(id, { '/chat/emma': 4 })
  t.match(await pruned(), { messages: 0 })
  const client = await one.connect(alice)
  const topic = `missions/${id}/chat/emma`
  await client.ask({ type: 'subscribe', topic, after: 2 })
  await until(() => client.events(topic).length === 1, 'the clearing')
  t.match(client.events(topic), [{ seq: 4, event: 'chat.cleared' }])
  const env = { DATABASE_URL: database.url }
  for (const before of ['yesterday', '2025-13-01', '2025-01-01T00:00:00', '2025-02-31T25:00:00Z'])
    t.match(await deck(t, ['prune', '--before', before], env), { code: 2 }, before)
  t.match(await deck(t, ['prune'], env), { code: 2, err: /--before/ })
  t.match(await deck(t, ['prune', '--before', '2025-01-01', '--mission', '999999'], env), {
    code: 1,
    err: /no such mission/,
  })
})
