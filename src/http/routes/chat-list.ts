// A mission's chats: GET /api/missions/{mission}/chat.
import type { FastifyInstance } from 'fastify'
import { allow } from '../../access/policy.ts'
import type { ChannelCursor, History } from '../../database/read/chat-history.ts'
import { mostQuestions, mostUnread, shown } from '../../database/read/chat-history.sql.ts'
import { deny } from '../../protocol/errors.ts'
import { Message } from '../../protocol/rows.ts'
import Type, { type Static } from '../../protocol/typebox.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { json } from '../plugins/negotiation.ts'
import { named } from '../plugins/validation.ts'
import { describe } from './openapi.ts'

/** The most chats on a page. */
const mostChannels = 500

const toCursor = ({ last, topic }: ChannelCursor): string => Buffer.from(`${last} ${topic}`).toString('base64url')
const fromCursor = (cursor: string): ChannelCursor => {
  const [, last, topic] =
    /^(\d{4,}-\d\d-\d\dT[\d:.]+Z) (missions\/[0-9a-f-]{36}\/chat\/[\w-]{1,32})$/.exec(
      Buffer.from(cursor, 'base64url').toString('latin1'),
    ) ?? []
  if (!last || !topic) throw deny('bad_request', 'cursor is invalid: use the `next` of an earlier page')
  return { last, topic }
}

const ChannelsQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: mostChannels, default: mostChannels })),
  cursor: Type.Optional(Type.String({ description: '`next` of the page before' })),
})
const LastMessage = Type.Object(
  {
    ...Message.properties,
    cut: Type.Optional(
      Type.Literal(true, {
        description: `the message is shortened: the text after ${shown.characters} characters, blocks of over ${shown.blockBytes / 1024} KiB (code_blocks is null then), or activity and usage of over ${shown.detailBytes} bytes (left out then)`,
      }),
    ),
  },
  { title: 'Newest message' },
)
const Channels = Type.Object({
  next: Type.Union([Type.String(), Type.Null()], { description: 'cursor of the next page' }),
  channels: Type.Array(
    Type.Object({
      citizen: Type.String(),
      last_seq: Type.Integer(),
      last_message: Type.Union([LastMessage, Type.Null()]),
      read_seq: Type.Integer({ description: 'last seq that the caller has read, by `read` on the socket' }),
      unread: Type.Integer({ description: `messages after read_seq, counted up to ${mostUnread}` }),
      listening: Type.Boolean({ description: 'something has worked for the citizen within the last 60 s' }),
      waiting: Type.Integer({ description: `questions that nobody has, counted up to ${mostQuestions}` }),
      working: Type.Integer({ description: `questions that are being worked on, counted up to ${mostQuestions}` }),
      failed: Type.Integer({ description: `questions whose attempts are used up, counted up to ${mostQuestions}` }),
    }),
  ),
})

export const chatListRoute = (app: FastifyInstance, history: Pick<History, 'channels'>): void => {
  app.get<{ Querystring: Static<typeof ChannelsQuery> }>(
    '/api/missions/:mission/chat',
    {
      schema: describe(
        'chat',
        "A mission's chats, those with the newest message first",
        ['mission'],
        { 200: Channels },
        { querystring: ChannelsQuery },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { limit = mostChannels, cursor } = request.query
      const before = cursor === undefined ? {} : { before: fromCursor(cursor) }
      const { mission, channels, next } = await history.channels(named(request).mission, actor.sub, {
        limit,
        ...before,
      })
      allow(actor, 'read', mission)
      return json(reply, JSON.stringify({ channels, next: next && toCursor(next) }))
    },
  )
}
