// API documents: the shared parts of the OpenAPI document, its route, the socket's AsyncAPI document, and the reference at /docs.
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifySchema } from 'fastify'
import Type, { type TSchema } from '../../protocol/typebox.ts'
import { errorCodes } from '../../protocol/errors.ts'
import { citizenPattern } from '../../protocol/topics.ts'
import { makeAsyncApi } from './asyncapi.ts'
import { json } from '../plugins/negotiation.ts'

export const ErrorBody = Type.Object(
  {
    detail: Type.String({ description: 'for people; may change' }),
    code: Type.Enum(errorCodes, { description: 'stable, for programs' }),
    error_id: Type.Optional(Type.String({ description: 'internal errors only: the error has this ID in the log' })),
    seq: Type.Optional(Type.Integer({ description: 'cursor conflicts: the latest seq of the topic' })),
    epoch: Type.Optional(Type.String({ description: 'cursor conflicts: the current epoch' })),
    offset: Type.Optional(Type.Integer({ description: 'draft conflicts: the length of the draft' })),
    maybe: Type.Optional(Type.Literal(true, { description: 'a message without a key may have been saved' })),
  },
  { title: 'Error' },
)

const paths: Record<string, TSchema> = {
  mission: Type.String({ description: "the mission's UUID or number" }),
  citizen: Type.String({ description: `the citizen's name: ${citizenPattern}` }),
  message: Type.String({ description: "the message's UUID" }),
  sub: Type.String({ description: "the person's sub, URL-encoded", minLength: 1, maxLength: 512 }),
  name: Type.String({ description: `the citizen's name: ${citizenPattern}` }),
  key: Type.String({ description: "the key's UUID" }),
  item: Type.String({ description: "the item's UUID" }),
  run: Type.String({ description: "the run's UUID" }),
  request: Type.String({ description: "the request's UUID" }),
  question: Type.String({ description: "the message's UUID" }),
  task: Type.String({ description: "the task's UUID: that of the question" }),
  a: Type.String({ description: 'UUID of the first run' }),
  b: Type.String({ description: 'UUID of the second run' }),
}

/** A response with several media types. */
export type Forms = {
  description: string
  headers?: Record<string, TSchema>
  content: Record<string, { schema: TSchema }>
}

/** Returns a route's schema. `answers` are the successful responses by status; all errors have one form. */
export const describe = (
  tag: string,
  summary: string,
  path: (keyof typeof paths)[],
  answers: Record<number, TSchema | Forms>,
  more: Pick<FastifySchema, 'body' | 'querystring' | 'headers'> & { description?: string } = {},
): FastifySchema => ({
  tags: [tag],
  summary,
  security: [{ token: [] }],
  // Only for the document: path parameters are parsed by hand, for clearer errors.
  ...(path.length > 0
    ? { params: Type.Object(Object.fromEntries(path.map((name) => [name, paths[name] as TSchema]))) }
    : {}),
  response: { ...answers, '4xx': ErrorBody, '5xx': ErrorBody },
  ...more,
})

const unchanged = Type.Null({ description: 'unchanged since the response with the ETag of If-None-Match' })

// Allows only what the reference needs: requests to this server only, also over plain HTTP.
const docsPolicy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

export const installDocs = async (app: FastifyInstance, version: string): Promise<void> => {
  await app.register(swagger, {
    // Every GET response has an ETag (http/plugins/compression), so it may be 304.
    transform: ({ schema, url, route }) => {
      const response = schema?.response as Record<string, unknown> | undefined
      return [route.method].flat().includes('GET') && response
        ? { schema: { ...schema, response: { ...response, 304: unchanged } }, url }
        : { schema, url }
    },
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Mission Deck',
        version,
        description:
          'A realtime chat backend that runs on nothing but Postgres. What can be read here under /api/ can be followed ' +
          'live over the WebSocket at /api/ws (subprotocol deck.v1) under the same name; /asyncapi.json describes the socket.',
        license: { name: 'MIT', identifier: 'MIT' },
      },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } },
      tags: ['missions', 'chat', 'citizens', 'dod', 'tests', 'requests', 'inbox', 'people', 'access', 'health'].map(
        (name) => ({
          name,
        }),
      ),
    },
  })
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: docsPolicy,
    uiConfig: { tryItOutEnabled: true, validatorUrl: null },
  })
}

/** Serves the documents. Must be called after all routes are registered. */
export const serveDocuments = (app: FastifyInstance, version: string): void => {
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
  const socket = JSON.stringify(makeAsyncApi(version))
  app.get('/asyncapi.json', { schema: { hide: true } }, (_request, reply) => json(reply, socket))
}
