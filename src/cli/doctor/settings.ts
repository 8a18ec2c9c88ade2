// Checks of the Postgres settings that matter to the server, and of its role's privileges.
import type pg from 'pg'
import { foreignSettings, missingSettings, settingsForRole } from '../../database/postgres/session-settings.ts'
import { fail, few, ok, warn, type Finding } from './finding.ts'

type Room = { most: number; reserved: number; used: number; role: number; base: number }

/** Checks that enough connections are free for one more instance. */
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
  const detail = `${used} of ${Math.min(...limits)} are in use; an instance takes up to ${needed} (DATABASE_POOL_MAX + 2)`
  return free < needed
    ? warn(
        'connections',
        detail,
        `raise max_connections or lower DATABASE_POOL_MAX: there is no room for one more instance`,
      )
    : ok('connections', detail)
}

type Setting = { name: string; value: string; reset: string }

/** For each setting: returns advice if the value is harmful. */
const rules: Record<string, (value: string) => string | undefined> = {
  fsync: (value) => (value === 'off' ? 'a crash may destroy the database: turn it on' : undefined),
  full_page_writes: (value) => (value === 'off' ? 'a crash may tear pages: turn it on' : undefined),
  synchronous_commit: (value) => (value === 'off' ? 'a crash may lose acknowledged messages: turn it on' : undefined),
  autovacuum: (value) => (value === 'off' ? 'tables will bloat: turn it on' : undefined),
  wal_level: (value) =>
    value === 'minimal' ? 'no standby and no point-in-time recovery: set it to replica' : undefined,
  statement_timeout: (value) =>
    value !== '0' && Number(value) < 60_000
      ? 'a longer migration is cancelled: remove the limit for this role (alter role … set statement_timeout = 0)'
      : undefined,
  // The LISTEN session is used at least every 5 s; the pool keeps idle connections for 30 s.
  idle_session_timeout: (value) =>
    value !== '0' && Number(value) < 35_000
      ? 'idle pooled connections are closed: remove the limit for this role (alter role … set idle_session_timeout = 0)'
      : undefined,
  idle_in_transaction_session_timeout: () => undefined,
  session_replication_role: (value) =>
    value === 'replica' ? 'triggers do not fire, so rows get no seq: set it to origin' : undefined,
}

/** Checks the database's defaults, not the values that the server's sessions set. */
export const settings = async (client: pg.Client): Promise<Finding[]> => {
  const { rows } = await client.query<Setting>(
    'select name, setting as value, reset_val as reset from pg_settings where name = any($1)',
    [Object.keys(rules)],
  )
  const bad = rows.flatMap(({ name, reset }) => {
    const advice = rules[name]?.(reset)
    return advice ? [(name === 'session_replication_role' ? fail : warn)(name, reset, advice)] : []
  })
  const good = rows
    .filter(({ name }) => !bad.some(({ check }) => check === name))
    .map(({ name, reset }) => `${name} ${reset}`)
  return [...bad, ok('settings', good.sort().join(', '))]
}

/** Checks that the server's session settings take effect. A pooler may drop them. */
export const session = async (pool: pg.Pool): Promise<Finding> => {
  const missing = await missingSettings(pool)
  if (missing.length === 0) return ok('session', "UTC, timeouts and the server's other settings are in effect")
  const { rows } = await pool.query<{ role: string; base: string }>(
    'select current_user as role, current_database() as base',
  )
  const { role = '', base = '' } = rows[0] ?? {}
  return warn(
    'session',
    few(missing, 4),
    `a pooler drops the session settings; set them for the role:\n${settingsForRole(role, base).join('\n')}`,
  )
}

/** Lists settings of the role or the database that the server sets otherwise. Other programs use them; the server does not. */
export const roleSettings = async (client: pg.Client): Promise<Finding> => {
  const found = await foreignSettings(client)
  const detail = ({ name, value, of, ours }: (typeof found)[number]): string =>
    `${name} = ${value} by ${of}${ours === undefined ? '' : ` (the server uses ${ours})`}`
  return ok(
    'role settings',
    found.length === 0 ? 'nothing that the server sets otherwise' : found.map(detail).join(', '),
  )
}

type Rights = { superuser: boolean; role: string; made: boolean; may: boolean; foreign: string[] | null }

/** The role must own the tables, or be able to create them. */
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
  if (!found) return fail('privileges', 'the current role is not in pg_roles', 'connect as a role that exists')
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
    : ok('privileges', `${role} has the privileges it needs, and is not a superuser`)
}
