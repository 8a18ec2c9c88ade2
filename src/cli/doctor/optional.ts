// Checks of services that the server can do without, so they only warn: the replica for history, and NATS for notifications.
import type pg from 'pg'
import type { Database } from '../../database/postgres/pools.ts'
import { tryBus } from '../../sync/nats.ts'
import { messageOf } from '../output.ts'
import { ok, warn, type Finding } from './finding.ts'

/** Checks that the replica is a standby of this database, and how far behind it is. */
export const replica = async (client: pg.Client, pool: NonNullable<Database['replica']>): Promise<Finding> => {
  const check = 'replica'
  const { rows: primary } = await client.query<{ epoch: string; lsn: string }>(
    'select deck.epoch() as epoch, pg_current_wal_insert_lsn()::text as lsn',
  )
  const asked = await pool
    .query<{ standby: boolean; epoch: string; behind: string | null }>(
      `select pg_is_in_recovery() as standby, deck.epoch() as epoch,
              pg_size_pretty(greatest(0, $1::pg_lsn - pg_last_wal_replay_lsn())) as behind`,
      [primary[0]?.lsn],
    )
    .catch((error: unknown) => messageOf(error))
  if (typeof asked === 'string')
    return warn(
      check,
      `can't be read: ${asked}`,
      'history is read from the primary meanwhile; check DATABASE_REPLICA_URL',
    )
  const [found] = asked.rows
  if (found?.epoch !== primary[0]?.epoch)
    return warn(
      check,
      'it is a different database, or it was restored or promoted',
      'set DATABASE_REPLICA_URL to a streaming standby of the primary: nothing is read from this one',
    )
  return found?.standby
    ? ok(check, `a standby, ${found.behind} behind`)
    : warn(check, 'it is the primary itself', 'set DATABASE_REPLICA_URL to a standby, or remove it')
}

/** Checks that a message published to NATS comes back. */
export const nats = async (url: string): Promise<Finding> => {
  const check = 'nats'
  try {
    return ok(check, `notifications echo, ${(await tryBus(url)).toFixed(1)} ms`)
  } catch (error) {
    return warn(
      check,
      `no echo: ${messageOf(error)}`,
      'notifications go by NOTIFY meanwhile; check HINTS_URL, that nats-server runs, and that its user may publish and subscribe to deck.>',
    )
  }
}
