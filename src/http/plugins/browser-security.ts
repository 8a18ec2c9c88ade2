// Browser security headers: which origins may call the API (CORS), and what this server's pages may do (helmet).
// Nothing is ever given to a foreign page by a cookie: there are none.
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import type { FastifyInstance } from 'fastify'

/** Makes a test of origins: is it in the list, or is anything taken? */
export const makeAllowed =
  (origins: ReadonlySet<string>) =>
  (origin: string): boolean =>
    origins.has(origin) || origins.has('*')

export const installBrowserRules = async (app: FastifyInstance, origins: ReadonlySet<string>): Promise<void> => {
  const allowed = makeAllowed(origins)
  await app.register(cors, {
    origin: (origin, answer) => answer(null, origin !== undefined && allowed(origin)),
    methods: ['GET', 'POST', 'PATCH', 'DELETE'],
    allowedHeaders: [
      'authorization',
      'content-type',
      'idempotency-key',
      'last-event-id',
      'if-none-match',
      'if-range',
      'range',
    ],
    exposedHeaders: ['etag', 'retry-after', 'deck-last-seq', 'deck-epoch', 'accept-ranges', 'content-range'],
    // Ten minutes between two preflights of a page.
    maxAge: 600,
  })
  await app.register(helmet, {
    // An answer of the API is no page; those that are say what they need.
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], baseUri: ["'none'"], formAction: ["'none'"], frameAncestors: ["'none'"] },
    },
    // Other names under this one's domain are not ours to speak for.
    strictTransportSecurity: { includeSubDomains: false },
    referrerPolicy: { policy: 'no-referrer' },
  })
}
