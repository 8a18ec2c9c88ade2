// A place in a line, in characters and in columns: a tab ends at each fourth column.

export type Line = {
  text: string
  offset: number
  column: number
  /** the next character that is no space, and whether the line has no more */
  next: number
  nextColumn: number
  blank: boolean
  /** a tab was used in part: what is left of it are spaces */
  partTab: boolean
}

export const makeLine = (): Line => ({
  text: '',
  offset: 0,
  column: 0,
  next: 0,
  nextColumn: 0,
  blank: false,
  partTab: false,
})

/** Finds the next character that is no space. */
export const look = (line: Line): void => {
  const { text } = line
  let { offset: next, column } = line
  for (; text[next] === ' ' || text[next] === '\t'; next++) column += text[next] === '\t' ? 4 - (column % 4) : 1
  line.next = next
  line.nextColumn = column
  line.blank = next >= text.length
}

export const indent = (line: Line): number => line.nextColumn - line.column

export const skipSpace = (line: Line): void => {
  line.offset = line.next
  line.column = line.nextColumn
  line.partTab = false
}

export const skipColumns = (line: Line, count: number): void => {
  while (count > 0 && line.offset < line.text.length) {
    if (line.text[line.offset] === '\t') {
      const wide = 4 - (line.column % 4)
      line.partTab = wide > count
      const used = Math.min(count, wide)
      line.column += used
      line.offset += line.partTab ? 0 : 1
      count -= used
    } else {
      line.partTab = false
      line.offset++
      line.column++
      count--
    }
  }
}

/** Skips one space or a column of a tab, if the line goes on with it. */
export const skipOne = (line: Line): void => {
  const char = line.text[line.offset]
  if (char === ' ' || char === '\t') skipColumns(line, 1)
}

/** The rest of the line. */
export const restOf = ({ text, offset, column, partTab }: Line): string =>
  partTab ? ' '.repeat(4 - (column % 4)) + text.slice(offset + 1) : text.slice(offset)
