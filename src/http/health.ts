// /healthz: the process is up. /readyz: the database answers, LISTEN holds, the schema is there, and it is not draining.
import type { FastifyInstance } from 'fastify'
import Type from '../protocol/typebox.ts'
import { deny } from '../protocol/errors.ts'
import { ErrorBody } from './docs.ts'
import { refuse } from './errors.ts'

export type Readiness = {
  /** What is not ready, by name; empty if all is. */
  missing(): Promise<string[]>
}

const Ok = Type.Object({ status: Type.Literal('ok') })

export const healthRoutes = (app: FastifyInstance, readiness: Readiness): void => {
  const answers = (summary: string) => ({ tags: ['health'], summary, response: { 200: Ok, '5xx': ErrorBody } })
  app.get('/healthz', { schema: answers('The process is up') }, () => ({ status: 'ok' }))

  app.get('/readyz', { schema: answers('Database, listener and schema are ready') }, async (_request, reply) => {
    const missing = await readiness.missing()
    if (missing.length > 0) return refuse(reply, deny('unavailable', `not ready: ${missing.join(', ')}`))
    return { status: 'ok' }
  })
}
