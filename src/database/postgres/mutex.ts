// Runs long reads, a limited number at a time and one of each subject, so that they leave the other connections to short reads. Subjects
// take turns: a subject with many searches does not delay another subject's while there is a place, and by one statement a turn otherwise.
// A failed statement does not block the queue.

export type Turn = <T>(work: () => Promise<T>) => Promise<T>
/** Returns the queue of one subject. */
export type Turns = (who: string) => Turn

/** `most`: statements that run at a time, of different subjects. */
export const makeTurns = (most = 1): Turns => {
  // By subject, of those that wait; the first entry is next.
  const lines = new Map<string, (() => Promise<void>)[]>()
  const running = new Set<string>()
  const next = (): void => {
    for (const [who, line] of lines) {
      if (running.size >= most) return
      if (running.has(who)) continue
      lines.delete(who)
      const piece = line.shift()
      if (line.length > 0) lines.set(who, line)
      running.add(who)
      void piece?.().then(() => {
        running.delete(who)
        next()
      })
    }
  }
  return (who) => (work) =>
    new Promise((resolve, reject) => {
      const piece = async (): Promise<void> => {
        try {
          resolve(await work())
        } catch (error) {
          reject(error)
        }
      }
      const line = lines.get(who)
      if (line) line.push(piece)
      else lines.set(who, [piece])
      next()
    })
}
