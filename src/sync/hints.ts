// Notifications between instances, by NOTIFY or, if HINTS_URL is set, by NATS. They are hints: any of them may be lost.
//
// With NATS the writer's batches send no NOTIFY (deck.hints = off, db/functions/append.sql): this module publishes after the commit. Changes
// by SQL are still sent by NOTIFY, so LISTEN stays on. While NATS is disconnected, all notifications are sent by NOTIFY.
//
// On NATS each mission is a subject: an instance receives only notifications of the missions that its sockets follow.
import type { Bus } from './nats.ts'

/** ms for which notifications that NATS did not accept are collected, to send them with one statement. */
const every = 10

const missionOf = (topic: string): string => topic.slice(9, 45)

type Channels = {
  follow(topic: string): Promise<void>
  unfollow(topic: string): void
  followAll(): Promise<void>
  unfollowAll(): void
}

export const makeHints = (options: {
  /** undefined: all notifications are sent by NOTIFY */
  bus: Bus | undefined
  /** this instance's name in notifications */
  origin: string
  /** the channels of Postgres */
  channels: Channels
  /** sends NOTIFY on the channels of the topics, with one statement */
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  onError: (error: unknown) => void
}) => {
  const { bus, channels, notify, onError } = options
  let due = new Map<string, number>()
  let timer: NodeJS.Timeout | undefined
  // The number of followed topics by mission, and the number of followAll() calls in effect.
  const missions = new Map<string, number>()
  let all = 0
  // Followed topics: how often each is followed, and since when (performance.now).
  const followed = new Map<string, { count: number; since: number }>()
  let allSince = Infinity
  let connectedAt = 0

  const flush = (): void => {
    timer = undefined
    const topics = [...due.keys()]
    const payloads = [...due].map(([topic, seq]) => `${options.origin} ${seq} ${topic}`)
    due = new Map()
    notify(topics, payloads).catch(onError)
  }

  const join = async (topic: string): Promise<void> => {
    const mission = missionOf(topic)
    const count = missions.get(mission) ?? 0
    missions.set(mission, count + 1)
    // The second and later calls for a mission also wait until the subscription is in effect.
    if (all === 0) await (count === 0 ? bus?.listen(mission) : bus?.settled())
  }
  const leave = (topic: string): void => {
    const mission = missionOf(topic)
    const count = missions.get(mission) ?? 0
    if (count > 1) return void missions.set(mission, count - 1)
    missions.delete(mission)
    if (all === 0) bus?.unlisten(mission)
  }
  // Both subscriptions overlap briefly; duplicate notifications are harmless.
  const joinAll = async (): Promise<void> => {
    if (all++ > 0) return bus?.settled()
    const held = bus?.listen('*')
    for (const mission of missions.keys()) bus?.unlisten(mission)
    await held
  }
  const leaveAll = (): void => {
    if (--all > 0) return
    for (const mission of missions.keys()) void bus?.listen(mission)
    bus?.unlisten('*')
  }

  return {
    /** Adds a topic. Resolves once its notifications arrive. */
    async follow(topic: string): Promise<void> {
      const state = followed.get(topic) ?? { count: 0, since: performance.now() }
      followed.set(topic, state)
      state.count++
      await Promise.all([channels.follow(topic), join(topic)])
    },
    unfollow(topic: string): void {
      const state = followed.get(topic)
      if (state && --state.count === 0) followed.delete(topic)
      channels.unfollow(topic)
      leave(topic)
    },
    /** Follows all topics. Resolves once their notifications arrive. */
    async followAll(): Promise<void> {
      if (all === 0) allSince = performance.now()
      await Promise.all([channels.followAll(), joinAll()])
    },
    unfollowAll(): void {
      channels.unfollowAll()
      leaveAll()
      if (all === 0) allSince = Infinity
    },
    /** The connection was restored: notifications that were sent in between are lost. */
    connected: (): void => void (connectedAt = performance.now()),
    /** Returns since when a topic's notifications have arrived without interruption (performance.now); Infinity if it is not followed. */
    heardSince: (topic: string): number =>
      Math.max(connectedAt, Math.min(followed.get(topic)?.since ?? Infinity, allSince)),

    /** Publishes that a batch of this instance has committed rows of a topic, up to `seq`. */
    saved(topic: string, seq: number): void {
      if (!bus || bus.publish(missionOf(topic), `${options.origin} ${seq} ${topic}`)) return
      due.set(topic, Math.max(seq, due.get(topic) ?? 0))
      timer ??= setTimeout(flush, every)
    },

    /** Sends other payloads than latest seqs to the instances that follow the topics. */
    async signal(topics: string[], payloads: string[]): Promise<void> {
      if (!bus) return void (await notify(topics, payloads))
      const left = topics.map((topic, i) => !bus.publish(missionOf(topic), payloads[i] ?? ''))
      if (!left.includes(true)) return
      await notify(
        topics.filter((_, i) => left[i]),
        payloads.filter((_, i) => left[i]),
      )
    },

    close: (): void => clearTimeout(timer),
  }
}
export type Hints = ReturnType<typeof makeHints>
