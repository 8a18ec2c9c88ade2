// Presence: who follows a topic, on all instances, for the followers who asked. In memory only. An instance with such a follower
// sends `who` on the topic's channel; the others answer with who follows the topic there, and send changes for as long as `who`
// is repeated. An instance that no longer answers is gone, and its followers with it.
import type { Hub } from '../hub/hub.ts'
import type { Seat } from '../hub/seat.ts'
import { dropSilent, takeAnswer, type Answer, type Elsewhere } from './presence-elsewhere.ts'
import { compare, parts, peopleOf, sum, tell, type People } from './presence-set.ts'
import { makeRelay } from './instance-relay.ts'
import type { Seal } from './seal.ts'

type Told = { topic: string; from: string } & (
  | Answer
  | { type: 'who'; whole: boolean }
  /** the topic has its first follower on this instance: instances that want to know ask again */
  | { type: 'come' }
)

type Watch = {
  topic: string
  /** the seats here that asked, and whether each has had a complete list (presence-set.ts) */
  asked: Map<Seat, boolean>
  /** when other instances last asked, and when this one did (performance.now) */
  askedAt: number
  whoAt: number
  /** when the first answers have arrived */
  answeredAt: number
  n: number
  mine: People
  elsewhere: Elsewhere
  told: People
}

// ms in which changes are collected, and ms to wait for the first answers.
const every = 250
const patience = 200

export const makePresence = (options: {
  origin: string
  seal: Seal
  hub: Pick<Hub, 'receivers'>
  heardSince: (topic: string) => number
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  /** Listens on the topic's channel; resolves once LISTEN holds. */
  follow: (topic: string) => Promise<void>
  unfollow: (topic: string) => void
  onError: (error: unknown) => void
  /** ms without an answer after which an instance is gone */
  life: number
}) => {
  const { origin, life } = options
  const watches = new Map<string, Watch>()
  const dirty = new Set<Watch>()
  let due: Told[] = []
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
        told: new Map(),
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

  /** Queues what changed here, for the instances that asked. */
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
      tell(watch.topic, watch.asked, watch.told, everybody)
      watch.told = everybody
    }
    const news = due
    due = []
    await relay.tell(news)
  }

  /** Drops silent instances and topics that are no longer watched, repeats `who`, and retries followers that had no room. */
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

  /** Another instance asks who follows a topic here. */
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

  const relay = makeRelay<Told>({
    ...options,
    mark: '#',
    onHeard(told) {
      const now = performance.now()
      const { topic, from } = told
      if (told.type === 'who') return answer(topic, told.whole, now)
      const watch = watches.get(topic)
      if (!watch || watch.asked.size === 0) return
      if (told.type === 'come') ask(watch, true)
      else if (!takeAnswer(watch.elsewhere, from, told, now) && now - watch.whoAt > every) ask(watch, true)
      soon(watch)
    },
  })

  /** Forgets the seats that are gone; without one that asked, the other instances are not listened to. */
  const prune = (watch: Watch): void => {
    if (watch.asked.size === 0) return
    for (const seat of watch.asked.keys()) if (seat.gone) watch.asked.delete(seat)
    if (watch.asked.size > 0) return
    watch.elsewhere.clear()
    watch.told = new Map()
    watch.answeredAt = Infinity
    options.unfollow(watch.topic)
  }

  return {
    /** A seat asks who follows its topic. */
    join(seat: Seat): void {
      const watch = watched(seat.topic)
      const first = watch.asked.size === 0
      watch.asked.set(seat, false)
      soon(watch)
      if (!first) return
      void options.follow(seat.topic).then(async () => {
        ask(watch, true)
        await flush()
        watch.answeredAt = performance.now() + patience
        setTimeout(() => soon(watch), patience).unref()
      }, options.onError)
    },

    /** A topic has its first follower here: instances that watch it may not have asked this one. */
    opened(topic: string): void {
      void options.follow(topic).then(() => {
        options.unfollow(topic)
        due.push({ type: 'come', topic, from: origin })
        soon()
      }, options.onError)
    },

    /** A follower came to a topic, or left it. */
    changed(topic: string): void {
      const watch = watches.get(topic)
      if (!watch) return
      prune(watch)
      soon(watch)
    },

    hear: relay.hear,

    /** LISTEN holds again: notifications may have been lost meanwhile. */
    check(): void {
      for (const watch of watches.values())
        if (watch.asked.size > 0) {
          ask(watch, true)
          soon(watch)
        }
    },

    /** Reports to the other instances that this one has no followers any more. */
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
