// deck export and import for tests: what is exported as bytes, and files in a folder of their own.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import t, { type Test } from 'tap'
import { readLines } from '../src/log/lines.ts'
import { restore } from '../src/log/restore.ts'
import { deck, type Ended } from './cli.ts'
import { root } from './process.ts'

const run = promisify(execFile)
const folder = await mkdtemp(join(tmpdir(), 'mission-deck-carry-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
let files = 0

/** What deck export writes, byte for byte. */
export const exported = async (url: string, ...args: string[]): Promise<Buffer> => {
  const { stdout } = await run(process.execPath, [join(root, 'dist/cli/index.js'), 'export', ...args], {
    env: { PATH: process.env['PATH'], DATABASE_URL: url },
    encoding: 'buffer',
    maxBuffer: 1e9,
  })
  return stdout
}

export const fileOf = async (data: string | Buffer, name = `${files++}.ndjson`): Promise<string> => {
  const file = join(folder, name)
  await writeFile(file, data)
  return file
}

export const imported = async (t: Test, url: string, data: string | Buffer, ...args: string[]): Promise<Ended> =>
  deck(t, ['import', await fileOf(data), ...args], { DATABASE_URL: url })

/** Lines with an end that fits them, as an export that says something else has. */
export const sealed = (lines: string[]): string => {
  const text = lines.map((line) => `${line}\n`).join('')
  const sha256 = createHash('sha256').update(text).digest('hex')
  return `${text}{"kind":"end","lines":${lines.length},"sha256":"${sha256}"}\n`
}

/** Puts a file back in this process, which takes no time to start; -> why it was refused. */
export const refusal = async (connectionString: string, file: string): Promise<string | undefined> => {
  const client = new pg.Client({ connectionString })
  await client.connect()
  const source = (async function* () {
    yield Buffer.from(file)
  })()
  try {
    const lines = readLines(source, () => Infinity)
    await restore(client, lines, { by: 'test', onProgress: () => {}, signal: new AbortController().signal })
    return undefined
  } catch (error) {
    return (error as Error).message
  } finally {
    await client.end()
  }
}
