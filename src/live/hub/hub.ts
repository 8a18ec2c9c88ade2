// The hub: sends the tail's pages to the subscriptions of their topic, each event encoded once. A subscription is either catching up
// (catch-up.ts) or *live*. The rights that were read with a page are applied before the page is sent.
import { sees } from '../../access/policy.ts'
import { noMission } from '../../protocol/errors.ts'
import type { MissionRights, Page } from '../../protocol/rows.ts'
import { topicParts } from '../../protocol/topics.ts'
import { makeCatchUp } from './catch-up.ts'
import { makeReads, type ReadPage, type Reads } from './catch-up-reads.ts'
import { encode, rightsOf, sameRights, type Encoded } from './page.ts'
import type { Receiver, Subscription } from './subscription.ts'

/** `sockets`: the number of subscriptions by sockets. */
type Room = { topic: string; subscriptions: Set<Subscription>; sockets: number; reads: Reads }
type MissionState = { rights: MissionRights | undefined; asOf: number; rooms: Map<string, Room>; goneChecks: number }

export type Hub = {
  /** Subscribes to the events after `after`. `head` is the topic's latest seq when `place` was read. */
  join(
    receiver: Receiver,
    topic: string,
    place: { rights: MissionRights; asOf: number; head: number },
    after: number,
  ): Subscription
  leave(subscription: Subscription): void
  /** Takes a page that the tail has read. */
  deliver(topic: string, from: number, page: Page): void
  /** Returns the sockets that follow a topic. Event streams are left out: they receive only events. */
  receivers(topic: string): Iterable<Receiver>
  /** Ends the subscriptions whose receiver's new token may not read their topic. */
  recheck(subscriptions: Iterable<Subscription>): void
  /** Returns the ID of the topic's mission if the mission has this number; otherwise ''. */
  named(topic: string, number: number): string
  /** Returns the missions that have subscriptions; their rights are polled. */
  missions(): string[]
  /** Applies rights that were read at `asOf`; undefined: the mission was deleted. */
  setRights(mission: string, rights: MissionRights | undefined, asOf: number): void
  subscriptions(): number
  /** Returns the number of subscriptions that are catching up. */
  catching(): number
}

export const makeHub = (options: {
  /** bytes up to which a page of the tail is sent at once; a larger one is read again and sent frame by frame, as when catching up */
  liveBytes: number
  /** bytes of a page that is read to catch up */
  pageBytes: number
  follow: (topic: string, head: number) => void
  unfollow: (topic: string) => void
  /** Called after a socket subscribed (`taken`) or unsubscribed; the topic now has `count` subscriptions by sockets. */
  onSubscriptions: (topic: string, count: number, taken: boolean) => void
  cursor: (topic: string) => number | undefined
  page: ReadPage
  onError: (error: unknown) => void
}): Hub => {
  const missions = new Map<string, MissionState>()
  let subscriptionCount = 0

  const leave = (subscription: Subscription): void => {
    if (subscription.gone) return
    subscription.gone = true
    subscriptionCount--
    const { mission } = topicParts(subscription.topic)
    const state = missions.get(mission)
    const room = state?.rooms.get(subscription.topic)
    if (!state || !room) return
    room.subscriptions.delete(subscription)
    if (room.subscriptions.size === 0) {
      state.rooms.delete(subscription.topic)
      options.unfollow(subscription.topic)
      if (state.rooms.size === 0) missions.delete(mission)
    }
    if (subscription.receiver.form === 'frames') options.onSubscriptions(subscription.topic, --room.sockets, false)
  }

  const end = (subscription: Subscription): void => {
    leave(subscription)
    subscription.receiver.ended(subscription.topic, noMission())
  }

  const setRights = (mission: string, rights: MissionRights | undefined, asOf: number): void => {
    const state = missions.get(mission)
    // Reads may finish out of order; the result of an older read is ignored.
    if (!state || asOf < state.asOf) return
    state.asOf = asOf
    if (rights === undefined) {
      // Subscribers get mission.deleted first, and its page ends the subscriptions. If it does not arrive, the next poll ends them.
      const own = state.rooms.get(`missions/${mission}`)
      if (own && state.goneChecks++ === 0) return
    } else if (state.rights && sameRights(rights, state.rights)) {
      return
    }
    state.rights = rights
    for (const room of [...state.rooms.values()])
      for (const subscription of [...room.subscriptions])
        if (!rights || !sees(subscription.receiver.actor, rights)) end(subscription)
  }

  const { catchUp, catching } = makeCatchUp({ cursor: options.cursor, setRights, leave, end, onError: options.onError })

  const give = (subscription: Subscription, { page, as }: Encoded): boolean => {
    const { bytes, ends } = as(subscription.receiver.form)
    // Most subscriptions need the whole page: `first` is 0.
    const first = page.events.findIndex(({ seq }) => seq > subscription.cursor)
    subscription.cursor = Math.max(subscription.cursor, page.covered)
    if (first === -1) return true
    return subscription.receiver.send(first === 0 ? bytes : bytes.subarray(ends[first - 1]), ends.length - first)
  }

  const deliver = (topic: string, from: number, page: Page): void => {
    const { mission, mine } = topicParts(topic)
    const state = missions.get(mission)
    const room = state?.rooms.get(topic)
    if (!state || !room) return
    const rights = rightsOf(page)
    setRights(mission, rights, page.asOf)
    if (rights !== undefined) {
      const encoded = encode(topic, page)
      // (A Set may lose members during its iteration.)
      for (const subscription of room.subscriptions) {
        if (!subscription.live) continue
        // If the page's rights refuse it (newer rights may be known), or the page is too large, the subscription reads its own pages.
        const apart =
          !sees(subscription.receiver.actor, rights) ||
          encoded.as(subscription.receiver.form).bytes.length > options.liveBytes
        if (subscription.cursor < from || (apart && page.mission)) void catchUp(room.reads, subscription)
        else if (!apart && subscription.cursor < page.covered && !give(subscription, encoded)) leave(subscription)
      }
    }
    if (mine && rights && !page.mission) {
      state.goneChecks = 1
      setRights(mission, undefined, page.asOf)
    }
  }

  const receivers = function* (topic: string): Generator<Receiver> {
    for (const { receiver } of missions.get(topicParts(topic).mission)?.rooms.get(topic)?.subscriptions ?? [])
      if (receiver.form === 'frames') yield receiver
  }

  return {
    join(receiver, topic, { rights, asOf, head }, after) {
      const { mission } = topicParts(topic)
      let state = missions.get(mission)
      if (!state) missions.set(mission, (state = { rights, asOf, rooms: new Map(), goneChecks: 0 }))
      let room = state.rooms.get(topic)
      if (!room) {
        room = { topic, subscriptions: new Set(), sockets: 0, reads: makeReads(topic, options.page, options.pageBytes) }
        state.rooms.set(topic, room)
      }
      const subscription: Subscription = { topic, receiver, cursor: after, asOf, live: false, gone: false }
      room.subscriptions.add(subscription)
      subscriptionCount++
      options.follow(topic, head)
      if (receiver.form === 'frames') options.onSubscriptions(topic, ++room.sockets, true)
      setRights(mission, rights, asOf)
      // `setRights` ignores `rights` if newer rights are known: this subscription is checked against the newest here.
      const known = missions.get(mission)?.rights
      if (!subscription.gone && !(known && sees(receiver.actor, known))) end(subscription)
      if (!subscription.gone) void catchUp(room.reads, subscription)
      return subscription
    },
    receivers,
    leave,
    deliver,
    recheck(subscriptions) {
      for (const subscription of [...subscriptions]) {
        const rights = missions.get(topicParts(subscription.topic).mission)?.rights
        if (!subscription.gone && (!rights || !sees(subscription.receiver.actor, rights))) end(subscription)
      }
    },
    named(topic, number) {
      const { mission } = topicParts(topic)
      return missions.get(mission)?.rights?.number === number ? mission : ''
    },
    missions: () => [...missions.keys()],
    setRights,
    subscriptions: () => subscriptionCount,
    catching,
  }
}
