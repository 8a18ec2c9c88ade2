// deck export and import for tests: the exported bytes, and files in a temporary folder.
import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type pg from 'pg'
import t, { type Test } from 'tap'
import { withClient } from '../../src/cli/database.ts'
import { openDatabase } from '../../src/database/postgres/pools.ts'
import { exportMissions } from '../../src/database/transfer/export.ts'
import type { Bad, Tally } from '../../src/database/transfer/import-batches.ts'
import { lineBytes, takeIn } from '../../src/database/transfer/import-reader.ts'
import { readLines } from '../../src/database/transfer/line-reader.ts'
import { restore } from '../../src/database/transfer/restore.ts'
import type { Defaults } from '../../src/protocol/transfer.ts'
import { parseMission } from '../../src/protocol/topics.ts'
import { deck, type Ended } from './cli.ts'

const folder = await mkdtemp(join(tmpdir(), 'mission-deck-carry-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
let files = 0

/** A connection with the command line's settings. */
export const withDirect = async <T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> => {
  const { direct, close } = openDatabase({ url, directUrl: url, poolMax: 4 }, () => {})
  await close()
  return withClient(await direct(), work)
}

/** The bytes that deck export writes. */
export const exported = (url: string, mission: string): Promise<Buffer> =>
  withDirect(url, async (client) => {
    const parts: Buffer[] = []
    await exportMissions(client, mission === '--all' ? 'all' : parseMission(mission), (bytes) => void parts.push(bytes))
    return Buffer.concat(parts)
  })

export const fileOf = async (data: string | Buffer, name = `${files++}.ndjson`): Promise<string> => {
  const file = join(folder, name)
  await writeFile(file, data)
  return file
}

export const imported = async (t: Test, url: string, data: string | Buffer, ...args: string[]): Promise<Ended> =>
  deck(t, ['import', await fileOf(data), ...args], { DATABASE_URL: url })

/** Appends a valid end line to changed lines of an export: their number and hash. */
export const sealed = (lines: string[]): string => {
  const text = lines.map((line) => `${line}\n`).join('')
  const sha256 = createHash('sha256').update(text).digest('hex')
  return `${text}{"kind":"end","lines":${lines.length},"sha256":"${sha256}"}\n`
}

const linesOf = (data: string | Buffer, most: number) => readLines(Readable.from([Buffer.from(data)]), () => most)
const { signal } = new AbortController()

/** Restores an export. Returns the reason if it was refused. */
export const restored = (url: string, file: string | Buffer): Promise<string | undefined> =>
  withDirect(url, async (client) => {
    try {
      await restore(client, linesOf(file, Infinity), { by: 'test', onProgress: () => {}, signal })
      return undefined
    } catch (error) {
      return (error as Error).message
    }
  })

export type Taken = Tally & { lines: Bad[]; why?: string }
/** Imports messages. `why` is the error that ended the import. */
export const taken = async (
  url: string,
  file: string | Buffer,
  { name = `${files++}`, skip = false, given = {} }: { name?: string; skip?: boolean; given?: Defaults } = {},
): Promise<Taken> => {
  const tally = { saved: 0, seen: 0, bad: 0 }
  const lines: Bad[] = []
  const options = { name, skip, given, tally, signal, onProgress: () => {}, onBad: (bad: Bad) => void lines.push(bad) }
  try {
    await withDirect(url, (one) =>
      withDirect(url, (two) => takeIn({ ...options, clients: [one, two], lines: linesOf(file, lineBytes) })),
    )
    return { ...tally, lines }
  } catch (error) {
    return { ...tally, lines, why: (error as Error).message }
  }
}
