// A test run that somebody asked for, worked by this client: its log, and its end. The run's status is stored over HTTP. That ends the
// inbox's task, too.
import type { TestRun, TestRunPatch } from '../protocol/rows.ts'
import type { Ask } from './ask-people.ts'
import { backoff, sleep } from './async.ts'
import { DeckError, isPassing } from './errors.ts'
import type { Link } from './link.ts'
import type { makeTests } from './resources.ts'
import { makeLog } from './run-log.ts'

/** `signal` is aborted when the run is cancelled, when another runner may have it, and when the work ends. */
export type Job = {
  /** 1 at first; higher if a former runner released the run, or lost it */
  readonly attempt: number
  readonly signal: AbortSignal
  /** Appends to the run's log. Resolves once more may be written. */
  log(text: string): Promise<void>
  /** Asks people, and resolves to the answer. The run waits meanwhile. */
  ask(request: Ask): Promise<boolean | string>
}
/** How a run ended. */
export type RunResult = TestRunPatch & { status: 'passed' | 'failed' }
/** Works a run. A handler that returns nothing has stored the run's end itself. If it throws, the run is released. */
export type RunHandler = (run: TestRun, job: Job) => Promise<RunResult | void> | RunResult | void

type Tests = ReturnType<typeof makeTests>

/** Returns the error of a cancel, if that aborted the signal. */
export const cancelOf = (signal: AbortSignal): DeckError | undefined => {
  const { reason } = signal as { reason: unknown }
  return reason instanceof DeckError && reason.code === 'cancelled' ? reason : undefined
}

/** Returns the end of a run. A cancelled run fails, with the reason. */
const endOf = (result: RunResult | void, signal: AbortSignal): RunResult | void => {
  const cancelled = cancelOf(signal)
  return cancelled ? { ...result, status: 'failed', summary: { ...result?.summary, reason: cancelled.detail } } : result
}

/** A run that is worked. */
export const makeRunJob = (link: Link, tests: Tests, { id }: TestRun) => {
  const stopping = new AbortController()
  const { signal } = stopping
  // A cancelled run's log is written to its end.
  const losing = new AbortController()
  const logs = tests.logs(id)
  let failure: unknown
  /** the log's latest seq */
  let seq: number | undefined

  /** Appends once, also if an answer is lost: a later seq than before shows that the text was stored. Only this client writes the log. */
  const append = async (text: string): Promise<void> => {
    let before: number | undefined
    for (let faults = 0; ;) {
      try {
        if (faults > 0 || seq === undefined) seq = (await logs.append('', { signal: losing.signal })).seq
        if (before !== undefined && seq > before) return
        before = seq
        seq = (await logs.append(text, { signal: losing.signal })).seq
        return
      } catch (error) {
        if (losing.signal.aborted || !isPassing(error)) throw error
        await sleep(backoff(++faults), losing.signal, link.ended)
      }
    }
  }
  const log = makeLog(append)

  return {
    signal,
    log: log.write,
    /** the error that ended the work */
    get failure() {
      return failure
    },
    fail(error: unknown): void {
      failure ??= error
      stopping.abort(error)
      if (!cancelOf(signal)) losing.abort(error)
    },
    /** Stores the log and the end of the run. */
    async end(result: RunResult | void): Promise<void> {
      await log.end()
      const ending = endOf(result, signal)
      if (ending) await link.insist(() => tests.update(id, ending))
    },
  }
}
export type RunJob = ReturnType<typeof makeRunJob>
