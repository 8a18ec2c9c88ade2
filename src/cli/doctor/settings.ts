// Postgres's settings that matter to the server, and the rights of the role that it uses.
import type pg from 'pg'
import { foreignSettings, missingSettings, settingsForRole } from '../../database/postgres/session-settings.ts'
import { fail, few, ok, warn, type Finding } from './finding.ts'

type Room = { most: number; reserved: number; used: number; role: number; base: number }

/** Whether another instance would find its connections. */
export const room = async (client: pg.Client, poolMax: number): Promise<Finding> => {
  const { rows } = await client.query<Room>(
    `select current_setting('max_connections')::int as most,
            current_setting('superuser_reserved_connections')::int
              + coalesce(current_setting('reserved_connections', true), '0')::int as reserved,
            (select sum(numbackends) from pg_stat_database where datid <> 0)::int as used,
            (select rolconnlimit from pg_roles where rolname = current_user) as role,
            (select datconnlimit from pg_database where datname = current_database()) as base`,
  )
  const { most = 0, reserved = 0, used = 0, role = -1, base = -1 } = rows[0] ?? {}
  const needed = poolMax + 2
  const limits = [most - reserved, role, base].filter((limit) => limit >= 0)
  const free = Math.min(...limits.map((limit) => limit - used + 1))
  const said = `${used} of ${Math.min(...limits)} are in use; an instance takes up to ${needed} (DATABASE_POOL_MAX + 2)`
  return free < needed
    ? warn(
        'connections',
        said,
        `raise max_connections or lower DATABASE_POOL_MAX: there is no room for one more instance`,
      )
    : ok('connections', said)
}

type Setting = { name: string; value: string; reset: string }

/** What a value means: [whether it is fine, what to do]. */
const rules: Record<string, (value: string) => string | undefined> = {
  fsync: (value) => (value === 'off' ? 'a crash may destroy the database: turn it on' : undefined),
  full_page_writes: (value) => (value === 'off' ? 'a crash may tear pages: turn it on' : undefined),
  synchronous_commit: (value) =>
    value === 'off' ? 'a crash may forget messages that were acknowledged: turn it on' : undefined,
  autovacuum: (value) => (value === 'off' ? 'tables will bloat: turn it on' : undefined),
  wal_level: (value) => (value === 'minimal' ? 'no standby and no point-in-time recovery: take replica' : undefined),
  statement_timeout: (value) =>
    value !== '0' && Number(value) < 60_000
      ? 'a migration that takes longer is cut off: lift it for this role (alter role … set statement_timeout = 0)'
      : undefined,
  // LISTEN speaks every second; pooled connections are kept for 30 s.
  idle_session_timeout: (value) =>
    value !== '0' && Number(value) < 35_000
      ? 'pooled connections are cut off while they wait: lift it for this role (alter role … set idle_session_timeout = 0)'
      : undefined,
  idle_in_transaction_session_timeout: () => undefined,
  session_replication_role: (value) =>
    value === 'replica' ? 'triggers do not fire, so nothing is numbered: set it to origin' : undefined,
}

/** The database's own values: what our sessions set for themselves is not what counts. */
export const settings = async (client: pg.Client): Promise<Finding[]> => {
  const { rows } = await client.query<Setting>(
    'select name, setting as value, reset_val as reset from pg_settings where name = any($1)',
    [Object.keys(rules)],
  )
  const bad = rows.flatMap(({ name, reset }) => {
    const advice = rules[name]?.(reset)
    return advice ? [(name === 'session_replication_role' ? fail : warn)(name, reset, advice)] : []
  })
  const told = rows
    .filter(({ name }) => !bad.some(({ check }) => check === name))
    .map(({ name, reset }) => `${name} ${reset}`)
  return [...bad, ok('settings', told.sort().join(', '))]
}

/** Whether the settings that our sessions ask for arrive, through whatever stands between. */
export const session = async (pool: pg.Pool): Promise<Finding> => {
  const missing = await missingSettings(pool)
  if (missing.length === 0) return ok('session', 'in UTC, bounded in time, with the settings that it asks for')
  const { rows } = await pool.query<{ role: string; base: string }>(
    'select current_user as role, current_database() as base',
  )
  const { role = '', base = '' } = rows[0] ?? {}
  return warn(
    'session',
    few(missing, 4),
    `a pooler drops what sessions ask for; set it for the role:\n${settingsForRole(role, base).join('\n')}`,
  )
}

/** What the role or the database sets: our sessions keep what they ask for, other programs get what is set. */
export const roleSettings = async (client: pg.Client): Promise<Finding> => {
  const found = await foreignSettings(client)
  const said = ({ name, value, of, ours }: (typeof found)[number]): string =>
    `${name} = ${value} by ${of}${ours === undefined ? '' : ` (the server uses ${ours})`}`
  return ok('role settings', found.length === 0 ? 'nothing that the server sets otherwise' : found.map(said).join(', '))
}

type Rights = { superuser: boolean; role: string; made: boolean; may: boolean; foreign: string[] | null }

/** The role has to own its tables, or to be able to make them. */
export const privileges = async (client: pg.Client): Promise<Finding> => {
  const { rows } = await client.query<Rights>(
    `select r.rolsuper as superuser, r.rolname as role, to_regnamespace('deck') is not null as made,
            has_schema_privilege('public', 'create')
              and case when to_regnamespace('deck') is null then has_database_privilege(current_database(), 'create')
                       else has_schema_privilege(to_regnamespace('deck'), 'create') end as may,
            (select array_agg(c.oid::regclass::text order by c.relname) from pg_class c
             where not pg_has_role(c.relowner, 'usage') and c.relkind in ('r', 'p', 'v')
               and (c.relnamespace = to_regnamespace('deck') or c.oid in (to_regclass('public.missions'),
                    to_regclass('public.dod_items'), to_regclass('public.chat_messages'), to_regclass('public.test_runs')))) as foreign
     from pg_roles r where r.rolname = current_user`,
  )
  const [found] = rows
  if (!found) return fail('privileges', 'the role is not known', 'see pg_roles')
  const { role } = found
  if (found.foreign)
    return fail(
      'privileges',
      `${role} does not own ${few(found.foreign)}`,
      `alter table … owner to ${role}, or let the server use the owner's role`,
    )
  if (!found.may)
    return fail(
      'privileges',
      `${role} may not create in the schemas public and deck`,
      `alter database … owner to ${role}, and grant create on schema public to ${role}`,
    )
  return found.superuser
    ? warn('privileges', `${role} is a superuser`, 'a role that owns its database is enough, and safer')
    : ok('privileges', `${role} has what it needs, and is no superuser`)
}
