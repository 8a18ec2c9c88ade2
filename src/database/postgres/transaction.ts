// Changes by the API: plain DML, numbered by the same triggers as rows of SQL writers. Each change is a transaction that first locks the
// mission (for key share) and checks permissions. `settle` then numbers, reads the response and commits in one round trip, so that no head
// stays locked while this process is busy.
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import type { MissionRights } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { missionColumns, toRights, type MissionColumns } from './columns.ts'
import { isRetryable, isSpent, meaningOf, sqlState } from './errors.ts'

/** Throws if the change to this mission is not allowed. undefined: the mission does not exist. */
export type Allow = (mission: MissionRights | undefined) => void

type Json = { json: string | null }

export const makeTransactions = (writes: pg.Pool) => {
  /**
   * Runs `change` in a transaction; `change` ends it with `settle`. Retries after deadlocks and serialization failures, and once if a
   * different connection may help. If a lock is not available within 50 ms, retries for up to 3 s. In between, the connection is returned
   * to the pool, because changes of other missions need it.
   */
  const transaction = async <T>(change: (client: pg.PoolClient) => Promise<T>): Promise<T> => {
    const patience = performance.now() + 3000
    for (let tries = 1; ; tries++) {
      const client = await writes.connect()
      let broken: Error | undefined
      let pause: number
      try {
        await client.query(`begin; set local lock_timeout = '50ms'`)
        return await change(client)
      } catch (error) {
        await client.query('rollback').catch((failed: Error) => (broken = failed))
        if (isSpent(error)) broken = error as Error
        const locked = sqlState(error) === '55P03'
        const soon = isRetryable(error) ? tries < 5 : meaningOf(error) === 'reconnect' && tries < 2
        if (locked ? performance.now() > patience : !soon) throw error
        pause = locked ? 100 + Math.random() * 100 : Math.random() * 10 * tries
      } finally {
        client.release(broken)
      }
      await delay(pause)
    }
  }

  /** Locks the mission's row (`lock`) and calls `allow`. Returns the mission's id. */
  const enter = async (
    client: pg.PoolClient,
    ref: MissionRef,
    allow: Allow,
    lock = 'for key share',
  ): Promise<string> => {
    // readMission can't be used here: row locks do not work with its union.
    const [where, value] = 'id' in ref ? ['id', ref.id] : ['number', ref.number]
    const { rows } = await client.query<MissionColumns>(
      `select ${missionColumns} from missions m where m.${where} = $1 ${lock}`,
      [value],
    )
    const mission = toRights(rows[0])
    allow(mission)
    return mission?.id ?? ''
  }

  /** Numbers the transaction's changes, runs `select` and commits, in one round trip. `select` can have no parameters. */
  const settle = async (client: pg.PoolClient, select: string): Promise<string> => {
    const results = (await client.query<Json>(
      `set constraints all immediate; ${select}; commit`,
    )) as unknown as pg.QueryResult<Json>[]
    const json = results[1]?.rows[0]?.json
    if (json == null) throw deny('not_found')
    return json
  }

  /** Runs one statement, outside a transaction. */
  const write = (text: string, values?: unknown[]) => writes.query(text, values)

  return { transaction, enter, settle, write }
}
export type Transactions = ReturnType<typeof makeTransactions>

/** Sets the actor that triggers write to the audit log, for this transaction. */
export const actAs = (client: pg.PoolClient, by: string) =>
  client.query(`select set_config('deck.actor', $1, true)`, [by])

/** Returns an id as an SQL literal. */
export const quoted = (id: string): string => pg.escapeLiteral(id)

/** SQL that converts a time to UTC, for TIMESTAMP columns. */
export const utc = (parameter: string): string => `${parameter}::timestamptz at time zone 'utc'`

/** SQL of an unconverted value. */
export const plain = (parameter: string): string => parameter

/** Returns the `set` clauses and values of columns whose value is not undefined. Parameters begin at $2. */
export const assignments = (given: [column: string, expression: (parameter: string) => string, value: unknown][]) => {
  const set = given.filter(([, , value]) => value !== undefined)
  return {
    text: set.map(([column, expression], i) => `${column} = ${expression(`$${i + 2}`)}`).join(', '),
    values: set.map(([, , value]) => value),
  }
}
