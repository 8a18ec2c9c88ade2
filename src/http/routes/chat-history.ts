// A chat's history: GET /api/missions/{mission}/chat/{citizen}. Accept selects a page, NDJSON, or an event stream.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { allow } from '../../access/policy.ts'
import { answerBytes, fitting } from '../../database/bounds.ts'
import type { History } from '../../database/read/chat-history.ts'
import type { Replay } from '../../database/read/chat-stream.ts'
import type { Past } from '../../database/read/state-at.ts'
import { mostRanked, type Search } from '../../database/search/chat-search.ts'
import { deny } from '../../protocol/errors.ts'
import { eventStream } from '../../protocol/event-stream.ts'
import { filterFields, isFiltered } from '../../protocol/filters.ts'
import { Message, type MissionRights } from '../../protocol/rows.ts'
import { MessageSnippet } from '../../protocol/snippet.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import Type, { type Static } from '../../protocol/typebox.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { tagOf } from '../plugins/compression.ts'
import { json, Limit, lines, preferred } from '../plugins/negotiation.ts'
import type { Answers } from '../plugins/response-limits.ts'
import { asOf, AsOf, named } from '../plugins/validation.ts'
import type { Following } from '../streams/chat-events.ts'
import { toLines, type Streams } from '../streams/ndjson.ts'
import { describe } from './openapi.ts'

const seq = (description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description }))

const HistoryQuery = Type.Object({
  after: seq('the messages that follow this seq, oldest first'),
  before: seq('messages below this seq: with after, up to it; without, the newest of them'),
  limit: Limit,
  ...AsOf,
  ...filterFields,
  highlight: Type.Optional(
    Type.Union([Type.Literal('true'), Type.Literal('false')], {
      description: 'with q: each message of the page has a snippet, with the matches marked',
    }),
  ),
  order: Type.Optional(
    Type.Union([Type.Literal('seq'), Type.Literal('rank')], {
      description: `with q: rank returns the best matches first, out of the newest ${mostRanked}`,
    }),
  ),
  epoch: Type.Optional(
    Type.String({
      description: 'event streams only: the epoch of `after`; `conflict` if the database has a different one',
    }),
  ),
})
/** The parameters that an event stream supports: it has no end, so it takes no bounds and no filters. */
const eventParameters = ['after', 'epoch']
const LastEventId = Type.Object({
  'last-event-id': Type.Optional(
    Type.String({ description: 'event streams: the seq of the last received event; takes precedence over `after`' }),
  ),
})
const Events = Type.String({
  description:
    'server-sent events: id is the seq, event the name of the event, data its row on one line; a comment every 20 s',
})
const Shown = Type.Object(
  { ...Message.properties, snippet: Type.Optional(MessageSnippet) },
  { title: 'Message of a page' },
)
const History = Type.Object({
  messages: Type.Array(Shown, {
    description: 'by ascending seq (or the best first); fewer than `limit` if they would exceed 4 MiB',
  }),
  last_seq: Type.Integer({ description: 'latest seq of the chat, from the same snapshot' }),
  has_more: Type.Boolean({ description: 'whether more messages exist in the direction of the page' }),
  epoch: Type.String({ description: 'if it changes, discard your copy of the chat' }),
})
const Histories = {
  description:
    'a page; with Accept: application/x-ndjson every message up to the latest seq, one a line, in ascending seq; with Accept: ' +
    'text/event-stream live events',
  headers: {
    'Deck-Last-Seq': Type.Integer({ description: 'streams only: last_seq at the start, where the stream ends' }),
    'Deck-Epoch': Type.String({ description: 'streams only: the epoch' }),
  },
  content: {
    'application/json': { schema: History },
    [lines]: { schema: Message },
    [eventStream]: { schema: Events },
  },
}
type Page = Static<typeof History>
/**
 * Sends a page. The ETag of a page, if no new message can join it, is a hash of its content without `last_seq`, so that the ETag stays
 * the same while the chat grows. A message that is cleared, deleted by SQL or excluded by a filter changes it.
 */
const sendPage = (
  reply: FastifyReply,
  { after, before, order }: { after?: number; before?: number; order?: 'seq' | 'rank' | undefined },
  found: Page,
): FastifyReply => {
  const { last_seq, epoch } = found
  let { has_more } = found
  let messages = JSON.stringify(found.messages)
  // Rows were limited by their stored bytes; as JSON they may be several times as large.
  if (Buffer.byteLength(messages) > answerBytes) {
    const kept = fitting(found.messages, after === undefined && order !== 'rank' ? 'last' : 'first')
    has_more ||= kept.length < found.messages.length
    messages = JSON.stringify(kept)
  }
  const closed = before === undefined ? after !== undefined && has_more : before <= last_seq + 1
  if (closed) reply.header('etag', tagOf(messages, String(has_more), epoch))
  return json(reply, `{"messages":${messages},${JSON.stringify({ last_seq, has_more, epoch }).slice(1)}`)
}

type Asked = FastifyRequest<{ Querystring: Static<typeof HistoryQuery> }>
type Chat = { ref: MissionRef; citizen: string }

export const chatHistoryRoute = (
  app: FastifyInstance,
  parts: {
    answers: Answers
    history: History
    past: Past
    search: Search
    replay: Replay
    streams: Streams
    following: Following
  },
): void => {
  const { answers, history, past, search, replay, streams, following } = parts

  const asEvents = (request: Asked, reply: FastifyReply, { ref, citizen }: Chat) => {
    const { query } = request
    const other = Object.keys(HistoryQuery.properties).find((name) => name in query && !eventParameters.includes(name))
    if (other !== undefined) throw deny('bad_request', `${other} is not supported for event streams`)
    const { after, epoch } = query
    return following.open(request, reply, ref, citizen, {
      ...(after === undefined ? {} : { after }),
      ...(epoch === undefined ? {} : { epoch }),
    })
  }

  const asLines = (request: Asked, reply: FastifyReply, { ref, citizen }: Chat) => {
    const { limit, highlight, order, at, ...bounds } = request.query
    delete bounds.epoch
    if (limit !== undefined) throw deny('bad_request', 'limit is not supported for streams: use after and before')
    if (highlight ?? order) throw deny('bad_request', 'highlight and order are not supported for streams')
    if (at !== undefined) throw deny('bad_request', 'at is not supported for streams')
    return streams(request, reply, async () => {
      const first = await replay.from(ref, citizen, bounds, actorOf(request).sub)
      return { first: toLines(first), headers: { 'deck-last-seq': first.head, 'deck-epoch': first.epoch } }
    })
  }

  const asPage = async (request: Asked, reply: FastifyReply, { ref, citizen }: Chat, at: string | undefined) => {
    const { limit = 50, highlight, order, ...bounds } = request.query
    delete bounds.at
    delete bounds.epoch
    const query = { limit, ...bounds }
    const may = (mission: MissionRights | undefined): void => allow(actorOf(request), 'read', mission)
    if ((highlight ?? order) && bounds.q === undefined) throw deny('bad_request', 'highlight and order need q')
    let lastSeq = Infinity
    if (at !== undefined) {
      const { mission, known } = await past.chat(ref, citizen, at)
      may(mission)
      lastSeq = known()
      query.before = Math.min(query.before ?? Infinity, lastSeq + 1, Number.MAX_SAFE_INTEGER)
    }
    const atThatTime = <F extends { last_seq: number }>(found: F): F => ({
      ...found,
      last_seq: Math.min(found.last_seq, lastSeq),
    })
    if (isFiltered(bounds)) {
      await answers.search(request)
      const how = { sub: actorOf(request).sub, allow: may, gone: () => reply.raw.destroyed }
      const manner = { byRank: order === 'rank', highlight: highlight === 'true' }
      const found = await search.page(ref, citizen, query, how, manner)
      return sendPage(reply, { ...query, order }, atThatTime(found))
    }
    const { mission, ...found } = await history.page(ref, citizen, query)
    may(mission)
    return sendPage(reply, { ...query, order }, atThatTime(found))
  }

  app.get<{ Querystring: Static<typeof HistoryQuery> }>(
    '/api/missions/:mission/chat/:citizen',
    {
      schema: describe(
        'chat',
        'History: a page, all of it as a stream, or a live stream of events',
        ['mission', 'citizen'],
        { 200: Histories },
        {
          querystring: HistoryQuery,
          headers: LastEventId,
          description:
            'With `Accept: application/x-ndjson` every message that matches is streamed; `limit` is refused. If the connection is ' +
            'reset, messages are missing: send the request again with `after` set to the last received seq. With ' +
            '`Accept: text/event-stream` all events after `after` are sent (without it the newest 50 messages), and then live ' +
            'events, until the token expires; `before` and `limit` are refused, an `after` above the latest seq is `conflict`.',
        },
      ),
    },
    async (request, reply) => {
      const { mission: ref, citizen } = named(request)
      const chat = { ref, citizen }
      const at = asOf(request)
      const form = preferred(request, lines, eventStream)
      if (form === 'application/json') return asPage(request, reply, chat, at)
      answers.leave(request)
      return form === lines ? asLines(request, reply, chat) : asEvents(request, reply, chat)
    },
  )
}
