// /asyncapi.json is an AsyncAPI 3 document, valid by the official schema. Its references resolve.
// It contains every frame, each with valid examples.
import { createRequire } from 'node:module'
import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'
import t from 'tap'
import { clientMessages, serverMessages } from '../../src/protocol/catalog.ts'
import { startDeck, type Json } from '../support/server.ts'

const { instance } = await startDeck(t)
const answer = await instance.request('GET', '/asyncapi.json')
const document = answer.json
const part = (...path: string[]): Json => path.reduce<Json>((value, name) => (value[name] ?? {}) as Json, document)
const refsOf = (value: unknown): string[] => {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, inner]) =>
    name === '$ref' && typeof inner === 'string' ? [inner] : refsOf(inner),
  )
}
const ajv = new Ajv({ strict: false, allErrors: true })
addFormats.default(ajv)

void t.test('asyncapi: the document is valid by the official schema and needs no token', (t) => {
  t.equal(answer.status, 200)
  t.match(answer.headers.get('content-type'), /^application\/json/)
  const official = createRequire(import.meta.url)('@asyncapi/specs/schemas/3.0.0-without-$id.json') as object
  const valid = ajv.compile(official)
  t.ok(valid(document), ajv.errorsText(valid.errors))
  t.notOk(valid({ ...document, channels: { socket: { messages: 1 } } }), 'the schema refuses an invalid document')
  t.end()
})

void t.test('asyncapi: every reference resolves, and an operation uses only messages of its channel', (t) => {
  const refs = refsOf(document)
  t.ok(refs.length > 100)
  for (const ref of new Set(refs)) {
    const found = part(...ref.replace('#/', '').split('/'))
    t.ok(Object.keys(found).length > 0, ref)
  }
  for (const [name, operation] of Object.entries(part('operations')) as [string, Json][]) {
    const channel = (operation['channel'] as { $ref: string }).$ref
    const { messages, reply } = operation as { messages: unknown; reply?: { messages: unknown } }
    for (const ref of refsOf([messages, reply?.messages]))
      t.ok(ref.startsWith(`${channel}/messages/`), `${name}: ${ref}`)
  }
  t.end()
})

void t.test('asyncapi: every frame has a unique name and valid examples', (t) => {
  const all = [...clientMessages, ...serverMessages].map(({ name }) => name)
  const messages = part('components', 'messages') as Record<string, { payload: object; examples: { payload: Json }[] }>
  t.strictSame(Object.keys(messages).sort(), all.sort(), 'each frame once')
  const used = new Set(refsOf(part('operations')).map((ref) => ref.split('/').at(-1)))
  for (const [name, { payload, examples }] of Object.entries(messages)) {
    t.ok(used.has(name), `${name} is sent or received`)
    const valid = ajv.compile({ ...payload, components: document['components'] })
    t.ok(examples.length > 0)
    for (const example of examples) t.ok(valid(example.payload), `${name}: ${ajv.errorsText(valid.errors)}`)
    t.notOk(valid({ type: 'none' }), `${name} does not accept the type of a different frame`)
  }
  t.end()
})
