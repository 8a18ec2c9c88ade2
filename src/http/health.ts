// /healthz: the process is up. /readyz: the database answers, LISTEN holds, the schema is there, and it is not draining.
import type { FastifyInstance } from 'fastify'
import { deny } from '../protocol/errors.ts'
import { refuse } from './errors.ts'

export type Readiness = {
  /** What is not ready, by name; empty if all is. */
  missing(): Promise<string[]>
}

export const healthRoutes = (app: FastifyInstance, readiness: Readiness): void => {
  app.get('/healthz', { schema: { tags: ['health'], summary: 'The process is up' } }, () => ({ status: 'ok' }))

  app.get(
    '/readyz',
    { schema: { tags: ['health'], summary: 'Database, listener and schema are ready' } },
    async (_request, reply) => {
      const missing = await readiness.missing()
      if (missing.length > 0) return refuse(reply, deny('unavailable', `not ready: ${missing.join(', ')}`))
      return { status: 'ok' }
    },
  )
}
