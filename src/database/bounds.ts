// Limits of responses, of missions and of the registry of citizens.

/** Bytes of JSON in a response that is not a stream, without its frame. A response always has at least one row. */
export const answerBytes = 4 * 1024 * 1024 - 4096

/** The API's limits per mission: chats, checklist items, bytes of the items' texts, open requests, and members. Rows inserted with SQL are not limited. */
export const perMission = { chats: 1000, items: 1000, itemBytes: 1024 * 1024, openRequests: 1000, members: 200 }

/** The API's limits of the registry: citizens, keys of a citizen, and bytes of their titles and descriptions. Rows inserted with SQL are not limited. */
export const registry = { citizens: 1000, keys: 100, citizensBytes: 1024 * 1024 }

/** Rows that the first statement of a page reads: the default page and one more. */
const firstRows = 51

/**
 * Returns how many of the `left` rows a page's next statement reads: as many as fit if they have the average size of those that were read.
 * Postgres converts all of them to text before it knows which fit.
 */
export const rowsToRead = (left: number, read: { rows: number; bytes: number }): number =>
  Math.min(
    left,
    read.rows === 0
      ? firstRows
      : Math.max(1, Math.ceil(((answerBytes - read.bytes) / Math.max(1, read.bytes)) * read.rows)),
  )

/** Returns the first rows whose texts fit into `most` bytes, at least one. */
export const fittingTexts = <Row>(rows: readonly Row[], text: (row: Row) => string, most = answerBytes): Row[] => {
  let bytes = 0
  const end = rows.findIndex((row, n) => (bytes += Buffer.byteLength(text(row)) + 1) > most && n > 0)
  return rows.slice(0, end < 0 ? rows.length : end)
}

/** Returns the rows of a page that fit into a response, starting from its first or its last row; at least one. */
export const fitting = <Row>(rows: readonly Row[], from: 'first' | 'last'): Row[] => {
  const kept = fittingTexts(from === 'first' ? rows : rows.toReversed(), (row) => JSON.stringify(row))
  return from === 'first' ? kept : kept.reverse()
}
