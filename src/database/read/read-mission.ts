// Statements about one mission. Each row also has the columns that the mission's rights depend on and, if selected, the database's epoch.
// Rights, epoch and rows come from one snapshot, so no row is sent under rights older than the row.
// The caller checks the rights. Statements about several missions at once are in database/read/topics.
import type pg from 'pg'
import type { MissionRights } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { missionColumnsOnce, toRights, type MissionColumns } from '../postgres/columns.ts'

/** SQL of the mission by its ID ($1) or number ($2), whichever is not null. */
export const missionByRef = `(
  select * from missions where id = $1::uuid union all select * from missions where number = $2::integer)`
/** Returns the values of $1 and $2. */
export const refValues = (ref: MissionRef): [string | null, number | null] =>
  'id' in ref ? [ref.id, null] : [null, ref.number]

/** SQL of the epoch, for `once`. */
export const epochColumn = 'deck.epoch() as epoch'

/**
 * Returns the text of a statement about mission `m`: $1 is its ID, $2 its number, the statement's own parameters begin at $3.
 * It finds at least one row if the mission exists, provided that `joins` keeps it (`left join … on true`).
 */
export const selectMission = ({
  once,
  columns,
  joins = '',
}: {
  /**
   * Columns that are the same in all rows. They are computed in a separate subquery: `offset 0` keeps Postgres from computing
   * them again for each row (a page of 100 messages took 1.6 ms instead of 0.6).
   */
  once?: string
  /** The columns of a row. */
  columns?: string
  /** What follows the from clause: joins, then an order. */
  joins?: string
}): string => `
  select ${[missionColumnsOnce('row_number() over () = 1'), ...(once ? ['h.*'] : []), ...(columns ? [columns] : [])].join(', ')}
  from ${missionByRef} m
  ${once ? `cross join lateral (select ${once} offset 0) h` : ''}
  ${joins}`

export type MissionRead<Row> = {
  /** undefined: the mission does not exist */
  mission: MissionRights | undefined
  /** '' if the mission does not exist, or the statement does not select it */
  epoch: string
  rows: Row[]
}

/**
 * Runs a prepared statement about the mission `ref`; `values` are those of the parameters from $3 on.
 * Returns the mission's rights, the epoch and the rows of one snapshot. Rejects with the error of the database or the connection.
 */
export const readMission = async <Row extends pg.QueryResultRow>(
  connection: Pick<pg.Pool, 'query'>,
  { ref, name, text, values = [] }: { ref: MissionRef; name: string; text: string; values?: unknown[] },
): Promise<MissionRead<Row>> => {
  const { rows } = await connection.query<MissionColumns & { epoch?: string | null } & Row>({
    name,
    text,
    values: [...refValues(ref), ...values],
  })
  const [row] = rows
  const members = rows.find((one) => one.members !== null)?.members ?? null
  return { mission: toRights(row && { ...row, members }), epoch: rows[0]?.epoch ?? '', rows }
}
