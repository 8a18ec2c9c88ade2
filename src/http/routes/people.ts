// People, for admins: invites, who has signed in, ending sessions, and the audit log.
import type { FastifyInstance } from 'fastify'
import { ownOrigin } from '../../access/own-origin.ts'
import { permit } from '../../access/policy.ts'
import type { People } from '../../database/people.ts'
import type { Sessions } from '../../database/sessions.ts'
import { deny } from '../../protocol/errors.ts'
import { AuditEntry, Invite, invitedDays, NewInvite, SeenPerson } from '../../protocol/people.ts'
import { parseCitizen, parseMission } from '../../protocol/topics.ts'
import Type, { type Static } from '../../protocol/typebox.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { Limit } from '../plugins/negotiation.ts'
import { named } from '../plugins/validation.ts'
import { describe } from './openapi.ts'

const next = Type.Union([Type.String(), Type.Null()], { description: '`cursor` of the next page' })
const PeopleQuery = Type.Object({
  limit: Limit,
  cursor: Type.Optional(Type.String({ maxLength: 512, description: '`next` of the page before' })),
})
const AuditQuery = Type.Object({
  limit: Limit,
  cursor: Type.Optional(Type.String({ pattern: '^[1-9]\\d{0,14}$', description: '`next` of the page before' })),
})
const PeopleList = Type.Object({ people: Type.Array(SeenPerson), next })
const AuditList = Type.Object({ entries: Type.Array(AuditEntry), next })

/** Throws `conflict` on a server that can't sign tokens. */
export const needSecret = (signs: boolean): void => {
  if (!signs) throw deny('conflict', 'sign-in, invites and keys need JWT_SECRET: set it and restart the server')
}

/** Throws `bad_request` if a name in a `missions` claim is neither a UUID nor a number. */
export const checkMissions = (missions: NewInvite['missions']): void => {
  if (Array.isArray(missions)) for (const mission of missions) parseMission(String(mission))
}

export type SignInParts = {
  sessions: Sessions
  people: People
  /** Resolves once this instance has read the revocations. */
  readRevocations: () => Promise<void>
  /** whether the server has JWT_SECRET */
  signs: boolean
  publicUrl: string
}

export const peopleRoutes = (
  app: FastifyInstance,
  { sessions, people, readRevocations, signs, publicUrl }: SignInParts,
): void => {
  app.post<{ Body: NewInvite }>(
    '/api/invites',
    {
      schema: describe(
        'people',
        'Create a link that signs a person in, once (admin)',
        [],
        { 201: Invite },
        { body: NewInvite },
      ),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      permit(actor, 'person.change')
      needSecret(signs)
      const { sub, role, missions, days = invitedDays } = request.body
      if (Buffer.byteLength(sub) > 1024) throw deny('bad_request', 'sub has up to 1,024 bytes')
      if (role === 'citizen') parseCitizen(sub)
      checkMissions(missions)
      const made = await sessions.invite({ sub, role, missions, by: actor.sub, seconds: days * 86_400 })
      return reply
        .status(201)
        .header('cache-control', 'no-store')
        .send({
          link: `${ownOrigin(request, publicUrl)}/auth/invite?code=${made.secret}`,
          expires_at: made.expires_at.toISOString(),
        })
    },
  )

  app.get<{ Querystring: Static<typeof PeopleQuery> }>(
    '/api/people',
    {
      schema: describe(
        'people',
        'People who have signed in, by sub (admin)',
        [],
        { 200: PeopleList },
        { querystring: PeopleQuery },
      ),
    },
    async (request) => {
      permit(actorOf(request), 'person.change')
      const { limit = 50, cursor = '' } = request.query
      return people.list(limit, cursor)
    },
  )

  app.delete(
    '/api/people/:sub/sessions',
    {
      schema: describe('people', 'End all sessions of a person (admin): it may sign in again', ['sub'], {
        204: Type.Null(),
      }),
    },
    async (request, reply) => {
      const actor = actorOf(request)
      permit(actor, 'person.change')
      await sessions.endAll(named(request).sub, actor.sub)
      await readRevocations()
      return reply.status(204).send()
    },
  )

  app.get<{ Querystring: Static<typeof AuditQuery> }>(
    '/api/audit',
    {
      schema: describe(
        'people',
        'The audit log, the newest entry first (admin)',
        [],
        { 200: AuditList },
        { querystring: AuditQuery },
      ),
    },
    async (request) => {
      permit(actorOf(request), 'audit.read')
      const { limit = 50, cursor } = request.query
      return people.audit(limit, cursor === undefined ? Number.MAX_SAFE_INTEGER : Number(cursor))
    },
  )
}
