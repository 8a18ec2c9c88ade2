// Where requests stand among a chat's messages: before the first message that was created later.
import type { Message, Request } from '../client/index.ts'
import { isBefore } from './timestamps.ts'

/** The requests that stand before a message, by its seq. */
export type Placed = ReadonlyMap<number, readonly Request[]>

/**
 * Places each request once. Requests created before `from` are left out: they stand above the first message.
 * `after`: those that follow the last message.
 */
export const placeRequests = (
  requests: readonly Request[],
  messages: readonly Pick<Message, 'seq' | 'created_at'>[],
  from: string,
): { before: Map<number, Request[]>; after: Request[] } => {
  const waiting = requests.filter(({ created_at }) => from === '' || !isBefore(created_at, from))
  const before = new Map<number, Request[]>()
  let n = 0
  for (const { seq, created_at } of messages) {
    const begin = n
    for (let next = waiting[n]; next && isBefore(next.created_at, created_at); next = waiting[n]) n++
    if (n > begin) before.set(seq, waiting.slice(begin, n))
  }
  return { before, after: waiting.slice(n) }
}
