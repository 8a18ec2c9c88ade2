// Limits for responses that are not streams. The server prepares a fixed number of responses at a time for each subject. Further
// requests wait in a bounded queue. Unread bytes count for the subject, and in the ledger that all send buffers share.
// Streams have separate limits and leave this queue before they start. Searches take long, so they have a separate queue.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Ledger } from '../../live/connections/send-buffer.ts'
import type { Lines } from '../../database/search/subject-queue.ts'
import { deny, overloaded } from '../../protocol/errors.ts'
import { actorOf } from './authenticate.ts'

export type AnswerLimits = {
  /** responses and searches that are prepared at a time for one subject, and requests that may wait */
  answersAtOnce: number
  searchesAtOnce: number
  answersWaiting: number
  /** unread response bytes of one subject */
  answersUnread: number
}
export type Answers = {
  /** Frees the request's place: it becomes a stream, which has separate limits. */
  leave(request: FastifyRequest): void
  /** Moves the request to the queue of searches. Resolves when it may start. */
  search(request: FastifyRequest): Promise<void>
}

/** `lines`: a subject's responses wait in `read SUB`, its searches in `search SUB`. */
export const boundAnswers = (api: FastifyInstance, ledger: Ledger, limits: AnswerLimits, lines: Lines): Answers => {
  const unread = new Map<string, number>()
  const places = new WeakMap<FastifyRequest, () => void>()

  const leave = (request: FastifyRequest): void => {
    places.get(request)?.()
    places.delete(request)
  }

  const enter = async (request: FastifyRequest, name: string, atOnce: number): Promise<void> => {
    const place = lines.enter(name, atOnce, limits.answersWaiting)
    if (!place)
      throw deny('rate_limited', 'too many requests of this subject are waiting: retry later', { retry_after: 1 })
    places.set(request, await place)
    if (!request.raw.socket.destroyed) return
    leave(request)
    throw deny('unavailable', 'the client disconnected while its request waited')
  }

  api.addHook('preHandler', async (request, reply) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') return
    const { sub } = actorOf(request)
    if ((unread.get(sub) ?? 0) >= limits.answersUnread)
      throw deny('rate_limited', 'this subject has too many unread responses: read them first', { retry_after: 1 })
    if (ledger.waiting >= ledger.max) throw overloaded('the server holds too many unread responses')
    // Also if the connection is lost before a response.
    reply.raw.once('close', () => leave(request))
    await enter(request, `read ${sub}`, limits.answersAtOnce)
  })

  api.addHook('onSend', (request, { raw }, payload, done) => {
    leave(request)
    done(null, payload)
    const bytes = Buffer.isBuffer(payload)
      ? payload.length
      : typeof payload === 'string'
        ? Buffer.byteLength(payload)
        : 0
    // A small response fits into the kernel's buffer.
    if (bytes < 16 * 1024 || raw.destroyed || request.method === 'HEAD') return
    const { sub } = actorOf(request)
    const count = (n: number): void => {
      ledger.waiting += n
      const left = (unread.get(sub) ?? 0) + n
      if (left > 0) unread.set(sub, left)
      else unread.delete(sub)
    }
    count(bytes)
    raw.once('close', () => count(-bytes))
  })

  return {
    leave,
    async search(request) {
      leave(request)
      await enter(request, `search ${actorOf(request).sub}`, limits.searchesAtOnce)
    },
  }
}
