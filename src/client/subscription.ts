// One topic's subscription, shared by all its followers. It starts at the lowest seq that any of them needs. Each follower receives
// every event after its own seq, once and in order. Duplicates are dropped, and missing events are requested again. Joining, resuming
// after a reconnect and closing a gap use the same `subscribe`. Events are not buffered: a full follower leaves and joins again.
import { backoff, coalesce, mostWhenAnswered, sleep } from './async.ts'
import { makeDrafts } from './drafts.ts'
import { DeckError, fromServer, isPassing } from './errors.ts'
import type { Follower, Followers, Place } from './follower.ts'
import { makeGapDetector } from './gap-detector.ts'
import type { Link } from './link.ts'
import type { Frame } from './requests.ts'

/** The list of missions has no seqs: after a reconnect its followers must read it again. */
export const list = 'missions'

/**
 * The state on the current connection. idle: no subscription. subscribing: the first `subscribe` was sent. live: it was answered.
 * resubscribing: still live, and a further `subscribe` was sent for a new follower or for a gap.
 */
type State = 'idle' | 'subscribing' | 'live' | 'resubscribing'

/** What a subscription reports to the registry of all topics. */
export type Registry = {
  /** Registers the topic's canonical name. Returns an existing subscription under this name, if any. */
  enter(subscription: Subscription, topic: string): Subscription | undefined
  forget(subscription: Subscription): void
  /** `behind` may have changed. */
  progressed(): void
}

export type Subscription = {
  /** the topic's name as its first follower gave it */
  readonly name: string
  /** the server's canonical name; undefined before the first answer */
  readonly topic: string | undefined
  /** the number of events that existed at the time of the subscription and are not received yet */
  readonly behind: number
  join(follower: Follower): void
  /** Takes over the followers of a subscription to the same topic. */
  adopt(others: Followers): void
  leave(follower: Follower): void
  /** Subscribes or unsubscribes on the open connection, depending on the followers. Calls in one turn share one `subscribe`. */
  update(): void
  /** The connection was lost. */
  lost(): void
  /** Ends all followers. */
  end(error: DeckError): void
  receive(frame: Frame, size: number): void
  /** The server reports the topic's latest seq. */
  report(latest: number): void
  /** Called at intervals: checks for missing events, and for drafts without a delta since a reconnect. */
  tick(patience: number): void
}

export const makeSubscription = (link: Link, name: string, registry: Registry): Subscription => {
  const followers: Followers = new Map()
  const gaps = makeGapDetector()
  let state: State = 'idle'
  let topic: string | undefined
  let epoch: string | undefined
  let tries = 0

  const notify = (event: object, size = 0, stored = false): void => {
    for (const follower of [...followers.keys()]) follower.give(event, size, stored)
  }
  const drafts = makeDrafts((signal) => notify(signal))

  const reset = (follower: Follower, seq: number, epoch: string): void => {
    follower.last = follower.replay ? 0 : undefined
    follower.epoch = epoch
    follower.give({ event: 'reset', seq, epoch }, 0, true)
  }

  /** Subscribes from the seq that the followers need, or unsubscribes if no follower is left. Resolves to whether to try again. */
  const update = coalesce(async () => {
    if (link.state !== 'open') return false
    const subscribed = state === 'live'
    if (followers.size === 0) {
      registry.forget(self)
      if (subscribed) link.ask({ type: 'unsubscribe', topic: topic ?? name }).catch(() => {})
      return false
    }
    const joining = [...followers.keys()]
    epoch ??= joining.find(({ epoch }) => epoch !== undefined)?.epoch
    for (const follower of joining)
      if (follower.epoch !== undefined && follower.epoch !== epoch) reset(follower, 0, epoch ?? '')
    const cursors = joining.flatMap(({ last }) => (last === undefined ? [] : [last]))
    const after = cursors.length > 0 && name !== list ? Math.min(...cursors) : undefined
    const asked = joining.map((follower) => [follower, follower.last] as const)
    state = subscribed ? 'resubscribing' : 'subscribing'
    try {
      const frame = {
        type: 'subscribe',
        topic: topic ?? name,
        ...(after === undefined ? {} : { after }),
        ...(after === undefined || epoch === undefined ? {} : { epoch }),
        ...(joining.some(({ presence }) => presence) ? { presence: true } : {}),
        ...(joining.some(({ chats }) => chats) ? { chats: true } : {}),
        ...(joining.some(({ questions }) => questions) ? { questions: true } : {}),
      }
      await link.ask<Place & { topic: string }>(frame, (place) => enter(asked, after, place))
      tries = 0
      return false
    } catch (error) {
      state = state === 'resubscribing' ? 'live' : 'idle'
      if (isPassing(error)) {
        if (link.state === 'open')
          await sleep((error.retry_after ?? 0.2) * 1000 + backoff(tries++, mostWhenAnswered), link.ended).catch(
            () => {},
          )
        return true
      }
      if (error instanceof DeckError && error.code === 'conflict' && error.epoch !== undefined) {
        epoch = error.epoch
        for (const follower of [...followers.keys()]) reset(follower, error.seq ?? 0, epoch)
        return true
      }
      end(error as DeckError)
      return false
    }
  })

  /** Takes the answer to `subscribe`. Called before any later event is received. */
  const enter = (
    asked: (readonly [Follower, number | undefined])[],
    after: number | undefined,
    place: Place & { topic: string },
  ): void => {
    const { seq } = place
    const reread = name === list && state === 'subscribing'
    if (topic === undefined) {
      const other = registry.enter(self, place.topic)
      if (other) return merge(other)
      topic = place.topic
    }
    state = 'live'
    epoch = place.epoch
    gaps.restart(after ?? seq, seq)
    registry.progressed()
    drafts.rejoined()
    for (const [follower, last] of asked) {
      const here = followers.get(follower)
      if (!here) continue
      if (!here.ready && last !== undefined && last > seq) {
        reset(follower, seq, epoch)
        update()
        continue
      }
      follower.last ??= seq
      follower.epoch = epoch
      if (reread && here.ready) follower.give({ event: 'reset', seq, epoch }, 0, true)
      here.ready = true
      follower.joined({ seq, epoch })
    }
  }

  /** Two names of one topic, by the mission's number and by its UUID: the server keeps one subscription for both. */
  const merge = (other: Subscription): void => {
    state = 'idle'
    registry.forget(self)
    other.adopt(followers)
    followers.clear()
  }

  const end = (error: DeckError): void => {
    state = 'idle'
    registry.forget(self)
    const ended = [...followers.keys()]
    followers.clear()
    for (const follower of ended) follower.end(error)
  }

  /** Requests missing events, unless a `subscribe` that covers them is not answered yet. */
  const heal = (): void => {
    if (state !== 'subscribing' && state !== 'resubscribing') update()
  }

  const take = (frame: Frame, size: number): void => {
    const { seq, event, data } = frame as unknown as { seq: number; event: string; data: { key?: string | null } }
    const { behind } = self
    const arrival = gaps.take(seq)
    if (arrival === 'gap') heal()
    if (arrival !== 'next') return
    if (behind > 0) registry.progressed()
    if (event === 'message.created') drafts.saved(data.key)
    for (const [follower, { ready }] of [...followers]) {
      if (!ready || seq <= (follower.last ?? Infinity)) continue
      follower.last = seq
      follower.give({ seq, event, data }, size, true)
    }
  }

  const self: Subscription = {
    name,
    get topic() {
      return topic
    },
    get behind() {
      return state === 'live' || state === 'resubscribing' ? gaps.behind() : 0
    },
    join(follower) {
      followers.set(follower, { ready: false })
      update()
    },
    adopt(others) {
      for (const [follower, here] of others) followers.set(follower, here)
      update()
    },
    leave(follower) {
      if (!followers.delete(follower) || followers.size > 0) return
      if (link.state === 'open') update()
      else registry.forget(self)
    },
    update,
    lost() {
      state = 'idle'
      tries = 0
    },
    end,
    receive(frame, size) {
      if (frame.type === 'event') return take(frame, size)
      const { type, ...members } = frame
      delete members.topic
      if (type === 'error') end(fromServer(members))
      else if (type === 'delta') drafts.take(members)
      else if (type === 'activity') drafts.step(members, frame.topic?.split('/').at(-1) ?? '')
      else if (type === 'missions.changed') notify({ event: type, ...members }, size, true)
      else notify({ event: type, ...members })
    },
    report: gaps.report,
    tick(patience) {
      drafts.expire(patience)
      if (gaps.tick(patience)) heal()
    },
  }
  return self
}
