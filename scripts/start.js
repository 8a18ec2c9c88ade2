// `npm start`: builds what is not built and runs the server, in this process. Each step is a line with the seconds since the process began.
// The page is built beside the server, which serves a plain page until then. The first line comes before anything else is loaded.
// No lines with --json and in production: then nothing is printed but the log and the address.
import { existsSync, readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'

const env = { ...(existsSync('.env') ? parseEnv(readFileSync('.env', 'utf8')) : {}), ...process.env }
const quiet = process.argv.includes('--json') || env['NODE_ENV'] === 'production' || env['RENDER']

/** @type {(text: string) => void} */
const step = (text) => {
  if (!quiet) process.stdout.write(`${(performance.now() / 1000).toFixed(1).padStart(5)} s  ${text}\n`)
}
step('starting Mission Deck')

const { build, isBuilt } = await import('./build.js')
const missing = ['server', 'client'].filter((name) => !isBuilt(name))
if (missing.length > 0) {
  step('compiling the server')
  try {
    for (const name of missing) await build(name)
  } catch (error) {
    process.stderr.write(`Mission Deck did not start: it can't be compiled\n${error.message}\n`)
    process.exit(1)
  }
}

if (isBuilt('page')) await import('../dist/main.js')
else {
  step('building the page; until it is built, the server shows a plain one')
  const building = build('page')
  building.catch(() => {})
  const { setPageState } = await import('../dist/main.js')
  setPageState('building')
  try {
    await building
    setPageState('found')
    step('the page is built')
  } catch (error) {
    setPageState('failed')
    process.stderr.write(`The page could not be built; the server runs without it:\n${error.message}\n`)
  }
}
