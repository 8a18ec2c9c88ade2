// Servers as separate processes, for tests that stop or kill them and for long runs.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { leak, secret, until } from './server.ts'
import { collect } from './output.ts'

export type Server = { url: string; process: ChildProcess; output(): string; exited(): Promise<number | null> }

export const root = fileURLToPath(new URL('../..', import.meta.url))
// `npm test` builds once for all files. This builds only if a source has changed, for example when a file is run alone.
execFileSync(process.execPath, ['scripts/build.js', 'server'], { cwd: root })
const main = [process.execPath, fileURLToPath(new URL('../../dist/main.js', import.meta.url))]

/** Starts a server, and kills it at the end of the test. It uses the embedded database if `env` has no DATABASE_URL. */
export const spawnServer = async (
  t: Test,
  env: Record<string, string>,
  command = main,
  cwd = root,
): Promise<Server> => {
  const [file = '', ...args] = command
  const child = spawn(file, args, {
    cwd,
    env: {
      PATH: process.env['PATH'],
      PORT: '0',
      LOG_LEVEL: 'warn',
      JWT_SECRET: secret,
      RATE_LIMITS: 'off',
      MAX_SOCKETS_PER_USER: '10000',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const { out, err, ended } = collect(child)
  const output = (): string => out() + err()
  let closed = false
  void ended.then(() => (closed = true))
  t.teardown(async () => {
    child.kill('SIGKILL')
    // A child of npm outlives npm and keeps its pipes open.
    if (command !== main) child.once('exit', () => [child.stdout, child.stderr].forEach((pipe) => pipe.destroy()))
    await ended
    // With the embedded database, a server prints tokens for a first try.
    if (env['DATABASE_URL'] && leak.test(output())) t.fail(`a secret in the output: ${output().replace(leak, '…')}`)
  })
  const address = (): string | undefined => /Mission Deck is at (\S+)/.exec(out())?.[1]
  await until(
    () => {
      if (closed) throw new Error(`the server ended:\n${output()}`)
      return address() !== undefined
    },
    'the server to start',
    120_000,
  )
  return { url: address() ?? '', process: child, output, exited: () => ended }
}
