// A deploy at full rate: two servers of the version before (ROLL_FROM, HEAD^ if left out), on its schema, are replaced one by one by this one,
// which migrates under them, while RATE messages/s (2,000) continue. Between the two replacements a server of the version before is
// restarted, on the new schema. By command:
//   npx tap --timeout=900 --reporter=tap test/long/rolling.ts
// Prints what was lost or doubled (nothing, or it fails) and the longest gap between two deliveries.
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { freshDatabase } from '../support/database.ts'
import { roll } from '../faults/rolling.ts'
import { root } from '../support/processes.ts'

t.setTimeout(900_000)
const from = process.env['ROLL_FROM'] ?? 'HEAD^'
const rate = Number(process.env['RATE'] ?? 2000)

const git = (...args: string[]): Buffer | undefined => {
  try {
    return execFileSync('git', args, { cwd: root, maxBuffer: 1e9, stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return undefined
  }
}
const archive = git('archive', '--format=tar', from)

await t.test(
  `servers of ${from} are replaced one by one under ${rate} messages/s`,
  { skip: archive ? false : `there is no ${from} in this folder's history` },
  async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'mission-deck-before-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    execFileSync('tar', ['-x', '-C', folder], { input: archive })
    // With its own dependencies: those of this version may lack what it migrates with.
    execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: folder, stdio: 'ignore' })
    execFileSync('npm', ['run', 'compile'], { cwd: folder, stdio: 'ignore' })
    const database = await freshDatabase(t)
    const senders = Math.ceil(rate / 10)
    const rolled = await roll(t, database, {
      before: [process.execPath, join(folder, 'dist/main.js')],
      restart: true,
      senders,
      pace: (senders / rate) * 1000,
      calm: 5000,
    })
    t.strictSame(rolled.wrong, [])
    t.ok(rolled.gap < 5000)
    t.comment(
      `${rolled.messages} messages, ${Math.round(rolled.perSecond)}/s, from ${git('rev-parse', '--short', from)?.toString().trim()}: 0 lost, 0 doubles; ` +
        `longest gap between two deliveries ${Math.round(rolled.gap)} ms; stops took ${rolled.stops.map(Math.round).join(' and ')} ms; ` +
        `keyless sends without an answer: ${rolled.maybe}; told: ${[...rolled.told].map(([what, n]) => `${what} ${n}`).join(', ')}`,
    )
  },
)
