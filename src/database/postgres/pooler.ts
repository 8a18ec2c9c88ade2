// Detects a pooler between the server and Postgres, and whether it supports prepared statements. A transaction pooler runs each transaction
// in any free session.
import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import { sqlState } from './errors.ts'

export const noPreparedStatements =
  'DATABASE_URL leads through a pooler that keeps no prepared statements: PgBouncer needs version 1.21 or later with max_prepared_statements; or name the database itself.'

/**
 * Returns whether prepared statements of two connections are kept separate. A pooler without support for them gives the second connection
 * the session of the first: there the statement's name is taken, or has a different statement.
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

/** Returns whether a connection leads through a pooler: its process id then differs from the session's. */
export const isPooled = async (client: pg.ClientBase): Promise<boolean> => {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  return (client as unknown as { processID: number }).processID !== rows[0]?.pid
}
