// The socket's AsyncAPI document, built once from the frames' schemas: commands, answers, events and signals.
// The document is written from the server's view: it receives a client's frames and sends its own.
import type { TSchema } from '../../protocol/typebox.ts'
import { clientMessages, eventMessages, serverMessages, pushedMessages, type Message } from '../../protocol/catalog.ts'
import { Message as ChatMessage, Mission, DodItem, TestRun } from '../../protocol/rows.ts'
import { Cleared, LogChunk } from '../../protocol/events.ts'
import { Limits } from '../../protocol/server-frames.ts'
import { citizenPattern } from '../../protocol/topics.ts'

type Json = Record<string, unknown>

// Schemas that many messages share.
const shared: Record<string, TSchema> = { Message: ChatMessage, Mission, DodItem, TestRun, LogChunk, Cleared, Limits }
const nameOf = new Map<unknown, string>(Object.entries(shared).map(([name, schema]) => [schema, name]))
const ref = (path: string): { $ref: string } => ({ $ref: `#/${path}` })

/** Returns a schema as JSON. Shared schemas become references; examples are left out, because the message has them. */
const toJson = (schema: unknown, whole = true): unknown => {
  if (typeof schema !== 'object' || schema === null) return schema
  const name = nameOf.get(schema)
  if (name !== undefined && !whole) return ref(`components/schemas/${name}`)
  if (Array.isArray(schema)) return schema.map((part) => toJson(part, false))
  return Object.fromEntries(
    Object.entries(schema)
      .filter(([key]) => key !== 'examples')
      .map(([key, value]) => [key, toJson(value, false)]),
  )
}

const toMessage = (message: Message): Json => {
  const { name, type, summary, schema, examples } = message
  // An answer has the ID of its frame, if the frame has one.
  const correlated = clientMessages.includes(message) || type === 'ok' || type === 'error'
  return {
    name,
    title: name,
    summary,
    contentType: 'application/json',
    ...(correlated ? { correlationId: ref('components/correlationIds/id') } : {}),
    payload: toJson(schema),
    examples: examples.map((payload) => ({ payload })),
  }
}

const channelOf = (address: string, description: string, more: Json, query: Json): Json => ({
  address,
  description,
  ...more,
  messages: Object.fromEntries(
    [...clientMessages, ...serverMessages].map(({ name }) => [name, ref(`components/messages/${name}`)]),
  ),
  bindings: {
    ws: {
      method: 'GET',
      query: { type: 'object', properties: query },
      headers: {
        type: 'object',
        properties: {
          'Sec-WebSocket-Protocol': {
            type: 'string',
            description: 'deck.v1 and, from browsers, bearer.<token>; the answer names deck.v1 only',
          },
        },
      },
      bindingVersion: '0.1.0',
    },
  },
})

const ticket = { type: 'string', description: 'from POST /api/tickets, instead of a token: opens one socket, once' }
const channels = {
  socket: channelOf('/api/ws', 'The socket: any number of topics, text frames of one JSON object each', {}, { ticket }),
  chat: channelOf(
    '/api/missions/{mission}/chat/{citizen}/ws',
    'The same socket, subscribed to this chat from the start',
    {
      parameters: {
        mission: { description: "the mission's UUID or number", examples: ['47'] },
        citizen: { description: `the citizen's name: ${citizenPattern}`, examples: ['rafael'] },
      },
    },
    {
      ticket,
      after: { type: 'integer', minimum: 0, description: 'the last seq that the client has' },
      epoch: { type: 'string', description: 'the epoch of `after`' },
    },
  ),
}

const operationsOf = (channel: string): Json => {
  const to = (name: string) => ref(`channels/${channel}/messages/${name}`)
  const all = (messages: Message[]) => messages.map(({ name }) => to(name))
  const prefix = channel === 'socket' ? '' : `${channel}.`
  const commands = clientMessages.map(({ name, type, summary }) => [
    `${prefix}${type}`,
    {
      action: 'receive',
      channel: ref(`channels/${channel}`),
      summary,
      messages: [to(name)],
      reply: { channel: ref(`channels/${channel}`), messages: [to(`ok.${type}`), to('server.error')] },
    },
  ])
  const pushed = [
    ['events', 'Events of the subscribed topics: each once, in seq order, without gaps', eventMessages],
    ['signals', 'Signals: no seq, never stored', pushedMessages],
  ] as const
  return Object.fromEntries([
    ...commands,
    ...pushed.map(([name, summary, messages]) => [
      `${prefix}${name}`,
      { action: 'send', channel: ref(`channels/${channel}`), summary, messages: all([...messages]) },
    ]),
  ]) as Json
}

/** Returns the document for a version of the server. */
export const makeAsyncApi = (version: string): Json => ({
  asyncapi: '3.0.0',
  info: {
    title: 'Mission Deck',
    version,
    description:
      'The socket of Mission Deck. A client frame with an `id` gets exactly one `ok` or `error` with the same `id`, in any order. ' +
      'Clients ignore unknown members. Each topic can also be read over HTTP under the same name: /openapi.json.',
    license: { name: 'MIT', url: 'https://opensource.org/license/mit' },
  },
  defaultContentType: 'application/json',
  servers: Object.fromEntries(
    ['wss', 'ws'].map((protocol) => [
      protocol,
      {
        host: '{host}',
        protocol,
        description: protocol === 'wss' ? 'behind TLS' : 'on this machine',
        variables: { host: { default: '127.0.0.1:3000', description: 'address of the server' } },
        security: ['token', 'subprotocol', 'ticket'].map((name) => ref(`components/securitySchemes/${name}`)),
      },
    ]),
  ),
  channels,
  operations: { ...operationsOf('socket'), ...operationsOf('chat') },
  components: {
    messages: Object.fromEntries(
      [...clientMessages, ...serverMessages].map((message) => [message.name, toMessage(message)]),
    ),
    schemas: Object.fromEntries(Object.entries(shared).map(([name, schema]) => [name, toJson(schema)])),
    correlationIds: {
      id: { location: '$message.payload#/id', description: 'a number or a string, chosen by the client' },
    },
    securitySchemes: {
      token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
      subprotocol: {
        type: 'httpApiKey',
        name: 'Sec-WebSocket-Protocol',
        in: 'header',
        description: 'for browsers: `deck.v1, bearer.<token>`',
      },
      ticket: {
        type: 'httpApiKey',
        name: 'ticket',
        in: 'query',
        description: 'from POST /api/tickets: for one socket',
      },
    },
  },
})
