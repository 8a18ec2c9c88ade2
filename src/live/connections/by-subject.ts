// A value that an instance keeps for each subject, such as its rate. It outlives the subject's sockets: a reconnect does not reset it.

/** Subjects kept in memory; the least recently used one is dropped first. */
const most = 10_000

/** Returns a function that returns a subject's value and makes it at first use. */
export const bySubject = <T>(make: () => T): ((sub: string) => T) => {
  const kept = new Map<string, T>()
  return (sub) => {
    const found = kept.get(sub) ?? make()
    // The map is in order of use: the most recently used subject is last.
    kept.delete(sub)
    if (kept.size >= most) for (const oldest of kept.keys()) if (kept.delete(oldest)) break
    kept.set(sub, found)
    return found
  }
}
