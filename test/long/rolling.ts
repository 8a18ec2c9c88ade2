// A deploy at full rate: two servers of the previous version (ROLL_FROM, HEAD^ by default) are replaced one by one by this version, under
// RATE messages/s (2,000). This version migrates the database while the old servers run. Between the replacements a server of the
// previous version is restarted on the new schema. Run:
//   npx tap --timeout=900 --reporter=tap test/long/rolling.ts
// Fails if a message is lost or duplicated. Prints the longest gap between two deliveries.
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
  `rolling deploy: servers of ${from} are replaced one by one under ${rate} messages/s`,
  { skip: archive ? false : `no commit ${from} in this folder's history` },
  async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'mission-deck-before-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    execFileSync('tar', ['-x', '-C', folder], { input: archive })
    // The previous version's own dependencies: this version may no longer have them.
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
      `${rolled.messages} messages, ${Math.round(rolled.perSecond)}/s, from ${git('rev-parse', '--short', from)?.toString().trim()}: 0 lost, 0 duplicates; ` +
        `longest gap between two deliveries ${Math.round(rolled.gap)} ms; stops took ${rolled.stops.map(Math.round).join(' and ')} ms; ` +
        `keyless sends without an answer: ${rolled.maybe}; errors: ${[...rolled.told].map(([what, n]) => `${what} ${n}`).join(', ')}`,
    )
  },
)
