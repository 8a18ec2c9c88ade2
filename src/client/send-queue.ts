// The queue of unsent messages. Each message has a key and is sent until it is answered, so it is stored once across reconnects.
// Each chat sends one message at a time, so the order of the calls is kept, also when the server refuses a message temporarily.
// The queue is bounded: a further message is rejected at once. When the deck is closed, queued messages are rejected with their key.
import type { Message, NewMessage } from '../protocol/rows.ts'
import { DeckError } from './errors.ts'
import type { Http } from './http.ts'
import type { Link } from './link.ts'
import { abortable, byteLength, defer, newKey } from './async.ts'

export type SendOptions = {
  code_blocks?: NewMessage['code_blocks']
  /** an idempotency key of the caller: a second send under it stores nothing */
  key?: string | undefined
  /** what the message cost, in any form; up to 4 KiB of JSON */
  usage?: Record<string, unknown> | undefined
  /** the inbox task that this message answers */
  task?: string | undefined
  /** the ID of the message of the same chat that this one answers */
  replyTo?: string | undefined
  /** stops waiting; a message that was already sent may still be stored */
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
      // The message is larger than a frame may be. An HTTP request may be larger: send it there under the same key.
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
    const { code_blocks, key = newKey(), task, replyTo, usage, signal } = options
    const frame = {
      message,
      key,
      ...(code_blocks ? { code_blocks } : {}),
      ...(replyTo ? { reply_to: replyTo } : {}),
      ...(usage ? { usage } : {}),
      ...(task ? { task } : {}),
    }
    const size = byteLength(JSON.stringify(frame))
    if (messages >= bounds.messages || bytes + size > bounds.bytes)
      return Promise.reject(new DeckError('overloaded', 'the queue of unsent messages is full', { key }))
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
