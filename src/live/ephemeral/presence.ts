// Presence: who follows a topic, on all instances; told to those of its followers who asked for it. In memory only: an instance whose
// socket asks says `who` on the topic's channel, the others answer with who follows it there, and tell what changes as long as
// somebody asks again. Each answer counts on from the one before: what was missed shows, and is asked for whole. Who is not
// heard of any more, has gone with its instance.
import type { Hub } from '../hub/hub.ts'
import type { Seat } from '../hub/seat.ts'
import { apply, compare, nameOf, parts, sum, tell, type People, type Present } from './presence-set.ts'
import { makeRelay } from './instance-relay.ts'
import type { Seal } from './seal.ts'

type Told = { topic: string; from: string } & (
  | { type: 'who'; whole: boolean }
  /** all that are there; what does not fit into one comes as changes */
  | { type: 'here'; n: number; subs: Present[] }
  /** those whose number of sockets is another one; 0: gone */
  | { type: 'change'; n: number; subs: Present[] }
  | { type: 'still'; n: number }
  /** the topic has its first follower on this instance: whoever wants to know asks again */
  | { type: 'come' }
)

type Elsewhere = { n: number; people: People; heardAt: number }
type Watch = {
  topic: string
  /** the seats here that asked, as people.ts tells them */
  asked: Map<Seat, boolean>
  /** when other instances asked last, and this one did (performance.now) */
  askedAt: number
  whoAt: number
  /** when the first answers are in */
  answeredAt: number
  n: number
  mine: People
  elsewhere: Map<string, Elsewhere>
  told: People
}

// ms in which changes are put together, and that the first answers are waited for.
const every = 250
const patience = 200

export const makePresence = (options: {
  origin: string
  seal: Seal
  hub: Pick<Hub, 'receivers'>
  heardSince: (topic: string) => number
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  /** Hears the channel of a topic; resolves once LISTEN holds. */
  follow: (topic: string) => Promise<void>
  unfollow: (topic: string) => void
  onError: (error: unknown) => void
  /** ms after which those are gone whose instance is not heard of */
  life: number
}) => {
  const { origin, life } = options
  const watches = new Map<string, Watch>()
  const dirty = new Set<Watch>()
  let due: Told[] = []
  let timer: NodeJS.Timeout | undefined
  let looker: NodeJS.Timeout | undefined
  let closed = false

  const soon = (watch?: Watch): void => {
    if (watch) dirty.add(watch)
    if (!closed) timer ??= setTimeout(() => void flush().catch(options.onError), every)
  }

  const here = (topic: string): People => {
    const people: People = new Map()
    for (const { actor } of options.hub.receivers(topic)) {
      const { sub, role } = actor
      const name = nameOf(actor)
      people.set(name, { sub, role, sockets: (people.get(name)?.sockets ?? 0) + 1 })
    }
    return people
  }

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
      looker ??= setInterval(look, life / 11)
    }
    return watch
  }

  const forget = (watch: Watch): void => {
    watches.delete(watch.topic)
    dirty.delete(watch)
    if (watches.size > 0) return
    clearInterval(looker)
    looker = undefined
  }

  const ask = (watch: Watch, whole: boolean): void => {
    watch.whoAt = performance.now()
    due.push({ type: 'who', topic: watch.topic, from: origin, whole })
  }

  /** What changed here, for those who asked elsewhere. */
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

  /** Once in a while: who is not heard of, who asks no more, who had no room. */
  const look = (): void => {
    const now = performance.now()
    for (const watch of [...watches.values()]) {
      for (const [instance, { heardAt }] of watch.elsewhere) if (now - heardAt > life) watch.elsewhere.delete(instance)
      if (watch.asked.size === 0 && now - watch.askedAt > life) {
        forget(watch)
        continue
      }
      if (watch.asked.size > 0 && now - watch.whoAt > life / 3) ask(watch, false)
      soon(watch)
    }
  }

  const relay = makeRelay<Told>({
    ...options,
    mark: '#',
    onHeard(told) {
      const now = performance.now()
      const { topic, from } = told
      if (told.type === 'who') {
        const watch = watches.get(topic) ?? (here(topic).size > 0 ? watched(topic) : undefined)
        if (!watch) return
        announce(watch, now)
        watch.askedAt = now
        const [first = [], ...rest] = told.whole ? parts([...watch.mine.values()]) : []
        if (told.whole) due.push({ type: 'here', topic, from: origin, n: ++watch.n, subs: first })
        else due.push({ type: 'still', topic, from: origin, n: watch.n })
        for (const subs of rest) due.push({ type: 'change', topic, from: origin, n: ++watch.n, subs })
        void flush().catch(options.onError)
        return
      }
      const watch = watches.get(topic)
      if (!watch || watch.asked.size === 0) return
      if (told.type === 'come') {
        ask(watch, true)
        return soon(watch)
      }
      const known = watch.elsewhere.get(from)
      if (told.type === 'here') {
        const people: People = new Map()
        apply(people, told.subs)
        watch.elsewhere.set(from, { n: told.n, people, heardAt: now })
      } else if (known && told.n === known.n + (told.type === 'change' ? 1 : 0)) {
        if (told.type === 'change') apply(known.people, told.subs)
        Object.assign(known, { n: told.n, heardAt: now })
      } else if (now - watch.whoAt > every) {
        // Something was missed.
        ask(watch, true)
      }
      soon(watch)
    },
  })

  /** A seat is gone: nobody here may be left who asked. */
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
    /** A seat wants to know who follows its topic. */
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

    /** A topic has its first follower here: those who asked elsewhere may not have asked this instance. */
    opened(topic: string): void {
      void options.follow(topic).then(() => {
        options.unfollow(topic)
        due.push({ type: 'come', topic, from: origin })
        soon()
      }, options.onError)
    },

    /** Somebody came to a topic, or left it. */
    changed(topic: string): void {
      const watch = watches.get(topic)
      if (!watch) return
      prune(watch)
      soon(watch)
    },

    hear: relay.hear,

    /** LISTEN holds again: what was told meanwhile is not known. */
    check(): void {
      for (const watch of watches.values())
        if (watch.asked.size > 0) {
          ask(watch, true)
          soon(watch)
        }
    },

    /** Tells the others that nobody is here any more. */
    async close(): Promise<void> {
      closed = true
      clearTimeout(timer)
      clearInterval(looker)
      for (const watch of watches.values()) dirty.add(watch)
      await flush().catch(options.onError)
    },
  }
}
export type Presence = ReturnType<typeof makePresence>
