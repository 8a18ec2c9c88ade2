// Checks of what tests receive: every frame against the schema of its type (and of the frame that it answers), every HTTP
// answer against the OpenAPI document. An undocumented member is a fault here, although clients must ignore it.
// Schemas are compiled when first needed.
import { clientMessages, serverMessages } from '../../src/protocol/catalog.ts'
import { Compile, type TSchema } from '../../src/protocol/typebox.ts'
import type { Json } from './server.ts'

/** A schema as JSON in which objects with listed members allow no others. */
const close = (schema: unknown): unknown => {
  if (typeof schema !== 'object' || schema === null) return schema
  if (Array.isArray(schema)) return schema.map(close)
  const closed = Object.fromEntries<unknown>(Object.entries(schema).map(([name, part]) => [name, close(part)]))
  return 'properties' in closed && closed['type'] === 'object' ? { ...closed, additionalProperties: false } : closed
}

/** Compiles a schema. Returns a function that reports a value's fault, if any. */
export const makeFault = (schema: unknown): ((value: unknown) => string | undefined) => {
  let compiled: ReturnType<typeof Compile> | undefined
  return (value) => {
    compiled ??= Compile(close(schema) as TSchema)
    if (compiled.Check(value)) return
    return compiled
      .Errors(value)
      .map(({ instancePath, message }) => `${instancePath} ${message}`)
      .join('; ')
  }
}

const faults = new Map([...clientMessages, ...serverMessages].map(({ name, schema }) => [name, makeFault(schema)]))
const oks = serverMessages.filter(({ type }) => type === 'ok')

/** The documented name of a server's frame; undefined for an `ok` if the type of the frame it answers is unknown. */
export const nameOfFrame = (frame: Json, asked?: string): string | undefined => {
  const { type, event } = frame
  if (type === 'ok') return asked === undefined ? undefined : `ok.${asked}`
  return type === 'event' ? `event.${String(event)}` : `server.${String(type)}`
}

/** Returns the fault of a frame with this documented name, if any. */
export const faultOf = (name: string, frame: Json): string | undefined => {
  const fault = faults.get(name)
  return fault ? fault(frame) : `${name} is not documented`
}

/** Returns the fault of a server's frame, if any. `asked`: the type of the frame that it answers, if known. */
export const faultOfFrame = (frame: Json, asked?: string): string | undefined => {
  const name = nameOfFrame(frame, asked)
  if (name !== undefined) return faultOf(name, frame)
  return oks.some((ok) => !faultOf(ok.name, frame)) ? undefined : 'no documented ok has this form'
}

type Documented = { content?: Record<string, { schema?: unknown }> }
type Operation = { responses?: Record<string, Documented> }
type Route = { path: RegExp; methods: Record<string, Operation>; faults: Map<string, ReturnType<typeof makeFault>> }
let routes: Route[] = []

/** Sets the OpenAPI document, which is the same for all servers. */
export const learnRoutes = (document: Json): void => {
  if (routes.length > 0) return
  routes = Object.entries(document['paths'] as Record<string, Route['methods']>)
    // Literal path segments match before parameters.
    .sort(([a], [b]) => a.split('{').length - b.split('{').length)
    .map(([path, methods]) => ({
      path: new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]+')}$`),
      methods,
      faults: new Map(),
    }))
}

/** Returns the fault of an HTTP answer, if any. Ignores paths that the document does not list, such as a page. */
export const faultOfAnswer = (
  method: string,
  url: string,
  { status, headers, text, json }: { status: number; headers: Headers; text: string; json: Json },
): string | undefined => {
  const path = url.split('?')[0] ?? ''
  const route = routes.find((route) => route.path.test(path))
  const responses = route?.methods[method.toLowerCase()]?.responses
  if (!route || !responses) return
  const documented = responses[status] ?? responses[`${Math.floor(status / 100)}XX`]
  if (!documented) return `the status ${status} is not documented`
  const type = (headers.get('content-type') ?? '').split(';')[0] ?? ''
  if (text === '' && !documented.content) return
  const form = documented.content?.[type]
  if (!form) return `${type} is not documented`
  const name = `${method} ${status} ${type}`
  const fault = route.faults.get(name) ?? makeFault(form.schema)
  route.faults.set(name, fault)
  if (type === 'application/json') return fault(json)
  if (type === 'text/plain') return fault(text)
  // JSON objects, one per line.
  for (const line of text.split('\n').slice(0, -1)) {
    const wrong = fault(JSON.parse(line))
    if (wrong !== undefined) return wrong
  }
  return
}
