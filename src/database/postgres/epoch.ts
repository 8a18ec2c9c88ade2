// Watches over the epoch: whether the database is still the one that cursors were given by. Every new connection is asked for it,
// and gives a timeline that has no epoch yet one, before it is used; as long as a connection lives only its stamp can change (a
// restore in place, a change by hand), and that comes with every page of rows. So no row of another time is handed to who holds
// rows of this one.
import type pg from 'pg'
import type { Greet } from './pool.ts'
import { WrongServer } from './errors.ts'

/**
 * SQL for the part of the epoch that can change while a connection lives, to a pooler too; it costs a tenth of the whole. It fails on
 * a standby, and on a timeline that has no salt of its own yet. (Its value is as the version before forms it.)
 */
export const stamp = `(select salt || 'deck.heads'::regclass::oid || case
  when pg_is_in_recovery() then deck.refuse_server()
  when timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) then ''
  else deck.refuse_server() end from deck.epoch_salt)`

export type Epochs = {
  /** Asks a new connection. Throws if its server is a standby, or was the primary before the last failover. */
  greet: Greet
  /** Takes the epoch, or the stamp, that a read found which began at `asOf` (performance.now). */
  saw(what: 'epoch' | 'stamp', found: string, asOf: number): void
}

/** ms for which a former primary is refused after the last answer of the current one: longer than a proxy takes to switch. */
const remembered = 10_000

/** `onChange` is called before what was read is handed on. */
export const makeEpochs = (onChange: () => void): Epochs => {
  const known = new Map<string, string>()
  let changedAt = 0
  let newest: { cluster: string; timeline: number; heardAt: number } | undefined

  const saw = (what: string, found: string, asOf: number): void => {
    const before = known.get(what)
    // A read of the time before tells nothing about now.
    if (asOf < changedAt) return
    if (newest) newest.heardAt = asOf
    if (before === found) return
    if (before !== undefined) {
      // The other one has changed too, or will be found as it was.
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
      if (older && performance.now() - newest!.heardAt < remembered)
        throw new WrongServer('this server was the primary before the last failover')
      if (ofNow) newest = { cluster, timeline, heardAt: asOf }
      saw('epoch', found.epoch, asOf)
      return ofNow
    },
  }
}
