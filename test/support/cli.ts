// The built command line as a process, in an empty folder. Its output is checked for secrets.
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { migrate } from '../../src/database/postgres/migrate.ts'
import { freshDatabase, type FreshDatabase } from './database.ts'
import { leak } from './server.ts'
import { collect } from './output.ts'
import { root } from './processes.ts'

export const folder = await mkdtemp(join(tmpdir(), 'mission-deck-cli-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))

export type Ended = { code: number | null; out: string; err: string }
export type Started = { child: ChildProcess; out(): string; err(): string; ended: Promise<Ended> }

/** Starts deck, and kills it at the end of the test. `input` null: the test writes the input. */
export const start = (
  t: Test,
  args: string[],
  env: NodeJS.ProcessEnv = {},
  input: string | Buffer | null = '',
): Started => {
  const child = spawn(process.execPath, [join(root, 'dist/cli/index.js'), ...args], {
    cwd: folder,
    env: { PATH: process.env['PATH'], ...env },
  })
  const { out, err, ended: closed } = collect(child)
  child.stdin.on('error', () => {})
  if (input !== null) child.stdin.end(input)
  const ended = closed.then((code) => ({ code, out: out(), err: err() }))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
    if (args[0] !== 'token' && leak.test(out() + err())) t.fail(`deck ${args.join(' ')} printed a secret`)
  })
  return { child, out, err, ended }
}

/** Runs deck until it exits. */
export const deck = (t: Test, args: string[], env: NodeJS.ProcessEnv = {}, input?: string | Buffer): Promise<Ended> =>
  start(t, args, env, input).ended

/** A fresh migrated database. */
export const migrated = async (t: Test): Promise<FreshDatabase> => {
  const database = await freshDatabase(t, true)
  await migrate(await database.connect(), () => {})
  return database
}
