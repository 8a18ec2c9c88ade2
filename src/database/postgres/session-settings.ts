// Session settings: what each of this server's sessions in Postgres sets, and how the doctor compares them with the role's and the
// database's own.
import pg from 'pg'
import type { ServerAddress } from './server-address.ts'

/** What each session asks for, whatever the role, the database, DATABASE_URL and PGOPTIONS ask. */
export const settings = {
  // What our SQL means, and how its results are written.
  timezone: 'UTC',
  datestyle: 'ISO',
  intervalstyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '1',
  search_path: 'public',
  standard_conforming_strings: 'on',
  transform_null_equals: 'off',
  array_nulls: 'on',
  quote_all_identifiers: 'off',
  row_security: 'on',
  gin_fuzzy_search_limit: '0',
  default_transaction_isolation: 'read committed',
  default_transaction_deferrable: 'off',
  // What a commit does not say in its answer it says in a warning.
  client_min_messages: 'warning',
  idle_session_timeout: '0',
  // Prepared plans live as long as their session: one made while a table was small must not read all of it once it is large.
  // All that is asked here is served by nested loops over indexes.
  enable_nestloop: 'on',
  enable_indexscan: 'on',
  enable_indexonlyscan: 'on',
  enable_seqscan: 'off',
  enable_bitmapscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  jit: 'off',
  plan_cache_mode: 'force_generic_plan',
}
export type Settings = Record<string, string | number>

/** Settings that count for our sessions, too, as the role or the database has them. */
const ofTheRole = new Set(['default_transaction_read_only', 'session_replication_role', 'synchronous_commit'])

/** What pooled sessions are bounded by, in ms. */
export const boundsOf = (statement: number): Settings => ({
  statement_timeout: statement,
  lock_timeout: 3000,
  idle_in_transaction_session_timeout: 5000,
})

/** Settings of the role or the database that would end long work. */
export const unbounded: Settings = {
  statement_timeout: 0,
  lock_timeout: 0,
  idle_in_transaction_session_timeout: 0,
}

/** libpq's `options`: the address's own first, so that ours count. */
export const optionsOf = ({ options }: ServerAddress, values: Settings): string =>
  [options, ...Object.entries(values).map(([name, value]) => `-c ${name}=${String(value).replace(/[\\ ]/g, '\\$&')}`)]
    .filter((part) => part !== '')
    .join(' ')

// Of Postgres 17 and later: older ones refuse it at a session's start.
export const noTransactionTimeout = `select set_config('transaction_timeout', '0', false)
  where current_setting('transaction_timeout', true) <> '0'`

/** Sets again what a proxy dropped at the session's start; not in a pooler's sessions, which it shares with other clients. */
export const insist = async (client: pg.ClientBase, values: Settings): Promise<void> => {
  await client.query(
    `select set_config(name, value, false) from unnest($1::text[], $2::text[]) as s (name, value)
     where current_setting('plan_cache_mode') <> 'force_generic_plan' and pg_backend_pid() = $3
     union all ${noTransactionTimeout} and pg_backend_pid() = $3`,
    [Object.keys(values), Object.values(values).map(String), (client as unknown as { processID: number }).processID],
  )
}

/** SQL that gives a role what our sessions ask for, where a pooler drops that. */
export const settingsForRole = (role: string, database: string): string[] =>
  Object.entries({ ...settings, ...boundsOf(4000) }).map(
    ([name, value]) =>
      `alter role ${pg.escapeIdentifier(role)} in database ${pg.escapeIdentifier(database)} set ${name} = ${pg.escapeLiteral(String(value))};`,
  )

/** The settings that a session lacks, as "name is value". */
export const missingSettings = async (connection: Pick<pg.Pool, 'query'>): Promise<string[]> => {
  const wanted = { ...settings, ...boundsOf(4000) }
  const { rows } = await connection.query<{ name: string; value: string; base: string }>(
    `select name, setting as value, current_setting(name) as base from pg_settings where name = any ($1) order by name`,
    [Object.keys(wanted).map((name) => name.toLowerCase())],
  )
  const same = (name: string, { value, base }: { value: string; base: string }): boolean => {
    const want = String(wanted[name as keyof typeof wanted])
    return [value, base, base.split(',')[0]].some(
      (found) => found === want || found === (want === 'UTC' ? 'Etc/UTC' : want),
    )
  }
  return rows.filter((row) => !same(row.name.toLowerCase(), row)).map(({ name, base }) => `${name} is ${base}`)
}

/** Returns what the role or the database sets otherwise than our sessions, and what a session can't set for itself. */
export const foreignSettings = async (
  client: pg.ClientBase,
): Promise<{ name: string; value: string; of: string; ours: string | undefined }[]> => {
  const { rows } = await client.query<{ name: string; value: string; of: string }>(
    `select lower(split_part(s, '=', 1)) as name, substr(s, strpos(s, '=') + 1) as value,
            case when d.setrole = 0 then 'the database' when d.setdatabase = 0 then 'the role' else 'the role in this database' end as of
     from pg_db_role_setting d cross join lateral unnest(d.setconfig) s
     where d.setdatabase in (0, (select oid from pg_database where datname = current_database()))
       and d.setrole in (0, current_user::regrole)
     order by 1, 3`,
  )
  const ours = new Map(
    Object.entries({ ...settings, ...unbounded, transaction_timeout: 0 }).map(([name, value]) => [name, String(value)]),
  )
  return rows
    .filter(({ name, value }) => ours.get(name) !== value)
    .map((row) => ({ ...row, ours: ours.get(row.name) }))
    .filter(({ name, ours }) => ours !== undefined || ofTheRole.has(name))
}
