// Batches concurrent calls: calls that arrive while a statement is in flight share the next statement.
import { deny } from '../../protocol/errors.ts'
import { isSpent } from './errors.ts'

/**
 * Turns `run`, which takes many items and may be called twice with the same items, into a function of one item. That function rejects with
 * `unavailable` after `patience` ms.
 */
export const makeBatched = <Item, Result>(
  run: (items: Item[]) => Promise<Result[]>,
  { max, patience }: { max: number; patience: number },
) => {
  type Call = { item: Item; resolve: (result: Result) => void; reject: (error: unknown) => void; gone: boolean }
  let waiting: Call[] = []
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
        // The connection may have broken while it was idle: retry once with a different connection.
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
      const call: Call = {
        item,
        resolve(result) {
          clearTimeout(late)
          resolve(result)
        },
        reject(error) {
          clearTimeout(late)
          call.gone = true
          reject(error)
        },
        gone: false,
      }
      const late = setTimeout(() => call.reject(deny('unavailable')), patience)
      waiting.push(call)
      // In a microtask, so that calls of the same tick share a statement.
      if (!flying) queueMicrotask(() => void pump())
    })
}
