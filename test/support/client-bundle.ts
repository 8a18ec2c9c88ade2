// The client bundle for pages, for tests that load or measure it.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Builds it as `npm run client` does. Returns the path of its file. */
export const buildClient = (): string => {
  const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: { client: string } }
  execFileSync('sh', ['-c', scripts.client], {
    cwd: root,
    env: { ...process.env, PATH: `${root}node_modules/.bin:${process.env['PATH']}` },
  })
  return `${root}dist/client/page/index.js`
}
