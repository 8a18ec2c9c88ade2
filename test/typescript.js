// Runs TypeScript: node --import ./test/typescript.js file.ts. esbuild removes the types; no types are checked.
// The JavaScript of each version of a file is cached in node_modules/.cache: 50 test files do not each transform the 150 files of src.
// (A test file reaches its first test after 1.4 s of CPU. With tap's own loader it took 3.1 s.)
// TypeBox is bundled into one file, as in the build: loading its 700 files takes 0.2 s.
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

// Loader hooks run in a separate thread, which loads this file too.
if (isMainThread) {
  // Optimizing short-lived code took a sixth of a test's CPU. With this flag V8 optimizes eight times later.
  // Only Node 20 has the flag. V8 reports an unknown flag on stderr, and tests expect no output there.
  if (process.versions.node.startsWith('20.')) setFlagsFromString('--interrupt-budget=1000000')
  mkdirSync(cache, { recursive: true })
  register(import.meta.url)
}

/** @type {(file: string, text: string) => Promise<string>} */
const transform = async (file, text) => {
  // Loaded only if a file is not in the cache: esbuild takes 30 ms to load.
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

// In a shard, one process runs many files: there, a test file's `t` is the subtest of that file.
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
