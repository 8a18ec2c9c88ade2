// Many askers, few statements: what is asked while a statement is in flight becomes the next one.

/** A function of one item, served by a function of many; results in the order of the items. */
export const makeBatched = <Item, Result>(run: (items: Item[]) => Promise<Result[]>, max: number) => {
  type Waiting = { item: Item; resolve: (result: Result) => void; reject: (error: unknown) => void }
  let waiting: Waiting[] = []
  let flying = false

  const pump = async (): Promise<void> => {
    if (flying) return
    flying = true
    while (waiting.length > 0) {
      const batch = waiting.slice(0, max)
      waiting = waiting.slice(max)
      try {
        const results = await run(batch.map(({ item }) => item))
        batch.forEach(({ resolve }, i) => resolve(results[i] as Result))
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    flying = false
  }

  return (item: Item): Promise<Result> =>
    new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject })
      // After this tick, so that what one tick asks goes together.
      if (!flying) queueMicrotask(() => void pump())
    })
}
