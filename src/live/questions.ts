// Questions: sends the state of a changed question to the subscriptions of its chat that asked for questions. Notifications of the database
// name the changed questions ("? IDS TOPIC", db/functions/questions.sql), and a user's new message is a question. Any login of the database
// can notify, so a notification only causes a read. All chats share one read at a time; a slow follower is skipped.
import { setTimeout as delay } from 'node:timers/promises'
import { sees } from '../access/policy.ts'
import { encodeFrame } from '../protocol/encode.ts'
import type { Event, MissionRights, Question } from '../protocol/rows.ts'
import { topicParts, uuidListPattern } from '../protocol/topics.ts'
import { toChunk } from '../protocol/websocket-wire.ts'
import { every } from './ephemeral/instance-relay.ts'
import type { Subscription } from './hub/subscription.ts'

type Changed = { topic: string; rights: MissionRights; listening: boolean; question: Question }
type Watch = {
  topic: string
  subscriptions: Set<Subscription>
  /** subscribe commands in progress */
  opening: number
  /** Resolves once notifications arrive. */
  followed: Promise<void>
}

/** Questions of one read, and questions that may wait for one; beyond, the newest of their chat are read. */
const most = 500
const mostWaiting = 10_000
/** Chats of a read of the newest questions, and questions of each. */
const mostChats = 50
const newestOfChat = 20
/** ms that `open` waits for LISTEN, and ms after a failed read until the next. */
const patience = 1000
const pause = 500

const notification = new RegExp(`^\\? (${uuidListPattern}) (missions/[0-9a-f-]{36}/chat/[a-z][a-z0-9_-]{0,31})$`)
const longest = 8000

/** Takes up to `n` out of a set. */
const take = (set: Set<string>, n: number): string[] => {
  const taken: string[] = []
  for (const one of set) {
    if (taken.length === n) break
    taken.push(one)
    set.delete(one)
  }
  return taken
}

export const makeQuestionSignals = (options: {
  store: {
    changed(ids: string[]): Promise<Changed[]>
    newest(chats: { mission: string; citizen: string }[], most: number): Promise<Changed[]>
  }
  /** Listens to a chat's notifications. Resolves once they arrive. */
  follow: (topic: string) => Promise<void>
  unfollow: (topic: string) => void
  onError: (error: unknown) => void
}) => {
  const { store } = options
  const watches = new Map<string, Watch>()
  const changed = new Set<string>()
  /** Chats whose newest questions are read: notifications were lost. */
  const missed = new Set<string>()
  let timer: NodeJS.Timeout | undefined
  let closed = false

  const deliver = (all: Changed[]): void => {
    const chats = new Map<string, { rights: MissionRights; frames: string[] }>()
    for (const { topic, rights, listening, question } of all) {
      if (!watches.has(topic)) continue
      const chat = chats.get(topic) ?? { rights, frames: [] }
      chats.set(topic, chat)
      chat.frames.push(encodeFrame('question', { topic, listening, ...question }))
    }
    for (const [topic, { rights, frames }] of chats) {
      const { bytes } = toChunk(frames)
      for (const { gone, receiver } of watches.get(topic)?.subscriptions ?? [])
        if (!gone && sees(receiver.actor, rights) && receiver.fits(bytes.length)) receiver.send(bytes, frames.length)
    }
  }

  const wake = (after = every): void => {
    if (!closed) timer ??= setTimeout(() => void flush(), after)
  }
  const flush = async (): Promise<void> => {
    const ids = take(changed, most)
    const chats = take(missed, mostChats).filter((topic) => watches.has(topic))
    let failed = false
    try {
      if (ids.length > 0) deliver(await store.changed(ids))
      if (chats.length > 0) {
        const parts = chats.map(topicParts)
        deliver(
          await store.newest(
            parts.map(({ mission, citizen }) => ({ mission, citizen: citizen ?? '' })),
            newestOfChat,
          ),
        )
      }
    } catch (error) {
      failed = true
      options.onError(error)
      for (const id of ids) if (changed.size < mostWaiting) changed.add(id)
      for (const topic of chats) missed.add(topic)
    }
    timer = undefined
    if (changed.size + missed.size > 0) wake(failed ? pause : every)
  }

  const add = (topic: string, ids: string[]): void => {
    if (ids.length === 0) return
    if (changed.size + ids.length > mostWaiting) missed.add(topic)
    else for (const id of ids) changed.add(id)
    wake()
  }

  const prune = (watch: Watch): void => {
    for (const subscription of watch.subscriptions) if (subscription.gone) watch.subscriptions.delete(subscription)
    if (watch.subscriptions.size + watch.opening > 0) return
    watches.delete(watch.topic)
    missed.delete(watch.topic)
    options.unfollow(watch.topic)
  }

  return {
    /**
     * Listens to a chat before a subscription joins, so that it misses no change. Resolves once notifications arrive; while LISTEN is
     * down, after a second. `done` must follow.
     */
    async open(topic: string): Promise<void> {
      let watch = watches.get(topic)
      if (!watch) {
        watch = { topic, subscriptions: new Set(), opening: 0, followed: options.follow(topic).catch(options.onError) }
        watches.set(topic, watch)
      }
      watch.opening++
      await Promise.race([watch.followed, delay(patience, undefined, { ref: false })])
    },
    done(topic: string): void {
      const watch = watches.get(topic)
      if (!watch) return
      watch.opening--
      prune(watch)
    },
    /** A subscription asks for the questions of its chat. */
    join(subscription: Subscription): void {
      watches.get(subscription.topic)?.subscriptions.add(subscription)
    },
    /** A subscription of the topic has ended. */
    left(topic: string): void {
      const watch = watches.get(topic)
      if (watch) prune(watch)
    },

    /** Takes a notification. Returns true if it is of questions. */
    receive(payload: string): boolean {
      if (!payload.startsWith('? ')) return false
      const [, ids = '', topic = ''] = (payload.length <= longest && notification.exec(payload)) || []
      if (watches.has(topic)) add(topic, ids.split(','))
      return true
    },
    /** Takes a topic's new events. */
    events(topic: string, events: readonly Event[]): void {
      if (!watches.has(topic)) return
      const messages = events
        .filter(({ event }) => event === 'message.created')
        .map(({ data }) => JSON.parse(data) as { id: string; sender: string })
      add(
        topic,
        messages.filter(({ sender }) => sender === 'user').map(({ id }) => id),
      )
    },
    /** LISTEN was interrupted: notifications may have been lost. */
    check(): void {
      for (const topic of watches.keys()) missed.add(topic)
      if (missed.size > 0) wake()
    },
    close(): void {
      closed = true
      clearTimeout(timer)
    },
  }
}
export type QuestionSignals = ReturnType<typeof makeQuestionSignals>
