// Bounds of answers and of missions.

/** Bytes of JSON in an answer that is no stream, less its frame; one row is always given. */
export const answerBytes = 4 * 1024 * 1024 - 4096

/** Chats and checklist items that a mission gets by the API, and bytes of the items' texts; SQL writers are not counted. */
export const perMission = { chats: 1000, items: 1000, itemBytes: 1024 * 1024 }

/** The rows of a page that fit into an answer, from its first or its last on; at least one. */
export const fitting = <Row>(rows: readonly Row[], from: 'first' | 'last'): Row[] => {
  const kept: Row[] = []
  let bytes = 0
  for (const row of from === 'first' ? rows : rows.toReversed()) {
    bytes += Buffer.byteLength(JSON.stringify(row)) + 1
    if (kept.length > 0 && bytes > answerBytes) break
    kept.push(row)
  }
  return from === 'first' ? kept : kept.reverse()
}
