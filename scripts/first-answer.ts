// node --import ./test/typescript.js scripts/first-answer.ts: seconds from a fresh clone, with a clean home, to a question that an agent of
// examples/ has answered: `npm ci`, `npm start`, then for echo.js and echo.py its own start and `mission-deck ask`. Also how long `ask` takes
// to say that nobody works for the citizen. The agents use a token of `mission-deck token`, as the README says.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = await mkdtemp(join(tmpdir(), 'mission-deck-first-'))
const clone = join(folder, 'clone')
const port = 20_000 + Math.floor(Math.random() * 10_000)
const env = { PATH: process.env['PATH'], HOME: folder, PORT: String(port), DECK_URL: `http://127.0.0.1:${port}` }
const deck = join(clone, 'dist/cli/mission-deck.js')
const children: ChildProcess[] = []

const run = (command: string, args: string[], more: NodeJS.ProcessEnv = {}): ChildProcess => {
  const child = spawn(command, args, { cwd: clone, env: { ...env, ...more }, stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  return child
}
/** Resolves to the seconds until the process has printed a text that fits. Rejects if it ends before. */
const printed = async (child: ChildProcess, fits: RegExp): Promise<number> => {
  const begun = performance.now()
  let text = ''
  return new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (data: Buffer) => {
        text += data.toString()
        if (fits.test(text)) resolve((performance.now() - begun) / 1000)
      })
    child.once('close', () => reject(new Error(`${String(fits)} was not printed: ${text}`)))
  })
}
const say = (what: string, seconds: number): void =>
  void process.stdout.write(`${what.padEnd(52)} ${seconds.toFixed(1)} s\n`)

const begun = performance.now()
const total = (): number => (performance.now() - begun) / 1000
try {
  execFileSync('git', ['clone', '--quiet', root, clone])
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: clone, env, stdio: 'ignore' })
  say('clone and npm ci', total())
  say('npm start until the address', await printed(run('npm', ['start', '--silent']), /Mission Deck is at/))
  for (const [citizen, command, example] of [
    ['maya', process.execPath, 'examples/echo.js'],
    ['inna', 'python3', 'examples/echo.py'],
  ] as const) {
    const ask = run(process.execPath, [deck, 'ask', '47', citizen, 'Does it run?'])
    const answered = printed(ask, /You asked/)
    say(`ask ${citizen} until it says that nobody is connected`, await printed(ask, /not connected/))
    const token = execFileSync(process.execPath, [deck, 'token', citizen, 'citizen'], { cwd: clone, env }).toString()
    const agent = run(command, [example], { DECK_TOKEN: token.trim(), CITIZEN: citizen })
    await answered
    const ended = once(ask, 'close')
    await ended
    agent.kill('SIGTERM')
    say(`from the clone until ${example} has answered`, total())
  }
} finally {
  for (const child of children.reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGTERM')
    await once(child, 'close')
  }
  await rm(folder, { recursive: true, force: true })
}
