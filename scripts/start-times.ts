// node --import ./test/typescript.js scripts/start-times.ts [revision…]: how long `npm start` takes, of HEAD if no revision is named:
// in a fresh clone, and a second time. Seconds from the command to its first line, to the address, and to the built page.
// Five rounds, the revisions in turn. Clones share the packages of this checkout.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const revisions = process.argv.length > 2 ? process.argv.slice(2) : ['HEAD']

/** Starts the server in a folder and ends it. Returns the seconds as text. */
const time = async (folder: string): Promise<string> => {
  const begun = performance.now()
  const since = (): string => ((performance.now() - begun) / 1000).toFixed(2)
  const child = spawn('npm', ['start', '--silent'], {
    cwd: folder,
    env: { ...process.env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exit = once(child, 'exit')
  let output = ''
  let first = ''
  let ready = ''
  for await (const data of child.stdout as AsyncIterable<Buffer>) {
    output += data.toString()
    first ||= since()
    const address = /Mission Deck is at (\S+)\n/.exec(output)?.[1]
    if (address === undefined || ready) continue
    ready = since()
    while (!(await (await fetch(address)).text()).includes('/assets/')) await delay(20)
    output = `first line ${first}, ready ${ready}, page ${since()}`
    child.kill('SIGTERM')
  }
  await exit
  return ready ? output : `did not start: ${output}`
}

for (let round = 0; round < 5; round++)
  for (const revision of revisions) {
    const folder = await mkdtemp(join(tmpdir(), 'mission-deck-times-'))
    try {
      execFileSync('git', ['clone', '--quiet', root, folder])
      execFileSync(
        'git',
        ['checkout', '--quiet', execFileSync('git', ['rev-parse', revision], { cwd: root, encoding: 'utf8' }).trim()],
        { cwd: folder },
      )
      await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
      for (const which of ['first', 'second']) process.stdout.write(`${revision} ${which}: ${await time(folder)}\n`)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }
