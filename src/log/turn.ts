// One after the other, in turns of those who ask: who looks through many rows takes one connection at a time, and leaves the others to
// those who read a page. However much one of them asks for, another one waits for one piece of work of each. A failure holds up nobody.

export type Turn = <T>(work: () => Promise<T>) => Promise<T>
/** -> the turns of one who asks, by name. */
export type Turns = (who: string) => Turn

export const makeTurns = (): Turns => {
  // Who waits, the next first.
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
