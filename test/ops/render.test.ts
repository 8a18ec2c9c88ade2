// render.yaml is checked against facts of Render's published schema (https://render.com/schema/render.yaml.json, 2026):
// it has no unknown field and no invalid value. The schema has no licence, so this file contains only its facts.
// If RENDER_SCHEMA names a file, as in CI, render.yaml is checked against the original schema too.
// Beyond the schema, each reference resolves, and each command and setting exists.
import { existsSync, readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import t from 'tap'
import Type from '../../src/protocol/typebox.ts'
import { parse } from 'yaml'
import { Environment, readConfig } from '../../src/config/index.ts'
import { root } from '../support/processes.ts'
import { makeFault } from '../support/shapes.ts'

const { Object: object, Optional: optional } = Type
const text = Type.String()
const region = Type.Enum(['oregon', 'ohio', 'frankfurt', 'singapore', 'virginia'])
const sizes = ['4gb', '8gb', '16gb', '32gb', '64gb', '128gb', '192gb', '256gb', '384gb', '512gb']
const servicePlan = Type.Enum(['free', 'starter', 'standard', 'pro', 'pro plus', 'pro max', 'pro ultra'])
const databasePlan = Type.Enum(['free', 'basic-256mb', 'basic-1gb', 'basic-4gb', ...sizes.map((size) => `pro-${size}`)])
const addresses = Type.Array(object({ source: text, description: optional(text) }))
const scalar = Type.Union([text, Type.Number()])

const Variable = Type.Union([
  object({ key: text, value: scalar, previewValue: optional(scalar) }),
  object({ key: text, generateValue: Type.Boolean() }),
  object({ key: text, sync: Type.Boolean() }),
  object({
    key: text,
    fromDatabase: object({
      name: text,
      property: Type.Enum(['connectionString', 'host', 'port', 'user', 'password', 'database']),
    }),
  }),
])
const Database = object({
  name: text,
  databaseName: optional(text),
  user: optional(text),
  region: optional(region),
  plan: optional(databasePlan),
  diskSizeGB: optional(Type.Integer({ minimum: 1 })),
  storageAutoscalingEnabled: optional(Type.Boolean()),
  postgresMajorVersion: optional(Type.Enum(['10', '11', '12', '13', '14', '15', '16', '17', '18'])),
  highAvailability: optional(object({ enabled: Type.Boolean() })),
  ipAllowList: optional(addresses),
  readReplicas: optional(Type.Array(object({ name: optional(text) }))),
})
const Service = object({
  type: Type.Enum(['web', 'worker', 'pserv']),
  name: text,
  region: optional(region),
  plan: optional(servicePlan),
  runtime: Type.Enum(['docker', 'elixir', 'go', 'image', 'node', 'python', 'ruby', 'rust']),
  repo: optional(text),
  branch: optional(text),
  rootDir: optional(text),
  dockerfilePath: optional(text),
  dockerContext: optional(text),
  dockerCommand: optional(text),
  numInstances: optional(Type.Integer({ minimum: 1 })),
  healthCheckPath: optional(text),
  buildCommand: optional(text),
  startCommand: optional(text),
  preDeployCommand: optional(text),
  domains: optional(Type.Array(text)),
  envVars: optional(Type.Array(Variable)),
  autoDeployTrigger: optional(Type.Enum(['off', 'commit', 'checksPass'])),
  maxShutdownDelaySeconds: optional(Type.Integer({ minimum: 1, maximum: 300 })),
  ipAllowList: optional(addresses),
  renderSubdomainPolicy: optional(Type.Enum(['enabled', 'disabled'])),
})
const Blueprint = object({ databases: Type.Array(Database), services: Type.Array(Service) })
const fault = makeFault(Blueprint)

type Variables = { key: string; value?: string | number; fromDatabase?: { name: string } }[]
type Described = {
  databases: { name: string; region?: string; postgresMajorVersion?: string }[]
  services: ({ region?: string; envVars: Variables } & Record<string, unknown>)[]
}
const read = (): Described => parse(readFileSync(`${root}render.yaml`, 'utf8')) as Described
const serviceOf = (it: Described): Described['services'][0] => it.services[0] as Described['services'][0]
const file = read()
const service = serviceOf(file)

void t.test('render.yaml: is a valid blueprint by the facts of the published schema', (t) => {
  t.equal(fault(file), undefined)
  for (const break_ of [
    (it: Described) => (serviceOf(it)['healthCheckTimeout'] = 30),
    (it: Described) => (serviceOf(it)['plan'] = 'large'),
    (it: Described) => (serviceOf(it)['maxShutdownDelaySeconds'] = 301),
    (it: Described) => delete serviceOf(it)['runtime'],
    (it: Described) => serviceOf(it).envVars.push({ key: 'A', value: true as never }),
    (it: Described) => Object.assign(it.databases[0] as object, { postgresMajorVersion: 17 }),
  ]) {
    const broken = read()
    break_(broken)
    t.ok(fault(broken), `refused: ${String(break_)}`)
  }
  t.end()
})

const original = process.env['RENDER_SCHEMA']
void t.test('render.yaml: is valid by the schema', { skip: original ? false : 'RENDER_SCHEMA names no file' }, (t) => {
  const validate = new Ajv2020({ strict: false, allErrors: true }).compile(
    JSON.parse(readFileSync(original ?? '', 'utf8')) as object,
  )
  t.ok(validate(file), JSON.stringify(validate.errors))
  t.notOk(validate({ ...file, services: [{ type: 'web' }] }), 'an invalid blueprint is refused')
  t.end()
})

void t.test('render.yaml: its database, commands and settings exist, and production accepts the settings', (t) => {
  const { envVars } = service
  const names = file.databases.map(({ name }) => name)
  for (const { fromDatabase } of envVars) if (fromDatabase) t.ok(names.includes(fromDatabase.name))
  for (const { region } of file.databases)
    t.equal(region, service.region, 'the same region: latency to the database delays each message')
  t.ok(Number(file.databases[0]?.postgresMajorVersion) >= 14)
  for (const { key } of envVars) t.ok(key in Environment.properties || key === 'NODE_VERSION', key)
  const env = Object.fromEntries(envVars.map(({ key, value }) => [key, String(value ?? '')]))
  const config = readConfig({ ...env, DATABASE_URL: 'postgres://db/deck', JWT_SECRET: 'x'.repeat(44), RENDER: 'true' })
  t.ok(config.production)
  t.equal(config.host, '0.0.0.0')
  const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: Record<string, string> }
  t.match(env['NODE_VERSION'], /^24\.\d+\.\d+$/)
  const { buildCommand, preDeployCommand, startCommand } = service as Record<string, string>
  for (const [, name = ''] of (buildCommand ?? '').matchAll(/npm run (\w+)/g)) t.ok(name in scripts, name)
  for (const [, path = ''] of `${preDeployCommand} ${startCommand}`.matchAll(/dist\/([\w/]+)\.js/g))
    t.ok(existsSync(`${root}src/${path}.ts`), path)
  const flags = startCommand?.replace(/ \S+$/, '') ?? '?'
  t.ok(scripts['start']?.includes(flags), 'with the flags of npm start')
  // After SIGTERM the server stops within 10 s. Render must wait that long.
  t.ok(Number(service['maxShutdownDelaySeconds']) >= 10)
  t.end()
})
