// Lines of those who wait for a place, by name: each has a number of places, and serves those who wait in the order in which they came.

type Line = { inside: number; waiting: (() => void)[] }
/** Gives the place to the next in line. */
export type Leave = () => void
export type Lines = {
  /** Resolves with what frees the place, once there is one; undefined: `most` wait already. */
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
        // The next takes over the place.
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
