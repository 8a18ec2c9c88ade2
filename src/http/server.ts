// The HTTP server: its limits for headers, bodies and connections, its log, and its answers to requests that reach no route.
import { randomUUID } from 'node:crypto'
import Fastify, { LogController, type FastifyInstance, type FastifyRequest } from 'fastify'
import type { Config } from '../config/index.ts'
import { lingerSoon } from '../live/connections/linger.ts'
import { makeFaultLog, writeError } from './observability/fault-log.ts'
import { makeExplain, refuse, refuseConnection, type Explain } from './plugins/errors.ts'

/** Where log lines are written. */
export type LogTo = { write(line: string): void }

/**
 * `explain` renders any error for a client and logs server faults. `onFault` logs database errors; `onEach` counts them.
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
      // Only these members of a request are logged: headers and queries may contain secrets.
      serializers: {
        req: ({ method, url, ip }: FastifyRequest) => ({ method, path: url.split('?')[0], ip }),
        err: (error: unknown) => writeError(error),
      },
      ...(logTo ? { stream: logTo } : {}),
    },
    trustProxy: config.trustedProxies.length > 0 && config.trustedProxies,
    logController: new LogController({ disableRequestLogging: true }),
    // Unique across the logs of all instances.
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
    routerOptions: { maxParamLength: 6200 },
    clientErrorHandler: refuseConnection,
    // Fastify's own answer has another form; the drain hook sends ours.
    return503OnClosing: false,
    // A path that is not a valid URL reaches no route.
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
  // Sockets and event streams, plus as many requests and sockets whose token is not verified yet.
  http.server.maxConnections = 2 * limits.sockets + limits.streams
  return { http, explain, onFault }
}
