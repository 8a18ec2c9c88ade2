// Fresh databases for tests, on one server that all test files share: an embedded cluster that the first of them starts
// and the last one out stops, or the server of TEST_DATABASE_URL (TCP, a superuser or a role with createdb).
// Each call creates a database, owned by a role that is not a superuser and dropped at the end of the test. A test fails if a
// server still holds a connection then. A file fails if it leaves a handle open.
// Roles and settings of the server are shared.
import { createHash, createHmac, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startEmbedded } from '../../src/database/embedded/index.ts'
import { migrate, schemaFiles } from '../../src/database/postgres/migrate.ts'
import { nothingLeft } from './leftovers.ts'

export type Row = Record<string, unknown>
export type FreshDatabase = {
  /** URL of the database as its owner, which is not a superuser */
  url: string
  /** URL of the same database as the server's admin */
  adminUrl: string
  /** runs a statement as the owner */
  query(text: string, values?: unknown[]): Promise<Row[]>
  /** opens a connection as the owner, which is closed at the end of the test */
  connect(): Promise<pg.Client>
}

const given = process.env['TEST_DATABASE_URL']
const embedded = given
  ? undefined
  : await startEmbedded({
      dir: fileURLToPath(new URL('../../.data/test/postgres', import.meta.url)),
      settings: {
        fsync: 'off',
        full_page_writes: 'off',
        synchronous_commit: 'on',
        max_connections: '300',
      },
    })
const server = given ?? embedded?.adminUrl ?? ''

/** A pool of connections to the server as its admin. */
export const serverUrl = (): string => server

const application_name = 'mission-deck test'
const openPool = (connectionString: string, max: number) => {
  const pool = new pg.Pool({ connectionString, max, application_name, allowExitOnIdle: true })
  // tests cut connections
  pool.on('error', () => undefined)
  return pool
}
const admin = openPool(server, 2)
// The first teardown of the process runs last.
t.teardown(async () => {
  await admin.end()
  await embedded?.stop()
  await nothingLeft()
})

/** Fails if a server still holds a connection to the database when its test is over. */
const released = async (name: string): Promise<void> => {
  const held = async () =>
    (
      await admin.query<{ application_name: string }>(
        `select application_name from pg_stat_activity where datname = $1 and application_name like 'mission-deck s%'`,
        [name],
      )
    ).rows
  // A connection takes a moment to close.
  for (let tries = 0; (await held()).length > 0 && tries < 100; tries++) await sleep(20)
  const names = (await held()).map((row) => row.application_name)
  if (names.length > 0) throw new Error(`connections left over: ${names.join(', ')}`)
}

/** The role for `url`; undefined when the admin is not a superuser and can be used for it. */
const makeOwner = async () => {
  const { rows } = await admin.query<Row>('select rolsuper from pg_roles where rolname = current_user')
  if (!rows[0]?.['rolsuper']) return undefined
  const password = createHmac('sha256', new URL(server).password).update('deck_test').digest('hex')
  // One transaction, because several test files run this at the same time.
  await admin.query(`
    select pg_advisory_xact_lock(7305811962345);
    do $$ begin
      if exists (select from pg_roles where rolname = 'deck_test') then
        alter role deck_test login password '${password}';
      else
        create role deck_test login password '${password}';
      end if;
    end $$`)
  return { username: 'deck_test', password }
}
let owner: ReturnType<typeof makeOwner> | undefined

type Owner = Awaited<ReturnType<typeof makeOwner>>
const addressOf = (name: string, role: Owner): { url: URL; adminUrl: string } => {
  const url = new URL(server)
  url.pathname = `/${name}`
  const adminUrl = url.href
  return { url: Object.assign(url, role), adminUrl }
}

/**
 * The name of a migrated template database. The first file that needs it creates it: a copy costs 25 ms, the migrations 150.
 * Its name contains a hash of the files in db/. Only the embedded cluster has one; on another server no database may remain.
 */
const makeTemplate = async (role: Owner): Promise<string> => {
  if (!embedded) return 'template0'
  const hash = createHash('sha256')
  const { migrations, functions } = await schemaFiles()
  hash.update('publication')
  for (const file of [...migrations, ...functions]) hash.update(file.hash)
  const name = `deck_template_${hash.digest('hex').slice(0, 16)}`
  const client = await admin.connect()
  try {
    await client.query('select pg_advisory_lock(7305811962346)')
    const { rows } = await client.query('select from pg_database where datname = $1 and not datallowconn', [name])
    if (rows.length > 0) return name
    await client.query(`drop database if exists ${name} with (force)`)
    await client.query(`create database ${name} template template0 ${role ? `owner ${role.username}` : ''}`)
    const first = new pg.Client({ connectionString: addressOf(name, role).url.href, application_name })
    await first.connect()
    await migrate(first, () => {})
    await first.end()
    // A publication of all tables holds every test to the rules of a replicated database.
    if (role) {
      const superuser = new pg.Client({ connectionString: addressOf(name, role).adminUrl, application_name })
      await superuser.connect()
      await superuser.query('create publication everything for all tables')
      await superuser.end()
    }
    await client.query(`alter database ${name} allow_connections false`)
    return name
  } finally {
    await client.query('select pg_advisory_unlock(7305811962346)')
    client.release()
  }
}
let template: Promise<string> | undefined

/**
 * Creates an empty or a migrated database, dropped at the end of the test (with force).
 * `locale`: the locale clauses of `create database`, for an empty one.
 */
export const freshDatabase = async (t: Test, migrated = false, locale = ''): Promise<FreshDatabase> => {
  const role = await (owner ??= makeOwner())
  const name = `deck_test_${randomBytes(8).toString('hex')}`
  const { url, adminUrl } = addressOf(name, role)

  // template0 never has connections, which would block the copy.
  const from = migrated ? await (template ??= makeTemplate(role)) : 'template0'
  // Copying files costs three quarters of copying page by page through the WAL.
  const strategy = embedded ? 'strategy file_copy' : ''
  await admin.query(
    `create database ${name} template ${from} ${locale} ${strategy} ${role ? `owner ${role.username}` : ''}`,
  )
  t.teardown(async () => {
    try {
      await released(name)
    } finally {
      await admin.query(`drop database if exists ${name} with (force)`)
    }
  })
  const pool = openPool(url.href, 1)
  t.teardown(() => pool.end())

  const query = async (text: string, values: unknown[] = []) => (await pool.query<Row>(text, values)).rows
  const connect = async () => {
    const client = new pg.Client({ connectionString: url.href, application_name })
    client.on('error', () => undefined)
    await client.connect()
    t.teardown(() => client.end())
    return client
  }
  return { url: url.href, adminUrl, query, connect }
}

/** Inserts a mission by SQL. Returns its id. */
export const insertMission = async (database: FreshDatabase): Promise<string> => {
  const [row] = await database.query(
    `insert into missions (title, client, budget, deadline, status, assigned_to)
     values ('A mission', 'Acme', 300, '2030-01-01', 'active', 'person1') returning id`,
  )
  return String(row?.['id'])
}
