// Epochs. After a database was restored or promoted, `after` beyond the latest seq or a different epoch is `conflict`, with the
// current seq and epoch. Connected followers are closed. A client that discards its copy and reads from 0 then holds 1 to n.
// A primary with its standby, and a server of the pg_dump's version, are separate clusters.
// Not tested: an unchanged copy of the data files has the epoch of its original.
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chown, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { basename, delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import t, { type Test } from 'tap'
import { openCluster, type Cluster } from '../../src/database/embedded/cluster.ts'
import { connectTo, makePlace, makeStandby, provide, settings, start, type Started } from '../support/clusters.ts'
import {
  launchPostmaster,
  readPostmaster,
  stopPostmaster,
  type Runner,
} from '../../src/database/embedded/postmaster.ts'
import { freshDatabase, serverUrl } from '../support/database.ts'
import {
  alice,
  makeMission,
  startDeck,
  startInstance,
  until,
  type Client,
  type Instance,
  type Json,
} from '../support/server.ts'

const run = promisify(execFile)
const isRoot = process.getuid?.() === 0

const server = await connectTo(t, serverUrl())

const value = async (client: pg.Client, expression: string, values: unknown[] = []) =>
  (await client.query<{ value: unknown }>(`select ${expression} as value`, values)).rows[0]?.value

/** The folder and the version of this machine's pg_dump. */
const findDumpers = async () => {
  const debian = '/usr/lib/postgresql'
  const versions = (await readdir(debian).catch(() => [])).sort((a, b) => Number(b) - Number(a))
  const path = (process.env['PATH'] ?? '').split(delimiter).filter(Boolean)
  const found: { bin: string; version: number; whole: boolean }[] = []
  for (const bin of [...versions.map((version) => join(debian, version, 'bin')), ...path]) {
    const files: string[] = await readdir(bin).catch(() => [])
    const has = (...names: string[]) => names.every((name) => files.includes(name))
    if (!has('pg_dump', 'pg_restore')) continue
    const printed = await run(join(bin, 'pg_dump'), ['--version']).catch(() => undefined)
    const version = Number(/\d+/.exec(printed?.stdout ?? '')?.[0] ?? 0)
    if (version >= 14) found.push({ bin, version, whole: has('initdb', 'postgres', 'pg_ctl') })
  }
  return found
}
const dumpers = await findDumpers()
const major = Math.floor(Number(await value(server, `current_setting('server_version_num')`)) / 10_000)
// A dump fits servers of the pg_dump's version: the shared server, or else a separate cluster of that version.
const dumper = dumpers.find(({ version }) => version === major) ?? dumpers.find(({ whole }) => whole)
const skip = dumper
  ? false
  : dumpers.length
    ? `no pg_dump on this machine fits Postgres ${major}`
    : 'no pg_dump on this machine'

// Readers ---------------------------------------------------------------------------------------------------------

/** A client that handles conflicts as documented. It holds "seq text" of each message. */
type Reader = {
  held(): string[]
  client(): Client
  /** Discards every event and the epoch. */
  forget(): void
  /** Connects, resumes after its last seq, and waits until it holds `upTo`. Returns the conflict it received, if any. */
  resume(on: Instance, upTo: number): Promise<Json | undefined>
}

const makeReader = (topic: string): Reader => {
  let epoch: unknown
  let before: string[] = []
  let client: Client | undefined
  const held = () => [
    ...before,
    ...(client?.events(topic) ?? []).map(({ seq, data }) => `${seq} ${String(data['message'])}`),
  ]
  const last = () => {
    const event = client?.frames.findLast(({ type }) => type === 'event')
    return event ? Number(event['seq']) : Number.parseInt(before.at(-1) ?? '0')
  }
  const subscribe = async (to: Client) => {
    for (;;) {
      const cursor = epoch === undefined ? {} : { epoch }
      const answer = await to.ask({ type: 'subscribe', topic, after: last(), ...cursor })
      if (answer['code'] !== 'unavailable') return answer
    }
  }
  return {
    held,
    client() {
      if (!client) throw new Error('not connected')
      return client
    },
    forget() {
      client?.close()
      client = epoch = undefined
      before = []
    },
    async resume(on, upTo) {
      before = held()
      client?.close()
      client = undefined
      const next = await on.connect(alice)
      let answer = await subscribe(next)
      const conflict = answer['code'] === 'conflict' ? answer : undefined
      if (conflict) {
        before = []
        epoch = conflict['epoch']
        answer = await subscribe(next)
      }
      if (answer['type'] !== 'ok') throw new Error(JSON.stringify(answer))
      epoch = answer['epoch']
      client = next
      await until(() => last() >= upTo, `a reader at ${upTo}`)
      return conflict
    },
  }
}

/** Sends the same text `times` times. */
const say = async (on: Instance, topic: string, message: string, times: number) => {
  for (let n = 0; n < times; n++) {
    const { status, text } = await on.request('POST', `/api/${topic}`, alice, { message })
    if (status !== 201) throw new Error(text)
  }
}
const lines = (message: string, from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `${from + i} ${message}`)
const epochOf = async (on: Instance, topic: string) =>
  String((await on.request('GET', `/api/${topic}?limit=1`, alice)).json['epoch'])

// Each test does the same: 5 messages are in both databases, and 3 more only in the original. Readers of the original, one
// at seq 5 and one at seq 8, then connect to the restored database.
type Story = { topic: string; epoch: string; early: Reader; late: Reader }

const begin = async (original: Instance): Promise<Story> => {
  const { id } = await makeMission(original)
  const topic = `missions/${id}/chat/rafael`
  await say(original, topic, 'kept', 5)
  const [early, late] = [makeReader(topic), makeReader(topic)]
  for (const reader of [early, late]) await reader.resume(original, 5)
  return { topic, epoch: await epochOf(original, topic), early, late }
}

const goOn = async (t: Test, { topic, late }: Story, original: Instance) => {
  await say(original, topic, 'not kept', 3)
  t.equal(await late.resume(original, 8), undefined, 'the original continues for clients that reconnect to it')
  t.strictSame(late.held(), [...lines('kept', 1, 5), ...lines('not kept', 6, 8)])
}

const comeBack = async (t: Test, { topic, epoch, early, late }: Story, restored: Instance) => {
  const refused = { type: 'error', code: 'conflict', seq: 5, epoch: await epochOf(restored, topic) }
  t.not(refused.epoch, epoch)
  const client = await restored.connect(alice)
  const beyond = [{ after: 6 }, { after: 8 }, { after: 8, epoch: refused.epoch }]
  const old = [{}, { after: 0 }, { after: 3 }, { after: 5 }, { after: 8 }].map((cursor) => ({ ...cursor, epoch }))
  for (const cursor of [...beyond, ...old])
    t.match(await client.ask({ type: 'subscribe', topic, ...cursor }), refused, JSON.stringify(cursor))
  const direct = await restored.connect(alice, `/api/${topic}/ws?after=8`)
  t.match(await direct.frame(({ type }) => type === 'error'), refused)

  for (const reader of [early, late]) {
    t.match(await reader.resume(restored, 5), refused)
    t.strictSame(reader.held(), lines('kept', 1, 5))
  }
  t.match(
    await client.ask({ type: 'send', topic, message: 'new' }),
    { type: 'ok', seq: 6 },
    'seqs continue after the latest seq',
  )
  for (const reader of [early, late]) {
    await until(() => reader.held().length >= 6, 'the new message')
    t.equal(await reader.resume(restored, 6), undefined, 'no reader is refused twice')
    t.strictSame(reader.held(), [...lines('kept', 1, 5), '6 new'])
  }
  for (const { frames } of [client, direct]) t.notOk(frames.some(({ type }) => type === 'event'))
}

const goBack = async (t: Test, { epoch, late }: Story, original: Instance) => {
  t.match(
    await late.resume(original, 8),
    { code: 'conflict', seq: 8, epoch },
    'the original refuses the cursor of the restored database',
  )
  t.strictSame(late.held(), [...lines('kept', 1, 5), ...lines('not kept', 6, 8)])
}

await t.test('epoch: a promoted standby has a different epoch, and its seqs continue', async (t) => {
  const place = await makePlace(t)
  const primary = await start(t, await openCluster(join(place, 'primary'), { ...settings, wal_keep_size: '64MB' }))
  await provide(primary, 'deck')
  const original = await startInstance(t, primary.url('deck', 'deck'))
  const standby = await start(t, await makeStandby(primary, join(place, 'standby')))
  const story = await begin(original)
  const written = await value(primary.admin, 'pg_current_wal_flush_lsn()')
  await until(
    async () => (await value(standby.admin, 'pg_last_wal_replay_lsn() >= $1::pg_lsn', [written])) === true,
    'the standby to have the messages',
  )
  await t.rejects(
    startInstance(t, standby.url('deck', 'deck')),
    { message: 'This Postgres is a standby; Mission Deck writes, so it needs the primary.' },
    'a server refuses to start on a standby',
  )

  // From here on, the standby does not receive what the primary acknowledges.
  await standby.admin.query(`alter system set primary_conninfo = ''`)
  await standby.admin.query('select pg_reload_conf()')
  await until(
    async () => (await value(primary.admin, '(select count(*)::int from pg_stat_replication)')) === 0,
    'the end of replication',
  )
  await goOn(t, story, original)
  t.equal(await value(standby.admin, 'pg_promote()'), true)
  const promoted = await startInstance(t, standby.url('deck', 'deck'))
  await comeBack(t, story, promoted)
  await goBack(t, story, original)

  await promoted.close()
  await standby.stop()
  const again = await startInstance(t, (await start(t, standby)).url('deck', 'deck'))
  t.equal(await story.early.resume(again, 6), undefined, 'a restart of Postgres keeps the epoch')
})

// Dumps -----------------------------------------------------------------------------------------------------------

/** A cluster of the binaries in a folder. Root starts it as another user, because Postgres refuses to run as root. */
const makeCluster = async (bin: string, dir: string): Promise<Cluster> => {
  const passwd = isRoot ? (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':')) : []
  const entry = ['postgres', 'nobody'].map((user) => passwd.find(([name]) => name === user)).find(Boolean)
  const user = entry && { uid: Number(entry[2]), gid: Number(entry[3]) }
  const env = { PATH: process.env['PATH'], LC_ALL: 'C' }
  const runner: Runner = { user, options: { env, ...user } }
  const password = randomBytes(24).toString('hex')
  const pwfile = `${dir}.password`
  await writeFile(pwfile, password, { mode: 0o600 })
  await mkdir(dir)
  if (user) for (const path of [dir, pwfile]) await chown(path, user.uid, user.gid)
  const auth = ['--username=postgres', `--pwfile=${pwfile}`, '--auth=scram-sha-256']
  const args = [`--pgdata=${dir}`, ...auth, '--locale=C', '--encoding=UTF8', '--no-sync']
  await run(join(bin, 'initdb'), args, { ...runner.options, cwd: '/' })
  return {
    dir,
    passwords: { postgres: password, deck: password },
    running: () => readPostmaster(dir),
    launch: () => launchPostmaster(dir, join(bin, 'postgres'), runner, settings),
    stop: (pid) => stopPostmaster(dir, pid, join(bin, 'pg_ctl')),
  }
}

// Databases -------------------------------------------------------------------------------------------------------

/** Closes all connections to these databases of the shared server. */
const disconnect = (...names: string[]) =>
  until(
    async () => {
      const { rowCount } = await server.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = any ($1) and backend_type = 'client backend'`,
        [names],
      )
      return rowCount === 0
    },
    `no connection to ${names.join(', ')}`,
  )

const nameOf = (url: string) => basename(new URL(url).pathname)

/** Copies a database that has no connections. Returns the URL of the copy, which is dropped at the end of the test. */
const copyOf = async (t: Test, original: string): Promise<string> => {
  const copy = new URL(original)
  copy.pathname += '_copy'
  const name = nameOf(copy.href)
  const owner = pg.escapeIdentifier(decodeURIComponent(copy.username))
  await disconnect(nameOf(original))
  t.teardown(() => server.query(`drop database if exists ${name} with (force)`))
  await server.query(`create database ${name} template ${nameOf(original)} owner ${owner}`)
  return copy.href
}

await t.test('epoch: a copy of the database has a different epoch, and its seqs continue', async (t) => {
  const { database, instance } = await startDeck(t)
  const story = await begin(instance)
  await instance.close()
  const copy = await copyOf(t, database.url)
  const original = await startInstance(t, database.url)
  await goOn(t, story, original)
  await comeBack(t, story, await startInstance(t, copy))
  await goBack(t, story, original)
})

// Connected clients -----------------------------------------------------------------------------------------------

const polling = (pollEvery: number) => ({ limits: { pollEvery } })
const never = 3_600_000

/** Waits until a server has closed these clients because of the epoch. */
const goodbyes = async (t: Test, clients: Client[]) => {
  await until(() => clients.every(({ closed }) => closed !== undefined), 'every socket to be closed')
  for (const { frames, closed } of clients) {
    t.match(frames.at(-1), { type: 'goodbye', reason: 'epoch', retry_after: Number })
    t.equal(closed?.code, 1012)
  }
}

/** Connects the readers, and a client without subscriptions, before `change` changes the database. */
const liveThrough = async (t: Test, story: Story, on: Instance, change: () => Promise<unknown>) => {
  const { early, late } = story
  for (const reader of [early, late]) await reader.resume(on, 8)
  const idle = await on.connect(alice)
  await change()
  await goodbyes(t, [idle, early.client(), late.client()])
  for (const reader of [early, late])
    t.strictSame(
      reader.held(),
      [...lines('kept', 1, 5), ...lines('not kept', 6, 8)],
      'no event of the changed database arrived',
    )
}

/** Swaps the names of two databases. */
const swap = async (one: string, other: string) => {
  const [a, b] = [nameOf(one), nameOf(other)]
  for (const name of [a, b]) await server.query(`alter database ${name} allow_connections false`)
  await disconnect(a, b)
  // one transaction
  await server.query(`
    alter database ${a} rename to ${a}_aside;
    alter database ${b} rename to ${a};
    alter database ${a}_aside rename to ${b}`)
  for (const name of [a, b]) await server.query(`alter database ${name} allow_connections true`)
}

await t.test('epoch: followers are closed when a backup replaces the database, and then resume on it', async (t) => {
  const { database, instance } = await startDeck(t)
  const story = await begin(instance)
  await instance.close()
  const backup = await copyOf(t, database.url)
  // The server can only notice it when its connections are cut.
  const original = await startInstance(t, database.url, polling(never))
  await goOn(t, story, original)
  await liveThrough(t, story, original, () => swap(database.url, backup))
  await comeBack(t, story, original)
})

/** URLs of databases on a server of the pg_dump's version, and functions that dump and restore them. */
const makeDumped = async (t: Test, { bin, version }: { bin: string; version: number }) => {
  const place = await makePlace(t)
  let own: Started | undefined
  if (version !== major) {
    own = await start(t, await makeCluster(bin, join(place, 'data')))
    await provide(own, 'first', 'second', 'third')
  }
  const open = async (name: string) => own?.url('deck', name) ?? (await freshDatabase(t)).url
  const call = (program: string, url: string, ...args: string[]) => {
    const bare = new URL(url)
    const PGPASSWORD = decodeURIComponent(bare.password)
    bare.password = ''
    return run(join(bin, program), [`--dbname=${bare.href}`, ...args], { env: { ...process.env, PGPASSWORD } })
  }
  const file = (url: string) => join(place, `${basename(new URL(url).pathname)}.dump`)
  return {
    urls: [await open('first'), await open('second'), await open('third')] as const,
    dump: (url: string) => call('pg_dump', url, '--format=custom', `--file=${file(url)}`),
    restore: (from: string, to: string, ...args: string[]) =>
      call('pg_restore', to, '--exit-on-error', '--single-transaction', ...args, file(from)),
  }
}

await t.test('epoch: a restored dump has a different epoch, and its seqs continue', { skip }, async (t) => {
  if (!dumper) return
  const { urls, dump, restore } = await makeDumped(t, dumper)
  const [first, second, third] = urls

  await t.test('restored into a new database', async (t) => {
    const original = await startInstance(t, first)
    const story = await begin(original)
    await dump(first)
    await goOn(t, story, original)
    await restore(first, second)
    await comeBack(t, story, await startInstance(t, second))
    await goBack(t, story, original)
  })

  await t.test('restored over the database while clients follow it: they are closed', async (t) => {
    // The connections stay open, so the server notices it by polling.
    const original = await startInstance(t, third, polling(100))
    const story = await begin(original)
    await dump(third)
    await goOn(t, story, original)
    await liveThrough(t, story, original, () => restore(third, third, '--clean'))
    await comeBack(t, story, original)
  })
})

await t.test(
  'epoch: followers are closed when the epoch is changed by hand, before they receive rows of the same transaction',
  async (t) => {
    const { database, instance } = await startDeck(t, polling(100))
    const story = await begin(instance)
    await goOn(t, story, instance)
    await liveThrough(t, story, instance, () =>
      database.query(`
      begin;
      update deck.epoch_salt set salt = 'another';
      insert into chat_messages (mission_id, citizen, sender, message) select id, 'rafael', 'user', 'new' from missions;
      commit`),
    )
    const refused = { code: 'conflict', seq: 9, epoch: await epochOf(instance, story.topic) }
    t.not(refused.epoch, story.epoch)
    t.match(await story.early.resume(instance, 9), refused)
    t.strictSame(story.early.held(), [...lines('kept', 1, 5), ...lines('not kept', 6, 8), '9 new'])
  },
)

await t.test('epoch: a client never mixes events of two databases that are swapped during writes', async (t) => {
  const { database, instance: first } = await startDeck(t)
  const { id } = await makeMission(first)
  const topic = `missions/${id}/chat/rafael`
  await first.close()
  // Each message contains the oid of its database.
  const insert = `
    insert into chat_messages (mission_id, citizen, sender, message)
    select $1, 'rafael', 'user', oid::text from pg_database, generate_series(1, $2::int) where datname = current_database()`
  const other = await copyOf(t, database.url)
  for (const time of [database, await connectTo(t, other)]) await time.query(insert, [id, 800])
  const on = await startInstance(t, database.url)
  let writing = true
  const writer = (async () => {
    while (writing) await database.query(insert, [id, 1]).catch(() => undefined)
  })()
  t.teardown(() => (writing = false))

  const oneTime = (seen: string[], what: string) => {
    t.equal(new Set(seen.map((line) => line.split(' ')[1])).size, 1, `${what}: one database`)
    t.strictSame(
      seen.map((line) => Number.parseInt(line)),
      seen.map((_, i) => i + 1),
      `${what}: seqs from 1 without a gap`,
    )
  }
  const [follower, newcomer] = [makeReader(topic), makeReader(topic)]
  await follower.resume(on, 800)
  for (let round = 0; round < 4; round++) {
    await newcomer.resume(on, 1)
    const clients = [follower.client(), newcomer.client()]
    await swap(database.url, other)
    await goodbyes(t, clients)
    oneTime(follower.held(), 'the follower')
    oneTime(newcomer.held(), 'the newcomer, which still catches up')
    newcomer.forget()
    t.match(await follower.resume(on, 800), { code: 'conflict' })
  }
  writing = false
  await writer
  const rows = await database.query(
    `select seq || ' ' || message as line from chat_messages where mission_id = $1 order by seq`,
    [id],
  )
  await until(() => follower.held().length >= rows.length, 'all messages')
  t.strictSame(
    follower.held(),
    rows.map(({ line }) => line),
  )
})

// Cursors without a conflict----------------------------------------------------------------------------------------

await t.test('resume: a cursor is checked against the database, not the instance’s latest seq', async (t) => {
  const { database, instance } = await startDeck(t, polling(never))
  const { id } = await makeMission(instance)
  const topic = `missions/${id}/chat/rafael`
  const follower = makeReader(topic)
  await follower.resume(instance, 0)
  const epoch = await epochOf(instance, topic)
  const client = await instance.connect(alice)
  const insert = `
    insert into chat_messages (mission_id, citizen, sender, message)
    select $1, 'rafael', 'user', 'said' from generate_series(1, $2::int)`
  let head = 0
  for (let round = 0; round < 200; round++) {
    const rows = 1 + (round % 3)
    // Without LISTEN the instance does not know the new rows.
    if (round % 50 === 25)
      await database.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name = 'mission-deck session'`,
      )
    await database.query(insert, [id, rows])
    head += rows
    const cursor = { after: head, ...(round % 2 ? { epoch } : {}) }
    const answer = await client.ask({ type: 'subscribe', topic, ...cursor })
    if (answer['type'] !== 'ok' || answer['seq'] !== head || answer['epoch'] !== epoch)
      t.fail(`at ${head}`, { found: answer })
  }
  await until(() => follower.held().length >= head, 'all messages')
  t.strictSame(follower.held(), lines('said', 1, head))
  t.match(await client.ask({ type: 'subscribe', topic, after: head + 1 }), { code: 'conflict', seq: head, epoch })
})
