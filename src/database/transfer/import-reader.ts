// Reads a stream of lines, checks each, and passes it to the import as a message. Bad lines are reported by number. When `signal` is aborted,
// it waits for running batches, so that the counts equal the saved messages.
import { isUtf8 } from 'node:buffer'
import type pg from 'pg'
import { readImport, type Defaults } from '../../protocol/transfer.ts'
import { deny, Refusal } from '../../protocol/errors.ts'
import { BadLine, makeImport, type Bad, type Tally } from './import-batches.ts'
import type { Lines } from './line-reader.ts'

/** Maximum bytes of a line: twice the size of an escaped message with its blocks. */
export const lineBytes = 4 * 1024 * 1024

export type Intake = {
  /** two connections, at least one */
  clients: pg.ClientBase[]
  lines: Lines
  given: Defaults
  /** name of the source: the id of a line without one is derived from this name, the line's number and its text */
  name: string
  /** whether invalid lines are skipped */
  skip: boolean
  onBad: (bad: Bad) => void
  /** called after each read with its bytes */
  onProgress: (bytes: number) => void
  signal: AbortSignal
  /** updated during the import */
  tally: Tally
}

export const takeIn = async (options: Intake): Promise<void> => {
  const { clients, lines, given, signal, onProgress, tally } = options
  for (const client of clients) await client.query('set lock_timeout = 10000; set statement_timeout = 60000')
  const into = makeImport(clients, options, tally)
  let number = 0
  const read = (line: Buffer | undefined): Promise<void> | void => {
    if (!line) throw deny('bad_request', `the line is over ${lineBytes / 1024 / 1024} MiB`)
    if (!isUtf8(line)) throw deny('bad_request', 'the line is not UTF-8')
    return into.add(readImport(line.toString(), given), number, line)
  }
  try {
    for await (const { lines: some, bytes } of lines) {
      for (const line of some) {
        if (signal.aborted) return
        number++
        if (line?.length === 0 || (line?.length === 1 && line[0] === 13)) continue
        try {
          const full = read(line)
          if (full) await full
        } catch (error) {
          if (!(error instanceof Refusal) || error instanceof BadLine) throw error
          into.refuse(number, error.detail)
        }
      }
      onProgress(bytes)
    }
    await into.end()
  } finally {
    await into.settle()
  }
}
