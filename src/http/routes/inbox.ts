// The inbox over HTTP: /api/inbox/{citizen}. The same tasks, leases and promises as `work` on the socket, for agents without one.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ClaimDraft } from '../../commands/claim-draft.ts'
import type { Call, Claims } from '../../commands/claims.ts'
import type { ListCursor } from '../../database/inbox-claims.ts'
import { deny } from '../../protocol/errors.ts'
import {
  ClaimedTasks,
  Done,
  DraftPart,
  Drafted,
  InboxList,
  NewClaim,
  NewReply,
  Release,
  Renewal,
  Renewed,
} from '../../protocol/inbox.ts'
import { Message } from '../../protocol/rows.ts'
import Type, { type Static } from '../../protocol/typebox.ts'
import { actorOf } from '../plugins/authenticate.ts'
import { json, Limit } from '../plugins/negotiation.ts'
import { named } from '../plugins/validation.ts'
import { describe } from './openapi.ts'

const inbox = '/api/inbox/:citizen'
const oneTask = `${inbox}/tasks/:task`

const ListQuery = Type.Object({
  limit: Limit,
  cursor: Type.Optional(Type.String({ description: '`next` of the page before' })),
})
const toCursor = ({ at, mission, seq }: ListCursor): string =>
  Buffer.from(`${at} ${mission} ${seq}`).toString('base64url')
const fromCursor = (cursor: string): ListCursor => {
  const [, at, mission, seq] =
    /^(\d{4}-\d\d-\d\dT[\d:.]{15}) ([0-9a-f-]{36}) (\d{1,15})$/.exec(
      Buffer.from(cursor, 'base64url').toString('latin1'),
    ) ?? []
  if (!at || !mission || !seq || !isFinite(Date.parse(at)))
    throw deny('bad_request', 'cursor is invalid: use the `next` of an earlier page')
  return { at, mission, seq: Number(seq) }
}

/** Returns a signal that is aborted when the client has disconnected before the response. */
const disconnected = ({ raw }: FastifyReply): AbortSignal => {
  const controller = new AbortController()
  if (raw.destroyed) controller.abort()
  raw.once('close', () => controller.abort())
  return controller.signal
}

/** The request's Idempotency-Key. Throws `bad_request` if it is invalid. */
const keyOf = ({ headers }: FastifyRequest): string | undefined => {
  const key = headers['idempotency-key']
  if (key !== undefined && !(typeof key === 'string' && /^[\x20-\x7e]{1,64}$/.test(key)))
    throw deny('bad_request', 'Idempotency-Key must be 1 to 64 ASCII characters')
  return key
}

const callOf = (request: FastifyRequest<{ Body: { claim: string } }>): Call => {
  const { citizen, task } = named(request)
  return { actor: actorOf(request), citizen, task, claim: request.body.claim }
}

export const inboxRoutes = (app: FastifyInstance, claims: Claims, draft: ClaimDraft): void => {
  app.post<{ Body: NewClaim | null }>(
    `${inbox}/claim`,
    {
      schema: describe(
        'inbox',
        'Claim open tasks (the citizen, admin)',
        ['citizen'],
        { 200: ClaimedTasks },
        {
          body: Type.Union([NewClaim, Type.Null()]),
          description:
            'Leases up to `credit` tasks, oldest first. Without any, it waits up to `wait` seconds. With an Idempotency-Key, the same ' +
            'claim gets the same tasks again while their leases last. If the client disconnects before the response, no task is leased.',
        },
      ),
    },
    async (request, reply) => {
      const key = keyOf(request)
      const signal = disconnected(reply)
      const { citizen } = named(request)
      const { tasks, giveBack } = await claims.claim(actorOf(request), citizen, request.body ?? {}, key, signal)
      if (tasks.length === 0) return { tasks }
      // (Not writableFinished: it is false for a moment on a response that stays in the process, as MCP's.)
      let finished = false
      reply.raw.once('finish', () => (finished = true))
      const onClose = (): void => {
        if (!finished) giveBack().catch((error: unknown) => request.log.warn({ err: error }, 'tasks stay leased'))
      }
      if (signal.aborted) onClose()
      else signal.addEventListener('abort', onClose)
      return { tasks }
    },
  )

  app.post<{ Body: Renewal }>(
    `${oneTask}/renew`,
    {
      schema: describe(
        'inbox',
        "Renew a task's lease, and learn whether a user asked to stop",
        ['citizen', 'task'],
        { 200: Renewed },
        { body: Renewal },
      ),
    },
    (request) => claims.renew(callOf(request), request.body.lease),
  )

  app.post<{ Body: DraftPart }>(
    `${oneTask}/draft`,
    {
      schema: describe(
        'inbox',
        'Write on the reply: subscribers see it grow',
        ['citizen', 'task'],
        { 200: Drafted },
        {
          body: DraftPart,
          description:
            'Without `offset` the draft continues where it ends, also the draft of an earlier attempt: a worker that writes from the start ' +
            'begins with `offset` 0. A wrong `offset` is `conflict` with the right one.',
        },
      ),
    },
    (request) => draft(callOf(request), request.body),
  )

  app.post<{ Body: NewReply }>(
    `${oneTask}/reply`,
    {
      schema: describe(
        'inbox',
        'Reply to the question and end the task, in one transaction',
        ['citizen', 'task'],
        { 201: Message, 200: Message },
        {
          body: NewReply,
          description: 'Without `message` the draft so far is the reply. 200: the same claim has replied before.',
        },
      ),
    },
    async (request, reply) => {
      const { message, seen } = await claims.reply(callOf(request), request.body)
      return json(reply.status(seen ? 200 : 201), message)
    },
  )

  app.post<{ Body: Done }>(
    `${oneTask}/done`,
    {
      schema: describe(
        'inbox',
        'End a task without a reply',
        ['citizen', 'task'],
        { 204: Type.Null() },
        { body: Done },
      ),
    },
    async (request, reply) => {
      await claims.done(callOf(request))
      return reply.status(204).send()
    },
  )

  app.post<{ Body: Release }>(
    `${oneTask}/release`,
    {
      schema: describe(
        'inbox',
        'Return a task to the queue',
        ['citizen', 'task'],
        { 204: Type.Null() },
        { body: Release },
      ),
    },
    async (request, reply) => {
      await claims.release(callOf(request), request.body.after)
      return reply.status(204).send()
    },
  )

  app.get<{ Querystring: Static<typeof ListQuery> }>(
    inbox,
    {
      schema: describe(
        'inbox',
        "A citizen's unfinished questions, oldest first (the citizen, admin)",
        ['citizen'],
        { 200: InboxList },
        { querystring: ListQuery },
      ),
    },
    async (request) => {
      const { limit = 50, cursor } = request.query
      const after = cursor === undefined ? undefined : fromCursor(cursor)
      const { next, ...list } = await claims.list(actorOf(request), named(request).citizen, { limit, after })
      return { ...list, next: next ? toCursor(next) : null }
    },
  )
}
