// `npm run test:node -- [versions] [test files]`: the tests on several versions of Node, 20, 22 and 24 by default. A version is a major
// (its newest release) or exact (20.19.0). Without files it runs the whole suite.
// Each Node comes from the npm registry: the package `node` has a version for each release, and a package for each platform has the
// binary. That package is installed directly, without scripts, under node_modules/.cache. It is first in PATH, so npm, tap and every
// process that a test starts run on it. The full output is stored next to it; test files and failures are printed.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, existsSync, mkdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { outcomeOf } from './outcome.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const cache = join(root, 'node_modules/.cache/node')
const isVersion = (text: string): boolean => /^\d+(\.\d+){0,2}$/.test(text)
const given = process.argv.slice(2)
const versions = given.filter(isVersion)
const rest = given.filter((text) => !isVersion(text))
const isWindows = process.platform === 'win32'
const npm = (...args: string[]): string =>
  execFileSync('npm', args, { cwd: root, encoding: 'utf8', shell: isWindows, stdio: ['ignore', 'pipe', 'ignore'] })

/** Returns the newest release of a version. Throws if the registry does not answer or has none. */
const releaseOf = (version: string): string => {
  let found: string[]
  try {
    found = [JSON.parse(npm('view', `node@${version}`, 'version', '--json')) as string | string[]].flat()
  } catch (error) {
    throw new Error(`The npm registry does not answer, or has no node@${version}.`, { cause: error })
  }
  const key = (release: string): number => release.split('.').reduce((sum, part) => sum * 1000 + Number(part), 0)
  return found.sort((a, b) => key(a) - key(b)).at(-1) ?? version
}

/** Installs a release. Returns the folder that contains its binary. */
const install = (release: string): string => {
  const { platform, arch } = process
  // The names that the package `node` chooses from.
  const prefix = platform === 'darwin' && arch === 'arm64' ? 'node-bin' : 'node'
  const name = `${prefix}-${isWindows ? 'win' : platform}-${arch}`
  const folder = join(cache, release)
  const bin = join(folder, 'node_modules', name, 'bin')
  if (existsSync(bin)) return bin
  mkdirSync(folder, { recursive: true })
  npm('install', '--prefix', folder, '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', `${name}@${release}`)
  return bin
}

/** Runs the tests on a release. Resolves to whether they passed, and a summary line. */
const run = async (release: string): Promise<{ passed: boolean; line: string }> => {
  const bin = install(release)
  const name = isWindows ? 'Path' : 'PATH'
  const env = { ...process.env, [name]: `${bin}${delimiter}${process.env[name]}` }
  const actual = execFileSync('node', ['--version'], { env, encoding: 'utf8' }).trim()
  if (actual !== `v${release}`) throw new Error(`PATH has Node ${actual}, not v${release}.`)
  const script = rest.length > 0 ? 'test:one' : 'test'
  const file = join(cache, `${release}.tap`)
  process.stdout.write(`# Node ${release}: npm run ${[script, ...rest].join(' ')}\n`)
  const child = spawn('npm', ['run', '--silent', script, '--', '--reporter=tap', ...rest], {
    cwd: root,
    env,
    shell: isWindows,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const log = createWriteStream(file)
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr])
    createInterface({ input: stream }).on('line', (line) => {
      log.write(`${line}\n`)
      lines.push(line)
      if (/^(ok|\s*not ok) /.test(line)) process.stdout.write(`${line}\n`)
    })
  const [code] = (await once(child, 'close')) as [number | null]
  log.end()
  const { passed, failed } = outcomeOf(lines)
  return {
    passed: code === 0 && passed > 0,
    line: `Node ${release}: ${passed} passed, ${failed} failed${code === 0 ? '' : ` (exit ${code}; see ${file})`}`,
  }
}

try {
  const results = []
  for (const version of versions.length > 0 ? versions : ['20', '22', '24']) results.push(await run(releaseOf(version)))
  for (const { line } of results) process.stdout.write(`${line}\n`)
  if (!results.every(({ passed }) => passed)) process.exitCode = 1
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exitCode = 1
}
