// Messages on their way: each has a key and is sent until it is answered, so that it is stored once, whatever happens in between.
// One at a time a chat, so that a chat has them in the order in which they were given, also where the server refuses one for now.
// What waits is bounded; beyond, a message is refused at once. What waits when the deck is closed is rejected with its key.
import type { Message, NewMessage } from '../protocol/rows.ts'
import { DeckError } from './errors.ts'
import type { Http } from './http.ts'
import type { Link } from './link.ts'
import { abortable, byteLength, defer, newKey } from './async.ts'

export type SendOptions = {
  code_blocks?: NewMessage['code_blocks']
  /** one's own: sending it again stores nothing twice */
  key?: string | undefined
  /** the task of the inbox that this message answers */
  task?: string | undefined
  /** gives up waiting; what was sent already may be stored all the same */
  signal?: AbortSignal | undefined
}
type Entry = { frame: Record<string, unknown> & { key: string }; signal: AbortSignal | undefined } & ReturnType<
  typeof defer<Message>
>

export const makeOutbox = (link: Link, http: Http, bounds: { messages: number; bytes: number }) => {
  const lanes = new Map<string, Entry[]>()
  let messages = 0
  let bytes = 0

  const deliver = async (topic: string, { frame, signal }: Entry): Promise<Message> => {
    let sent = false
    const ask = (): Promise<{ message: Message }> => {
      sent = true
      return link.ask({ type: 'send', topic, ...frame })
    }
    try {
      return (await link.insist(ask, signal)).message
    } catch (error) {
      if (!(error instanceof DeckError)) throw error
      // More than a frame may hold: a request may hold more, under the same key.
      if (error.code === 'too_large' && frame['task'] === undefined)
        return http('POST', topic, { body: frame, again: true, signal })
      if (!link.ended.aborted) throw error
      throw new DeckError(error.code, error.detail, { key: frame.key, ...(sent ? { maybe: true } : {}) })
    }
  }

  const run = async (topic: string, lane: Entry[]): Promise<void> => {
    for (let entry = lane[0]; entry; lane.shift(), entry = lane[0])
      if (!entry.signal?.aborted) await deliver(topic, entry).then(entry.resolve, entry.reject)
    lanes.delete(topic)
  }

  return (topic: string, message: string, options: SendOptions = {}): Promise<Message> => {
    const { code_blocks, key = newKey(), task, signal } = options
    const frame = { message, key, ...(code_blocks ? { code_blocks } : {}), ...(task ? { task } : {}) }
    const size = byteLength(JSON.stringify(frame))
    if (messages >= bounds.messages || bytes + size > bounds.bytes)
      return Promise.reject(new DeckError('overloaded', 'too many messages wait to be sent', { key }))
    messages++
    bytes += size
    const entry: Entry = { frame, signal, ...defer<Message>() }
    const free = (): void => {
      messages--
      bytes -= size
    }
    const given = abortable(entry.promise, signal)
    given.then(free, free)
    const lane = lanes.get(topic)
    if (lane) lane.push(entry)
    else {
      const first = [entry]
      lanes.set(topic, first)
      void run(topic, first)
    }
    return given
  }
}
export type Outbox = ReturnType<typeof makeOutbox>
