// Searches a mission: messages, code blocks, test results and the checklist.
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from '../../protocol/typebox.ts'
import { allow } from '../../access/policy.ts'
import { mostRanked, type Find } from '../../database/search/mission-search.ts'
import { filterFields } from '../../protocol/filters.ts'
import { Hit, kinds } from '../../protocol/search-hits.ts'
import type { Answers } from '../plugins/response-limits.ts'
import { describe } from './openapi.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { named } from '../plugins/validation.ts'
import { json, Limit } from '../plugins/negotiation.ts'

const { q, since, until } = filterFields
const Asked = Type.Object({
  q: Type.String({
    ...q,
    description: 'messages with all words; supports "a phrase", or, -without; ignores case, no stemming',
  }),
  kind: Type.Optional(
    Type.Enum([...kinds], {
      description:
        "message: a message's text; code: one of its code blocks; test: a result or the summary of a run; dod: an item's text",
    }),
  ),
  order: Type.Optional(
    Type.Enum(['newest', 'rank'], { description: `newest, or rank: the best first of the newest ${mostRanked} hits` }),
  ),
  limit: Limit,
  cursor: Type.Optional(Type.String({ maxLength: 500, description: '`next` of the page before, of the same search' })),
  since,
  until,
})
const Hits = Type.Object({
  hits: Type.Array(Hit),
  next: Type.Union([Type.String(), Type.Null()], { description: 'cursor of the next page; null on the last page' }),
})

export const searchRoute = (app: FastifyInstance, answers: Answers, find: Find): void => {
  app.get<{ Querystring: Static<typeof Asked> }>(
    '/api/missions/:mission/search',
    {
      schema: describe(
        'missions',
        "Search a mission's chats, code, test runs and checklist",
        ['mission'],
        { 200: Hits },
        {
          querystring: Asked,
          description: 'A search that takes over 30 s ends as `unavailable`: narrow it with kind, since or until.',
        },
      ),
    },
    async (request, reply) => {
      const { limit = 50, ...query } = request.query
      const actor = actorOf(request)
      await answers.search(request)
      const found = await find(
        named(request).mission,
        { limit, ...query },
        { sub: actor.sub, allow: (mission) => allow(actor, 'read', mission), gone: () => reply.raw.destroyed },
      )
      return json(reply, JSON.stringify(found))
    },
  )
}
