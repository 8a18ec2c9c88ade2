// Tracks whether Postgres accepts the writer's batches. After a failed batch, while no messages wait, a probe writes a row every second
// until one succeeds. So the fault ends without new messages.
import { setTimeout as delay } from 'node:timers/promises'
import { reasonOf } from '../postgres/errors.ts'

/** The writer reports a fault if messages wait and Postgres has not answered for this many ms. */
const stalledFor = 3000
/** ms between two probes, while a fault lasts and no messages wait. */
const tryEvery = 1000

export const makeWriteHealth = ({
  tryWriting,
  onFault,
  isIdle,
}: {
  tryWriting: () => Promise<unknown>
  onFault: (error: unknown) => void
  /** whether no messages wait */
  isIdle: () => boolean
}) => {
  let answeredAt = performance.now()
  let failed: unknown
  let trying = false
  const over = new AbortController()
  const onAnswered = (): void => {
    answeredAt = performance.now()
    failed = undefined
  }
  const keepTrying = async (): Promise<void> => {
    while (failed !== undefined && !over.signal.aborted) {
      await delay(tryEvery, undefined, { ref: false })
      if (failed !== undefined && isIdle() && !over.signal.aborted) await tryWriting().then(onAnswered, onFailed)
    }
    trying = false
  }
  const onFailed = (error: unknown): void => {
    failed = error
    if (over.signal.aborted) return
    onFault(error)
    if (!trying) void keepTrying()
    trying = true
  }
  return {
    /** Postgres executed a batch; entries may still have been refused. */
    onAnswered,
    /** Postgres did not execute a batch. */
    onFailed,
    /** Returns why messages can't be written, or undefined. `oldest`: when the request of the oldest waiting message arrived. */
    fault(oldest: number | undefined): string | undefined {
      const now = performance.now()
      const stalled = oldest !== undefined && now - oldest > stalledFor && now - answeredAt > stalledFor
      if (failed !== undefined) return `the last batch was not written (${reasonOf(failed)})`
      return stalled ? `nothing was written for ${stalledFor / 1000} s, though messages wait` : undefined
    },
    /** Ends the probes. */
    close: () => over.abort(),
  }
}
