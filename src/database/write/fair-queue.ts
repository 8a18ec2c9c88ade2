// Messages that wait to be written. Authors take turns: each author with waiting messages gets some of them into the next batch, however
// many others wait. Messages of one author keep their order.
import type { Entry, Pending } from './pending-message.ts'

/** Bytes per turn; a larger message is taken alone. */
const turnBytes = 64 * 1024

/** The author whose share an entry uses. If an admin writes under another author's name, it is the admin's. */
export const writerOf = ({ by, author }: Entry): string => by ?? author ?? ''

export const makeQueue = () => {
  // By author; the first entry is next.
  const lines = new Map<string, Pending[]>()
  let size = 0
  return {
    get size(): number {
      return size
    },

    push(pending: Pending): void {
      const writer = writerOf(pending.entry)
      const line = lines.get(writer)
      if (line) line.push(pending)
      else lines.set(writer, [pending])
      size++
    },

    /** Removes and returns up to `most` entries with up to `bytes` bytes; at least one entry. */
    take(most: number, bytes: number): Pending[] {
      const taken: Pending[] = []
      let left = bytes
      while (size > 0) {
        const [next] = lines
        if (!next) break
        const [writer, line] = next
        let turn = lines.size === 1 ? left : turnBytes
        const mostOfTurn = Math.max(1, Math.floor(most / lines.size))
        let n = 0
        for (const pending of line) {
          const full = taken.length === most || (taken.length > 0 && pending.bytes > left)
          if (full || n === mostOfTurn || (n > 0 && pending.bytes > turn)) break
          taken.push(pending)
          turn -= pending.bytes
          left -= pending.bytes
          n++
        }
        if (n === 0) break
        size -= n
        lines.delete(writer)
        if (n < line.length) lines.set(writer, line.slice(n))
      }
      return taken
    },

    /** Removes and returns the entries for which `matches` returns true. */
    withdraw(matches: (pending: Pending) => boolean): Pending[] {
      const removed: Pending[] = []
      for (const [writer, line] of lines) {
        const rest = line.filter((pending) => !matches(pending) || removed.push(pending) === 0)
        if (rest.length === line.length) continue
        if (rest.length > 0) lines.set(writer, rest)
        else lines.delete(writer)
      }
      size -= removed.length
      return removed
    },
  }
}
