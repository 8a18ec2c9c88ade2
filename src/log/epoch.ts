// Watches over the epoch: whether the database is still the one that cursors were given by. Every new connection for readers
// is asked for it; as long as a connection lives only its stamp can change (a restore in place, a change by hand), and that
// comes with every page of rows. So no row of another time is handed to who holds rows of this one.
import type pg from 'pg'

/** SQL for the part of the epoch that can change while a connection lives; it costs a tenth of the whole. */
export const stamp = `(select salt || 'deck.heads'::regclass::oid from deck.epoch_salt)`

export type Epochs = {
  /** Asks a new connection. */
  greet(client: pg.ClientBase): Promise<void>
  /** Takes the epoch, or the stamp, that a read found which began at `asOf` (performance.now). */
  saw(what: 'epoch' | 'stamp', found: string, asOf: number): void
}

/** `onChange` is called before what was read is handed on. */
export const makeEpochs = (onChange: () => void): Epochs => {
  const known = new Map<string, string>()
  let changedAt = 0

  const saw = (what: string, found: string, asOf: number): void => {
    const before = known.get(what)
    // A read of the time before tells nothing about now.
    if (before === found || asOf < changedAt) return
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
    async greet(client) {
      const asOf = performance.now()
      const { rows } = await client.query<{ epoch: string }>('select deck.epoch() as epoch')
      saw('epoch', rows[0]?.epoch ?? '', asOf)
    },
  }
}
