// Renders all errors over HTTP: { detail, code, error_id? } with the matching status.
// An internal error is logged under an error_id; the client receives that ID and no other detail.
import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyBaseLogger, FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { count } from '../../live/connections/counters.ts'
import { toRefusal } from '../../database/postgres/errors.ts'
import { deny, type Refusal } from '../../protocol/errors.ts'

/**
 * Returns `explain`, which turns any error into the refusal that a client may see. Internal errors are logged, with their request or
 * socket. `onFault` receives database errors.
 */
export const makeExplain =
  (log: FastifyBaseLogger, onFault: (error: unknown) => void) =>
  (error: unknown, whose: { reqId?: string; socket?: string } = {}): Refusal => {
    const refusal = toRefusal(error) ?? fromFastify(error)
    if (refusal?.code === 'unavailable' && refusal !== error) onFault(error)
    if (refusal && refusal.code !== 'internal') return refusal
    const error_id = randomUUID()
    log.error({ err: refusal?.cause ?? error, error_id, ...whose }, 'internal error')
    return deny('internal', undefined, { error_id })
  }
export type Explain = ReturnType<typeof makeExplain>

const fromFastify = (error: unknown): Refusal | undefined => {
  if (!(error instanceof Error) || !('code' in error || 'statusCode' in error)) return undefined
  const { code, statusCode = 500, validation, message } = error as FastifyError
  if (validation) return deny('bad_request', message)
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return deny('too_large', 'the body is larger than 2 MiB')
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE')
    return deny('bad_request', 'this route does not support the content type', {}, 415)
  // 403: a path that leaves the folder of static files.
  if (statusCode === 404 || statusCode === 403) return deny('not_found')
  if (statusCode < 500) return deny('bad_request', 'the request is not valid HTTP for this route')
  return undefined
}

/** Whether Node has taken a request as an upgrade. */
const isUpgrade = ({ raw }: FastifyRequest): boolean => 'upgrade' in raw && raw.upgrade === true

/** Sends a refusal. */
export const refuse = (reply: FastifyReply, refusal: Refusal): FastifyReply => {
  const { code, detail, status, extra } = refusal
  const { retry_after, ...members } = extra
  if (retry_after !== undefined || code === 'unavailable')
    reply.header('retry-after', String(Math.ceil(retry_after ?? 1)))
  if (code === 'unauthorized' && !reply.hasHeader('www-authenticate')) reply.header('www-authenticate', 'Bearer')
  // A refused upgrade ends its connection. (Node's parser has released it: nothing else would end it.)
  if (isUpgrade(reply.request)) {
    reply.header('connection', 'close')
    reply.raw.once('finish', () => reply.request.socket.destroySoon())
  }
  return reply
    .status(status)
    .type('application/json; charset=utf-8')
    .send(JSON.stringify({ detail, code, ...members }))
}

/** Answers requests that are not valid HTTP, too slow, or with too large headers, in the same form. They reach no route. */
export const refuseConnection = (error: { code?: string }, socket: Socket): void => {
  if (socket.writable && error.code !== 'ECONNRESET') {
    const status = error.code === 'HPE_HEADER_OVERFLOW' ? 431 : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400
    const body = JSON.stringify({ detail: STATUS_CODES[status], code: 'bad_request' })
    socket.write(
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: application/json; charset=utf-8\r\n` +
        `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    )
  }
  socket.destroySoon()
}

/** `sent`: the number of sent errors by code. */
export const installErrors = (app: FastifyInstance, explain: Explain, sent: Map<string, number>): void => {
  const send = (reply: FastifyReply, refusal: Refusal): FastifyReply => {
    count(sent, refusal.code)
    return refuse(reply, refusal)
  }
  app.setErrorHandler((error, request, reply) => send(reply, explain(error, { reqId: request.id })))
  app.setNotFoundHandler((_request, reply) => send(reply, deny('not_found', 'no such route')))
}
