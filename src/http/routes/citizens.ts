// The registry of citizens: list, put, delete.
import type { FastifyInstance } from 'fastify'
import { refusal } from '../../access/policy.ts'
import type { Citizens } from '../../database/citizens.ts'
import { Citizen, NewCitizen } from '../../protocol/rows.ts'
import Type from '../../protocol/typebox.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { json } from '../plugins/negotiation.ts'
import { nameOf } from '../plugins/validation.ts'
import { describe } from './openapi.ts'

const List = Type.Object({ citizens: Type.Array(Citizen) })

export const citizenRoutes = (app: FastifyInstance, citizens: Citizens): void => {
  const one = '/api/citizens/:name'

  app.get(
    '/api/citizens',
    { schema: describe('citizens', 'Registered citizens, by position, then by name', [], { 200: List }) },
    async (_request, reply) => json(reply, `{"citizens":[${(await citizens.list()).join(',')}]}`),
  )

  app.put<{ Body: NewCitizen }>(
    one,
    {
      schema: describe(
        'citizens',
        'Register a citizen, or replace what the registry has of it (admin)',
        ['name'],
        { 201: Citizen, 200: Citizen },
        { body: NewCitizen, description: 'Without `about` it has none. Without `position` it comes last.' },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const why = refusal(actor, 'citizen.change', undefined)
      if (why) throw why
      const { created, json: row } = await citizens.put(nameOf(request), request.body, actor.sub)
      return json(reply.status(created ? 201 : 200), row)
    },
  )

  app.delete(
    one,
    {
      schema: describe('citizens', 'Remove a citizen from the registry (admin); its chats stay', ['name'], {
        204: Type.Null(),
      }),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      const why = refusal(actor, 'citizen.change', undefined)
      if (why) throw why
      await citizens.remove(nameOf(request), actor.sub)
      return reply.status(204).send()
    },
  )
}
