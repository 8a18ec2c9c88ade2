// Imports point one way: protocol <- config, access <- { database, sync, live: never each other } <- commands <- { http, integrations: never
// each other } <- app <- main <- cli. There are no import cycles, type imports included. No folder has more than 32 files,
// no file more than 250 lines.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('../../src', import.meta.url))
const below = ['protocol', 'config', 'access']
const may: Record<string, string[]> = {
  protocol: [],
  config: ['protocol'],
  access: ['protocol', 'config'],
  database: below,
  sync: below,
  live: below,
  commands: [...below, 'database', 'live'],
  http: [...below, 'database', 'live', 'commands'],
  integrations: [...below, 'database', 'commands'],
  client: ['protocol'],
  web: ['client'],
  app: [...below, 'database', 'sync', 'live', 'commands', 'http', 'integrations'],
  cli: [...below, 'database', 'sync', 'live', 'commands', 'http', 'app', 'main', 'client'],
  main: [...below, 'database', 'live', 'commands', 'http', 'app'],
}
const layerOf = (file: string): string => (file.split('/')[0] ?? '').replace(/\.tsx?$/, '')
const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => /\.tsx?$/.test(file))

/** The files that each file imports, types included. */
const imports = new Map(
  files.map((file) => {
    const text = readFileSync(join(root, file), 'utf8')
    const names = [...text.matchAll(/(?:from|import\()\s*'(\.[^']+\.tsx?)'/g)].map(([, name = '']) => name)
    return [file, names.map((name) => relative(root, join(root, dirname(file), name)))] as const
  }),
)

void t.test('layers: imports point one way', (t) => {
  t.ok(files.length > 20)
  for (const [layer, floors] of Object.entries(may)) t.comment(`${layer} -> ${floors.join(', ') || 'nothing'}`)
  for (const [file, targets] of imports) {
    const layer = layerOf(file)
    for (const target of targets)
      t.ok(layerOf(target) === layer || may[layer]?.includes(layerOf(target)), `${file} may import ${target}`)
  }
  t.end()
})

void t.test('layers: there are no import cycles, type imports included', (t) => {
  const done = new Set<string>()
  const walk = (file: string, path: string[]): void => {
    if (path.includes(file)) return void t.fail([...path.slice(path.indexOf(file)), file].join(' -> '))
    if (done.has(file)) return
    for (const target of imports.get(file) ?? []) walk(target, [...path, file])
    done.add(file)
  }
  for (const file of files) walk(file, [])
  t.equal(done.size, files.length)
  t.end()
})

void t.test('layers: no file has more than 250 lines', (t) => {
  const sources = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => /\.(tsx?|css)$/.test(file))
  const long = sources.filter((file) => readFileSync(join(root, file), 'utf8').split('\n').length > 251)
  t.strictSame(long, [])
  t.end()
})

void t.test('layers: no folder has more than 32 files', (t) => {
  const rooms = new Map<string, number>()
  for (const file of files) rooms.set(dirname(file), (rooms.get(dirname(file)) ?? 0) + 1)
  for (const [room, count] of rooms) t.ok(count <= 32, `${room}: ${count}`)
  t.end()
})

void t.test('layers: the client imports only types from the protocol, and no package', (t) => {
  for (const file of files.filter((file) => layerOf(file) === 'client')) {
    const text = readFileSync(join(root, file), 'utf8')
    for (const [line, types, name = ''] of text.matchAll(/^(?:import|export) (type )?[^]*?from '([^']+)'$/gm))
      t.ok(name.startsWith('./') || (types && name.startsWith('../protocol/')), `${file}: ${line}`)
    t.notMatch(text, /^import '/m, file)
  }
  t.end()
})

void t.test('layers: only main, the command line, the embedded Postgres and the pools use the process object', (t) => {
  const allowed = [
    'main.ts',
    'database/embedded/cluster.ts',
    'database/embedded/index.ts',
    'database/embedded/postmaster.ts',
    'database/postgres/pools.ts',
  ]
  for (const file of files.filter((file) => !allowed.includes(file) && layerOf(file) !== 'cli')) {
    const code = readFileSync(join(root, file), 'utf8').replace(/^\s*\/\/.*$/gm, '')
    t.notMatch(code, /\bprocess\./, file)
  }
  t.end()
})

void t.test('layers: the command line loads no package but commander before it knows the command', (t) => {
  const seen = new Set<string>()
  const packages = new Set<string>()
  const visit = (file: string): void => {
    if (seen.has(file)) return
    seen.add(file)
    const text = readFileSync(join(root, file), 'utf8')
    for (const [, what = '', name = ''] of text.matchAll(/^import (?!type )([^;]*?)from '([^']+)'/gm)) {
      const used = /^\{/.test(what)
        ? what
            .replace(/[{}\s]/g, '')
            .split(',')
            .filter(Boolean)
        : [what]
      if (used.every((one) => one.startsWith('type'))) continue
      if (name.startsWith('.')) visit(join(dirname(file), name))
      else if (!name.startsWith('node:')) packages.add(name)
    }
  }
  visit('cli/index.ts')
  t.ok(seen.size > 10)
  t.strictSame([...packages], ['commander'])
  t.end()
})
