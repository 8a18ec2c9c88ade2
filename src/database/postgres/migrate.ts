// Migrates a database: applies each file of db/migrations once, then the changed files of db/functions, in one transaction.
// deck.schema_files holds each file's hash and the version that applied it.
//
// Instances that start at the same time queue on an advisory lock. If a start can't get its table locks within two seconds, it rolls back, so
// that it does not block other sessions, and tries again. An older version does not replace a newer version's functions. Old rows that
// violate a constraint are reported, never changed.
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type pg from 'pg'
import semver from 'semver'

const root = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url))

/** An old row that a constraint would refuse today. */
export type Violation = { tab: string; id: string; broken: string }

/** A file of db/; `path` is relative to that folder. */
export type SchemaFile = { path: string; text: string; hash: string }

/** A row of deck.schema_files. */
type Applied = { path: string; hash: string; version: string }

const lockNotAvailable = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === '55P03'

/** Files that are applied first, because functions of other files need theirs when they are created. */
const basic = ['json.sql', 'topic.sql']

/** Returns the files of db/`folder` by name, the basic ones first. */
const filesOf = async (folder: 'migrations' | 'functions'): Promise<SchemaFile[]> => {
  const all = (await readdir(root(`db/${folder}`))).filter((name) => name.endsWith('.sql')).sort()
  const names = [...all.filter((name) => basic.includes(name)), ...all.filter((name) => !basic.includes(name))]
  return Promise.all(
    names.map(async (name) => {
      const path = `${folder}/${name}`
      const text = await readFile(root(`db/${path}`), 'utf8')
      return { path, text, hash: createHash('sha256').update(text).digest('hex') }
    }),
  )
}

/** Returns all files of the schema in the order in which they are applied. */
export const schemaFiles = async (): Promise<{ migrations: SchemaFile[]; functions: SchemaFile[] }> => ({
  migrations: await filesOf('migrations'),
  functions: await filesOf('functions'),
})

/** Returns the files that any version since 022_scale has applied to a database, in the order of their application. */
export const appliedFiles = async (client: pg.ClientBase): Promise<Applied[]> => {
  const made = await client.query<{ made: boolean }>(`select to_regclass('deck.schema_files') is not null as made`)
  if (!made.rows[0]?.made) return []
  return (await client.query<Applied>('select path, hash, version from deck.schema_files order by id')).rows
}

/**
 * Returns the files that must be applied to a database with the files `applied`: missing migrations and changed functions.
 * `newer` is set if a newer version has applied functions here: then its functions are kept.
 */
export const pendingFiles = async (applied: Applied[], version: string) => {
  const { migrations, functions } = await schemaFiles()
  const hashes = new Map(applied.map(({ path, hash }) => [path, hash]))
  const newer = applied
    .filter(({ path }) => path.startsWith('functions/'))
    .map((file) => file.version)
    .filter((other) => semver.gt(other, version))
    .sort(semver.rcompare)[0]
  return {
    migrations: migrations.filter(({ path }) => !hashes.has(path)),
    functions: newer === undefined ? functions.filter(({ path, hash }) => hashes.get(path) !== hash) : [],
    newer,
  }
}

/** Returns whether the database is at migration 022_scale. Throws if it is at a migration between 003 and 022_scale. */
const isAt022 = async (client: pg.Client): Promise<boolean> => {
  const { rows } = await client.query<{ begun: boolean; whole: boolean; listed: boolean }>(
    `select to_regclass('deck.heads') is not null as begun, to_regclass('deck.pruned') is not null as whole,
            to_regclass('deck.migrations') is not null as listed`,
  )
  const [at] = rows
  if (at?.begun && !at.whole) {
    const last = at.listed
      ? (await client.query<{ name: string }>('select name from deck.migrations order by id desc limit 1')).rows[0]
          ?.name
      : undefined
    throw new Error(
      `The database stands at migration ${last ?? 'before 022_scale'}, which this version can't upgrade: start the version before once, which applies 022_scale, then this one.`,
    )
  }
  return at?.whole === true
}

/** The last migration whose objects a database at 022_scale already has. */
const adopted = 'migrations/004_deck.sql'

const ledger = `
  create schema if not exists deck;
  create table deck.schema_files (
    id         bigint generated always as identity,
    path       text primary key,
    hash       text not null,
    version    text not null,
    applied_at timestamptz not null default clock_timestamp()
  )`

/** Applies the pending files in the caller's transaction. Returns a log line per file. */
const apply = async (client: pg.Client, version: string): Promise<string[]> => {
  const applied = await appliedFiles(client)
  const { migrations, functions } = await pendingFiles(applied, version)
  if (migrations.length + functions.length === 0) return []
  const adopts = applied.length === 0 && (await isAt022(client))
  if (applied.length === 0) await client.query(ledger)
  if (adopts) await client.query(await readFile(root('db/adopt_022.sql'), 'utf8'))
  const missing = adopts ? migrations.filter(({ path }) => path > adopted) : migrations
  for (const { text } of [...missing, ...functions]) await client.query(text)
  const files = [...migrations, ...functions]
  await client.query(
    `insert into deck.schema_files (path, hash, version) select path, hash, $3 from unnest($1::text[], $2::text[]) as f (path, hash)
     on conflict (path) do update set hash = excluded.hash, version = excluded.version, applied_at = excluded.applied_at`,
    [files.map(({ path }) => path), files.map(({ hash }) => hash), version],
  )
  const done = [...(adopts ? ['adopt_022'] : []), ...missing.map(({ path }) => path.replace(/^.*\/|\.sql$/g, ''))]
  return [...done.map((name) => `migrated: ${name}`), ...functions.map(({ path }) => `applied: ${path}`)]
}

/** Returns the version of this package. */
export const ownVersion = async (): Promise<string> =>
  (JSON.parse(await readFile(root('package.json'), 'utf8')) as { version: string }).version

/**
 * Migrates the database of `client` (a connection without a transaction pooler), or leaves it unchanged.
 * Returns old rows that violate a constraint. Rejects with Postgres's error, or if the database can't be upgraded.
 */
export const migrate = async (
  client: pg.Client,
  log: (line: string) => void,
  version?: string,
): Promise<Violation[]> => {
  const own = version ?? (await ownVersion())
  const lock = 4_747_001
  await client.query(`select pg_advisory_lock(${lock})`)
  try {
    // 30 tries of up to 2 s each: longer than any batch, shorter than the timeout of a deployment.
    await client.query(`set lock_timeout = '2s'; set search_path = public`)
    for (let attempt = 1; ; attempt++) {
      try {
        await client.query('begin')
        const lines = await apply(client, own)
        await client.query('commit')
        for (const line of lines) log(line)
        break
      } catch (error) {
        await client.query('rollback')
        if (!lockNotAvailable(error) || attempt === 30) throw error
        await delay(100 + Math.random() * 400)
      }
    }
    return (await client.query<Violation>('select tab, id, broken from deck.violations()')).rows
  } finally {
    await client.query('set lock_timeout = default')
    await client.query(`select pg_advisory_unlock(${lock})`)
  }
}

/** The path of db/seed.sql. */
export const seedFile = root('db/seed.sql')
