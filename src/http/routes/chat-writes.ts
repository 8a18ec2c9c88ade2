// Writes to a chat over HTTP: POST appends a message, DELETE clears the chat.
import type { FastifyInstance } from 'fastify'
import { allow, refusal } from '../../access/policy.ts'
import { toEntry } from '../../commands/send.ts'
import type { Missions } from '../../database/read/mission-cache.ts'
import type { MissionChanges } from '../../database/write/missions.ts'
import type { Writer } from '../../database/write/writer.ts'
import type { UserRate } from '../../live/connections/user-rate.ts'
import { deny } from '../../protocol/errors.ts'
import { Message, NewMessage } from '../../protocol/rows.ts'
import Type from '../../protocol/typebox.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { json } from '../plugins/negotiation.ts'
import { named } from '../plugins/validation.ts'
import { describe } from './openapi.ts'

const chat = '/api/missions/:mission/chat/:citizen'

export const chatWriteRoutes = (
  app: FastifyInstance,
  parts: { changes: MissionChanges; missions: Missions; writer: Writer; rate: UserRate },
): void => {
  const { changes, missions, writer, rate } = parts

  app.post<{ Body: NewMessage }>(
    chat,
    {
      schema: describe(
        'chat',
        'Post a message; 200 if its key was seen before',
        ['mission', 'citizen'],
        { 201: Message, 200: Message },
        { body: NewMessage, description: 'The header Idempotency-Key can be used instead of `key`.' },
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
        throw deny('bad_request', 'key must be 1 to 64 ASCII characters')
      if (request.body.key != null && request.body.key !== key)
        throw deny('bad_request', 'Idempotency-Key and key differ')
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
    {
      schema: describe('chat', 'Delete all messages of a chat (admin); its seqs continue', ['mission', 'citizen'], {
        204: Type.Null(),
      }),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const { mission, citizen } = named(request)
      await changes.clearChat(mission, (m) => allow(actor, 'chat.clear', m), citizen, actor.sub)
      return reply.status(204).send()
    },
  )
}
