// Members of a mission: list, put, delete.
import type { FastifyInstance } from 'fastify'
import { allow } from '../../access/policy.ts'
import type { Members } from '../../database/members.ts'
import { Member } from '../../protocol/rows.ts'
import Type from '../../protocol/typebox.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { named } from '../plugins/validation.ts'
import { describe } from './openapi.ts'

const List = Type.Object({ members: Type.Array(Member) })

export const memberRoutes = (app: FastifyInstance, members: Members): void => {
  const list = '/api/missions/:mission/members'
  const one = `${list}/:sub`

  app.get(
    list,
    { schema: describe('missions', "A mission's members, by name", ['mission'], { 200: List }) },
    async (request) => {
      const { mission, members: found } = await members.list(named(request).mission)
      allow(actorOf(request), 'read', mission)
      return { members: found }
    },
  )

  const change = (method: 'PUT' | 'DELETE', summary: string, by: Members['put']): void => {
    app.route({
      method,
      url: one,
      schema: describe('missions', summary, ['mission', 'sub'], { 204: Type.Null() }),
      handler: async (request, reply) => {
        const actor = actorOf(request)
        const { mission, sub } = named(request)
        await by(mission, (m) => allow(actor, 'member.change', m), sub, actor.sub)
        return reply.status(204).send()
      },
    })
  }
  change('PUT', 'Make a person a member of a mission (admin): it sees the mission as the assignee does', members.put)
  change('DELETE', 'End a membership (admin): the rights end within 2 s', members.remove)
}
