// The rows of GitHub's tables.

/** The row below a table's head. */
export const delimiterRow = /^\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/

/** A row's cells, as they were written. */
export const cellsOf = (line: string): string[] => {
  const row = line.trim()
  const cells: string[] = []
  let cell = ''
  for (let n = row.startsWith('|') ? 1 : 0; n < row.length; n++) {
    const char = row[n] as string
    if (char === '|') {
      cells.push(cell.trim())
      cell = ''
    } else if (char === '\\' && row[n + 1] === '|') cell += row[++n] as string
    else if (char === '\\' && n + 1 < row.length) cell += char + (row[++n] as string)
    else cell += char
  }
  if (cell.trim() !== '' || !row.endsWith('|')) cells.push(cell.trim())
  return cells
}
