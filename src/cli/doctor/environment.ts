// Checks that need no database: Node, the environment, the secrets (whether they exist, never their values), and the
// embedded database's folder and process.
import { readFileSync } from 'node:fs'
import { readFile, stat, statfs } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { readConfig, type Config } from '../../config/index.ts'
import { readPostmaster } from '../../database/embedded/postmaster.ts'
import { databaseConfig } from '../database.ts'
import { fail, ok, warn, type Finding } from './finding.ts'

const { engines } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  engines: { node: string }
}
const parts = (version: string): number[] => version.replace(/^\D+/, '').split('.').map(Number)

/** Whether a version is in a range such as `^20.19 || ^22.13 || >=24`. */
const supports = (range: string, version: string): boolean => {
  const [major = 0, minor = 0] = parts(version)
  return range.split('||').some((part) => {
    const [least = 0, from = 0] = parts(part)
    return (part.includes('>=') && major > least) || (major === least && minor >= from)
  })
}

export const node = (version = process.versions.node): Finding =>
  supports(engines.node, version)
    ? ok('node', `Node ${version}`)
    : fail('node', `Node ${version}`, `install Node 24; supported are ${engines.node}`)

/** Returns the configuration of an environment, or its faults, one sentence each. */
const faults = (environment: NodeJS.ProcessEnv): { config?: Config; lines: string[] } => {
  try {
    return { config: readConfig(environment), lines: [] }
  } catch (error) {
    return { lines: (error as Error).message.split('\n') }
  }
}

/** Reads the environment as the server does. `partial`: the configuration only locates the database. */
export const environment = (): { findings: Finding[]; config: Config | undefined; partial: boolean } => {
  const read = faults(process.env)
  if (read.config) {
    const mode = read.config.production ? 'production' : 'development'
    const refused = read.config.production ? [] : faults({ ...process.env, NODE_ENV: 'production' }).lines
    const more = refused.length > 0 ? `; production would refuse it: ${refused.join(' ')}` : ''
    return { findings: [ok('configuration', `valid for ${mode}${more}`)], config: read.config, partial: false }
  }
  const findings = read.lines.map((line) => fail('configuration', line, 'see .env.example for what each setting takes'))
  try {
    return { findings, config: databaseConfig(), partial: true }
  } catch {
    return { findings, config: undefined, partial: true }
  }
}

export const secrets = async (config: Config): Promise<Finding> => {
  const keys = config.jwksUrl ? 'JWKS_URL is set' : ''
  if (config.jwtSecret) {
    const bytes = Buffer.byteLength(config.jwtSecret)
    const former = config.jwtSecretPrevious ? `JWT_SECRET_PREVIOUS is set` : ''
    const detail = [`JWT_SECRET is set (${bytes} bytes)`, former, keys].filter(Boolean).join('; ')
    const previous = config.jwtSecretPrevious ? Buffer.byteLength(config.jwtSecretPrevious) : 32
    return Math.min(bytes, previous) < 32
      ? warn('secrets', detail, 'use at least 32 bytes: openssl rand -base64 48')
      : ok('secrets', detail)
  }
  if (keys) return ok('secrets', `${keys}; no JWT_SECRET`)
  const file = join(config.dataDir, 'jwt-secret')
  const kept = await stat(file).catch(() => undefined)
  if (!kept) return ok('secrets', `none is set; the first start creates one in ${file}`)
  if (process.platform !== 'win32' && (kept.mode & 0o077) !== 0)
    return warn('secrets', `other users can read ${file}`, `chmod 600 ${file}`)
  return ok('secrets', `none is set; the one in ${file} is used`)
}

/** Checks the embedded database, which is used if DATABASE_URL is not set. */
export const embedded = async ({ dataDir }: Config): Promise<{ findings: Finding[]; running: boolean }> => {
  const check = 'embedded database'
  const dir = join(resolve(dataDir), 'postgres')
  const major = await readFile(join(dir, 'PG_VERSION'), 'utf8').catch((error: NodeJS.ErrnoException) => error)
  if (typeof major !== 'string') {
    const finding =
      major.code === 'ENOENT'
        ? warn(
            check,
            `no database in ${dir}, and DATABASE_URL is not set`,
            'npm start creates one; or set DATABASE_URL',
          )
        : fail(check, `${dir} can't be read (${major.code})`, 'run this as the user that runs the server')
    return { findings: [finding], running: false }
  }
  const server = await readPostmaster(dir)
  const findings: Finding[] = []
  const { bavail, bsize } = await statfs(dir)
  const free = Math.floor((bavail * bsize) / 2 ** 20)
  if (free < 1024)
    findings.push(warn('disk', `${free} MiB are left for ${dir}`, 'free some space: a full disk stops Postgres'))
  const what = `Postgres ${major.trim()} in ${dir}`
  const state =
    server?.status === 'ready'
      ? ok(check, `${what} runs (process ${server.pid}, port ${server.port})`)
      : server
        ? warn(check, `${what} is ${server.status}`, 'wait, then run mission-deck doctor again')
        : warn(check, `${what} does not run`, 'start it with npm start, then run mission-deck doctor again')
  return { findings: [state, ...findings], running: server?.status === 'ready' }
}
