// Watches the epoch: whether the database is still the one that issued the clients' cursors. Each new connection calls deck.greet() before
// it is used, which returns the epoch. While a connection is open, only the stamp can change (a restore in place, a manual change).
// Each page of rows contains the stamp. So rows of different epochs are never mixed.
import type pg from 'pg'
import type { Greet } from './pool.ts'
import { WrongServer } from './errors.ts'

/**
 * SQL for the part of the epoch that can change while a connection is open, also behind a pooler. It costs a tenth of the whole epoch. Fails on
 * a standby, and on a timeline without a salt. (The previous version forms the same value.)
 */
export const stamp = `(select salt || 'deck.heads'::regclass::oid || case
  when pg_is_in_recovery() then deck.refuse_server()
  when timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) then ''
  else deck.refuse_server() end from deck.epoch_salt)`

export type Epochs = {
  /** Checks a new connection. Rejects if its server is a standby, or was the primary before the last failover. */
  greet: Greet
  /** Takes the epoch or stamp from a read that began at `asOf` (performance.now). */
  saw(what: 'epoch' | 'stamp', found: string, asOf: number): void
}

/** ms for which a former primary is refused after the last answer of the current one: longer than a proxy takes to switch. */
const remembered = 10_000

/** `onChange` is called before the rows of the read are delivered. */
export const makeEpochs = (onChange: () => void): Epochs => {
  const known = new Map<string, string>()
  let changedAt = 0
  let newest: { cluster: string; timeline: number; answeredAt: number } | undefined

  const saw = (what: string, found: string, asOf: number): void => {
    const before = known.get(what)
    // A read that began before the last change is outdated.
    if (asOf < changedAt) return
    if (newest) newest.answeredAt = asOf
    if (before === found) return
    if (before !== undefined) {
      // If the epoch changed, the stamp may have changed too, and vice versa: both are learned again.
      known.clear()
      changedAt = performance.now()
    }
    known.set(what, found)
    if (before !== undefined) onChange()
  }

  return {
    saw,
    async greet(client: pg.ClientBase) {
      const asOf = performance.now()
      const { rows } = await client.query<{ standby: boolean; cluster: string; timeline: string; epoch: string }>(
        'select standby, cluster, timeline, epoch from deck.greet()',
      )
      const [found] = rows
      if (!found || found.standby) throw new WrongServer('this server is a standby')
      const ofNow = asOf >= changedAt
      const { cluster } = found
      const timeline = Number.parseInt(found.timeline, 16)
      const older = newest?.cluster === cluster && timeline < newest.timeline
      if (older && performance.now() - newest!.answeredAt < remembered)
        throw new WrongServer('this server was the primary before the last failover')
      if (ofNow) newest = { cluster, timeline, answeredAt: asOf }
      saw('epoch', found.epoch, asOf)
      return ofNow
    },
  }
}
