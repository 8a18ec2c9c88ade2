// Traces: the trace of a message has the message's id and spans its frame, its batch and its delivery by each instance.
// All instances agree which messages are traced. Without an endpoint no tracing code is loaded.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { freshDatabase } from '../support/database.ts'
import { alice, door, makeMission, startInstance, until } from '../support/server.ts'
import { root, spawnServer } from '../support/processes.ts'

type Value = { stringValue?: string; intValue?: number; boolValue?: boolean }
type Span = {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes: { key: string; value: Value }[]
  links?: { traceId: string; spanId: string }[]
  status?: { code?: number; message?: string }
  /** The resource's service.instance.id. */
  instance: string
}
type Resource = { attributes: Span['attributes'] }
type Body = { resourceSpans: { resource: Resource; scopeSpans: { spans: Omit<Span, 'instance'>[] }[] }[] }

/** Receives spans by OTLP over HTTP. */
const startReceiver = async (t: Test) => {
  const spans: Span[] = []
  const resources: Resource[] = []
  const server = createServer((request, response) => {
    void (async () => {
      let text = ''
      for await (const part of request) text += String(part)
      for (const { resource, scopeSpans } of (JSON.parse(text) as Body).resourceSpans) {
        resources.push(resource)
        const instance = valueOf(resource, 'service.instance.id') as string
        for (const span of scopeSpans.flatMap(({ spans }) => spans)) spans.push({ ...span, instance })
      }
      response.setHeader('content-type', 'application/json').end('{}')
    })()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return { spans, resources, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces` }
}
const valueOf = ({ attributes }: Resource, name: string): unknown =>
  Object.values(attributes.find(({ key }) => key === name)?.value ?? {})[0]
const traceOf = (id: unknown): string => String(id).replaceAll('-', '')
const took = ({ startTimeUnixNano, endTimeUnixNano }: Span): number =>
  Number(BigInt(endTimeUnixNano) - BigInt(startTimeUnixNano)) / 1e6

void t.test("traces: a message's trace has its frame, its commit and its delivery by both instances", async (t) => {
  const { spans, resources, url } = await startReceiver(t)
  const database = await freshDatabase(t, true)
  const traces = { url, service: 'deck-of-a-test', ratio: 1 }
  const [a, b] = [await startInstance(t, database.url, { traces }), await startInstance(t, database.url, { traces })]
  const { id } = await makeMission(a)
  const topic = `missions/${id}/chat/rafael`
  const [writer, reader] = [await a.connect(alice), await b.connect(alice)]
  for (const client of [writer, reader]) await client.ask({ type: 'subscribe', topic })
  const sent = await writer.ask({ type: 'send', topic, message: 'traced', key: 'k' })
  const again = await writer.ask({ type: 'send', topic, message: 'traced', key: 'k' })
  t.match(again, { type: 'ok', seq: 1 })
  const posted = await b.request('POST', `/api/${topic}`, alice, { message: 'by HTTP' })
  const [inserted] = await database.query(
    `insert into chat_messages (mission_id, citizen, sender, message) values ($1, 'rafael', 'user', 'by SQL') returning id`,
    [id],
  )
  await until(() => reader.events(topic).length === 3 && writer.events(topic).length === 3, 'the events')
  const refused = await writer.ask({ type: 'send', topic, message: '', key: 'k2' })
  t.match(refused, { code: 'bad_request' })
  // A stopping instance exports its buffered spans.
  await Promise.all([a.close(), b.close()])

  const { id: message } = sent['message'] as { id: string }
  const mine = spans.filter(({ traceId }) => traceId === traceOf(message))
  t.strictSame(mine.map(({ name }) => name).sort(), ['deck.commit', 'deck.deliver', 'deck.deliver', 'deck.send'])
  const [send] = mine.filter(({ name }) => name === 'deck.send')
  const [commit] = mine.filter(({ name }) => name === 'deck.commit')
  const deliveries = mine.filter(({ name }) => name === 'deck.deliver')
  if (!send || !commit) return t.fail('no send, or no commit')
  t.notOk(send.parentSpanId, 'the trace begins with the frame')
  for (const span of [commit, ...deliveries])
    t.equal(span.parentSpanId, send.spanId, `${span.name} is a child of the send`)
  t.equal(new Set(deliveries.map(({ instance }) => instance)).size, 2, 'each instance delivers it')
  t.equal(deliveries.filter(({ instance }) => instance === send.instance).length, 1)
  for (const span of mine) t.ok(took(span) >= 0 && took(span) < 10_000, `${span.name} took ${took(span)} ms`)
  t.ok(BigInt(send.startTimeUnixNano) <= BigInt(commit.startTimeUnixNano))
  t.match([valueOf(send, 'deck.topic'), valueOf(send, 'deck.seq'), valueOf(send, 'deck.by')], [topic, 1, 'socket'])

  const batch = spans.find(({ spanId }) => spanId === commit.links?.[0]?.spanId)
  t.equal(batch?.name, 'deck.batch')
  t.ok(
    batch?.links?.some((link) => link.traceId === send.traceId && link.spanId === send.spanId),
    'the batch links back',
  )

  const repeated = spans.find((span) => valueOf(span, 'deck.seen') === true)
  t.match(repeated?.links, [{ traceId: traceOf(message) }], 'a repetition links to the first message')
  const byHttp = spans.filter(({ traceId }) => traceId === traceOf(posted.json['id']))
  t.equal(valueOf(byHttp.find(({ name }) => name === 'deck.send') ?? send, 'deck.by'), 'http')
  t.equal(byHttp.filter(({ name }) => name === 'deck.deliver').length, 2)
  const bySql = spans.filter(({ traceId }) => traceId === traceOf(inserted?.['id']))
  t.strictSame(
    bySql.map(({ name }) => name),
    ['deck.deliver', 'deck.deliver'],
    'a message by SQL has its deliveries only',
  )
  for (const resource of resources) t.equal(valueOf(resource, 'service.name'), 'deck-of-a-test')
  t.notMatch(JSON.stringify(spans), /alice|by HTTP|"traced"/, 'no span has a subject or a message text')
})

void t.test('traces: a sampled message is traced by both instances, any other by none', async (t) => {
  const { spans, url } = await startReceiver(t)
  const database = await freshDatabase(t, true)
  const traces = { url, service: 'deck', ratio: 0.3 }
  const [a, b] = [await startInstance(t, database.url, { traces }), await startInstance(t, database.url, { traces })]
  const { id } = await makeMission(a)
  const topic = `missions/${id}/chat/rafael`
  const [writer, reader] = [await a.connect(alice), await b.connect(alice)]
  for (const client of [writer, reader]) await client.ask({ type: 'subscribe', topic })
  await Promise.all(Array.from({ length: 200 }, (_, n) => writer.ask({ type: 'send', topic, message: `number ${n}` })))
  await until(() => reader.events(topic).length === 200 && writer.events(topic).length === 200, 'the events')
  await Promise.all([a.close(), b.close()])
  const sent = spans.filter(({ name }) => name === 'deck.send')
  // 200 messages at a ratio of 0.3: at most 10 or at least 150 would be practically impossible.
  t.ok(sent.length > 10 && sent.length < 150, `${sent.length} of 200`)
  for (const { traceId } of sent)
    t.equal(spans.filter((span) => span.traceId === traceId && span.name === 'deck.deliver').length, 2)
  t.equal(spans.filter(({ name }) => name === 'deck.deliver').length, 2 * sent.length)
})

void t.test('traces: the built server exports through the bundled OpenTelemetry', async (t) => {
  const { spans, resources, url } = await startReceiver(t)
  const database = await freshDatabase(t, true)
  const env = {
    DATABASE_URL: database.url,
    OTEL_EXPORTER_OTLP_ENDPOINT: url.replace('/v1/traces', ''),
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment=tests',
  }
  const server = await spawnServer(t, env)
  const instance = door(t, server.url)
  const { id } = await makeMission(instance)
  const { json } = await instance.request('POST', `/api/missions/${id}/chat/rafael`, alice, { message: 'hi' })
  server.process.kill('SIGTERM')
  t.equal(await server.exited(), 0)
  const mine = spans.filter(({ traceId }) => traceId === traceOf(json['id']))
  t.strictSame(mine.map(({ name }) => name).sort(), ['deck.commit', 'deck.send'])
  for (const resource of resources) t.equal(valueOf(resource, 'deployment.environment'), 'tests')
})

// A separate process, because the exporter keeps retrying for a while after the stop.
void t.test('traces: an unreachable receiver delays neither messages nor a stop', async (t) => {
  const database = await freshDatabase(t, true)
  const env = { DATABASE_URL: database.url, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' }
  const server = await spawnServer(t, env)
  const instance = door(t, server.url)
  const { id } = await makeMission(instance)
  t.equal((await instance.request('POST', `/api/missions/${id}/chat/rafael`, alice, { message: 'hi' })).status, 201)
  const begun = performance.now()
  server.process.kill('SIGTERM')
  t.equal(await server.exited(), 0)
  t.ok(performance.now() - begun < 5000, 'the stop is not delayed')
})

void t.test('traces: without an endpoint no tracing code is loaded', async (t) => {
  const hook = `export const load = (url, context, next) => {
    if (/opentelemetry\\.js|@opentelemetry\\/sdk|\\/observability\\/traces\\.js|pino-pretty/.test(url))
      console.error('LOADED ' + url)
    return next(url, context)
  }`
  const register = `import { register } from 'node:module'; register('data:text/javascript,' + ${JSON.stringify(encodeURIComponent(hook))})`
  const watched = [
    process.execPath,
    `--import=data:text/javascript,${encodeURIComponent(register)}`,
    `${root}dist/main.js`,
  ]
  const database = await freshDatabase(t, true)
  const without = await spawnServer(t, { DATABASE_URL: database.url }, watched)
  without.process.kill('SIGTERM')
  await without.exited()
  t.notMatch(without.output(), /LOADED/)
  const env = { DATABASE_URL: database.url, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' }
  const traced = await spawnServer(t, env, watched)
  await until(() => traced.output().includes('LOADED'), 'the line of the hook')
  t.match(traced.output(), /LOADED .*observability\/traces\.js/, 'with an endpoint it is loaded')
})
