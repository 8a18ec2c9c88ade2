// Missions: list, create, read, change, delete.
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from '../../protocol/typebox.ts'
import { allow, refusal, visible } from '../../access/policy.ts'
import type { MissionChanges } from '../../database/write/missions.ts'
import { mostUnread } from '../../database/read/chat-history.sql.ts'
import {
  countedChats,
  listedChats,
  mostQuestions,
  mostRequests,
  requestCitizens,
} from '../../database/read/mission-list.sql.ts'
import type { Past } from '../../database/read/state-at.ts'
import { deny } from '../../protocol/errors.ts'
import { Mission, MissionPatch, MissionStatus, NewMission } from '../../protocol/rows.ts'
import { describe } from './openapi.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { asOf, AsOf, named } from '../plugins/validation.ts'
import { json, Limit } from '../plugins/negotiation.ts'

const List = Type.Object({
  status: Type.Optional(MissionStatus),
  assigned_to: Type.Optional(Type.String()),
  limit: Limit,
  cursor: Type.Optional(Type.String({ pattern: '^[1-9]\\d{0,9}$', description: '`next` of the page before' })),
  chats: Type.Optional(
    Type.Union([Type.Literal('true'), Type.Literal('false')], {
      description:
        'true: each mission has `chats`, with the numbers of unread messages and open questions, and `requests`, with the numbers of open requests',
    }),
  ),
})
const Chats = Type.Array(
  Type.Object({
    citizen: Type.String(),
    last_seq: Type.Integer(),
    read_seq: Type.Integer({ description: 'last seq that the caller has read, by `read` on the socket' }),
    unread: Type.Integer({ description: `messages of others after read_seq, counted up to ${mostUnread}` }),
    first_unread: Type.Union([Type.Integer(), Type.Null()], { description: 'seq of the first unread message' }),
    listening: Type.Boolean({ description: 'something has worked for the citizen within the last 60 s' }),
    waiting: Type.Integer({ description: `questions that nobody has, counted up to ${mostQuestions}` }),
    working: Type.Integer({ description: `questions that somebody works on, counted up to ${mostQuestions}` }),
    failed: Type.Integer({
      description: `questions whose five attempts came to nothing, counted up to ${mostQuestions}`,
    }),
  }),
  {
    description: `with chats=true: by name, up to ${listedChats} of the first ${countedChats} chats; those with unread messages or unfinished questions come before the others`,
  },
)
const Requests = Type.Object(
  {
    last_seq: Type.Integer({ description: 'latest seq of the topic `missions/{mission}/requests`' }),
    open: Type.Array(Type.Object({ citizen: Type.String(), count: Type.Integer() })),
  },
  {
    description: `with chats=true: the numbers of open requests by the citizen that asks, of the first ${requestCitizens} citizens, ${mostRequests} requests in all`,
  },
)
const Page = Type.Object({
  missions: Type.Array(
    Type.Object({ ...Mission.properties, chats: Type.Optional(Chats), requests: Type.Optional(Requests) }),
  ),
  next: Type.Union([Type.String(), Type.Null()]),
})

export const missionRoutes = (app: FastifyInstance, changes: MissionChanges, past: Past): void => {
  const one = '/api/missions/:mission'

  app.get<{ Querystring: Static<typeof List> }>(
    '/api/missions',
    {
      schema: describe(
        'missions',
        'Missions that the caller may see, by number',
        [],
        { 200: Page },
        { querystring: List },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { status, assigned_to, limit = 50, cursor, chats } = request.query
      if (cursor !== undefined && Number(cursor) > 2_147_483_647)
        throw deny('bad_request', 'cursor is invalid: use the `next` of an earlier page')
      const { rows, next } = await changes.listMissions(
        {
          limit,
          ...(status ? { status } : {}),
          ...(assigned_to !== undefined ? { assigned_to } : {}),
          ...(cursor ? { after: Number(cursor) } : {}),
        },
        visible(actor),
        chats === 'true' ? { sub: actor.sub } : undefined,
      )
      return json(reply, `{"missions":[${rows.join(',')}],"next":${JSON.stringify(next)}}`)
    },
  )

  app.post<{ Body: NewMission }>(
    '/api/missions',
    { schema: describe('missions', 'Create a mission (admin)', [], { 201: Mission }, { body: NewMission }) },
    async (request, reply) => {
      const why = refusal(actorOf(request), 'mission.create', undefined)
      if (why) throw why
      return json(reply.status(201), await changes.createMission(request.body))
    },
  )

  app.get(
    one,
    { schema: describe('missions', 'A mission', ['mission'], { 200: Mission }, { querystring: Type.Object(AsOf) }) },
    async (request, reply) => {
      const at = asOf(request)
      const ref = named(request).mission
      if (at !== undefined) {
        const { mission, known } = await past.mission(ref, at)
        allow(actorOf(request), 'read', mission)
        return json(reply, known())
      }
      const { mission, json: row } = await changes.mission(ref)
      allow(actorOf(request), 'read', mission)
      return json(reply, row)
    },
  )

  app.patch<{ Body: MissionPatch }>(
    one,
    { schema: describe('missions', 'Change a mission (admin)', ['mission'], { 200: Mission }, { body: MissionPatch }) },
    async (request, reply) => {
      const actor = actorOf(request)
      const row = await changes.changeMission(
        named(request).mission,
        (m) => allow(actor, 'mission.update', m),
        request.body,
      )
      return json(reply, row)
    },
  )

  app.delete(
    one,
    { schema: describe('missions', 'Delete a mission with all its rows (admin)', ['mission'], { 204: Type.Null() }) },
    async (request, reply) => {
      const actor = actorOf(request)
      await changes.deleteMission(named(request).mission, (m) => allow(actor, 'mission.delete', m), actor.sub)
      return reply.status(204).send()
    },
  )
}
