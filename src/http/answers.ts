// Plain answers within bounds. A sub has so many made at a time; its others wait, the longest first, and those that wait are bounded,
// too. What was made and not read yet counts for its sub and, like all that waits for sockets, in the ledger of the process.
// Streams have gates of their own, and leave this one before they begin; a search, which may take long, waits in a line of its own.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Ledger } from '../live/outbox.ts'
import { deny, overloaded } from '../protocol/errors.ts'
import { actorOf } from './identity.ts'

export type AnswerLimits = {
  /** answers and searches of a sub that are made at a time, and that wait */
  answersAtOnce: number
  searchesAtOnce: number
  answersWaiting: number
  /** bytes of a sub's answers that may be left unread */
  answersUnread: number
}
/** What one sub, or one sub's searches, has inside, and those that wait for a place. */
type Line = { inside: number; waiting: (() => void)[] }

export type Answers = {
  /** It becomes a stream: it is bounded elsewhere. */
  leave(request: FastifyRequest): void
  /** It becomes a search: resolves when it has a place among them. */
  search(request: FastifyRequest): Promise<void>
}

export const boundAnswers = (api: FastifyInstance, ledger: Ledger, limits: AnswerLimits): Answers => {
  const lines = new Map<string, Line>()
  const unread = new Map<string, number>()
  const places = new WeakMap<FastifyRequest, () => void>()

  const leave = (request: FastifyRequest): void => {
    places.get(request)?.()
    places.delete(request)
  }

  const enter = async (request: FastifyRequest, name: string, atOnce: number): Promise<void> => {
    const line = lines.get(name) ?? { inside: 0, waiting: [] }
    lines.set(name, line)
    if (line.inside >= atOnce) {
      if (line.waiting.length >= limits.answersWaiting)
        throw deny('rate_limited', 'too many requests of this sub wait for an answer', { retry_after: 1 })
      await new Promise<void>((resolve) => line.waiting.push(resolve))
    } else line.inside++
    places.set(request, () => {
      const next = line.waiting.shift()
      // Its place goes to the next.
      if (next) return next()
      line.inside--
      if (line.inside === 0) lines.delete(name)
    })
    if (!request.raw.destroyed) return
    leave(request)
    throw deny('unavailable', 'nobody waits for it')
  }

  api.addHook('preHandler', async (request, reply) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') return
    const { sub } = actorOf(request)
    if ((unread.get(sub) ?? 0) >= limits.answersUnread)
      throw deny('rate_limited', 'too many answers to this sub are not read yet', { retry_after: 1 })
    if (ledger.waiting >= ledger.max) throw overloaded('too many answers are not read yet')
    // Also where the connection breaks before there is an answer.
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
    // What is small leaves with its write.
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
