// A mission's timeline: a page, an NDJSON stream of all events, or a replay at a given speed.
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from '../../protocol/typebox.ts'
import { allow } from '../../access/policy.ts'
import { rest, type Span, type Timeline, type TimelinePage } from '../../database/read/timeline.ts'
import { deny } from '../../protocol/errors.ts'
import { eventStream } from '../../protocol/event-stream.ts'
import { toBound } from '../../protocol/filters.ts'
import { fromCursor, isBefore, TimelineItem, toCursor, type Place } from '../../protocol/timeline.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import type { Answers } from '../plugins/response-limits.ts'
import { describe } from './openapi.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { named } from '../plugins/validation.ts'
import { json, Limit, lines, preferred } from '../plugins/negotiation.ts'
import type { Pacing } from '../streams/timeline-replay.ts'
import type { Lines, Streams } from '../streams/ndjson.ts'

const time = (description: string) =>
  Type.Optional(
    Type.String({ maxLength: 40, description: `${description}: RFC 3339 with a zone (in a URL, write + as %2B)` }),
  )
const decimal = (description: string) =>
  Type.Optional(Type.String({ pattern: '^\\d{1,4}(\\.\\d{1,3})?$', description }))

const Query = Type.Object({
  cursor: Type.Optional(Type.String({ maxLength: 500, description: 'the cursor of a page, an event or the end' })),
  limit: Limit,
  from: time('events from this time on'),
  to: time('events before this time'),
  order: Type.Optional(Type.Enum(['asc', 'desc'], { description: 'desc: newest first', default: 'asc' })),
  logs: Type.Optional(Type.Enum(['true', 'false'], { description: 'also chunks of run logs', default: 'false' })),
  speed: decimal(
    'Replay speed, 0.1 to 1000: 60 plays one recorded minute a second; without it as fast as the client reads',
  ),
  gap: decimal('Replay only: the longest pause between two events in seconds, 0 to 3600. Default 2'),
})
type Query = Static<typeof Query>
const LastEventId = Type.Object({
  'last-event-id': Type.Optional(
    Type.String({ description: 'Replay only: the ID of the last received event; takes precedence over `cursor`' }),
  ),
})
const cursor = Type.String({ description: 'resume here later, also after the last page' })
const Page = Type.Object({
  events: Type.Array(TimelineItem, { description: 'fewer than `limit` if they would exceed 4 MiB' }),
  next: Type.Union([Type.String(), Type.Null()], { description: 'cursor of the next page; null on the last page' }),
  cursor,
  horizon: Type.String({ format: 'date-time', description: 'no event is added before this time any more' }),
  epoch: Type.String({ description: 'If it differs from the epoch you know, discard your copy and read again' }),
})
const Timelines = {
  description:
    'a page; with Accept: application/x-ndjson all events up to the horizon, one a line; with Accept: text/event-stream a replay',
  headers: {
    'Deck-Horizon': Type.String({ description: 'streams only: the horizon at the start, where the stream ends' }),
    'Deck-Epoch': Type.String({ description: 'streams only: the epoch' }),
    'Deck-Cursor': Type.String({ description: 'NDJSON only: the cursor of its end' }),
  },
  content: {
    'application/json': { schema: Page },
    [lines]: { schema: TimelineItem },
    [eventStream]: {
      schema: Type.String({
        description: 'server-sent events: id is a cursor, event the name of the event; the last one is `end`',
      }),
    },
  },
}

/** The most rows and bytes of a page of an NDJSON stream, as in a chat's history. */
const part = { rows: 500, bytes: 256 * 1024 }

const within = (name: string, text: string | undefined, least: number, most: number): number | undefined => {
  const value = text === undefined ? undefined : Number(text)
  if (value !== undefined && (value < least || value > most))
    throw deny('bad_request', `${name} must be from ${least} to ${most}`)
  return value
}
const at = (name: string, text: string | undefined, otherwise: string): Place => ({
  at: text === undefined ? otherwise : toBound(name, text),
  topic: null,
  seq: 0,
})
/** A time before all events. */
const beginning = '0001-01-01T00:00:00'

export const timelineRoute = (
  app: FastifyInstance,
  parts: { answers: Answers; timeline: Timeline; streams: Streams; pacing: Pacing },
) => {
  const { answers, timeline, streams, pacing } = parts

  /** The span that a query selects, up to the horizon. */
  const makeSpan = (query: Query, given: string | undefined, horizon: string) => {
    const known = given === undefined ? undefined : fromCursor(given)
    const newestFirst = query.order === 'desc'
    let after = at('from', query.from, beginning)
    let before = at('to', query.to, horizon)
    if (isBefore(horizon, before.at)) before = at('horizon', undefined, horizon)
    if (known && !newestFirst) after = known.place
    if (known && newestFirst && isBefore(known.place.at, before.at)) before = known.place
    const span: Span = { after, before, newestFirst, logs: query.logs === 'true' }
    return { span, epoch: known?.epoch }
  }

  /** Where a later request resumes: after the last event, or at the end of the span if no more events follow. */
  const placeOf = ({ after, before, newestFirst }: Span, { items, more }: TimelinePage): Place => {
    const last = items.at(-1)?.place
    if (more && last) return last
    if (newestFirst) return after
    // A cursor beyond the end of the span is returned unchanged.
    return isBefore(after.at, before.at) ? before : after
  }

  app.get<{ Querystring: Query }>(
    '/api/missions/:mission/timeline',
    {
      schema: describe(
        'missions',
        'Events of a mission in one order: a page, a stream, or a replay',
        ['mission'],
        { 200: Timelines },
        {
          querystring: Query,
          headers: LastEventId,
          description:
            'Events of chats, checklist, test runs and the mission, each in the form that a socket receives. With ' +
            '`Accept: application/x-ndjson` all events are streamed; `limit` is refused. With `Accept: text/event-stream` the events ' +
            'are replayed: with `speed` at the recorded times, that many times as fast.',
        },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission: ref } = named(request)
      const { query } = request
      const form = preferred(request, lines, eventStream)
      const unfit = (...names: (keyof Query)[]): void => {
        const name = names.find((name) => query[name] !== undefined)
        if (name !== undefined) throw deny('bad_request', `${name} is not supported for ${form}`)
      }
      const begin = async (given: string | undefined) => {
        if (given !== undefined) fromCursor(given)
        const horizon = await timeline.horizon()
        const { span, epoch } = makeSpan(query, given, horizon)
        const see = (page: TimelinePage): void => {
          allow(actor, 'read', page.mission)
          if (epoch !== undefined && epoch !== page.epoch)
            throw deny(
              'conflict',
              '`after` and `epoch` do not match this database: discard your copy and read the topic again',
              {
                epoch: page.epoch,
              },
            )
        }
        return { horizon, span, see }
      }

      const { sub } = actorOf(request)
      if (form !== 'application/json') answers.leave(request)
      if (form === eventStream) {
        unfit('limit', 'order')
        const speed = within('speed', query.speed, 0.1, 1000)
        const gap = within('gap', query.gap, 0, 3600) ?? 2
        const last = request.headers['last-event-id']
        if (typeof last === 'object') throw deny('bad_request', 'send one Last-Event-ID header')
        return pacing.open(request, reply, ref, { speed, gap: gap * 1000 }, () => begin(last ?? query.cursor))
      }
      unfit('speed', 'gap')
      if (form === lines) {
        unfit('limit')
        return streams(request, reply, async () => {
          const { horizon, span, see } = await begin(query.cursor)
          const first = await timeline.part(ref, span, part.rows, part.bytes, sub)
          see(first)
          const place = placeOf(span, { ...first, more: false, items: [] })
          const headers = {
            'deck-epoch': first.epoch,
            'deck-horizon': horizon,
            'deck-cursor': toCursor(first.epoch, place),
          }
          return { first: toLines(ref, span, first, sub), headers }
        })
      }
      const { horizon, span, see } = await begin(query.cursor)
      const page = await timeline.page(ref, span, query.limit ?? 50, see)
      const here = toCursor(page.epoch, placeOf(span, page))
      const { epoch, items, more } = page
      const next = more ? here : null
      const events = items.map(({ text }) => text).join(',')
      return json(reply, `{"events":[${events}],${JSON.stringify({ next, cursor: here, horizon, epoch }).slice(1)}`)
    },
  )

  const toLines = (ref: MissionRef, span: Span, { mission, epoch, items, more }: TimelinePage, sub: string): Lines => {
    const text = items.map((item) => `${item.text}\n`).join('')
    if (!more) return { mission, text }
    const left = rest(span, items)
    return {
      mission,
      text,
      async next() {
        const page = await timeline.part(ref, left, part.rows, part.bytes, sub)
        if (page.mission && page.epoch !== epoch)
          throw deny('conflict', 'the database was restored or replaced while reading: start again')
        return toLines(ref, left, page, sub)
      },
    }
  }
}
