// Rate limits for requests: of a subject, from any address; of an address, for routes without a token; and of an address, with a bad
// token. A valid token keeps working, even if its address sends many bad ones. Each instance counts for itself, a minute at a time.
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { deny } from '../../protocol/errors.ts'

/** Counts a request. Throws `rate_limited` above the limit. */
export type Counter = (request: FastifyRequest) => Promise<void>
export type RateLimits = { subject: Counter; anonymous: Counter; failure: Counter }

/** `subjectOf`: the request's subject. An IPv6 address counts as its /64. */
export const installRateLimits = async (
  app: FastifyInstance,
  limits: { requestsPerMinute: number; anonymousPerMinute: number; authFailuresPerMinute: number },
  subjectOf: (request: FastifyRequest) => string,
): Promise<RateLimits> => {
  await app.register(rateLimit, { global: false, timeWindow: 60_000 })
  const counter = (max: number, keyGenerator?: (request: FastifyRequest) => string): Counter => {
    if (max === Infinity) return () => Promise.resolve()
    const count = app.createRateLimit({ max, ...(keyGenerator ? { keyGenerator } : {}) })
    return async (request) => {
      const found = await count(request)
      if (!found.isAllowed && found.isExceeded)
        throw deny('rate_limited', undefined, { retry_after: Math.max(1, found.ttlInSeconds) })
    }
  }
  return {
    subject: counter(limits.requestsPerMinute, subjectOf),
    anonymous: counter(limits.anonymousPerMinute),
    failure: counter(limits.authFailuresPerMinute),
  }
}

/** Counts requests to routes that need no token, except for the probes. (POST /mcp needs one.) */
export const limitAnonymous = (app: FastifyInstance, rates: Pick<RateLimits, 'anonymous'>): void => {
  app.addHook('onRequest', async (request) => {
    const probe = ['/healthz', '/readyz'].includes(request.url)
    const mcp = request.method === 'POST' && request.routeOptions.url === '/mcp'
    if (!probe && !mcp && (request.is404 || !request.url.startsWith('/api/'))) await rates.anonymous(request)
  })
}
