// Keys of citizens, for admins: make, list, revoke.
import type { FastifyInstance } from 'fastify'
import { permit } from '../../access/policy.ts'
import type { Tokens } from '../../access/tokens.ts'
import type { CitizenKeys } from '../../database/citizen-keys.ts'
import { CitizenKey, keyDays, MadeKey, NewKey } from '../../protocol/people.ts'
import Type from '../../protocol/typebox.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { named, nameOf } from '../plugins/validation.ts'
import { describe } from './openapi.ts'
import { checkMissions, needSecret, type SignInParts } from './people.ts'

const List = Type.Object({ keys: Type.Array(CitizenKey) })

export const citizenKeyRoutes = (
  app: FastifyInstance,
  {
    keys,
    sign,
    readRevocations,
    signs,
  }: { keys: CitizenKeys; sign: Tokens['sign'] } & Pick<SignInParts, 'readRevocations' | 'signs'>,
): void => {
  const all = '/api/citizens/:name/keys'

  app.post<{ Body: NewKey | null }>(
    all,
    {
      schema: describe(
        'citizens',
        'Create a key of a citizen: a token that can be revoked (admin)',
        ['name'],
        { 201: MadeKey },
        { body: Type.Union([NewKey, Type.Null()]) },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      permit(actor, 'key.change')
      needSecret(signs)
      const name = nameOf(request)
      const { missions, days = keyDays } = request.body ?? {}
      checkMissions(missions)
      const id = await keys.add(name, missions, days, actor.sub)
      const claims = { sub: name, role: 'citizen', jti: id, ...(missions === undefined ? {} : { missions }) } as const
      return reply
        .status(201)
        .header('cache-control', 'no-store')
        .send({ id, token: await sign(claims, days * 86_400) })
    },
  )

  app.get(
    all,
    { schema: describe('citizens', "A citizen's valid keys, the newest first (admin)", ['name'], { 200: List }) },
    async (request) => {
      permit(actorOf(request), 'key.change')
      return { keys: await keys.list(nameOf(request)) }
    },
  )

  app.delete(
    `${all}/:key`,
    { schema: describe('citizens', 'Revoke a key (admin)', ['name', 'key'], { 204: Type.Null() }) },
    async (request, reply) => {
      const actor = actorOf(request)
      permit(actor, 'key.change')
      await keys.remove(nameOf(request), named(request).key, actor.sub)
      await readRevocations()
      return reply.status(204).send()
    },
  )
}
