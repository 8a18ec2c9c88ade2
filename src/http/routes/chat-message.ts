// One message of a chat: GET /api/missions/{mission}/chat/{citizen}/messages/{id}.
import type { FastifyInstance } from 'fastify'
import { allow } from '../../access/policy.ts'
import type { MessageReader } from '../../database/read/chat-message.ts'
import { deny } from '../../protocol/errors.ts'
import { Message } from '../../protocol/rows.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { json } from '../plugins/negotiation.ts'
import { named } from '../plugins/validation.ts'
import { describe } from './openapi.ts'

export const chatMessageRoute = (app: FastifyInstance, read: MessageReader): void => {
  app.get(
    '/api/missions/:mission/chat/:citizen/messages/:message',
    {
      schema: describe('chat', 'A message by its ID', ['mission', 'citizen', 'message'], { 200: Message }),
    },
    async (request, reply) => {
      const { mission: ref, citizen, message: id } = named(request)
      const { mission, message } = await read(ref, citizen, id)
      allow(actorOf(request), 'read', mission)
      if (!message) throw deny('not_found', 'the chat has no message with this ID')
      return json(reply, JSON.stringify(message))
    },
  )
}
