// Changes that the API makes: plain DML through the same triggers that number any SQL writer. Each runs in a transaction that
// first takes the mission's key share and asks whether it is allowed; `settle` then numbers, reads the answer and commits in
// one message, so that no head stays locked while this process is busy elsewhere.
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { deny } from '../../protocol/errors.ts'
import type { MissionRights } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { toRights } from './columns.ts'
import { isRetryable, isSpent, meaningOf, sqlState } from './errors.ts'

/** Throws if the change is not allowed to this mission (undefined: it does not exist). */
export type Allow = (mission: MissionRights | undefined) => void

type Json = { json: string | null }

export const makeTransactions = (writes: pg.Pool) => {
  /**
   * Runs `change` in a transaction; `settle` ends it. Deadlocks and serialization failures are tried again, and once what another
   * connection may cure. So are locks
   * that somebody holds, with the connection given back in between: changes of other missions need it meanwhile.
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

  /** Takes the mission's key share (a deletion, its row) and asks whether the change is allowed. */
  const enter = async (
    client: pg.PoolClient,
    ref: MissionRef,
    allow: Allow,
    lock = 'for key share',
  ): Promise<string> => {
    // Not by readMission: a row lock needs the table itself, not a union.
    const [where, value] = 'id' in ref ? ['id', ref.id] : ['number', ref.number]
    const { rows } = await client.query<{ mission_id: string; number: number; assigned_to: string }>(
      `select id as mission_id, number, assigned_to from missions where ${where} = $1 ${lock}`,
      [value],
    )
    const mission = toRights(rows[0])
    allow(mission)
    return mission?.id ?? ''
  }

  /** Numbers what the transaction changed, reads `select` (made of literals only) and commits, in one message. */
  const settle = async (client: pg.PoolClient, select: string): Promise<string> => {
    const results = (await client.query<Json>(
      `set constraints all immediate; ${select}; commit`,
    )) as unknown as pg.QueryResult<Json>[]
    const json = results[1]?.rows[0]?.json
    if (json == null) throw deny('not_found')
    return json
  }

  /** One statement that is a transaction of its own. */
  const write = (text: string, values?: unknown[]) => writes.query(text, values)

  return { transaction, enter, settle, write }
}
export type Transactions = ReturnType<typeof makeTransactions>

/** Sets the actor that triggers name for what the transaction does. */
export const actAs = (client: pg.PoolClient, by: string) =>
  client.query(`select set_config('deck.actor', $1, true)`, [by])

/** An id as a literal. */
export const quoted = (id: string): string => pg.escapeLiteral(id)

/** A given time, as the UTC that TIMESTAMP columns hold. */
export const utc = (parameter: string): string => `${parameter}::timestamptz at time zone 'utc'`

/** A value as it is. */
export const plain = (parameter: string): string => parameter

/** `set` clauses for the members that are given. */
export const assignments = (given: [column: string, expression: (parameter: string) => string, value: unknown][]) => {
  const set = given.filter(([, , value]) => value !== undefined)
  return {
    text: set.map(([column, expression], i) => `${column} = ${expression(`$${i + 2}`)}`).join(', '),
    values: set.map(([, , value]) => value),
  }
}
