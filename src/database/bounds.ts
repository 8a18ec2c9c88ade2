// Bounds of answers and of missions.

/** Bytes of JSON in an answer that is no stream, less its frame; one row is always given. */
export const answerBytes = 4 * 1024 * 1024 - 4096

/** Chats and checklist items that a mission gets by the API, and bytes of the items' texts; SQL writers are not counted. */
export const perMission = { chats: 1000, items: 1000, itemBytes: 1024 * 1024 }

/** Rows that the first statement of a page reads: the default page and one more. */
const firstRows = 51

/**
 * How many of the `left` rows the next statement of a page reads: as many as have room if they are like those that were read. Postgres makes
 * all of them into text before it can tell which fit.
 */
export const rowsToRead = (left: number, read: { rows: number; bytes: number }): number =>
  Math.min(
    left,
    read.rows === 0
      ? firstRows
      : Math.max(1, Math.ceil(((answerBytes - read.bytes) / Math.max(1, read.bytes)) * read.rows)),
  )

/** The first rows whose texts fit into so many bytes; at least one. */
export const fittingTexts = <Row>(rows: readonly Row[], text: (row: Row) => string, most = answerBytes): Row[] => {
  let bytes = 0
  const end = rows.findIndex((row, n) => (bytes += Buffer.byteLength(text(row)) + 1) > most && n > 0)
  return rows.slice(0, end < 0 ? rows.length : end)
}

/** The rows of a page that fit into a response, from its first or its last on; at least one. */
export const fitting = <Row>(rows: readonly Row[], from: 'first' | 'last'): Row[] => {
  const kept = fittingTexts(from === 'first' ? rows : rows.toReversed(), (row) => JSON.stringify(row))
  return from === 'first' ? kept : kept.reverse()
}
