// Many askers, few statements: what is asked while a statement is in flight becomes the next one.
import { deny } from '../../protocol/errors.ts'
import { isSpent } from './errors.ts'

/** Makes a function of one item from one of many items (which may be retried). Rejects with `unavailable` after `patience` ms. */
export const makeBatched = <Item, Result>(
  run: (items: Item[]) => Promise<Result[]>,
  { max, patience }: { max: number; patience: number },
) => {
  type Asker = { item: Item; resolve: (result: Result) => void; reject: (error: unknown) => void; gone: boolean }
  let waiting: Asker[] = []
  let flying = false

  const pump = async (): Promise<void> => {
    if (flying) return
    flying = true
    while (waiting.length > 0) {
      const batch = waiting.slice(0, max).filter(({ gone }) => !gone)
      waiting = waiting.slice(max)
      if (batch.length === 0) continue
      try {
        const items = batch.map(({ item }) => item)
        // A connection may have broken while nobody looked: a second one tells whether the database is away.
        const results = await run(items).catch((error: unknown) =>
          isSpent(error) ? run(items) : Promise.reject(error),
        )
        batch.forEach(({ resolve }, i) => resolve(results[i] as Result))
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    flying = false
  }

  return (item: Item): Promise<Result> =>
    new Promise((resolve, reject) => {
      const asker: Asker = {
        item,
        resolve(result) {
          clearTimeout(late)
          resolve(result)
        },
        reject(error) {
          clearTimeout(late)
          asker.gone = true
          reject(error)
        },
        gone: false,
      }
      const late = setTimeout(() => asker.reject(deny('unavailable')), patience)
      waiting.push(asker)
      // After this tick, so that what one tick asks goes together.
      if (!flying) queueMicrotask(() => void pump())
    })
}
