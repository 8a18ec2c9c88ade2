// The release: workflows have no more permissions than they need. The package is published only for a tag, with provenance.
// The CHANGELOG begins with the current version.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { parse } from 'yaml'
import { root } from '../support/processes.ts'

type Job = {
  'timeout-minutes': number
  strategy?: Strategy
  permissions?: Record<string, string>
  needs?: string
  steps: { uses?: string; run?: string; with?: Record<string, unknown>; env?: Record<string, string> }[]
}
type Strategy = { matrix: { node: string[] } }
type Workflow = { on: Record<string, unknown>; permissions: Record<string, string>; jobs: Record<string, Job> }
const folder = `${root}.github/workflows/`
const workflows = readdirSync(folder).map((file): [string, Workflow] => [
  file,
  parse(readFileSync(folder + file, 'utf8')) as Workflow,
])
const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as {
  version: string
  engines: { node: string }
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
  scripts: Record<string, string>
  publishConfig: unknown
  repository: { url: string }
}

void t.test('workflows: read-only by default, jobs have timeouts, actions are pinned by digest', (t) => {
  t.strictSame(workflows.map(([file]) => file).sort(), ['ci.yml', 'release.yml'])
  for (const [file, { permissions, jobs }] of workflows) {
    t.strictSame(permissions, { contents: 'read' }, file)
    for (const [name, job] of Object.entries(jobs)) {
      t.ok(job['timeout-minutes'] <= 60, `${name} has a timeout`)
      for (const { uses, run, with: given } of job.steps) {
        // The YAML parser drops the comment with the version after the digest.
        if (uses) t.match(uses, /^[\w-]+\/[\w-]+@[0-9a-f]{40}$/, uses)
        if (uses?.startsWith('actions/checkout')) t.equal(given?.['persist-credentials'], false)
        t.notMatch(run ?? '', /\$\{\{/, 'no expression is interpolated into a script')
        for (const [, test = ''] of (run ?? '').matchAll(/tap .*?(test\/\S+\.ts)/g)) t.ok(existsSync(root + test), test)
        for (const [, script = ''] of (run ?? '').matchAll(/npm run (\S+)/g)) t.ok(script in manifest.scripts, script)
      }
    }
  }
  t.end()
})

void t.test('CI: the tests run on each major of Node that engines names, and on the release that is deployed', (t) => {
  const [, ci] = workflows.find(([file]) => file === 'ci.yml') ?? []
  const tested = ci?.jobs['test']?.strategy?.matrix.node ?? []
  const ranges = manifest.engines.node.split(' || ').map((range) => range.replace(/^\D+/, ''))
  t.strictSame(
    tested.map((version) => version.split('.')[0]),
    ranges.map((range) => range.split('.')[0]),
  )
  t.match(tested[0], new RegExp(`^${ranges[0]}\\.0$`), 'the oldest release of the oldest major')
  const deployed = tested.at(-1) ?? 'none'
  t.match(readFileSync(`${root}render.yaml`, 'utf8'), `value: ${deployed}\n`)
  for (const [file, { jobs }] of workflows)
    for (const { uses, with: given } of Object.values(jobs).flatMap(({ steps }) => steps))
      if (uses?.startsWith('actions/setup-node'))
        t.ok([deployed, '${{ matrix.node }}'].includes(String(given?.['node-version'])), file)
  t.equal(readFileSync(`${root}.nvmrc`, 'utf8').trim(), deployed.split('.')[0])
  t.end()
})

void t.test('CI: a commit subject is a Conventional Commit of at most 72 characters', (t) => {
  const check = (...subjects: string[]) =>
    spawnSync('sh', ['scripts/check-subjects.sh'], { cwd: root, input: `${subjects.join('\n')}\n`, encoding: 'utf8' })
  const good = ['feat: a dev loop', 'fix(client)!: é'.padEnd(72, 'é'), 'test: find “a” (#1)']
  t.equal(check(...good).status, 0)
  for (const bad of ['A dev loop', 'feat:no space', 'feature: x', 'fix: '.padEnd(73, 'x')]) {
    const { status, stderr } = check(...good, bad)
    t.equal(status, 1, bad)
    t.ok(stderr.includes(bad) && !stderr.includes('a dev loop'), 'only the invalid subject is named')
  }
  t.equal(check().status, 0)
  t.end()
})

void t.test('dependabot: every ignored package is a direct dependency', (t) => {
  const { updates } = parse(readFileSync(`${root}.github/dependabot.yml`, 'utf8')) as {
    updates: { ignore?: { 'dependency-name': string }[] }[]
  }
  const names = updates.flatMap(({ ignore = [] }) => ignore.map((one) => one['dependency-name']))
  t.ok(names.length > 0)
  for (const name of names) t.ok(name in manifest.dependencies || name in manifest.devDependencies, name)
  t.end()
})

void t.test('release: is made for a tag, after all tests, with provenance', (t) => {
  const [, release] = workflows.find(([file]) => file === 'release.yml') ?? []
  t.strictSame(Object.keys(release?.on ?? {}), ['push'])
  t.match(release?.on['push'], { tags: [/^v/] })
  const { pack, publish } = release?.jobs ?? {}
  const runs = pack?.steps.map(({ run }) => run ?? '') ?? []
  const at = (what: RegExp): number => runs.findIndex((run) => what.test(run))
  t.ok(at(/^\.ci\/run$/) > 0 && at(/^\.ci\/run$/) < at(/npm pack/), 'the tests run before npm pack')
  t.equal(pack?.permissions, undefined, 'the job that runs the code of dependencies is read-only')
  t.strictSame(publish?.permissions, { contents: 'write', 'id-token': 'write' })
  t.equal(publish?.needs, 'pack')
  const writing = publish?.steps.map(({ run }) => run ?? '').join('\n') ?? ''
  t.match(writing, /npm publish .*--ignore-scripts --provenance/)
  t.notMatch(writing, /npm (ci|install|run)|npx|node /, 'the job with write permission runs no code of dependencies')
  t.notOk(publish?.steps.some(({ uses }) => uses?.startsWith('actions/checkout')))
  t.strictSame(manifest.publishConfig, { access: 'public', provenance: true })
  t.match(manifest.repository.url, /^git\+https:\/\//)
  t.end()
})

void t.test('release: the version is semantic and is the first heading of the CHANGELOG', (t) => {
  t.match(manifest.version, /^\d+\.\d+\.\d+(-[\w.]+)?$/)
  const heading = /^## (.+)$/m.exec(readFileSync(`${root}CHANGELOG.md`, 'utf8'))?.[1]
  t.match(
    heading,
    new RegExp(`^${manifest.version.replaceAll('.', '\\.')}( \\(unreleased\\)| \\(\\d{4}-\\d\\d-\\d\\d\\))?$`),
  )
  t.end()
})
