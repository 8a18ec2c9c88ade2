// A shard: one process that runs one test file after the other, each as a subtest of the file's name.
// A process of its own for each file costs 1.4 s of CPU before its first test, and runs code that V8 has not yet compiled.
// The shards of a run share the files through a folder, DECK_SHARDS: a shard claims a file by creating its name there.
// The longest files go first, so that the shards end at about the same time.
import { closeSync, openSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { t as root } from 'tap'
import { nothingLeft } from '../support/leftovers.ts'
import { enter } from './tap.ts'

const claims = process.env['DECK_SHARDS']
if (!claims) throw new Error('DECK_SHARDS is not set: run `npm test`')

/** The files that take longest, longest first. A file that is missing here runs after them. */
const long = [
  'ops/process',
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

/** Whether this shard is the first to ask for the file. */
const claim = (name: string): boolean => {
  try {
    closeSync(openSync(join(claims, name.replace('/', '+')), 'wx'))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

// (The page's tests are a suite of their own.)
const rooms = readdirSync(folder, { withFileTypes: true }).filter(
  (entry) => entry.isDirectory() && entry.name !== 'web',
)
const byLength = rooms.flatMap(({ name }) => namesIn(`${name}/`)).sort((a, b) => rank(a) - rank(b))

// One test around all: the root would end in a moment without a test.
void root.test('files', async (t) => {
  for (const name of byLength) {
    if (!claim(name)) continue
    const cpu = process.cpuUsage()
    const begun = performance.now()
    await t.test(`test/${name}.test.ts`, { timeout: 300_000 }, async (t) => {
      // The first teardown, so the last to run.
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
