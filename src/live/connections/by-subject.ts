// Something that an instance keeps for each subject, such as its rate. It outlives the subject's sockets, so that a reconnect does not reset it.

/** Subjects kept in memory; the one that was used longest ago is dropped first. */
const most = 10_000

/** Returns the function that finds a subject's, or makes it. */
export const bySubject = <T>(make: () => T): ((sub: string) => T) => {
  const kept = new Map<string, T>()
  return (sub) => {
    const found = kept.get(sub) ?? make()
    // The last used is the last in the map.
    kept.delete(sub)
    if (kept.size >= most) for (const oldest of kept.keys()) if (kept.delete(oldest)) break
    kept.set(sub, found)
    return found
  }
}
