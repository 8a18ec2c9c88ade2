// Runs TypeScript: node --import ./test/typescript.js file.ts. Types are taken out by esbuild, once for each content of a file: what comes
// out is kept under node_modules/.cache, so that 50 test files don't each transform the 150 files of src.
// (tap's own loader did: a test file was at its first test after 3.1 s of a busy core, and is after 1.4.) Checks no types.
// TypeBox comes in one file, as the build has it: its 700 take 0.2 s.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { register } from 'node:module'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { isMainThread, threadId } from 'node:worker_threads'

const { version } = /** @type {{ version: string }} */ (
  JSON.parse(readFileSync(new URL('../node_modules/esbuild/package.json', import.meta.url), 'utf8'))
)
const typebox = fileURLToPath(new URL('../src/protocol/typebox.ts', import.meta.url))
const lock = fileURLToPath(new URL('../package-lock.json', import.meta.url))
const cache = fileURLToPath(new URL('../node_modules/.cache/test-typescript/', import.meta.url))

// The hooks live in a thread of their own.
if (isMainThread) {
  // Of a test's CPU a sixth was spent on optimizing code that soon ends: V8 is to wait eight times as long. Only Node 20 has the flag;
  // V8 reports an unknown one on stderr, where tests expect nothing.
  if (process.versions.node.startsWith('20.')) setFlagsFromString('--interrupt-budget=1000000')
  mkdirSync(cache, { recursive: true })
  register(import.meta.url)
}

/** @type {(file: string, text: string) => Promise<string>} */
const transform = async (file, text) => {
  // Only where something is to be transformed: it takes 30 ms to load.
  const { buildSync, transformSync } = await import('esbuild')
  if (file !== typebox)
    return transformSync(text, { loader: 'ts', target: 'es2023', sourcemap: 'inline', sourcefile: file }).code
  const { outputFiles } = buildSync({
    entryPoints: [file],
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'es2023',
    write: false,
  })
  return outputFiles[0]?.text ?? ''
}

// In a shard, where one process runs many files, `t` is the file's own.
const shim = process.env['DECK_SHARDS'] && new URL('shards/tap.ts', import.meta.url).href

/** @type {import('node:module').ResolveHook} */
export const resolve = (specifier, context, next) => {
  if (shim && specifier === 'tap' && context.parentURL?.endsWith('.test.ts')) return { url: shim, shortCircuit: true }
  return next(specifier, context)
}

/** @type {import('node:module').LoadHook} */
export const load = async (url, context, next) => {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return next(url, context)
  const file = fileURLToPath(url)
  const text = readFileSync(file, 'utf8')
  const made = file === typebox ? readFileSync(lock, 'utf8') : ''
  const kept = `${cache}${createHash('sha256').update(`${version} ${file} ${text} ${made}`).digest('hex')}.js`
  let source
  try {
    source = readFileSync(kept, 'utf8')
  } catch {
    source = await transform(file, text)
    const half = `${kept}.${process.pid}.${threadId}`
    writeFileSync(half, source)
    renameSync(half, kept)
  }
  return { format: 'module', source, shortCircuit: true }
}
