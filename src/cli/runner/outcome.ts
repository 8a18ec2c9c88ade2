// The end of a run from the results of its command. Results are TAP, on standard output or in a file, or JUnit XML files. If there are none that can be
// read, the exit status decides.
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import type { RunResult } from '../../client/index.ts'
import { plain } from '../output.ts'
import { decodedText } from '../report/decode.ts'
import { fit, hasFailed, summaryOf, type Report } from '../report/results.ts'
import type { Exit } from './command.ts'

/** ms by which a file's time may lie behind the clock */
const coarse = 100

/** Returns the bytes of a file that was written since a time (Date.now). Throws if it is missing or older. */
const readNew = async (file: string, since: number): Promise<Readable> => {
  if ((await stat(file)).mtimeMs < since - coarse) throw new Error(`${file} is older than the run`)
  return createReadStream(file)
}

/** Returns the report of files that the command wrote. Throws if one is missing, older, or not valid. */
export const readFiles = async (
  { junit, tap, counts }: { junit?: readonly string[] | undefined; tap?: string | undefined; counts: boolean },
  since: number,
): Promise<Report | undefined> => {
  if (tap !== undefined) {
    const reader = await makeTapReader(true)
    for await (const text of decodedText(await readNew(tap, since))) reader.write(text)
    return reader.end()
  }
  if (!junit?.length) return undefined
  const { makeJunit } = await import('../report/junit.ts')
  const files = makeJunit(() => {}, counts)
  for (const file of junit) await files.read(file, await readNew(file, since))
  return files.report()
}

/** Reads TAP in a text: all of it (`whole`), or from the version line on, if there is one. */
export const makeTapReader = async (whole: boolean) => {
  const { makeTap } = await import('../report/tap.ts')
  let tap = whole ? makeTap() : undefined
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
