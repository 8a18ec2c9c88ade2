// Rows of one workload as a table: our figures first, and how many times as good as each peer's they are.
import { names } from './targets.ts'
import type { Row } from './workloads.ts'

/** A dash where there is no figure. */
export const number = (value: number): string =>
  Number.isNaN(value)
    ? '–'
    : value >= 1000
      ? Math.round(value).toLocaleString('en')
      : value >= 100
        ? value.toFixed(0)
        : value.toFixed(1)

/** Columns in which more is better. */
const moreIsBetter = (column: string): boolean => column === 'messages/s'

export const table = (rows: Row[]): string => {
  const ours = rows.find(({ target }) => target === 'deck')
  const columns = Object.keys(rows[0]?.figures ?? {})
  const head = ['system', ...columns, 'lost, doubles, disorder, errors, closed']
  const cell = (row: Row, column: string): string => {
    const value = row.figures[column] ?? NaN
    const own = ours?.figures[column] ?? NaN
    const ratio = moreIsBetter(column) ? own / value : value / own
    return row === ours || Number.isNaN(ratio) || column.endsWith('load')
      ? number(value)
      : `${number(value)} (${ratio.toFixed(1)}×)`
  }
  const lines = rows.map((row) => [
    names[row.target],
    ...columns.map((column) => cell(row, column)),
    Object.values(row.faults).join(', '),
  ])
  return [head, head.map((_, i) => (i === 0 ? '---' : '--:')), ...lines]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n')
}
