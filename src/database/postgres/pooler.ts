// Whether a pooler stands between, and whether it keeps what our sessions need: prepared statements, and what they ask for at their
// start. A transaction pooler gives each transaction whichever of its own sessions is free.
import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import { sqlState } from './errors.ts'

export const noPreparedStatements =
  'DATABASE_URL leads through a pooler that keeps no prepared statements: PgBouncer needs version 1.21 or later with max_prepared_statements; or name the database itself.'

/**
 * Whether statements prepared on two connections stay apart. A pooler that passes them on as they are gives the second one the session
 * that the first has left: there the name is taken, or means something else.
 */
export const keepsPreparedStatements = async (one: pg.Pool, other: pg.Pool): Promise<boolean> => {
  const clients = [await one.connect(), await other.connect()]
  let kept = false
  try {
    for (let round = 0; round < 2; round++) {
      const name = `deck try ${randomBytes(6).toString('hex')}`
      for (const turn of [0, 1, 0, 1]) {
        const { rows } = await (clients[turn] as pg.PoolClient).query<{ n: number }>({
          name,
          text: `select ${turn} as n`,
        })
        if (rows[0]?.n !== turn) return false
      }
    }
    kept = true
    return true
  } catch (error) {
    if (['26000', '42P05', '08P01'].includes(sqlState(error) ?? '')) return false
    throw error
  } finally {
    for (const client of clients) client.release(!kept)
  }
}

/** Whether the process id that a connection was given is not its session's: a pooler has its own. */
export const isPooled = async (client: pg.ClientBase): Promise<boolean> => {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  return (client as unknown as { processID: number }).processID !== rows[0]?.pid
}
