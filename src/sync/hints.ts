// How instances hear of one another: by NOTIFY, or, where HINTS_URL is set, by NATS. The writer's batches then notify nobody
// (deck.hints = off, db/functions/append.sql), and tell it here once they are committed. What SQL and the database itself tell
// still comes by NOTIFY, so LISTEN stays; and while NATS is away, all goes by NOTIFY.
// On NATS each mission is a subject: an instance hears of the missions that its sockets follow and of no other.
import type { Bus } from './nats.ts'

/** ms in which hints that NATS did not take are put together: one statement for all of them. */
const every = 10

const missionOf = (topic: string): string => topic.slice(9, 45)

type Channels = {
  follow(topic: string): Promise<void>
  unfollow(topic: string): void
  followAll(): Promise<void>
  unfollowAll(): void
}

export const makeHints = (options: {
  /** undefined: all by NOTIFY */
  bus: Bus | undefined
  /** this instance's name in hints */
  origin: string
  /** what is heard of Postgres */
  channels: Channels
  /** one statement that notifies on the channels of the topics */
  notify: (topics: string[], payloads: string[]) => Promise<unknown>
  onError: (error: unknown) => void
}) => {
  const { bus, channels, notify, onError } = options
  let due = new Map<string, number>()
  let timer: NodeJS.Timeout | undefined
  // Missions by how many of their topics are followed, and how many want to hear of all.
  const missions = new Map<string, number>()
  let all = 0
  // Since when (performance.now) topics are heard, and by how many.
  const heard = new Map<string, { count: number; since: number }>()
  let allSince = Infinity
  let connectedAt = 0

  const flush = (): void => {
    timer = undefined
    const topics = [...due.keys()]
    const payloads = [...due].map(([topic, seq]) => `${options.origin} ${seq} ${topic}`)
    due = new Map()
    notify(topics, payloads).catch(onError)
  }

  const hear = async (topic: string): Promise<void> => {
    const mission = missionOf(topic)
    const count = missions.get(mission) ?? 0
    missions.set(mission, count + 1)
    // Also the second to come may not go on before it holds.
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
  const hearAll = async (): Promise<void> => {
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
    /** One more topic is followed; resolves once its hints are heard. */
    async follow(topic: string): Promise<void> {
      const state = heard.get(topic) ?? { count: 0, since: performance.now() }
      heard.set(topic, state)
      state.count++
      await Promise.all([channels.follow(topic), hear(topic)])
    },
    unfollow(topic: string): void {
      const state = heard.get(topic)
      if (state && --state.count === 0) heard.delete(topic)
      channels.unfollow(topic)
      leave(topic)
    },
    /** The hints of all topics are wanted; resolves once they are heard. */
    async followAll(): Promise<void> {
      if (all === 0) allSince = performance.now()
      await Promise.all([channels.followAll(), hearAll()])
    },
    unfollowAll(): void {
      channels.unfollowAll()
      leaveAll()
      if (all === 0) allSince = Infinity
    },
    /** It hears again: what was sent meanwhile is gone. */
    connected: (): void => void (connectedAt = performance.now()),
    /** Since when a topic's notifications are heard without a break; Infinity if they are not. */
    heardSince: (topic: string): number =>
      Math.max(connectedAt, Math.min(heard.get(topic)?.since ?? Infinity, allSince)),

    /** A batch of this instance has taken a topic up to a seq. */
    saved(topic: string, seq: number): void {
      if (!bus || bus.tell(missionOf(topic), `${options.origin} ${seq} ${topic}`)) return
      due.set(topic, Math.max(seq, due.get(topic) ?? 0))
      timer ??= setTimeout(flush, every)
    },

    /** Tells what is no hint to the instances that follow the topics. */
    async signal(topics: string[], payloads: string[]): Promise<void> {
      if (!bus) return void (await notify(topics, payloads))
      const left = topics.map((topic, i) => !bus.tell(missionOf(topic), payloads[i] ?? ''))
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
