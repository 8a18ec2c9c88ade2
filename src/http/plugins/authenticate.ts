// Who asks: the actor of a request's token, for the API and for sockets alike. Identity comes from the token (or a ticket
// that stands for one) and from nothing else: no cookie, no other header, no address; a token in an address is refused.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Actor } from '../../access/actor.ts'
import type { Tokens } from '../../access/tokens.ts'
import { deny, Refusal } from '../../protocol/errors.ts'
import type { RateLimits } from './rate-limits.ts'

/** What a request shows; a token counts before a ticket. */
export type Credentials = { token?: string | undefined; ticket?: string | undefined }
/** -> the actor; throws `unauthorized`, `rate_limited`, or `unavailable` where it can't be told. */
export type Identify = (request: FastifyRequest, shown: Credentials) => Promise<Actor>

const actors = new WeakMap<FastifyRequest, Actor>()

export const actorOf = (request: FastifyRequest): Actor => {
  const actor = actors.get(request)
  if (!actor) throw deny('unauthorized')
  return actor
}

const tokenNames = /^(access_|id_)?token$|^jwt$|^bearer$|^authorization$/i
const tokenLike = /^ey[\w-]+\.[\w-]+\.[\w-]*$/

// Addresses end up in logs, histories and referrers.
const refuseTokenInAddress = (request: FastifyRequest): void => {
  for (const [name, value] of Object.entries(request.query as Record<string, unknown>))
    if (tokenNames.test(name) || [value].flat().some((part) => typeof part === 'string' && tokenLike.test(part)))
      throw deny('unauthorized', 'tokens are not accepted in the URL: send the Authorization header')
}

/** The token of the Authorization header, of which there may be one. */
export const bearer = ({ headers, raw }: FastifyRequest): string | undefined => {
  const { authorization } = headers
  if (authorization === undefined || (raw.headersDistinct['authorization']?.length ?? 0) > 1) return undefined
  return /^Bearer +([\w-]+\.[\w-]+\.[\w-]+) *$/i.exec(authorization)?.[1]
}

export const makeIdentify =
  (tokens: Tokens, takeTicket: (ticket: string) => Promise<Actor>, rates: RateLimits): Identify =>
  async (request, { token, ticket }) => {
    let actor: Actor
    try {
      refuseTokenInAddress(request)
      actor = await (ticket === undefined || token !== undefined ? tokens.verify(token ?? '') : takeTicket(ticket))
    } catch (error) {
      if (error instanceof Refusal && error.code === 'unauthorized') await rates.failure(request)
      throw error
    }
    actors.set(request, actor)
    await rates.subject(request)
    return actor
  }

/** Asks every request below `app` for a bearer token. */
export const askForToken = (app: FastifyInstance, identify: Identify): void => {
  app.addHook('onRequest', async (request) => {
    await identify(request, { token: bearer(request) })
    // The parser of queries leaves what is no UTF-8 as it stands.
    try {
      decodeURIComponent(request.url.slice(request.url.indexOf('?') + 1))
    } catch {
      throw deny('bad_request', 'the query is not UTF-8')
    }
  })
}
