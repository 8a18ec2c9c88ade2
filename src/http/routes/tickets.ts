// Tickets, for browsers that can't send a token as a subprotocol. A ticket opens one socket (/api/ws?ticket=…) with the rights of the
// token that requested it. It can be used once and expires within seconds.
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
