// Limits open streams: `most` in all and `mostOfOne` of one subject. A stream counts from the moment it starts to open.
// Requests are never queued: above a limit a request gets `unavailable`.
import type { FastifyReply } from 'fastify'
import { overloaded } from '../../protocol/errors.ts'

export const makeGate = (most: number, mostOfOne: number, full: string) => {
  const subjects = new Map<string, number>()
  let count = 0
  const enter = (sub: string): (() => void) => {
    const mine = subjects.get(sub) ?? 0
    if (count >= most || mine >= mostOfOne) throw overloaded(full)
    count++
    subjects.set(sub, mine + 1)
    return () => {
      count--
      const left = (subjects.get(sub) ?? 0) - 1
      if (left > 0) subjects.set(sub, left)
      else subjects.delete(sub)
    }
  }
  /** Runs `open`. The stream counts until its response is closed. Throws `unavailable` above a limit. */
  return async (sub: string, { raw }: FastifyReply, open: () => Promise<void>): Promise<void> => {
    const leave = enter(sub)
    try {
      await open()
    } catch (error) {
      leave()
      throw error
    }
    if (raw.destroyed || raw.closed) leave()
    else raw.once('close', leave)
  }
}
