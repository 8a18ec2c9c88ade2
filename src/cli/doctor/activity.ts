// Other sessions that block the server, or soon may: transactions left open, and a notification queue that fills up.
import type pg from 'pg'
import { fail, few, ok, warn, type Finding } from './finding.ts'

type Open = { pid: number; who: string; state: string | null; seconds: number | null; locks: string[]; heads: boolean }

/** Transactions that have been open for `long` seconds and hold a lock on one of the server's tables. */
export const transactions = async (client: pg.Client, long: number): Promise<Finding[]> => {
  const check = 'transactions'
  const { rows } = await client.query<Open>(
    `select a.pid, concat_ws(' ', a.usename, nullif('(' || a.application_name || ')', '()')) as who, a.state,
            extract(epoch from clock_timestamp() - a.xact_start)::int as seconds,
            array_agg(distinct l.relation::regclass::text || ' ' || l.mode) as locks,
            bool_or(l.relation = 'deck.heads'::regclass and l.mode <> 'AccessShareLock') as heads
     from pg_locks l join pg_stat_activity a on a.pid = l.pid
     where l.locktype = 'relation' and l.granted and a.pid <> pg_backend_pid()
       and l.database = (select oid from pg_database where datname = current_database())
       and l.mode <> 'AccessShareLock'
       and (l.relation in ('public.missions'::regclass, 'public.dod_items'::regclass, 'public.chat_messages'::regclass,
                           'public.test_runs'::regclass)
            or l.relation in (select oid from pg_class where relnamespace = 'deck'::regnamespace and relkind = 'r'))
       and coalesce(clock_timestamp() - a.xact_start > $1 * interval '1 second', true)
     group by a.pid, a.usename, a.application_name, a.state, a.xact_start`,
    [long],
  )
  // Postgres hides the start of other roles' transactions from roles without pg_read_all_stats.
  const open = rows.filter(({ seconds }) => seconds !== null)
  const findings = open.map(({ pid, who, state, seconds, locks, heads }) =>
    warn(
      check,
      `process ${pid} of ${who} has been ${state ?? 'open'} for ${seconds} s and holds ${few(locks)}`,
      `${heads ? 'it blocks new messages in its chats' : 'it blocks changes to the same rows, and vacuum'}: commit it, or select pg_terminate_backend(${pid})`,
    ),
  )
  const { rows: prepared } = await client.query<{ gid: string }>(
    `select gid from pg_prepared_xacts where database = current_database()
     and prepared < clock_timestamp() - $1 * interval '1 second'`,
    [long],
  )
  if (prepared.length > 0)
    findings.push(
      warn(
        check,
        `prepared transactions left open: ${few(prepared.map(({ gid }) => gid))}`,
        'end each with commit prepared or rollback prepared',
      ),
    )
  return findings.length > 0
    ? findings
    : [ok(check, `no transaction has held a lock on the server's tables for more than ${long} s`)]
}

/** Postgres frees the queue up to its slowest listener, so a listener with an open transaction fills it. */
export const queue = async (client: pg.Client): Promise<Finding> => {
  const { rows } = await client.query<{ used: number }>('select pg_notification_queue_usage() as used')
  const used = rows[0]?.used ?? 0
  const detail = `${(used * 100).toFixed(used > 0 && used < 0.01 ? 3 : 0)} % is used`
  const advice =
    'a listening session has a transaction open: find it in pg_stat_activity. When the queue is full, no message can be written'
  return used > 0.5
    ? fail('notifications', detail, advice)
    : used > 0.1
      ? warn('notifications', detail, advice)
      : ok('notifications', detail)
}
