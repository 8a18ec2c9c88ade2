// The Dockerfile: versions are pinned, the server does not run as root and is not started by a shell, and a health check is set.
// Only the files that the Dockerfile copies enter the build context, and each of them exists.
import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'
import { Environment } from '../../src/config/index.ts'
import { root } from '../support/processes.ts'

type Step = { name: string; rest: string }
const steps: Step[] = readFileSync(`${root}Dockerfile`, 'utf8')
  .replace(/^#.*\n/gm, '')
  .replace(/\\\n\s*/g, ' ')
  .split('\n')
  .filter(Boolean)
  .map((line) => ({ name: /^\S+/.exec(line)?.[0] ?? '', rest: line.replace(/^\S+\s+/, '') }))
const all = (name: string): string[] => steps.filter((step) => step.name === name).map(({ rest }) => rest)
const last = steps.slice(steps.map(({ name }) => name).lastIndexOf('FROM'))
const lastOf = (name: string): string | undefined => last.findLast((step) => step.name === name)?.rest
const ignored = readFileSync(`${root}.dockerignore`, 'utf8')
  .split('\n')
  .filter((line) => line && !line.startsWith('#'))

void t.test('Dockerfile: every base image has the exact Node version that Render runs', (t) => {
  const versions = new Set(all('FROM').map((from) => /^node:(\d+\.\d+\.\d+)-\w+-slim( AS \w+)?$/.exec(from)?.[1]))
  t.equal(versions.size, 1)
  t.match(readFileSync(`${root}render.yaml`, 'utf8'), new RegExp(`value: ${[...versions].join()}\n`))
  t.end()
})

void t.test('Dockerfile: the last stage is not root, runs no build step and has a health check', (t) => {
  t.equal(lastOf('USER'), 'node')
  t.notOk(
    last.some(({ name }) => name === 'RUN'),
    'the last stage runs no command',
  )
  t.match(lastOf('HEALTHCHECK'), /CMD \[.*\/healthz/)
  for (const name of ['ENTRYPOINT', 'CMD'])
    t.doesNotThrow(() => JSON.parse(lastOf(name) ?? '') as unknown, `${name} without a shell`)
  const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: Record<string, string> }
  const command = [
    ...(JSON.parse(lastOf('ENTRYPOINT') ?? '') as string[]),
    ...(JSON.parse(lastOf('CMD') ?? '') as string[]),
  ]
  t.ok(scripts['start']?.includes(command.slice(0, -1).join(' ')), 'with the flags of npm start')
  t.match(all('RUN').join('\n'), /npm ci --omit=dev --omit=optional --ignore-scripts/)
  for (const run of all('RUN')) if (/npm ci/.test(run)) t.match(run, /--ignore-scripts/)
  t.strictSame(all('ADD'), [])
  for (const set of [...all('ENV'), ...all('ARG')])
    for (const [, key = ''] of set.matchAll(/(\w+)=/g)) {
      t.ok(key in Environment.properties, key)
      t.notMatch(key, /SECRET|URL|TOKEN|PASSWORD/)
    }
  t.end()
})

void t.test('Dockerfile: the build context contains only the files that are copied, and each of them exists', (t) => {
  const copied = all('COPY')
    .filter((rest) => !rest.startsWith('--from'))
    .flatMap((rest) => rest.split(' ').slice(0, -1))
  t.equal(ignored[0], '*', 'everything is ignored except the listed files')
  t.strictSame(
    [...new Set(copied)].sort(),
    ignored
      .slice(1)
      .map((line) => line.replace(/^!/, ''))
      .sort(),
  )
  for (const path of copied) t.ok(existsSync(`${root}${path}`), path)
  t.end()
})
