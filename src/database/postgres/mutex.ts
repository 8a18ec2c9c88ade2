// Queues for long reads: a limited number runs at a time, and at most one per user, so that other connections stay free for short reads. Users
// take turns: a user with many searches delays other users by at most one statement per turn. A failed statement does not block the queue.

export type Turn = <T>(work: () => Promise<T>) => Promise<T>
/** Returns the queue of one user (sub). */
export type Turns = (sub: string) => Turn

/** `most`: statements that run at a time, of different users. */
export const makeTurns = (most = 1): Turns => {
  // Waiting statements by user; the first entry is next.
  const lines = new Map<string, (() => Promise<void>)[]>()
  const running = new Set<string>()
  const next = (): void => {
    for (const [sub, line] of lines) {
      if (running.size >= most) return
      if (running.has(sub)) continue
      lines.delete(sub)
      const piece = line.shift()
      if (line.length > 0) lines.set(sub, line)
      running.add(sub)
      void piece?.().then(() => {
        running.delete(sub)
        next()
      })
    }
  }
  return (sub) => (work) =>
    new Promise((resolve, reject) => {
      const piece = async (): Promise<void> => {
        try {
          resolve(await work())
        } catch (error) {
          reject(error)
        }
      }
      const line = lines.get(sub)
      if (line) line.push(piece)
      else lines.set(sub, [piece])
      next()
    })
}
