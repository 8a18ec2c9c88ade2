// Session settings: each of the server's Postgres sessions sets them. `deck doctor` compares them with the settings of the role and the
// database.
import pg from 'pg'
import type { ServerAddress } from './server-address.ts'

/** Settings of each session. They override those of the role, the database, DATABASE_URL and PGOPTIONS. */
export const settings = {
  // The SQL and the parsing of its results depend on these.
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
  // If a standby did not confirm a commit, Postgres reports this only as a warning.
  client_min_messages: 'warning',
  idle_session_timeout: '0',
  // A session keeps its prepared plans. A plan that was made while a table was small must not scan the table once it is large. All of the
  // server's queries can run as nested loops over indexes.
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

/** Settings that sessions take over from the role or the database. */
const ofTheRole = new Set(['default_transaction_read_only', 'session_replication_role', 'synchronous_commit'])

/** Time limits of pooled sessions, in ms. */
export const boundsOf = (statement: number): Settings => ({
  statement_timeout: statement,
  lock_timeout: 3000,
  idle_in_transaction_session_timeout: 5000,
})

/** Switches off time limits of the role or the database, for long work. */
export const unbounded: Settings = {
  statement_timeout: 0,
  lock_timeout: 0,
  idle_in_transaction_session_timeout: 0,
}

/** Returns libpq's `options`. The address's settings come first, so that `values` override them. */
export const optionsOf = ({ options }: ServerAddress, values: Settings): string =>
  [options, ...Object.entries(values).map(([name, value]) => `-c ${name}=${String(value).replace(/[\\ ]/g, '\\$&')}`)]
    .filter((part) => part !== '')
    .join(' ')

// Only Postgres 17 and later have this setting. Earlier versions would refuse it in `options`.
export const noTransactionTimeout = `select set_config('transaction_timeout', '0', false)
  where current_setting('transaction_timeout', true) <> '0'`

/** Sets the settings again if a proxy dropped them from `options`. Not in a pooler's sessions, because other clients share them. */
export const insist = async (client: pg.ClientBase, values: Settings): Promise<void> => {
  await client.query(
    `select set_config(name, value, false) from unnest($1::text[], $2::text[]) as s (name, value)
     where current_setting('plan_cache_mode') <> 'force_generic_plan' and pg_backend_pid() = $3
     union all ${noTransactionTimeout} and pg_backend_pid() = $3`,
    [Object.keys(values), Object.values(values).map(String), (client as unknown as { processID: number }).processID],
  )
}

/** Returns SQL that sets the sessions' settings for a role, for poolers that drop `options`. */
export const settingsForRole = (role: string, database: string): string[] =>
  Object.entries({ ...settings, ...boundsOf(4000) }).map(
    ([name, value]) =>
      `alter role ${pg.escapeIdentifier(role)} in database ${pg.escapeIdentifier(database)} set ${name} = ${pg.escapeLiteral(String(value))};`,
  )

/** Returns the settings whose value in a session differs, as "name is value". */
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

/**
 * Returns settings of the role or the database that differ from those of the sessions (`ours`), and those that the sessions take over
 * (`ours` is undefined).
 */
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
