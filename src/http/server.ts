// The HTTP server itself: its bounds on headers, bodies and connections, its log, and how it answers what reaches no route.
import { randomUUID } from 'node:crypto'
import Fastify, { LogController, type FastifyInstance, type FastifyRequest } from 'fastify'
import type { Config } from '../config/index.ts'
import { lingerSoon } from '../live/connections/linger.ts'
import { makeFaultLog, writeError } from './observability/fault-log.ts'
import { makeExplain, refuse, refuseConnection, type Explain } from './plugins/errors.ts'

/** Takes the log's lines. */
export type LogTo = { write(line: string): void }

/**
 * `explain` renders any error for a client, and logs server faults; `onFault` logs those of the database, which `onEach` counts.
 */
export const makeServer = (
  config: Config,
  onEach: () => void,
  logTo?: LogTo,
): { http: FastifyInstance; explain: Explain; onFault: (error: unknown) => void } => {
  const { limits } = config
  const http = Fastify({
    logger: {
      level: config.logLevel,
      // No more of a request than this: headers and queries carry what is nobody's business.
      serializers: {
        req: ({ method, url, ip }: FastifyRequest) => ({ method, path: url.split('?')[0], ip }),
        err: (error: unknown) => writeError(error),
      },
      ...(logTo ? { stream: logTo } : {}),
    },
    trustProxy: config.trustedProxies.length > 0 && config.trustedProxies,
    logController: new LogController({ disableRequestLogging: true }),
    // Of its own in the log of any number of instances.
    genReqId: () => randomUUID(),
    bodyLimit: limits.bodyBytes,
    requestTimeout: limits.requestTimeout,
    keepAliveTimeout: limits.keepAlive,
    // Closes a connection whose client stops reading a response.
    connectionTimeout: limits.httpSilence,
    http: {
      maxHeaderSize: limits.headerBytes,
      headersTimeout: limits.headersTimeout,
      connectionsCheckingInterval: 5000,
    },
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 200 },
    clientErrorHandler: refuseConnection,
    // Its answer has not our form; the app's hook gives one.
    return503OnClosing: false,
    // A path that is no valid URL never reaches a route.
    frameworkErrors: (error, request, reply) => void refuse(reply, explain(error, { reqId: request.id })),
  })
  const onFault = makeFaultLog(http.log, onEach)
  const explain = makeExplain(http.log, onFault)
  if (['debug', 'trace'].includes(config.logLevel))
    http.addHook('onResponse', (request, reply, done) => {
      request.log.debug({ req: request, status: reply.statusCode, ms: Math.round(reply.elapsedTime) }, 'request')
      done()
    })
  // How Node's HTTP server ends a connection after its last response.
  http.server.on('connection', (socket) => (socket.destroySoon = lingerSoon))
  // Besides the sockets and event streams, as many requests and sockets that are yet to be judged.
  http.server.maxConnections = 2 * limits.sockets + limits.streams
  return { http, explain, onFault }
}
