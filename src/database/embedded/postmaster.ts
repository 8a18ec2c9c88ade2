// The server process of a cluster's folder, found by its lock file (postmaster.pid) and the system's process list.
//
// A process that is dead, a zombie or not Postgres is never taken for the server, whatever the lock file says. A launched server keeps
// running after its terminal and this process end. Launching does not wait until the server accepts connections.
import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { link, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

/** `status` is 'starting', 'ready', 'stopping' or 'standby'. */
export type Postmaster = { pid: number; port: number; status: string }

/** A spawned server process. `ended` resolves with its exit code and log once it has ended, with undefined before. */
export type Launched = { pid: number | undefined; ended(): Promise<{ code: number | null; log: string } | undefined> }
export type User = { uid: number; gid: number }
/** How to run a program: the user, if it differs from this process's, and the spawn options. */
export type Runner = { user: User | undefined; options: { env: NodeJS.ProcessEnv } & Partial<User> }

const run = promisify(execFile)
const LOG = 'server.log'
const MAX_LOG = 10 * 1024 * 1024
const code = (error: unknown) => (error as NodeJS.ErrnoException).code
export const tail = (text: string) => text.trim().split('\n').slice(-15).join('\n').slice(-3000)
const lockFile = (dir: string) => join(dir, 'postmaster.pid')
const readLock = (path: string) => readFile(path, 'utf8').catch(() => undefined)

export const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return code(error) === 'EPERM'
  }
}

/** Returns whether a process is alive and a Postgres server. Pids are reused, above all in containers. A zombie has no command. */
export const isPostgres = async (pid: number): Promise<boolean> => {
  if (!isAlive(pid)) return false
  if (process.platform === 'win32') return true
  try {
    const command =
      process.platform === 'linux'
        ? (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')[0]
        : (await run('ps', ['-o', 'command=', '-p', String(pid)])).stdout
    return /(^|\/)(postgres|postmaster)(\s|$)/.test(command ?? '')
  } catch {
    return false
  }
}

const parse = (lock: string): Postmaster => {
  const [pid, , , port, , , , status] = lock.split('\n')
  return { pid: Number(pid), port: Number(port), status: status?.trim() || 'starting' }
}

/** Returns the server that runs on this folder, or undefined. */
export const readPostmaster = async (dir: string): Promise<Postmaster | undefined> => {
  const lock = await readLock(lockFile(dir))
  if (!lock) return undefined
  const postmaster = parse(lock)
  return postmaster.pid > 0 && (await isPostgres(postmaster.pid)) ? postmaster : undefined
}

/**
 * Removes a stale lock file that would keep Postgres from starting: a process that is not Postgres has its pid, or the machine crashed before
 * the file was written. If the removed file turns out to be a new server's, it is put back. Two servers can't run on one folder
 * in any case: they would need the same shared memory segment.
 */
export const clearStaleLock = async (dir: string): Promise<void> => {
  const path = lockFile(dir)
  const lock = await readLock(path)
  if (lock === undefined) return
  if (lock === '') {
    const made = await stat(path).catch(() => undefined)
    if (!made || Date.now() - made.mtimeMs < 5000) return
  } else {
    const { pid } = parse(lock)
    if (!isAlive(pid) || (await isPostgres(pid))) return
  }
  const aside = join(dirname(path), `postmaster.stale-${randomBytes(4).toString('hex')}`)
  await rename(path, aside).catch(() => undefined)
  if ((await readLock(aside)) !== lock) await link(aside, path).catch(() => undefined)
  await rm(aside, { force: true })
}

const freePort = () =>
  new Promise<number>((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(address && typeof address === 'object' ? address.port : 0))
    })
  })

/**
 * Returns the path by which a spawned program reaches the data folder. A different user may have no access to the folders above it. So the
 * program is spawned with the data folder as its working directory, and reaches it by this link.
 */
export const folderFor = ({ user }: Runner, dir: string) =>
  user && process.platform === 'linux' ? '/proc/self/cwd' : dir

/** Spawns a server on the folder, on a free port. */
export const launchPostmaster = async (
  dir: string,
  postgres: string,
  runner: Runner,
  settings: Record<string, string>,
): Promise<Launched> => {
  const path = join(dir, LOG)
  const log = await open(path, 'a', 0o600)
  try {
    if (runner.user) await log.chown(runner.user.uid, runner.user.gid)
    if ((await log.stat()).size > MAX_LOG) await log.truncate()
    const from = (await log.stat()).size
    const port = String(await freePort())
    const all = { listen_addresses: '127.0.0.1', unix_socket_directories: '', timezone: 'UTC', ...settings }
    const options = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const args = ['-D', folderFor(runner, dir), '-p', port, ...options]
    const stdio = ['ignore' as const, log.fd, log.fd]
    const child = spawn(postgres, args, { ...runner.options, cwd: dir, detached: true, windowsHide: true, stdio })
    let end: { code: number | null; reason: string } | undefined
    child.once('error', (error) => (end = { code: null, reason: error.message }))
    child.once('exit', (code) => (end ??= { code, reason: '' }))
    child.unref()
    const ended = async () => {
      if (!end) return undefined
      const text = (await readFile(path)).subarray(from).toString()
      return { code: end.code, log: tail(`${text}\n${end.reason}`) }
    }
    return { pid: child.pid, ended }
  } finally {
    await log.close()
  }
}

/** Requests a fast shutdown, and after 8 s an immediate one. Resolves once the process has ended. Rejects if it does not end. */
export const stopPostmaster = async (dir: string, pid: number, pgCtl: string): Promise<void> => {
  const signals: [NodeJS.Signals, string, number][] = [
    ['SIGINT', 'fast', 8000],
    ['SIGQUIT', 'immediate', 5000],
  ]
  for (const [signal, mode, patience] of signals) {
    try {
      if (process.platform === 'win32') await run(pgCtl, ['stop', '-D', dir, '-m', mode, '-W'])
      else process.kill(pid, signal)
    } catch (error) {
      if (code(error) !== 'ESRCH') throw error
    }
    const deadline = Date.now() + patience
    while (Date.now() < deadline) {
      if (!(await isPostgres(pid))) return
      await sleep(20)
    }
  }
  throw new Error(`Postgres (process ${pid}) on ${dir} does not stop`)
}
