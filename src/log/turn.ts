// Runs long reads one statement at a time, so that they use one connection and leave the others to short reads. Subjects take turns:
// a subject with many searches delays another subject by one statement a turn. A failed statement does not block the queue.

export type Turn = <T>(work: () => Promise<T>) => Promise<T>
/** Returns the queue of one subject. */
export type Turns = (who: string) => Turn

export const makeTurns = (): Turns => {
  // By subject; the first entry is next.
  const lines = new Map<string, (() => Promise<void>)[]>()
  let running = false
  const run = async (): Promise<void> => {
    if (running) return
    running = true
    for (;;) {
      const [next] = lines
      if (!next) break
      const [who, line] = next
      lines.delete(who)
      const piece = line.shift()
      if (line.length > 0) lines.set(who, line)
      await piece?.()
    }
    running = false
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
      void run()
    })
}
