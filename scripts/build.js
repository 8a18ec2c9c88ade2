// Builds what runs, into dist: node scripts/build.js [server] [client] [page]. Without a name it builds all three.
// `server` is src without src/web, a file each; `client` the client as one file for pages; `page` the Deck page, by Vite.
// A product whose sources have not changed since its last build is not built again: their hash is kept in dist.
// Checks no types (npm run typecheck does). A build that fails leaves no page, and the server's files as they were.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { setPriority } from 'node:os'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const dist = join(root, 'dist')
/** Files that come with the packages they import, which the installed server then does not need: devDependencies. */
const bundles = ['protocol/typebox.ts', 'http/observability/opentelemetry.ts', 'integrations/mcp/sdk.ts'].map((file) =>
  join('src', file),
)

/** @type {(path: string) => string[]} The files below a path, or the path itself if it is a file. */
const filesOf = (path) =>
  statSync(join(root, path)).isDirectory()
    ? readdirSync(join(root, path))
        .sort()
        .flatMap((name) => filesOf(join(path, name)))
    : [path]
const serverFiles = () => filesOf('src').filter((file) => file.endsWith('.ts') && !file.startsWith(join('src', 'web')))

/**
 * Replaces each file as a whole: a server that starts meanwhile never reads half of one.
 * @type {(files: import('esbuild').OutputFile[]) => void}
 */
const write = (files) => {
  for (const { path, contents } of files) {
    if (existsSync(path) && readFileSync(path).equals(contents)) continue
    mkdirSync(dirname(path), { recursive: true })
    const half = `${path}.${process.pid}`
    writeFileSync(half, contents)
    renameSync(half, path)
  }
}

/**
 * What every call of esbuild has in common. It throws errors with their places and prints none.
 * @type {{ absWorkingDir: string, bundle: true, format: 'esm', write: false, logLevel: 'silent' }}
 */
const common = { absWorkingDir: root, bundle: true, format: 'esm', write: false, logLevel: 'silent' }
/** @type {(make: (build: typeof import('esbuild').build) => Promise<{ outputFiles: import('esbuild').OutputFile[] }[]>) => Promise<void>} */
const esbuild = async (make) => {
  const { build, stop } = await import('esbuild')
  try {
    write((await make(build)).flatMap(({ outputFiles }) => outputFiles))
  } finally {
    await stop()
  }
}

/** Each import of a file of ours stays an import, of the file that it becomes. @type {import('esbuild').Plugin} */
const ownImports = {
  name: 'own imports',
  setup({ onResolve }) {
    onResolve({ filter: /^\.{1,2}\/.*\.ts$/ }, ({ path, kind }) =>
      kind === 'entry-point' ? undefined : { path: path.replace(/ts$/, 'js'), external: true },
    )
  },
}

/**
 * Ends each bundle with the licenses of the packages that are in it.
 * @type {(result: import('esbuild').BuildResult<{ write: false, metafile: true }>) => { outputFiles: import('esbuild').OutputFile[] }}
 */
const withLicenses = ({ outputFiles, metafile }) => ({
  outputFiles: outputFiles.map((file) => {
    const inputs = Object.keys(metafile.outputs[relative(root, file.path).replaceAll(sep, '/')]?.inputs ?? {})
    const folders = new Set(inputs.flatMap((input) => /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(input)?.[0] ?? []))
    if (folders.size === 0) return file
    /** @type {Map<string, string[]>} */
    const licenses = new Map()
    for (const folder of folders) {
      const { name, version } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'))
      const license = readdirSync(join(root, folder)).find((each) => /^licen[sc]e/i.test(each))
      if (license === undefined) throw new Error(`${name} has no license to put into ${file.path}`)
      const text = readFileSync(join(root, folder, license), 'utf8').trim()
      licenses.set(text, [...(licenses.get(text) ?? []), `${name} ${version}`])
    }
    const notes = [...licenses].map(([text, names]) => `${names.join(', ')}:\n\n${text.replaceAll('*/', '* /')}`)
    return { ...file, contents: Buffer.from(`${file.text}/*\n${notes.join('\n\n')}\n*/\n`) }
  }),
})

const buildServer = () =>
  esbuild((build) => {
    /** @type {{ outbase: string, outdir: string, platform: 'node', target: string, charset: 'utf8', sourcemap: true }} */
    const server = {
      outbase: 'src',
      outdir: 'dist',
      platform: 'node',
      target: 'es2023',
      charset: 'utf8',
      sourcemap: true,
    }
    const own = serverFiles().filter((file) => !bundles.includes(file))
    return Promise.all([
      build({
        ...common,
        ...server,
        entryPoints: own,
        packages: 'external',
        treeShaking: false,
        plugins: [ownImports],
      }),
      build({ ...common, ...server, entryPoints: bundles, mainFields: ['module', 'main'], metafile: true }).then(
        withLicenses,
      ),
    ])
  })

const buildClient = () =>
  esbuild(async (build) => [
    await build({
      ...common,
      entryPoints: ['src/client/index.ts'],
      external: ['ws'],
      minify: true,
      target: 'es2022',
      sourcemap: true,
      outfile: 'dist/client/page/index.js',
    }),
  ])

const buildPage = async () => {
  const web = join(dist, 'web')
  // No server shows a page that is older than itself.
  rmSync(web, { recursive: true, force: true })
  const made = join(dist, `.web.${process.pid}`)
  const vite = join(root, 'node_modules', 'vite', 'bin', 'vite.js')
  const child = spawn(process.execPath, [vite, 'build', '--logLevel=warn', `--outDir=${made}`], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  // A server that starts beside goes first.
  try {
    if (child.pid !== undefined) setPriority(child.pid, 10)
  } catch {}
  const end = () => {
    child.kill()
    rmSync(made, { recursive: true, force: true })
  }
  process.once('exit', end)
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += String(data)))
  try {
    const [code, signal] = await once(child, 'close')
    if (code !== 0) throw new Error(output.trim() || `Vite ended (${signal ?? code})`)
    if (output) process.stderr.write(output)
    rmSync(web, { recursive: true, force: true })
    try {
      renameSync(made, web)
    } catch (error) {
      // Another build was first.
      if (!existsSync(join(web, 'index.html'))) throw error
    }
  } finally {
    process.off('exit', end)
    rmSync(made, { recursive: true, force: true })
  }
}

const tools = ['package-lock.json', 'tsconfig.json', 'scripts/build.js']
/** @type {Record<string, { sources: () => string[], result: string, make: () => Promise<void> }>} */
const products = {
  server: { sources: () => [...serverFiles(), ...tools], result: 'main.js', make: buildServer },
  client: {
    sources: () => ['src/client', 'src/protocol', ...tools].flatMap(filesOf),
    result: 'client/page/index.js',
    make: buildClient,
  },
  page: {
    sources: () => ['src/web', 'src/client', 'src/protocol', 'vite.config.ts', ...tools].flatMap(filesOf),
    result: 'web/index.html',
    make: buildPage,
  },
}
/** @typedef {keyof typeof products} Product */

/** @type {(name: Product) => { hash: string, kept: string }} */
const hashOf = (name) => {
  const hash = createHash('sha256')
  for (const file of products[name].sources()) hash.update(`${file}\0`).update(readFileSync(join(root, file)))
  return { hash: hash.digest('hex'), kept: join(dist, `.${name}-built`) }
}

/** @type {(name: Product) => boolean} Whether the product is there, of the present sources. */
export const isBuilt = (name) => {
  const { hash, kept } = hashOf(name)
  return existsSync(join(dist, products[name].result)) && existsSync(kept) && readFileSync(kept, 'utf8') === hash
}

/** @type {(name: Product) => Promise<void>} Builds the product. Rejects with the compiler's words. */
export const build = async (name) => {
  const { hash, kept } = hashOf(name)
  mkdirSync(dist, { recursive: true })
  rmSync(kept, { force: true })
  await products[name].make()
  writeFileSync(kept, hash)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const given = process.argv.slice(2)
  try {
    for (const name of given.length > 0 ? given : Object.keys(products)) {
      if (!(name in products)) throw new Error(`${name} can't be built: name ${Object.keys(products).join(', ')}`)
      if (!isBuilt(name)) await build(name)
    }
  } catch (error) {
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 1
  }
}
