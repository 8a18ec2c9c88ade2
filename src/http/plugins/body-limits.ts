// Limits for request bodies. A subject's bodies and sockets share one byte rate (live/connections/byte-rate), and a limited number of
// body bytes is in memory at a time. Further requests of the subject wait unread, in order of arrival. Only if too many wait, a
// request is refused.
import type { FastifyInstance } from 'fastify'
import type { Inflow } from '../../live/connections/byte-rate.ts'
import { deny, overloaded } from '../../protocol/errors.ts'
import { actorOf } from './authenticate.ts'

export type BodyLimits = {
  /** bytes of one body */
  bodyBytes: number
  /** bytes of the bodies that are read or handled at a time: of one subject, and of all subjects */
  bodyBytesAtOnce: number
  bodyBytesOfAll: number
  /** requests of one subject that may wait, and bytes of their bodies */
  bodiesWaiting: number
  bodyBytesWaiting: number
}
type Waiting = { bytes: number; start(): void; refuse(error: Error): void }
/** One subject's bodies. `next`: the first waiting body, once its bytes are counted; `pause`: the timer until it may be read. */
type Line = { held: number; waiting: Waiting[]; next: Waiting | undefined; pause: NodeJS.Timeout | undefined }

const makeLines = (limits: BodyLimits, inflowOf: (sub: string) => Inflow) => {
  const lines = new Map<string, Line>()
  let held = 0

  const advance = (sub: string, line: Line): void => {
    for (let [first] = line.waiting; first && !line.pause; [first] = line.waiting) {
      if (line.held > 0 && line.held + first.bytes > limits.bodyBytesAtOnce) return
      if (line.next !== first) {
        line.next = first
        const ms = inflowOf(sub).take(first.bytes, performance.now())
        if (ms >= 1) {
          const onward = (): void => {
            line.pause = undefined
            advance(sub, line)
          }
          line.pause = setTimeout(onward, ms).unref()
          return
        }
      }
      line.waiting.shift()
      if (held + first.bytes > limits.bodyBytesOfAll) first.refuse(overloaded('too many request bodies at a time'))
      else {
        held += first.bytes
        line.held += first.bytes
        first.start()
      }
    }
    if (!line.pause && line.held === 0 && line.waiting.length === 0) lines.delete(sub)
  }

  /**
   * Waits until `bytes` bytes may be read. `onGone` receives a function that gives up the wait. Resolves to a function that lowers the
   * number of bytes; 0 ends the reservation. Rejects with `rate_limited`, `overloaded` or `unavailable`.
   */
  const enter = async (
    sub: string,
    bytes: number,
    onGone: (leave: () => void) => void,
  ): Promise<(left: number) => void> => {
    const line = lines.get(sub) ?? { held: 0, waiting: [], next: undefined, pause: undefined }
    const behind = line.waiting.reduce((all, one) => all + one.bytes, bytes)
    if (line.waiting.length >= limits.bodiesWaiting || behind > limits.bodyBytesWaiting)
      throw deny('rate_limited', 'too many request bodies of this subject are waiting: retry later', { retry_after: 1 })
    lines.set(sub, line)
    await new Promise<void>((start, refuse) => {
      const one = { bytes, start, refuse }
      line.waiting.push(one)
      advance(sub, line)
      onGone(() => {
        const at = line.waiting.indexOf(one)
        if (at < 0) return
        line.waiting.splice(at, 1)
        refuse(deny('unavailable', 'the client disconnected while its request waited'))
        advance(sub, line)
      })
    })
    return (left) => {
      held -= bytes - left
      line.held -= bytes - left
      bytes = left
      advance(sub, line)
    }
  }

  return {
    enter,
    /** Refuses all waiting requests. */
    drain(): void {
      for (const line of lines.values())
        for (const one of line.waiting.splice(0)) one.refuse(deny('unavailable', 'the server is restarting'))
    },
  }
}

/** `inflowOf`: the byte rate of a subject's frames and bodies. `drain` refuses all waiting requests. */
export const boundBodies = (
  api: FastifyInstance,
  limits: BodyLimits,
  inflowOf: (sub: string) => Inflow,
): { drain(): void } => {
  const { enter, drain } = makeLines(limits, inflowOf)

  api.addHook('preParsing', async (request, { raw: response }) => {
    const { raw } = request
    const unknown = raw.headers['transfer-encoding'] !== undefined
    // A body of unknown length counts as the largest allowed one until it is read.
    const bytes = unknown ? limits.bodyBytes : Number(raw.headers['content-length'] ?? 0)
    // A body that is too large is refused unread.
    if (bytes === 0 || bytes > limits.bodyBytes) return
    const { sub } = actorOf(request)
    let gone = (): void => {}
    response.once('close', () => gone())
    const keep = await enter(sub, bytes, (leave) => (gone = leave))
    let counted = bytes
    let read = 0
    let over = false
    /** Corrects the reservation and the rate to the bytes that were read. Once the request is over, nothing is counted. */
    const settle = (left: number): void => {
      if (over) return
      over = left === 0
      inflowOf(sub).take(read - counted, performance.now())
      counted = read
      keep(left)
    }
    // The body's parser resumes it.
    raw.pause()
    raw.on('data', (chunk: Buffer) => (read += chunk.length))
    raw.once('end', () => settle(read))
    gone = () => settle(0)
    if (response.destroyed) gone()
  })
  return { drain }
}
