// Taking back what was said in error: a message, or a run's log.
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from '../../protocol/typebox.ts'
import { allow, mayRedact } from '../../access/policy.ts'
import type { Redaction } from '../../database/write/redaction.ts'
import { deny } from '../../protocol/errors.ts'
import { Message, TestRun } from '../../protocol/rows.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { json } from '../plugins/negotiation.ts'
import { named } from '../plugins/validation.ts'
import { describe } from './openapi.ts'

const Reason = Type.Object({
  reason: Type.Optional(Type.String({ minLength: 1, maxLength: 1000, description: 'for the audit log and the event' })),
})
const Body = Type.Union([Reason, Type.Null()])
type Body = Static<typeof Body>

export const redactionRoutes = (app: FastifyInstance, redaction: Redaction): void => {
  app.post<{ Body: Body }>(
    '/api/missions/:mission/chat/:citizen/messages/:message/redact',
    {
      schema: describe(
        'chat',
        "Take a message back (its author, a user for a reply to the user's question, admin)",
        ['mission', 'citizen', 'message'],
        { 200: Message },
        {
          body: Body,
          description:
            'The message stays, without its text. The event `message.redacted` follows. Again: 200, and nothing changes.',
        },
      ),
    },
    async (request) => {
      const actor = actorOf(request)
      const { mission, citizen, message } = named(request)
      return redaction.message(
        mission,
        (m, authors) => {
          allow(actor, 'read', m)
          if (authors && !mayRedact(actor, authors)) throw deny('forbidden', 'the message is not yours to take back')
        },
        { citizen, id: message, reason: request.body?.reason },
        actor.sub,
      )
    },
  )

  app.post<{ Body: Body }>(
    '/api/missions/:mission/tests/:run/logs/redact',
    {
      schema: describe('tests', "Empty a run's log (admin)", ['mission', 'run'], { 200: TestRun }, { body: Body }),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, run } = named(request)
      const row = await redaction.log(
        mission,
        (m) => allow(actor, 'log.redact', m),
        { run, reason: request.body?.reason },
        actor.sub,
      )
      return json(reply, row)
    },
  )
}
