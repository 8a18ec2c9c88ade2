// A shard: one process that runs test files one after the other, each as a subtest named after the file.
// A separate process for each file costs 1.4 s of CPU before its first test, and runs code that V8 has not compiled yet.
// A run's shards divide the files through a folder, DECK_SHARDS: a shard claims a file by creating a file of its name there.
// The slowest files run first, so that the shards end at about the same time.
import { closeSync, openSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { t as root } from 'tap'
import { nothingLeft } from '../support/leftovers.ts'
import { enter } from './tap.ts'

const claims = process.env['DECK_SHARDS']
if (!claims) throw new Error('DECK_SHARDS is not set: run `npm test`')

/** The slowest files, slowest first. Files that are not listed run after them. */
const long = [
  'client/python',
  'ops/process',
  'ops/start',
  'database/chat-search',
  'database/retention',
  'database/replica',
  'faults/client',
  'faults/drain',
  'faults/soak',
  'database/mission-search',
  'database/epoch',
  'cli/transfer',
  'auth/policy',
  'faults/replay',
  'faults/rolling',
  'cli/import',
  'cli/report',
  'http/error-log',
  'faults/walk',
  'cli/cli',
  'cli/chat',
  'faults/writer',
  'live/presence',
  'database/numbering',
]

const folder = fileURLToPath(new URL('../', import.meta.url))
const namesIn = (part: string): string[] =>
  readdirSync(folder + part)
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => part + name.replace('.test.ts', ''))
const rank = (name: string): number => (long.includes(name) ? long.indexOf(name) : long.length)

/** Returns whether this shard is the first to claim the file. */
const claim = (name: string): boolean => {
  try {
    closeSync(openSync(join(claims, name.replace('/', '+')), 'wx'))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

// The page's tests are a separate suite.
const rooms = readdirSync(folder, { withFileTypes: true }).filter(
  (entry) => entry.isDirectory() && entry.name !== 'web',
)
const byLength = rooms.flatMap(({ name }) => namesIn(`${name}/`)).sort((a, b) => rank(a) - rank(b))

// One test contains all files: without a pending test, the root test would end before the first file is loaded.
void root.test('files', async (t) => {
  for (const name of byLength) {
    if (!claim(name)) continue
    const cpu = process.cpuUsage()
    const begun = performance.now()
    await t.test(`test/${name}.test.ts`, { timeout: 300_000 }, async (t) => {
      // Teardowns run in reverse order: the first to be registered is the last to run.
      t.teardown(nothingLeft)
      enter(t)
      await import(`../${name}.test.ts`)
    })
    if (!process.env['SHARD_TIMES']) continue
    const { user, system } = process.cpuUsage(cpu)
    const seconds = [performance.now() - begun, (user + system) / 1e3].map((ms) => (ms / 1e3).toFixed(2))
    process.stderr.write(`${name} wall ${seconds[0]} cpu ${seconds[1]} end ${(performance.now() / 1e3).toFixed(1)}\n`)
  }
})
