// Tickets, for browsers that can't offer a token as a subprotocol: one stands for the token that asked for it, once, for some
// seconds, as /api/ws?ticket=….
import type { FastifyInstance } from 'fastify'
import Type from '../../protocol/typebox.ts'
import type { Access } from '../../database/auth-store.ts'
import { describe } from './openapi.ts'
import { actorOf } from '../plugins/authenticate.ts'

const Ticket = Type.Object({
  ticket: Type.String({ description: 'for ?ticket= of the socket address' }),
  expires_in: Type.Integer({ description: 'seconds' }),
})

export const ticketRoutes = (app: FastifyInstance, access: Pick<Access, 'issueTicket'>): void => {
  app.post(
    '/api/tickets',
    {
      schema: describe('access', 'Create a single-use ticket that opens a socket instead of a token', [], {
        201: Ticket,
      }),
    },
    async (request, reply) =>
      reply
        .status(201)
        .header('cache-control', 'no-store')
        .send(await access.issueTicket(actorOf(request))),
  )
}
