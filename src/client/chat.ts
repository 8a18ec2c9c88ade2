// A citizen's chat in a mission: messages, typing, read positions, and replies while they are written.
import type { CodeBlock, Message, Question } from '../protocol/rows.ts'
import type { MessageSnippet } from '../protocol/snippet.ts'
import type { ChatEvent, ChatSignal } from './events.ts'
import type { Topic } from './feed.ts'
import { pathOf, type Http } from './http.ts'
import type { Link } from './link.ts'
import type { Outbox, SendOptions } from './send-queue.ts'
import { eventsOf, messagesOf, type EventsOptions, type PastOptions } from './chat-over-http.ts'
import type { Writer, Writers } from './reply-writer.ts'
export type { CodeBlock, EventsOptions, PastOptions }

export type HistoryOptions = PastOptions & {
  limit?: number
  /** with `q`: each message has a `snippet` */
  highlight?: boolean
  /** with `q`: `rank` returns the best matches first */
  order?: 'seq' | 'rank'
  /** the state at this time (RFC 3339) */
  at?: string
}
export type History = {
  messages: (Message & { snippet?: MessageSnippet })[]
  last_seq: number
  has_more: boolean
  epoch: string
}

export type QuestionsOptions = { state?: Question['state']; before?: number; limit?: number; signal?: AbortSignal }
/** `listening`: something has worked for the citizen within the last 60 s. */
export type Questions = { questions: Question[]; listening: boolean; has_more: boolean }

export type Chat = Topic<ChatEvent, ChatSignal> & {
  /** Stores a message once, in the order of the calls; waits while there is no connection. */
  send(text: string, options?: SendOptions): Promise<Message>
  /** A page of messages, by ascending seq unless `order` is `rank`. */
  history(options?: HistoryOptions): Promise<History>
  /** Yields every message up to the latest seq. */
  messages(options?: PastOptions): AsyncGenerator<Message, void, undefined>
  /** The events of `follow`, over HTTP, where WebSockets are blocked. Without `after` from the newest 50 messages on. */
  events(options?: EventsOptions): AsyncGenerator<ChatEvent, void, undefined>
  /** Sends whether the user is typing; dropped without a connection. */
  typing(on: boolean): void
  /** Sets the caller's read position. Resolves to the stored one: it never goes back. */
  read(seq: number, options?: { signal?: AbortSignal }): Promise<number>
  /** A reply whose draft all followers of the chat receive while it is written. */
  stream(key?: string): Writer
  /** Cancels a reply: its writer is asked to stop. Rejects with `not_found` if no such reply is being written. */
  cancel(key: string, options?: { signal?: AbortSignal }): Promise<void>
  /** A message by its ID. */
  message(id: string, options?: { signal?: AbortSignal }): Promise<Message>
  /** Takes a message back: its text is removed everywhere. Rejects with `forbidden` unless it is one's own, or a reply to one's question. */
  redact(id: string, options?: { reason?: string; signal?: AbortSignal }): Promise<Message>
  /** A page of the questions to the citizen, newest last: the users' messages, and what became of them. */
  questions(options?: QuestionsOptions): Promise<Questions>
  /** Lets a failed question wait again, from attempt 0. Rejects with `conflict` if it has not failed. */
  retry(question: string, options?: { signal?: AbortSignal }): Promise<Question>
  /** Closes a waiting question. The worker of a working one is asked to stop. Rejects with `conflict` if it has ended. */
  cancelQuestion(question: string, options?: { signal?: AbortSignal }): Promise<Question>
  /** Removes all messages (admin). */
  clear(options?: { signal?: AbortSignal }): Promise<void>
}

export const makeChat = (
  path: string,
  topic: Topic<ChatEvent, ChatSignal>,
  parts: { link: Link; http: Http; outbox: Outbox; writers: Writers },
): Chat => {
  const { link, http, outbox, writers } = parts
  const insist = <T>(frame: { type: string } & Record<string, unknown>, signal?: AbortSignal): Promise<T> =>
    link.insist(() => link.ask<T>({ ...frame, topic: path }), signal)
  const change = (question: string, verb: string, signal?: AbortSignal): Promise<Question> =>
    http('POST', `${path}/questions/${pathOf(question, verb)}`, { signal })
  return {
    ...topic,
    send: (text, options) => outbox(path, text, options),
    history: (options = {}) => http('GET', path, { query: options, signal: options.signal }),
    messages: (options = {}) => messagesOf(http, path, options),
    events: (options = {}) => eventsOf(http, path, options),
    typing: (on) => void link.ask({ type: 'typing', topic: path, on }).catch(() => {}),
    read: async (seq, { signal } = {}) => (await insist<{ seq: number }>({ type: 'read', seq }, signal)).seq,
    stream: (key) => writers.write(path, key),
    cancel: async (key, { signal } = {}) => void (await insist({ type: 'cancel', key }, signal)),
    message: (id, { signal } = {}) => http('GET', `${path}/messages/${pathOf(id)}`, { signal }),
    redact: (id, { reason, signal } = {}) =>
      http('POST', `${path}/messages/${pathOf(id)}/redact`, {
        ...(reason === undefined ? {} : { body: { reason } }),
        signal,
        again: true,
      }),
    questions: (options = {}) => http('GET', `${path}/questions`, { query: options, signal: options.signal }),
    retry: (question, { signal } = {}) => change(question, 'retry', signal),
    cancelQuestion: (question, { signal } = {}) => change(question, 'cancel', signal),
    clear: ({ signal } = {}) => http('DELETE', path, { signal }),
  }
}
