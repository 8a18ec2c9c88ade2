// Requests to people: a citizen asks for an approval, a choice or a text, and the first answer counts.
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from '../../protocol/typebox.ts'
import { allow, visible } from '../../access/policy.ts'
import type { Actor } from '../../access/actor.ts'
import type { Past } from '../../database/read/state-at.ts'
import type { Requests } from '../../database/write/requests.ts'
import type { Hub } from '../../live/hub/hub.ts'
import { nextEvent } from '../../live/hub/next-event.ts'
import type { UserRate } from '../../live/connections/user-rate.ts'
import { deny } from '../../protocol/errors.ts'
import { NewRequest, Request, RequestAnswer, requestStates } from '../../protocol/requests.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { json, Limit } from '../plugins/negotiation.ts'
import type { Answers } from '../plugins/response-limits.ts'
import { asOf, AsOf, named } from '../plugins/validation.ts'
import { makeGate } from '../streams/stream-limit.ts'
import { describe } from './openapi.ts'
import { fromCursor, toCursor } from './test-runs.ts'

/** The longest wait of a read, in seconds: proxies cut requests that take a minute. */
const longestWait = 50

const List = Type.Object({
  state: Type.Optional(Type.Enum(requestStates)),
  limit: Limit,
  cursor: Type.Optional(Type.String({ description: '`next` of the page before' })),
  ...AsOf,
})
const Page = Type.Object({ requests: Type.Array(Request), next: Type.Union([Type.String(), Type.Null()]) })
const OpenList = Type.Object({
  state: Type.Optional(Type.Literal('open', { default: 'open' })),
  limit: Limit,
  cursor: Type.Optional(Type.String({ description: '`next` of the page before' })),
})
const Wait = Type.Object({
  wait: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: longestWait,
      default: 0,
      description: 'seconds to wait until the request is no longer open',
    }),
  ),
  ...AsOf,
})

export const requestRoutes = (
  app: FastifyInstance,
  parts: {
    answers: Answers
    requests: Requests
    past: Past
    hub: Pick<Hub, 'join' | 'leave'>
    rate: UserRate
    limits: { streams: number; streamsPerSubject: number }
    /** aborted when the server stops: waits end at once */
    draining: AbortSignal
  },
): void => {
  const { answers, requests, past, hub, rate, limits, draining } = parts
  const list = '/api/missions/:mission/requests'
  const one = `${list}/:request`
  const waits = makeGate(limits.streams, limits.streamsPerSubject, 'too many requests wait for an answer')

  app.get<{ Querystring: Static<typeof OpenList> }>(
    '/api/requests',
    {
      schema: describe(
        'requests',
        'Open requests of all missions that the caller may see, the first to expire first',
        [],
        { 200: Page },
        { querystring: OpenList },
      ),
    },
    async (request, reply) => {
      const { limit = 50, cursor } = request.query
      const after = cursor === undefined ? {} : { after: fromCursor(cursor) }
      const { rows, next } = await requests.listOpen(visible(actorOf(request)), { limit, ...after })
      return json(reply, `{"requests":[${rows.join(',')}],"next":${JSON.stringify(next && toCursor(next))}}`)
    },
  )

  app.get<{ Querystring: Static<typeof List> }>(
    list,
    {
      schema: describe(
        'requests',
        'Requests to people, newest first',
        ['mission'],
        { 200: Page },
        { querystring: List },
      ),
    },
    async (request, reply) => {
      const { state, limit = 50, cursor } = request.query
      const query = {
        limit,
        ...(state === undefined ? {} : { state }),
        ...(cursor === undefined ? {} : { before: fromCursor(cursor) }),
      }
      const at = asOf(request)
      const ref = named(request).mission
      const { mission, known, rows, next } =
        at === undefined
          ? { known: undefined, ...(await requests.list(ref, query)) }
          : await past.listRequests(ref, query, at)
      allow(actorOf(request), 'read', mission)
      known?.()
      return json(reply, `{"requests":[${rows.join(',')}],"next":${JSON.stringify(next && toCursor(next))}}`)
    },
  )

  app.post<{ Body: NewRequest }>(
    list,
    {
      schema: describe(
        'requests',
        'Ask people (citizen, admin)',
        ['mission'],
        { 201: Request },
        {
          body: NewRequest,
          description:
            'kind `approve` is answered with a boolean, `choose` with one of the `options`, `text` with a text. ' +
            'An open request expires after `expires_in` seconds.',
        },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { body } = request
      const citizen = body.citizen ?? (actor.role === 'citizen' ? actor.sub : undefined)
      if ((body.kind === 'choose') !== (body.options != null))
        throw deny('bad_request', 'body options is needed for kind choose, and for no other kind')
      const row = await requests.make(
        named(request).mission,
        (m) => {
          allow(actor, 'request.make', m, citizen ?? actor.sub)
          if (citizen === undefined) throw deny('bad_request', 'body citizen is missing')
        },
        citizen ?? '',
        body,
      )
      return json(reply.status(201), row)
    },
  )

  /** Reads a request; while it is open, again after each event of the topic, until the signal is aborted. */
  const readOnceEnded = async (actor: Actor, ref: MissionRef, id: string, signal: AbortSignal): Promise<string> => {
    for (;;) {
      const { mission, json: row, state, head, asOf } = await requests.read(ref, id)
      allow(actor, 'read', mission)
      if (row === null) throw deny('not_found', 'no such request')
      if (state !== 'open' || signal.aborted) return row
      await nextEvent(hub, actor, `missions/${mission.id}/requests`, { rights: mission, head, asOf }, signal)
    }
  }

  app.get<{ Querystring: Static<typeof Wait> }>(
    one,
    {
      schema: describe(
        'requests',
        'A request; with `wait`, once it is no longer open',
        ['mission', 'request'],
        { 200: Request },
        { querystring: Wait },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, request: id } = named(request)
      const { wait = 0 } = request.query
      const at = asOf(request)
      if (at !== undefined) {
        if (wait > 0) throw deny('bad_request', 'wait and at exclude each other')
        const { mission: rights, known } = await past.request(mission, id, at)
        allow(actor, 'read', rights)
        return json(reply, known())
      }
      if (wait === 0) return json(reply, await readOnceEnded(actor, mission, id, AbortSignal.abort()))
      const over = new AbortController()
      // (AbortSignal.timeout may be collected while only AbortSignal.any refers to it.)
      const timer = setTimeout(() => over.abort(), wait * 1000)
      reply.raw.once('close', () => {
        clearTimeout(timer)
        over.abort()
      })
      const signal = AbortSignal.any([over.signal, draining])
      // A subject's other reads don't wait for this one.
      answers.leave(request)
      let row = ''
      await waits(actor.sub, reply, async () => void (row = await readOnceEnded(actor, mission, id, signal)))
      return json(reply, row)
    },
  )

  app.post<{ Body: RequestAnswer }>(
    `${one}/answer`,
    {
      schema: describe(
        'requests',
        'Answer a request (user, admin); the first answer counts',
        ['mission', 'request'],
        { 200: Request },
        { body: RequestAnswer },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, request: id } = named(request)
      rate.take(actor)
      const ending = { state: 'answered', answer: request.body.answer } as const
      const may = (m: Parameters<typeof allow>[2]): void => allow(actor, 'request.answer', m)
      return json(reply, await requests.end(mission, may, id, ending, actor.sub))
    },
  )

  app.post(
    `${one}/withdraw`,
    {
      schema: describe('requests', 'Withdraw an open request (the citizen that asked, admin)', ['mission', 'request'], {
        200: Request,
      }),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, request: id } = named(request)
      const row = await requests.end(
        mission,
        (m, citizen) => allow(actor, 'request.withdraw', m, citizen ?? actor.sub),
        id,
        { state: 'withdrawn' },
        actor.sub,
      )
      return json(reply, row)
    },
  )
}
