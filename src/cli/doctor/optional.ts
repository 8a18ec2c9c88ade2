// What the server does without while it is away, so that nothing here fails: the replica for history, NATS for hints.
import type pg from 'pg'
import type { Database } from '../../database/postgres/pools.ts'
import { tryBus } from '../../sync/nats.ts'
import { messageOf } from '../output.ts'
import { ok, warn, type Finding } from './finding.ts'

/** Whether the replica is a standby of this very database, and how far behind. */
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
      'it is another database, or one that was restored or promoted',
      'name a streaming standby of the primary in DATABASE_REPLICA_URL: nothing is read from this one',
    )
  return found?.standby
    ? ok(check, `a standby, ${found.behind} behind`)
    : warn(check, 'it is the primary itself', 'name a standby in DATABASE_REPLICA_URL, or leave it out')
}

/** Whether what is published at NATS comes back. */
export const nats = async (url: string): Promise<Finding> => {
  const check = 'nats'
  try {
    return ok(check, `hints echo, ${(await tryBus(url)).toFixed(1)} ms`)
  } catch (error) {
    return warn(
      check,
      `no echo: ${messageOf(error)}`,
      'hints go by NOTIFY meanwhile; is nats-server there, may this user publish and subscribe to deck.>? Check HINTS_URL',
    )
  }
}
