// Draining: a stopping server answers accepted requests, refuses new ones, and closes each connection after its response.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Work } from '../../live/connections/in-flight.ts'
import { deny } from '../../protocol/errors.ts'

/** An upgrade request gets its response only when the socket ends, so it is not counted. */
const isUpgrade = ({ headers }: FastifyRequest): boolean => headers.upgrade !== undefined

/** Counts requests as `work`, and refuses them once `drain` was called. */
export const installDrain = (http: FastifyInstance, work: Work) => {
  let draining = false
  http.addHook('onRequest', async (request, reply) => {
    if (!isUpgrade(request)) {
      work.begin()
      // Also if the client disconnected before its response.
      reply.raw.once('close', work.end)
    }
    if (draining && request.url.startsWith('/api/')) throw deny('unavailable', 'the server is restarting')
  })
  // Also for requests accepted before: their connections close as soon as they are idle.
  http.addHook('onSend', (_request, reply, _payload, done) => {
    if (draining) reply.header('connection', 'close')
    done()
  })
  return {
    isDraining: (): boolean => draining,
    drain(): void {
      draining = true
    },
  }
}
