// Validation of requests: strict decoding of bodies, schemas compiled by TypeBox, and path parameters parsed by hand.
import type { FastifyInstance, FastifyRequest, FastifySchemaCompiler } from 'fastify'
import Type, { type TSchema } from '../../protocol/typebox.ts'
import { makeCheck } from '../../protocol/check.ts'
import { deny } from '../../protocol/errors.ts'
import { toBound } from '../../protocol/filters.ts'
import { decode, membersOf, parseJson, storable } from '../../protocol/text.ts'
import { parseCitizen, parseId, parseMission, parseSub } from '../../protocol/topics.ts'

/** Accepts bodies of one content type only. */
const takeBody = (app: FastifyInstance, type: string, parse: (body: Buffer) => unknown): void => {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(type, { parseAs: 'buffer' }, (_request, body: Buffer, done) => {
    let value: unknown
    try {
      value = parse(body)
    } catch (error) {
      return done(error as Error)
    }
    done(null, value)
  })
}

/** Accepts JSON bodies only. Invalid UTF-8, invalid JSON, U+0000 and lone surrogates are `bad_request`. */
export const takeJson = (app: FastifyInstance): void =>
  takeBody(app, 'application/json', (body) => (body.length === 0 ? undefined : parseJson(decode(body))))

/** The JSON texts of the members of bodies that `takeExactJson` parsed. */
const memberTexts = new WeakMap<object, ReadonlyMap<string, string>>()

/** As takeJson, and keeps the JSON text of some members, because Postgres stores them as sent: `textOf` returns it. */
export const takeExactJson = (scope: FastifyInstance, members: readonly string[]): void =>
  takeBody(scope, 'application/json', (body) => {
    if (body.length === 0) return undefined
    const text = decode(body)
    const value = parseJson(text, members)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) memberTexts.set(value, membersOf(text))
    return value
  })

/** Returns the JSON text of a body's member, with numbers as they were sent. Returns null or undefined if the member is. */
export const textOf = <Body extends object>(body: Body, name: keyof Body & string): string | null | undefined =>
  body[name] == null ? (body[name] as null | undefined) : memberTexts.get(body)?.get(name)

/** Accepts text/plain bodies only. */
export const takeText = (app: FastifyInstance): void => takeBody(app, 'text/plain', decode)

/** Converts query values to integers where the schema requires one. Nothing else is coerced or clamped. */
const readNumbers = (
  schema: TSchema & { properties?: Record<string, { type?: string }> },
  query: Record<string, unknown>,
) =>
  Object.fromEntries(
    Object.entries(query).map(([name, value]) => [
      name,
      schema.properties?.[name]?.type === 'integer' && typeof value === 'string' && /^-?\d{1,16}$/.test(value)
        ? Number(value)
        : value,
    ]),
  )

export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart = 'body' }) => {
  const check = makeCheck(schema)
  return (data: unknown) => {
    const value = httpPart === 'querystring' ? readNumbers(schema, data as Record<string, unknown>) : data
    if (
      httpPart === 'querystring' &&
      !Object.values(value as object).every((v) => typeof v !== 'string' || storable(v))
    )
      return { error: deny('bad_request', 'the query must not contain U+0000') }
    return check.fits(value) ? { value } : { error: deny('bad_request', check.why(value, httpPart)) }
  }
}

/** The query parameter `at`: the state at a time. */
export const AsOf = {
  at: Type.Optional(
    Type.String({
      maxLength: 40,
      description: 'the state at this time: RFC 3339 with a zone (in a URL, write + as %2B); a future time means now',
    }),
  ),
}

/** The query's `at` in the form that Postgres reads; undefined without one. */
export const asOf = ({ query }: FastifyRequest): string | undefined => {
  const { at } = query as { at?: string }
  return at === undefined ? undefined : toBound('at', at, Math.floor)
}

/** The name of a citizen in the path of the registry. */
export const nameOf = ({ params }: FastifyRequest): string => parseCitizen((params as { name: string }).name)

/** The path's parameters, parsed. Throws `bad_request` for a malformed one. */
export const named = (request: FastifyRequest) => {
  const params = request.params as Record<string, string>
  return {
    get mission() {
      return parseMission(params['mission'] ?? '')
    },
    get citizen() {
      return parseCitizen(params['citizen'] ?? '')
    },
    get message() {
      return parseId(params['message'] ?? '', 'a message')
    },
    get sub() {
      return parseSub(params['sub'] ?? '')
    },
    get key() {
      return parseId(params['key'] ?? '', 'a key')
    },
    get item() {
      return parseId(params['item'] ?? '', 'an item')
    },
    get task() {
      return parseId(params['task'] ?? '', 'a task')
    },
    get run() {
      return parseId(params['run'] ?? '', 'a test run')
    },
    get request() {
      return parseId(params['request'] ?? '', 'a request')
    },
    get question() {
      return parseId(params['question'] ?? '', 'a question')
    },
    get a() {
      return parseId(params['a'] ?? '', 'a test run')
    },
    get b() {
      return parseId(params['b'] ?? '', 'a test run')
    },
  }
}
