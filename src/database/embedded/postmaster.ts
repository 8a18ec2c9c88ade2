// The server process that holds a cluster's folder, as its lock file (postmaster.pid) and the system show it.
// Promises: a process that isn't Postgres, a dead one or a zombie never counts as the server, whatever the file says.
// A launched one outlives its terminal and this process. Doesn't wait for a launched one, and doesn't connect.
import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { link, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

/** `status` is 'starting', 'ready', 'stopping' or 'standby'. */
export type Postmaster = { pid: number; port: number; status: string }

/** A server process that was just spawned; `ended` tells how it ended and what it logged, once it has. */
export type Launched = { pid: number | undefined; ended(): Promise<{ code: number | null; log: string } | undefined> }
export type User = { uid: number; gid: number }
/** How to run a program: as whom, if not as this process's user, and the spawn options. */
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

/** Whether a living process is a Postgres server: pids are reused, and small in a container. A zombie has no command. */
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

/** The server on this folder, if one is running. */
export const readPostmaster = async (dir: string): Promise<Postmaster | undefined> => {
  const lock = await readLock(lockFile(dir))
  if (!lock) return undefined
  const postmaster = parse(lock)
  return postmaster.pid > 0 && (await isPostgres(postmaster.pid)) ? postmaster : undefined
}

/**
 * Removes a lock file that Postgres would stop at though nobody holds it: its process is no Postgres but one that has
 * got the same pid, or the machine crashed before the file had any content. Should it be a new server's file after all,
 * it is put back; and two servers never run on one folder, as they'd also need the same shared memory segment.
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
 * The data folder's name for a program that is spawned in it. Another user may be unable to pass the folders above it: the spawn enters it
 * before it changes the user, and by this link it is reached without them.
 */
export const folderFor = ({ user }: Runner, dir: string) =>
  user && process.platform === 'linux' ? '/proc/self/cwd' : dir

/** Spawns a server on the folder, at a free port. */
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

/** Asks for a fast shutdown, after 8 s for an immediate one. Resolves when the process is gone. */
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
