// The changes from one test run to another.
import type { FastifyInstance } from 'fastify'
import { allow } from '../../access/policy.ts'
import type { Diff } from '../../database/read/run-diff.ts'
import { RunDiff } from '../../protocol/run-diff.ts'
import type { MissionRights } from '../../protocol/rows.ts'
import type { Answers } from '../plugins/response-limits.ts'
import { describe } from './openapi.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { named } from '../plugins/validation.ts'
import { json } from '../plugins/negotiation.ts'

export const diffRoute = (app: FastifyInstance, answers: Answers, diff: Diff): void => {
  app.get(
    '/api/missions/:mission/tests/:a/diff/:b',
    {
      schema: describe(
        'tests',
        'What changed from one test run to another',
        ['mission', 'a', 'b'],
        { 200: RunDiff },
        {
          description:
            'A test is identified by its name. If several elements have the same name, the worst status and the longest ' +
            'duration count. If `a` is the later run, all changes are from the later run to the earlier one; `between` is the same.',
        },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, a, b } = named(request)
      // It searches the chats.
      await answers.search(request)
      const may: (m: MissionRights | undefined) => asserts m is MissionRights = (m) => allow(actor, 'read', m)
      return json(reply, await diff(mission, { a, b }, { sub: actor.sub, allow: may, gone: () => reply.raw.destroyed }))
    },
  )
}
