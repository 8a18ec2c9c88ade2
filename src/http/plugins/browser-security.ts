// Browser security headers: which origins may call the API (CORS), and what this server's pages may do (helmet).
// The API ignores cookies, and POSTs under /auth need the server's own Origin, so a foreign page can't act with a user's session.
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import type { FastifyInstance } from 'fastify'

/** Returns a function that checks whether an origin is listed; `*` allows any. */
export const makeAllowed =
  (origins: ReadonlySet<string>) =>
  (origin: string): boolean =>
    origins.has(origin) || origins.has('*')

export const installBrowserRules = async (app: FastifyInstance, origins: ReadonlySet<string>): Promise<void> => {
  const allowed = makeAllowed(origins)
  await app.register(cors, {
    origin: (origin, answer) => answer(null, origin !== undefined && allowed(origin)),
    methods: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
    allowedHeaders: [
      'authorization',
      'content-type',
      'idempotency-key',
      'last-event-id',
      'if-none-match',
      'if-range',
      'range',
      'mcp-protocol-version',
      'mcp-method',
      'mcp-name',
    ],
    exposedHeaders: [
      'etag',
      'retry-after',
      'deck-last-seq',
      'deck-epoch',
      'accept-ranges',
      'content-range',
      'www-authenticate',
    ],
    // A browser caches a preflight for ten minutes.
    maxAge: 600,
  })
  await app.register(helmet, {
    // API responses are not pages. Routes that serve pages set their own policy.
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], baseUri: ["'none'"], formAction: ["'none'"], frameAncestors: ["'none'"] },
    },
    // The server does not decide for other subdomains.
    strictTransportSecurity: { includeSubDomains: false },
    referrerPolicy: { policy: 'no-referrer' },
  })
}
