// Queues by name. Each queue has a number of places, which are given to waiting callers in the order of their arrival.

type Line = { inside: number; waiting: (() => void)[] }
/** Frees the place for the next caller. */
export type Leave = () => void
export type Lines = {
  /** Resolves with a function that frees the place, once a place is free. Returns undefined if `most` callers wait already. */
  enter(name: string, places: number, most?: number): Promise<Leave> | undefined
}

export const makeLines = (): Lines => {
  const lines = new Map<string, Line>()
  return {
    enter(name, places, most = Infinity) {
      const line = lines.get(name) ?? { inside: 0, waiting: [] }
      lines.set(name, line)
      const leave = (): void => {
        const next = line.waiting.shift()
        // The next caller takes over the place.
        if (next) return next()
        line.inside--
        if (line.inside === 0) lines.delete(name)
      }
      if (line.inside < places) {
        line.inside++
        return Promise.resolve(leave)
      }
      if (line.waiting.length >= most) return undefined
      return new Promise((resolve) => line.waiting.push(() => resolve(leave)))
    },
  }
}
