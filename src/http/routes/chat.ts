// Chats: a mission's channels, history, posting, clearing.
import type { FastifyInstance, FastifyReply } from 'fastify'
import Type, { type Static } from '../../protocol/typebox.ts'
import { allow, refusal } from '../../access/policy.ts'
import type { UserRate } from '../../live/connections/user-rate.ts'
import { toEntry } from '../../commands/send.ts'
import { answerBytes, fitting } from '../../database/bounds.ts'
import type { Changes } from '../../database/write/changes.ts'
import type { Missions } from '../../database/read/mission-cache.ts'
import { mostUnread, shown } from '../../database/read/chat-history.sql.ts'
import type { ChannelCursor, History } from '../../database/read/chat-history.ts'
import type { Past } from '../../database/read/state-at.ts'
import type { Replay } from '../../database/read/chat-stream.ts'
import { mostRanked, type Search } from '../../database/search/chat-search.ts'
import type { Writer } from '../../database/write/writer.ts'
import { deny } from '../../protocol/errors.ts'
import { eventStream } from '../../protocol/event-stream.ts'
import { filterFields, isFiltered } from '../../protocol/filters.ts'
import { Message, NewMessage, type MissionRights } from '../../protocol/rows.ts'
import { MessageSnippet } from '../../protocol/snippet.ts'
import type { Answers } from '../plugins/response-limits.ts'
import { describe } from './openapi.ts'
import { tagOf } from '../plugins/compression.ts'
import type { Following } from '../streams/chat-events.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { asOf, AsOf, named } from '../plugins/validation.ts'
import { json, Limit, lines, preferred } from '../plugins/negotiation.ts'
import { toLines, type Streams } from '../streams/ndjson.ts'

const seq = (description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description }))

/** Chats of a page of their list. */
const mostChannels = 500

const toCursor = ({ last, topic }: ChannelCursor): string => Buffer.from(`${last} ${topic}`).toString('base64url')
const fromCursor = (cursor: string): ChannelCursor => {
  const [, last, topic] =
    /^(\d{4,}-\d\d-\d\dT[\d:.]+Z) (missions\/[0-9a-f-]{36}\/chat\/[\w-]{1,32})$/.exec(
      Buffer.from(cursor, 'base64url').toString('latin1'),
    ) ?? []
  if (!last || !topic) throw deny('bad_request', 'cursor is not one of ours')
  return { last, topic }
}

const HistoryQuery = Type.Object({
  after: seq('the messages that follow this seq, oldest first'),
  before: seq('messages below this seq: with after, up to it; without, the newest of them'),
  limit: Limit,
  ...AsOf,
  ...filterFields,
  highlight: Type.Optional(
    Type.Union([Type.Literal('true'), Type.Literal('false')], {
      description: 'with q: each message of the page has a snippet, where what was looked for is marked',
    }),
  ),
  order: Type.Optional(
    Type.Union([Type.Literal('seq'), Type.Literal('rank')], {
      description: `with q: rank gives the best first, of the newest ${mostRanked} that fit`,
    }),
  ),
  epoch: Type.Optional(
    Type.String({ description: 'of an event stream: the epoch that `after` is of; conflict if it is another one' }),
  ),
})
/** What an event stream takes of it: it has no end that anything could bound. */
const ofEvents = ['after', 'epoch']
const LastEventId = Type.Object({
  'last-event-id': Type.Optional(
    Type.String({ description: 'of an event stream: the seq of the last event that came; counts before `after`' }),
  ),
})
const Events = Type.String({
  description:
    'events: the id is the seq, the name that of the event, the data its row on one line; a comment every 20 s',
})
const Shown = Type.Object(
  { ...Message.properties, snippet: Type.Optional(MessageSnippet) },
  { title: 'Message of a page' },
)
const History = Type.Object({
  messages: Type.Array(Shown, {
    description: 'in ascending seq (or the best first); fewer than asked for where they would have over 4 MiB',
  }),
  last_seq: Type.Integer({ description: 'where the chat stands, in the same snapshot' }),
  has_more: Type.Boolean({ description: 'whether there are more in the direction that was read' }),
  epoch: Type.String({ description: 'another one: drop what you hold' }),
})
const Histories = {
  description:
    'a page; with Accept: application/x-ndjson every message up to the head, one a line, in ascending seq; with Accept: ' +
    'text/event-stream events, live',
  headers: {
    'Deck-Last-Seq': Type.Integer({ description: 'of a stream: last_seq when it began, up to which it goes' }),
    'Deck-Epoch': Type.String({ description: 'of a stream: epoch' }),
  },
  content: {
    'application/json': { schema: History },
    [lines]: { schema: Message },
    [eventStream]: { schema: Events },
  },
}
type Page = Static<typeof History>
const ChannelsQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: mostChannels, default: mostChannels })),
  cursor: Type.Optional(Type.String({ description: 'next of the page before' })),
})
const LastMessage = Type.Object(
  {
    ...Message.properties,
    cut: Type.Optional(
      Type.Literal(true, {
        description: `something was left out: the text after ${shown.characters} characters, or blocks of over ${shown.blockBytes / 1024} KiB (code_blocks is null then)`,
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
      read_seq: Type.Integer({ description: 'how far the asking sub has read, by `read` on the socket' }),
      unread: Type.Integer({ description: `messages after it, counted up to ${mostUnread}` }),
    }),
  ),
})

/**
 * Sends a page of history. One that nothing can be added to any more is named by what it holds, but for `last_seq`: it stays the
 * same while its chat goes on. What clearing, SQL or a filter take from it makes it another one.
 */
const page = (
  reply: FastifyReply,
  { after, before, order }: { after?: number; before?: number; order?: 'seq' | 'rank' | undefined },
  found: Page,
): FastifyReply => {
  const { last_seq, epoch } = found
  let { has_more } = found
  let messages = JSON.stringify(found.messages)
  // Rows were read by their bytes as they are stored; as JSON they may have some times as many.
  if (Buffer.byteLength(messages) > answerBytes) {
    const kept = fitting(found.messages, after === undefined && order !== 'rank' ? 'last' : 'first')
    has_more ||= kept.length < found.messages.length
    messages = JSON.stringify(kept)
  }
  const closed = before === undefined ? after !== undefined && has_more : before <= last_seq + 1
  if (closed) reply.header('etag', tagOf(messages, String(has_more), epoch))
  return json(reply, `{"messages":${messages},${JSON.stringify({ last_seq, has_more, epoch }).slice(1)}`)
}

export const chatRoutes = (
  app: FastifyInstance,
  parts: {
    answers: Answers
    changes: Changes
    missions: Missions
    history: History
    past: Past
    search: Search
    replay: Replay
    streams: Streams
    following: Following
    writer: Writer
    rate: UserRate
  },
): void => {
  const { answers, changes, missions, history, past, search, replay, streams, following, writer, rate } = parts
  const chat = '/api/missions/:mission/chat/:citizen'

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

  app.get<{ Querystring: Static<typeof HistoryQuery> }>(
    chat,
    {
      schema: describe(
        'chat',
        'History: a page, all of it as a stream, or a stream that goes on live',
        ['mission', 'citizen'],
        { 200: Histories },
        {
          querystring: HistoryQuery,
          headers: LastEventId,
          description:
            'With `Accept: application/x-ndjson` every message that fits is streamed; `limit` is refused. A connection that ' +
            'is reset in between means that messages are missing: ask again, `after` the last one. With ' +
            '`Accept: text/event-stream` all events after `after` are sent (without it the newest 50 messages), and then those to ' +
            'come, until the token ends; `before` and `limit` are refused, an `after` beyond the head is conflict.',
        },
      ),
    },
    async (request, reply) => {
      const { mission: ref, citizen } = named(request)
      const { limit, epoch, highlight, order, ...bounds } = request.query
      delete bounds.at
      const at = asOf(request)
      const form = preferred(request, lines, eventStream)
      if (form !== 'application/json') answers.leave(request)
      if (form === eventStream) {
        const other = Object.keys(HistoryQuery.properties).find(
          (name) => name in request.query && !ofEvents.includes(name),
        )
        if (other !== undefined) throw deny('bad_request', `a stream of events goes on live: it takes no ${other}`)
        const { after } = bounds
        return following.open(request, reply, ref, citizen, {
          ...(after === undefined ? {} : { after }),
          ...(epoch === undefined ? {} : { epoch }),
        })
      }
      if (form === lines) {
        if (limit !== undefined) throw deny('bad_request', 'a stream has no limit: after and before bound it')
        if (highlight ?? order) throw deny('bad_request', 'a stream goes along seq, without snippets')
        if (at !== undefined) throw deny('bad_request', 'at is of a page')
        return streams(request, reply, async () => {
          const first = await replay.from(ref, citizen, bounds, actorOf(request).sub)
          return { first: toLines(first), headers: { 'deck-last-seq': first.head, 'deck-epoch': first.epoch } }
        })
      }
      const query = { limit: limit ?? 50, ...bounds }
      const may = (mission: MissionRights | undefined): void => allow(actorOf(request), 'read', mission)
      if ((highlight ?? order) && bounds.q === undefined)
        throw deny('bad_request', 'highlight and order are of a search: they need q')
      let stood = Infinity
      if (at !== undefined) {
        const { mission, known } = await past.chat(ref, citizen, at)
        may(mission)
        stood = known()
        query.before = Math.min(query.before ?? Infinity, stood + 1, Number.MAX_SAFE_INTEGER)
      }
      const asThen = <F extends { last_seq: number }>(found: F): F => ({
        ...found,
        last_seq: Math.min(found.last_seq, stood),
      })
      if (isFiltered(bounds)) {
        await answers.search(request)
        const how = { sub: actorOf(request).sub, allow: may, gone: () => reply.raw.destroyed }
        const manner = { byRank: order === 'rank', highlight: highlight === 'true' }
        const found = await search.page(ref, citizen, query, how, manner)
        return page(reply, { ...query, order }, asThen(found))
      }
      const { mission, ...found } = await history.page(ref, citizen, query)
      may(mission)
      return page(reply, { ...query, order }, asThen(found))
    },
  )

  app.post<{ Body: NewMessage }>(
    chat,
    {
      schema: describe(
        'chat',
        'Post a message; 200 if its key was seen before',
        ['mission', 'citizen'],
        { 201: Message, 200: Message },
        { body: NewMessage, description: 'The header Idempotency-Key may give the key instead of the body.' },
      ),
    },
    async (request, reply) => {
      const since = performance.now()
      const actor = actorOf(request)
      const { mission: ref, citizen } = named(request)
      const mission = await missions.find(ref, (m) => refusal(actor, 'chat.post', m, citizen) === null)
      allow(actor, 'chat.post', mission, citizen)
      const key = request.headers['idempotency-key'] ?? request.body.key ?? null
      if (typeof key !== 'object' && !/^[\x20-\x7e]{1,64}$/.test(key))
        throw deny('bad_request', 'a key is 1 to 64 characters of ASCII')
      if (request.body.key != null && request.body.key !== key)
        throw deny('bad_request', 'header and body give different keys')
      rate.take(actor)
      const { message, seen } = await writer.append(
        toEntry(actor, mission, citizen, { ...request.body, key: key as string | null }),
        since,
      )
      return json(reply.status(seen ? 200 : 201), message)
    },
  )

  app.delete(
    chat,
    { schema: describe('chat', 'Clear a chat (admin); its seq goes on', ['mission', 'citizen'], { 204: Type.Null() }) },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, citizen } = named(request)
      await changes.clearChat(mission, (m) => allow(actor, 'chat.clear', m), citizen, actor.sub)
      return reply.status(204).send()
    },
  )
}
