// A stream of lines as messages: each is read, checked and handed to the import; a bad one is named by its number. Ends where it is
// told to, with what is on its way waited for, so that what it counts is what is saved.
import { isUtf8 } from 'node:buffer'
import type pg from 'pg'
import { readImport, type Defaults } from '../../protocol/transfer.ts'
import { deny, Refusal } from '../../protocol/errors.ts'
import { BadLine, makeImport, type Bad, type Tally } from './import-batches.ts'
import type { Lines } from './line-reader.ts'

/** What a line may have: a message and its blocks, escaped, and as much again. */
export const lineBytes = 4 * 1024 * 1024

export type Intake = {
  /** two connections, at least one */
  clients: pg.ClientBase[]
  lines: Lines
  given: Defaults
  /** whose lines these are: a line that has no id is known by this name, its number and its text */
  name: string
  /** whether invalid lines are skipped */
  skip: boolean
  onBad: (bad: Bad) => void
  /** after each read, and its bytes */
  onProgress: (bytes: number) => void
  signal: AbortSignal
  /** counts as it goes on */
  tally: Tally
}

export const takeIn = async (options: Intake): Promise<void> => {
  const { clients, lines, given, signal, onProgress, tally } = options
  for (const client of clients) await client.query('set lock_timeout = 10000; set statement_timeout = 60000')
  const into = makeImport(clients, options, tally)
  let number = 0
  const read = (line: Buffer | undefined): Promise<void> | void => {
    if (!line) throw deny('bad_request', `it is over ${lineBytes / 1024 / 1024} MiB`)
    if (!isUtf8(line)) throw deny('bad_request', 'it is not UTF-8')
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
