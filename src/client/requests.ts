// Frames without an answer yet. Each has an id; its answer is an `ok` or an `error` with the same id.
import { byteLength, defer } from './async.ts'
import { DeckError, fromServer } from './errors.ts'
import type { Socket } from './socket.ts'

export type Frame = { type: string; id?: number; topic?: string } & Record<string, unknown>

export const makeRequests = () => {
  const pending = new Map<number, { resolve: (frame: unknown) => void; reject: (error: unknown) => void }>()
  let ids = 0
  return {
    get pending(): number {
      return pending.size
    },
    /** Sends a frame of up to `most` bytes. `take` gets the answer before any later frame is received. */
    send<T>(socket: Socket, frame: Frame, most: number, take?: (answer: T) => void): Promise<T> {
      const id = ++ids
      const text = JSON.stringify({ ...frame, id })
      if (text.length * 3 > most && byteLength(text) > most)
        return Promise.reject(new DeckError('too_large', `the frame is larger than ${most} bytes`))
      const answer = defer<T>()
      const resolve = (frame: unknown): void => {
        take?.(frame as T)
        answer.resolve(frame as T)
      }
      pending.set(id, { resolve, reject: answer.reject })
      socket.send(text)
      return answer.promise
    },
    /** Takes an `ok` or an `error`. Returns whether it answers a pending request. */
    answer(frame: Frame): boolean {
      const { type, id = 0 } = frame
      const request = pending.get(id)
      if (!request) return false
      pending.delete(id)
      if (type === 'ok') request.resolve(frame)
      else request.reject(fromServer(frame))
      return true
    },
    rejectAll(error: DeckError): void {
      for (const { reject } of pending.values()) reject(error)
      pending.clear()
    },
  }
}
