// What a release stands on: the workflows give away no more rights than they need, the package goes out with its provenance and only for
// a tag, and the version that is being made has its lines in the CHANGELOG.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { parse } from 'yaml'
import { root } from './process.ts'

type Job = {
  'timeout-minutes': number
  permissions?: Record<string, string>
  steps: { uses?: string; run?: string; with?: Record<string, unknown>; env?: Record<string, string> }[]
}
type Workflow = { on: Record<string, unknown>; permissions: Record<string, string>; jobs: Record<string, Job> }
const folder = `${root}.github/workflows/`
const workflows = readdirSync(folder).map((file): [string, Workflow] => [
  file,
  parse(readFileSync(folder + file, 'utf8')) as Workflow,
])
const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as {
  version: string
  scripts: Record<string, string>
  publishConfig: unknown
  repository: { url: string }
}

void t.test('workflows may read, and what more a job may is said there; each ends, and names versions', (t) => {
  t.strictSame(workflows.map(([file]) => file).sort(), ['ci.yml', 'release.yml'])
  for (const [file, { permissions, jobs }] of workflows) {
    t.strictSame(permissions, { contents: 'read' }, file)
    for (const [name, job] of Object.entries(jobs)) {
      t.ok(job['timeout-minutes'] <= 60, `${name} ends`)
      for (const { uses, run, with: given } of job.steps) {
        if (uses) t.match(uses, /^[\w-]+\/[\w-]+@v\d/, uses)
        if (uses?.startsWith('actions/checkout')) t.equal(given?.['persist-credentials'], false)
        t.notMatch(run ?? '', /\$\{\{/, 'nothing is put into a script from outside')
        for (const [, test = ''] of (run ?? '').matchAll(/tap .*?(test\/\S+\.ts)/g)) t.ok(existsSync(root + test), test)
        for (const [, script = ''] of (run ?? '').matchAll(/npm run (\S+)/g)) t.ok(script in manifest.scripts, script)
      }
    }
  }
  t.end()
})

void t.test('a release is made for a tag, after all tests, with provenance', (t) => {
  const [, release] = workflows.find(([file]) => file === 'release.yml') ?? []
  t.strictSame(Object.keys(release?.on ?? {}), ['push'])
  t.match(release?.on['push'], { tags: [/^v/] })
  const job = release?.jobs['publish']
  t.strictSame(job?.permissions, { contents: 'write', 'id-token': 'write' })
  const runs = job?.steps.map(({ run }) => run ?? '') ?? []
  const at = (what: RegExp): number => runs.findIndex((run) => what.test(run))
  t.ok(at(/^\.ci\/run$/) > 0 && at(/^\.ci\/run$/) < at(/npm publish --provenance/), 'tests first')
  t.strictSame(manifest.publishConfig, { access: 'public', provenance: true })
  t.match(manifest.repository.url, /^git\+https:\/\//)
  t.end()
})

void t.test('the version is a semantic one, and stands first in the CHANGELOG', (t) => {
  t.match(manifest.version, /^\d+\.\d+\.\d+(-[\w.]+)?$/)
  const heading = /^## (.+)$/m.exec(readFileSync(`${root}CHANGELOG.md`, 'utf8'))?.[1]
  t.match(
    heading,
    new RegExp(`^${manifest.version.replaceAll('.', '\\.')}( \\(unreleased\\)| \\(\\d{4}-\\d\\d-\\d\\d\\))?$`),
  )
  t.end()
})
