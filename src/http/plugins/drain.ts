// Draining: a server that stops answers the requests that it has, refuses new ones, and ends each connection after its response.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Work } from '../../live/connections/in-flight.ts'
import { deny } from '../../protocol/errors.ts'

/** A socket's request has its response when the socket ends. */
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
  // Also for requests that came before: their connections close as soon as they are idle.
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
