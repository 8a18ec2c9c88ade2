// Imports point one way: protocol <- config, access <- { database, sync, live: never each other } <- commands <- http <- app <- main <- cli.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('../src', import.meta.url))
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
  client: ['protocol'],
  web: ['client'],
  app: [...below, 'database', 'sync', 'live', 'commands', 'http'],
  cli: [...below, 'database', 'sync', 'live', 'commands', 'http', 'app', 'main', 'client'],
  main: [...below, 'database', 'live', 'commands', 'http', 'app'],
}
const layerOf = (file: string): string => (file.split('/')[0] ?? '').replace(/\.tsx?$/, '')
const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => /\.tsx?$/.test(file))

void t.test('imports point one way', (t) => {
  t.ok(files.length > 20)
  for (const file of files) {
    const layer = layerOf(file)
    const text = readFileSync(join(root, file), 'utf8')
    for (const [, name = ''] of text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
      const target = layerOf(relative(root, join(root, dirname(file), name)))
      t.ok(target === layer || may[layer]?.includes(target), `${file} may import ${name}`)
    }
  }
  t.end()
})

void t.test('the client takes types from the protocol, and nothing that runs; no package either', (t) => {
  for (const file of files.filter((file) => layerOf(file) === 'client')) {
    const text = readFileSync(join(root, file), 'utf8')
    for (const [line, types, name = ''] of text.matchAll(/^(?:import|export) (type )?[^]*?from '([^']+)'$/gm))
      t.ok(name.startsWith('./') || (types && name.startsWith('../protocol/')), `${file}: ${line}`)
    t.notMatch(text, /^import '/m, file)
  }
  t.end()
})

void t.test('only main, the command line and the embedded Postgres look at the process', (t) => {
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

void t.test('the command line loads nothing before it knows what is asked, but for its arguments', (t) => {
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
