// Presence: the followers of a topic on all instances, for followers that asked for it. In memory only. An instance with such a
// follower sends `who` on the topic's channel. The other instances answer with their followers of the topic, and send changes while
// `who` is repeated. An instance that no longer answers has stopped, and its followers are dropped.
import type { Hub } from '../hub/hub.ts'
import type { Subscription } from '../hub/subscription.ts'
import { dropSilent, takeAnswer, type Answer, type Elsewhere } from './presence-elsewhere.ts'
import { compare, parts, peopleOf, sendChanges, sum, type People } from './presence-set.ts'
import { makeRelay } from './instance-relay.ts'
import type { Seal } from './seal.ts'

type Signal = { topic: string; from: string } & (
  | Answer
  | { type: 'who'; whole: boolean }
  /** the topic has its first follower on this instance: instances that watch the topic ask again */
  | { type: 'come' }
)

type Watch = {
  topic: string
  /** the subscriptions here that asked, and whether each has a complete list (presence-set.ts) */
  asked: Map<Subscription, boolean>
  /** when another instance last asked, and when this instance did (performance.now) */
  askedAt: number
  whoAt: number
  /** when the first answers should have arrived */
  answeredAt: number
  n: number
  mine: People
  elsewhere: Elsewhere
  sent: People
}

// ms for which changes are collected; ms to wait for the first answers.
const every = 250
const patience = 200

export const makePresence = (options: {
  origin: string
  seal: Seal
  hub: Pick<Hub, 'receivers'>
  heardSince: (topic: string) => number
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  /** Listens on the topic's channel. Resolves once LISTEN is active. */
  follow: (topic: string) => Promise<void>
  unfollow: (topic: string) => void
  onError: (error: unknown) => void
  /** ms without an answer after which an instance counts as stopped */
  life: number
}) => {
  const { origin, life } = options
  const watches = new Map<string, Watch>()
  const dirty = new Set<Watch>()
  let due: Signal[] = []
  let timer: NodeJS.Timeout | undefined
  let poller: NodeJS.Timeout | undefined
  let closed = false

  const soon = (watch?: Watch): void => {
    if (watch) dirty.add(watch)
    if (!closed) timer ??= setTimeout(() => void flush().catch(options.onError), every)
  }

  const here = (topic: string): People => peopleOf(options.hub.receivers(topic))

  const watched = (topic: string): Watch => {
    let watch = watches.get(topic)
    if (!watch) {
      watch = {
        topic,
        asked: new Map(),
        askedAt: -Infinity,
        whoAt: -Infinity,
        answeredAt: Infinity,
        n: 0,
        mine: here(topic),
        elsewhere: new Map(),
        sent: new Map(),
      }
      watches.set(topic, watch)
      poller ??= setInterval(poll, life / 11)
    }
    return watch
  }

  const forget = (watch: Watch): void => {
    watches.delete(watch.topic)
    dirty.delete(watch)
    if (watches.size > 0) return
    clearInterval(poller)
    poller = undefined
  }

  const ask = (watch: Watch, whole: boolean): void => {
    watch.whoAt = performance.now()
    due.push({ type: 'who', topic: watch.topic, from: origin, whole })
  }

  /** Queues the changes on this instance, for the instances that asked. */
  const announce = (watch: Watch, now: number): void => {
    const { topic } = watch
    const people = here(topic)
    const { joined, left, other } = compare(watch.mine, people)
    watch.mine = people
    const subs = [...joined, ...left, ...other]
    if (subs.length === 0) return
    for (const part of parts(subs)) {
      watch.n++
      if (now - watch.askedAt < life) due.push({ type: 'change', topic, from: origin, n: watch.n, subs: part })
    }
  }

  const flush = async (): Promise<void> => {
    timer = undefined
    const now = performance.now()
    for (const watch of [...dirty]) {
      dirty.delete(watch)
      announce(watch, now)
      if (watch.asked.size === 0 || now < watch.answeredAt) continue
      const everybody = sum([watch.mine, ...[...watch.elsewhere.values()].map(({ people }) => people)])
      sendChanges(watch.topic, watch.asked, watch.sent, everybody)
      watch.sent = everybody
    }
    const notices = due
    due = []
    await relay.send(notices)
  }

  /** Drops silent instances and unwatched topics, repeats `who`, and retries followers whose buffer was full. */
  const poll = (): void => {
    const now = performance.now()
    for (const watch of [...watches.values()]) {
      dropSilent(watch.elsewhere, now, life)
      if (watch.asked.size === 0 && now - watch.askedAt > life) {
        forget(watch)
        continue
      }
      if (watch.asked.size > 0 && now - watch.whoAt > life / 3) ask(watch, false)
      soon(watch)
    }
  }

  /** Answers another instance that asked for the followers of a topic here. */
  const answer = (topic: string, whole: boolean, now: number): void => {
    const watch = watches.get(topic) ?? (here(topic).size > 0 ? watched(topic) : undefined)
    if (!watch) return
    announce(watch, now)
    watch.askedAt = now
    const [first = [], ...rest] = whole ? parts([...watch.mine.values()]) : []
    if (whole) due.push({ type: 'here', topic, from: origin, n: ++watch.n, subs: first })
    else due.push({ type: 'still', topic, from: origin, n: watch.n })
    for (const subs of rest) due.push({ type: 'change', topic, from: origin, n: ++watch.n, subs })
    void flush().catch(options.onError)
  }

  const relay = makeRelay<Signal>({
    ...options,
    mark: '#',
    onReceived(signal) {
      const now = performance.now()
      const { topic, from } = signal
      if (signal.type === 'who') return answer(topic, signal.whole, now)
      const watch = watches.get(topic)
      if (!watch || watch.asked.size === 0) return
      if (signal.type === 'come') ask(watch, true)
      else if (!takeAnswer(watch.elsewhere, from, signal, now) && now - watch.whoAt > every) ask(watch, true)
      soon(watch)
    },
  })

  /** Forgets ended subscriptions. Without a subscription that asked, this instance no longer listens to the others. */
  const prune = (watch: Watch): void => {
    if (watch.asked.size === 0) return
    for (const subscription of watch.asked.keys()) if (subscription.gone) watch.asked.delete(subscription)
    if (watch.asked.size > 0) return
    watch.elsewhere.clear()
    watch.sent = new Map()
    watch.answeredAt = Infinity
    options.unfollow(watch.topic)
  }

  return {
    /** A subscription asks for the presence of its topic. */
    join(subscription: Subscription): void {
      const watch = watched(subscription.topic)
      const first = watch.asked.size === 0
      watch.asked.set(subscription, false)
      soon(watch)
      if (!first) return
      void options.follow(subscription.topic).then(async () => {
        ask(watch, true)
        await flush()
        watch.answeredAt = performance.now() + patience
        setTimeout(() => soon(watch), patience).unref()
      }, options.onError)
    },

    /** A topic has its first follower here: instances that watch the topic may not have asked this instance. */
    opened(topic: string): void {
      void options.follow(topic).then(() => {
        options.unfollow(topic)
        due.push({ type: 'come', topic, from: origin })
        soon()
      }, options.onError)
    },

    /** A follower joined or left a topic. */
    changed(topic: string): void {
      const watch = watches.get(topic)
      if (!watch) return
      prune(watch)
      soon(watch)
    },

    receive: relay.receive,

    /** LISTEN was interrupted: asks again, since notifications may have been lost. */
    check(): void {
      for (const watch of watches.values())
        if (watch.asked.size > 0) {
          ask(watch, true)
          soon(watch)
        }
    },

    /** Reports to the other instances that this instance has no followers any more. */
    async close(): Promise<void> {
      closed = true
      clearTimeout(timer)
      clearInterval(poller)
      for (const watch of watches.values()) dirty.add(watch)
      await flush().catch(options.onError)
    },
  }
}
export type Presence = ReturnType<typeof makePresence>
