// Finds a Python for the Python client: 3.10 or later, with httpx. Its module search path has the client.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import type { Test } from 'tap'
import { root } from './processes.ts'
import { collect, type Output } from './output.ts'

export const client = join(root, 'clients/python')

const check = 'import sys; assert sys.version_info >= (3, 10); import httpx'
// (A machine may have another Python before that of the distribution, which has its packages.)
export const python = ['python3', '/usr/bin/python3', 'python'].find(
  (name) => spawnSync(name, ['-c', check]).status === 0,
)
export const withoutPython = python === undefined && 'Python 3.10 or later with httpx is not installed'

/** Starts Python. It is killed at the end of the test. */
export const startPython = (
  t: Test,
  args: string[],
  env: NodeJS.ProcessEnv,
  cwd = client,
): Output & { child: ChildProcess } => {
  const child = spawn(python ?? '', args, {
    cwd,
    env: { PATH: process.env['PATH'], PYTHONPATH: client, PYTHONUNBUFFERED: '1', PYTHONDONTWRITEBYTECODE: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = collect(child)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await output.ended
  })
  return { child, ...output }
}
