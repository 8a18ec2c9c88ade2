// The package that `npm pack` makes: its files and its dependencies. (test/long/package.ts packs it, installs it and runs it.)
import { execFile } from 'node:child_process'
import { mkdir, readFile, readlink, writeFile } from 'node:fs/promises'
import { readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { linkLibraries } from '../../src/database/embedded/library-symlinks.ts'
import { root } from '../support/processes.ts'

type Manifest = {
  name: string
  private?: boolean
  bin: Record<string, string>
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
}
const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as Manifest
const sources = readdirSync(`${root}src`, { recursive: true, encoding: 'utf8' })
  .filter((file) => /\.ts$/.test(file) && !file.startsWith('web/'))
  .sort()

void t.test('package: contains the build, the schema, the page and the documents, and nothing else', async (t) => {
  const { stdout } = await promisify(execFile)('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
  })
  // An array, or from npm 12 on an object by package name.
  const packed = JSON.parse(stdout) as Record<string, { files: { path: string }[] }>
  const files = Object.values(packed)[0]?.files.map(({ path }) => path) ?? []
  const held = new Set(files)
  for (const file of sources) t.ok(held.has(`dist/${file.replace(/ts$/, 'js')}`), file)
  for (const file of readdirSync(`${root}db`, { recursive: true, encoding: 'utf8' }))
    if (file.endsWith('.sql')) t.ok(held.has(`db/${file}`), file)
  for (const file of ['dist/web/index.html', 'LICENSE', 'README.md', '.env.example', 'docs/protocol.md'])
    t.ok(held.has(file), file)
  for (const file of Object.values(manifest.bin)) t.ok(held.has(file), `the command ${file}`)
  // The images that a packed document shows.
  for (const file of files.filter((each) => /^docs\/.+\.md$|^README\.md$/.test(each)))
    for (const [, image = ''] of readFileSync(`${root}${file}`, 'utf8').matchAll(/!\[[^\]]*\]\(([^)]+)\)/g))
      t.ok(held.has(join(file, '..', image)), `${file} shows ${image}`)
  const expected =
    /^(dist\/.+\.(js|d\.ts|html|css|svg)|dist\/client\/page\/index\.js\.map|db\/.+\.sql|docs\/[\w-]+\.(md|png)|bench\/scaling\.svg|examples\/[\w-]+\.(js|py|html)|ops\/(grafana|prometheus)\/[\w-]+\.(json|yml)|(README|CHANGELOG)\.md|LICENSE|package\.json|\.env\.example)$/
  t.strictSame(
    files.filter((file) => !expected.test(file)),
    [],
  )
})

void t.test('package: every import is a dependency with an exact version, and has a line in docs/decisions.md', (t) => {
  const needed = new Set<string>()
  const bundled = new Set<string>()
  for (const file of sources) {
    // What is built into a file of the package is not installed with it.
    const names = /scripts\/build\.js/.test(readFileSync(`${root}src/${file}`, 'utf8')) ? bundled : needed
    const text = readFileSync(`${root}src/${file}`, 'utf8')
    for (const [, types, name = ''] of text.matchAll(/^(?:import|export) (type )?[^;']*?from '([^'.][^']*)'/gm))
      if (!types && !name.startsWith('node:')) names.add(/^(@[^/]+\/)?[^/]+/.exec(name)?.[0] ?? name)
    for (const [, name = ''] of text.matchAll(/\bimport\('([^'.][^']*)'\)/g))
      if (!name.startsWith('node:')) needed.add(name)
  }
  t.ok(needed.size > 15)
  for (const name of needed) t.ok(name in manifest.dependencies, `${name} is a dependency`)
  t.ok(bundled.size > 3)
  for (const name of bundled) t.ok(name in manifest.devDependencies, `${name} is not installed`)
  const reasons = readFileSync(`${root}docs/decisions.md`, 'utf8')
  for (const name of Object.keys(manifest.dependencies)) t.ok(reasons.includes(name), `${name} has its reason`)
  for (const version of Object.values({ ...manifest.dependencies, ...manifest.devDependencies }))
    t.match(version, /^\d+\.\d+\.\d+(-[\w.]+)?$/, 'an exact version')
  t.notOk(manifest.private)
  t.end()
})

void t.test('package: bundled files import no package and have the licences of their packages', async (t) => {
  for (const file of ['protocol/typebox', 'http/observability/opentelemetry']) {
    const text = await readFile(`${root}dist/${file}.js`, 'utf8')
    const names = [...text.matchAll(/^(?:import|export)\b.* from "([^"]+)"|\b(?:import|require)\("([^"]+)"\)/gm)]
    t.ok(
      names.every(([, from = '', called = '']) => isBuiltin(from || called)),
      file,
    )
    const source = await readFile(`${root}src/${file}.ts`, 'utf8')
    for (const [, name = ''] of source.matchAll(/ from '((?:@[^/]+\/)?[^/']+)/g)) t.ok(text.includes(`${name} `), name)
    t.match(text, /MIT License|Apache License/)
  }
})

void t.test('mission-deck: equals deck, and starts the server without a command', async (t) => {
  const run = promisify(execFile)
  const call = (...args: string[]) =>
    run(process.execPath, [`${root}${manifest.bin['mission-deck']}`, ...args], {
      env: { PATH: process.env['PATH'], NODE_ENV: 'production' },
    }).then(
      ({ stdout }) => ({ code: 0, output: stdout }),
      ({ code, stderr }: { code: number; stderr: string }) => ({ code, output: stderr }),
    )
  t.match(await call('--version'), { code: 0, output: /^\d+\.\d+\.\d+/ })
  const { code, output } = await call('--help')
  t.equal(code, 0)
  t.match(output, /^Usage: mission-deck /)
  // The command `deck` prints the same help and has the same commands.
  const { stdout: short } = await run(process.execPath, [`${root}${manifest.bin['deck']}`, '--help'])
  t.equal(output, short)
  const names = [...output.matchAll(/^ {2}([a-z]+) (?:\[|<)/gm)].map(([, name]) => name ?? '')
  t.ok(names.length > 15)
  await Promise.all(
    names
      .filter((name) => name !== 'help')
      .map(async (name) =>
        t.match(await call(name, '--help'), { code: 0, output: new RegExp(`^Usage: mission-deck ${name} `) }),
      ),
  )
  t.match(await call('nonsense'), { code: 2 })
  // The error comes from the server: production refuses to start without its settings.
  for (const args of [[], ['--json']])
    t.match(await call(...args), { code: 1, output: /did not start: .*JWT_SECRET is required/ })
})

void t.test('documents: commands are named mission-deck, because deck is a different npm package', async (t) => {
  const { stdout } = await promisify(execFile)(
    'git',
    ['ls-files', 'README.md', 'CONTRIBUTING.md', 'docs', 'src', 'examples', 'ops', '.github', '.env.example'],
    { cwd: root },
  )
  const { stdout: help } = await promisify(execFile)(process.execPath, [
    `${root}${manifest.bin['mission-deck']}`,
    '--help',
  ])
  const names = [...help.matchAll(/^ {2}([a-z]+) (?:\[|<)/gm)].map(([, name]) => name).join('|')
  const other = new RegExp(`npx deck |(?<![-\\w./])deck (?:${names}) (?!=|:)`)
  for (const file of stdout
    .trim()
    .split('\n')
    .filter((each) => !/\.(png|svg)$/.test(each))) {
    const found = readFileSync(`${root}${file}`, 'utf8')
      .split('\n')
      .filter((line) => other.test(line))
    t.strictSame(found, [], file)
  }
})

void t.test('embedded: finds its libraries when install scripts did not run', async (t) => {
  const folder = t.testdir({})
  await mkdir(join(folder, 'native', 'lib'), { recursive: true })
  await writeFile(join(folder, 'native', 'lib', 'libpq.so.5.18'), 'the library')
  const link = { source: 'native/lib/libpq.so.5.18', target: 'native/lib/libpq.so.5' }
  await writeFile(join(folder, 'native', 'pg-symlinks.json'), JSON.stringify([link]))
  await linkLibraries(folder)
  await linkLibraries(folder)
  t.equal(await readFile(join(folder, link.target), 'utf8'), 'the library')
  t.equal(
    await readlink(join(folder, link.target)),
    'libpq.so.5.18',
    'a relative link, so that the folder can be moved',
  )
  await linkLibraries(join(folder, 'without any'))
})
