// Authentication of requests and sockets: the token's actor. Identity comes only from the token, or from a ticket that was issued for
// one: never from a cookie (those of /auth only give tokens), another header or an address. A token in the URL is refused.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Actor } from '../../access/actor.ts'
import type { Tokens } from '../../access/tokens.ts'
import type { Access } from '../../database/auth-store.ts'
import { deny, Refusal } from '../../protocol/errors.ts'
import type { RateLimits } from './rate-limits.ts'

/** The credentials of a request; a token takes precedence over a ticket. */
export type Credentials = { token?: string | undefined; ticket?: string | undefined }
/** Resolves to the actor. Rejects with `unauthorized`, `rate_limited`, or `unavailable` if the token can't be verified now. */
export type Identify = (request: FastifyRequest, shown: Credentials) => Promise<Actor>

const actors = new WeakMap<FastifyRequest, Actor>()

export const actorOf = (request: FastifyRequest): Actor => {
  const actor = actors.get(request)
  if (!actor) throw deny('unauthorized')
  return actor
}

const tokenNames = /^(access_|id_)?token$|^jwt$|^bearer$|^authorization$/i
const tokenLike = /^ey[\w-]+\.[\w-]+\.[\w-]*$/

// URLs end up in logs, histories and referrers.
const refuseTokenInUrl = (request: FastifyRequest): void => {
  for (const [name, value] of Object.entries(request.query as Record<string, unknown>))
    if (tokenNames.test(name) || [value].flat().some((part) => typeof part === 'string' && tokenLike.test(part)))
      throw deny('unauthorized', 'tokens are not accepted in the URL: send the Authorization header')
}

/** The token of the Authorization header; undefined if the header is missing, repeated or not a bearer token. */
export const bearer = ({ headers, raw }: FastifyRequest): string | undefined => {
  const { authorization } = headers
  // (Requests that the server makes to itself have no headersDistinct.)
  const sent = raw.rawHeaders.filter((name, n) => n % 2 === 0 && name.toLowerCase() === 'authorization')
  if (authorization === undefined || sent.length > 1) return undefined
  return /^Bearer +([\w-]+\.[\w-]+\.[\w-]+) *$/i.exec(authorization)?.[1]
}

export const makeIdentify =
  (tokens: Tokens, { takeTicket, isRevoked }: Pick<Access, 'takeTicket' | 'isRevoked'>, rates: RateLimits): Identify =>
  async (request, { token, ticket }) => {
    let actor: Actor
    try {
      refuseTokenInUrl(request)
      actor = await (ticket === undefined || token !== undefined ? tokens.verify(token ?? '') : takeTicket(ticket))
      // An ended session counts at once, also before its notification arrives here.
      if (actor.session !== undefined && (await isRevoked(actor.session)))
        throw deny('unauthorized', 'the session has ended')
    } catch (error) {
      if (error instanceof Refusal && error.code === 'unauthorized') await rates.failure(request)
      throw error
    }
    actors.set(request, actor)
    await rates.subject(request)
    return actor
  }

/** Requires a bearer token for every request below `app`. */
export const askForToken = (app: FastifyInstance, identify: Identify): void => {
  app.addHook('onRequest', async (request) => {
    await identify(request, { token: bearer(request) })
    // The query parser passes invalid UTF-8 through.
    try {
      decodeURIComponent(request.url.slice(request.url.indexOf('?') + 1))
    } catch {
      throw deny('bad_request', 'the query is not UTF-8')
    }
  })
}
