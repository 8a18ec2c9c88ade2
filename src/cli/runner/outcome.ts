// The end of a run from the results of its command. Results are TAP on standard output, or JUnit XML files. If there are none that can be
// read, the exit status decides.
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { RunResult } from '../../client/index.ts'
import { plain } from '../output.ts'
import { fit, hasFailed, summaryOf, type Report } from '../report/results.ts'
import type { Exit } from './command.ts'

/** ms by which a file's time may lie behind the clock */
const coarse = 100

/** Returns the report of JUnit files that were written since a time (Date.now). Throws if one is missing, older, or not valid. */
export const readJunit = async (files: readonly string[], since: number): Promise<Report> => {
  const { makeJunit } = await import('../report/junit.ts')
  const junit = makeJunit(() => {}, true)
  for (const file of files) {
    if ((await stat(file)).mtimeMs < since - coarse) throw new Error(`${file} is older than the run`)
    await junit.read(file, createReadStream(file))
  }
  return junit.report()
}

/** Finds TAP in the output, from its version line on. */
export const makeTapReader = async () => {
  const { makeTap } = await import('../report/tap.ts')
  let tap: ReturnType<typeof makeTap> | undefined
  let line = ''
  return {
    write(text: string): void {
      if (tap) return tap.write(text)
      line += text
      const start = /^TAP version 1[34]\r?$/m.exec(line)
      if (start) {
        tap = makeTap()
        tap.write(line.slice(start.index))
        line = ''
        // The version line is short: the end of the last line is enough.
      } else line = line.slice(Math.max(line.lastIndexOf('\n') + 1, line.length - 64))
    },
    /** Returns the report; undefined if the output has no TAP. */
    end: (): Report | undefined => tap?.end(),
  }
}

/** Returns the result of a run. `unread`: why its results could not be read. */
export const outcomeOf = (exit: Exit, report: Report | undefined, unread: string | undefined): RunResult => {
  const { code, signal, ms, timedOut } = exit
  const reason = timedOut
    ? `the command was stopped after ${Math.round(ms / 1000)} s, its timeout`
    : signal !== null
      ? `the command was ended by ${signal}`
      : code !== 0
        ? `the command exited with ${code}`
        : undefined
  const isFailed = reason !== undefined || (report !== undefined && hasFailed(report))
  const why = reason ?? (unread === undefined ? undefined : `its results could not be read: ${plain(unread)}`)
  const summary = {
    ...(report ? summaryOf(report) : { duration_ms: ms }),
    ...(code === null ? {} : { exit_code: code }),
    // A failed test says enough.
    ...(why === undefined || (report !== undefined && hasFailed(report) && !timedOut) ? {} : { reason: why }),
  }
  const status = isFailed ? 'failed' : 'passed'
  if (!report) return { status, summary }
  try {
    return { status, summary, results: fit(report.results).results }
  } catch (error) {
    return { status, summary: { ...summary, reason: (error as Error).message } }
  }
}
