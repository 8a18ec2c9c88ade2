// How often one may ask: requests of a subject, whatever its address; requests of an address for what needs no token; and
// requests of an address whose token is no good. A good token works on, however many bad ones come from its address.
// Counts are an instance's own, over minutes.
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { deny } from '../../protocol/errors.ts'

/** Throws `rate_limited` for one request too many. */
export type Counter = (request: FastifyRequest) => Promise<void>
export type RateLimits = { subject: Counter; anonymous: Counter; failure: Counter }

/** `subjectOf`: whose request it is. An IPv6 address counts as its /64. */
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

/** Counts the requests that need no token, but for the probes. */
export const limitAnonymous = (app: FastifyInstance, rates: Pick<RateLimits, 'anonymous'>): void => {
  app.addHook('onRequest', async (request) => {
    const probe = ['/healthz', '/readyz'].includes(request.url)
    if (!probe && (request.is404 || !request.url.startsWith('/api/'))) await rates.anonymous(request)
  })
}
