// What is followed: one room for each topic, with all its followers; one subscription for each room, at the lowest seq that one
// of them holds. Each follower is given every event after its own seq, once, in order: what came before is dropped, a hole is
// asked about, and after a reconnect the room goes on from where it was. Joining, resuming and healing are the same function.
// Does not hold events: a follower that can't take more leaves, and joins again.
import { DeckError, fromServer, isPassing } from './errors.ts'
import type { Link } from './link.ts'
import type { Frame } from './requests.ts'
import { makeDrafts, type Drafts } from './drafts.ts'
import { backoff, makeBell, mostWhenAnswered, sleep } from './async.ts'

export type Place = { seq: number; epoch: string }

export type Follower = {
  /** the last seq that it was given; undefined until it is known where it begins */
  last: number | undefined
  epoch: string | undefined
  /** whether it wants what was before it came, and so, after a reset, the topic from its start */
  replay: boolean
  presence: boolean
  chats?: boolean
  /** `stored`: an event of the topic, and no signal */
  give(event: object, size: number, stored: boolean): void
  /** It follows: from now on, or again. */
  joined(place: Place): void
  end(error: DeckError): void
}

type Room = {
  name: string
  /** as the server calls it */
  topic: string | undefined
  followers: Map<Follower, { ready: boolean }>
  drafts: Drafts
  /** up to where it was received by this subscription */
  last: number
  /** where the topic stood then: holes up to there are real, what is missing was removed */
  head: number
  /** the same, until it is reached or what is missing up to there turns out to be gone; how often it was seen to stand still */
  awaited: number
  still: { last: number; looks: number }
  epoch: string | undefined
  /** the connection on which it is subscribed */
  session: number
  busy: boolean
  /** a subscription is asked for and not answered yet */
  asking: boolean
  dirty: boolean
  /** it was behind its head, and where it stood then */
  doubt: { since: number; last: number; head: number } | undefined
  /** the head for which it was asked again what is missing */
  healed: number
}

/** The list of missions has no seqs: what changed while nobody was told is read again. */
const list = 'missions'
/** `patience`: ms that a topic may stand still behind its head, and a draft may be unheard of after a reconnect. */
export const makeTopics = (link: Link, patience = 5000) => {
  const rooms = new Map<string, Room>()
  const byTopic = new Map<string, Room>()
  // A topic's name with the mission's number -> as the server calls it.
  const canonical = new Map<string, string>()

  const late = makeBell<[number]>()
  let behind = 0
  // How many events are still to come of what the topics had when they were joined. Told when it changes.
  const lookBehind = (): void => {
    const here = [...rooms.values()].filter(isSubscribed)
    const sum = here.reduce((n, { awaited, last }) => n + Math.max(0, awaited - last), 0)
    if (sum !== behind) late.ring((behind = sum))
  }

  const find = (name: string): Room | undefined => rooms.get(name) ?? byTopic.get(canonical.get(name) ?? '')
  const forget = (room: Room): void => {
    rooms.delete(room.name)
    if (room.topic !== undefined && byTopic.get(room.topic) === room) byTopic.delete(room.topic)
  }
  const isSubscribed = ({ session }: Room): boolean => link.state === 'open' && session === link.session

  const roomOf = (name: string): Room => {
    const known = find(name)
    if (known) return known
    const room: Room = {
      name,
      topic: undefined,
      followers: new Map(),
      drafts: makeDrafts((signal) => tell(room, signal)),
      last: 0,
      head: 0,
      awaited: 0,
      still: { last: 0, looks: 0 },
      epoch: undefined,
      session: 0,
      busy: false,
      asking: false,
      dirty: false,
      doubt: undefined,
      healed: 0,
    }
    rooms.set(name, room)
    return room
  }
  const tell = (room: Room, signal: object): void => {
    for (const follower of [...room.followers.keys()]) follower.give(signal, 0, false)
  }

  const reset = (follower: Follower, seq: number, epoch: string): void => {
    follower.last = follower.replay ? 0 : undefined
    follower.epoch = epoch
    follower.give({ event: 'reset', seq, epoch }, 0, true)
  }

  const change = (room: Room): void => {
    room.dirty = true
    // All that come in the same moment share one subscription.
    queueMicrotask(() => void settle(room))
  }

  /** Subscribes anew, or gives the subscription up, until the room is as its followers want it. */
  const settle = async (room: Room): Promise<void> => {
    if (room.busy) return
    room.busy = true
    for (let n = 0; room.dirty && link.state === 'open'; n++) {
      room.dirty = false
      if (room.followers.size === 0) {
        forget(room)
        if (isSubscribed(room)) link.ask({ type: 'unsubscribe', topic: room.topic ?? room.name }).catch(() => {})
        break
      }
      const joining = [...room.followers.keys()]
      room.epoch ??= joining.find(({ epoch }) => epoch !== undefined)?.epoch
      for (const follower of joining)
        if (follower.epoch !== undefined && follower.epoch !== room.epoch) reset(follower, 0, room.epoch ?? '')
      const cursors = joining.flatMap(({ last }) => (last === undefined ? [] : [last]))
      const after = cursors.length > 0 && room.name !== list ? Math.min(...cursors) : undefined
      const asked = joining.map((follower) => [follower, follower.last] as const)
      try {
        const frame = {
          type: 'subscribe',
          topic: room.topic ?? room.name,
          ...(after === undefined ? {} : { after }),
          ...(after === undefined || room.epoch === undefined ? {} : { epoch: room.epoch }),
          ...(joining.some(({ presence }) => presence) ? { presence: true } : {}),
          ...(joining.some(({ chats }) => chats) ? { chats: true } : {}),
        }
        room.asking = true
        await link.ask<Place & { topic: string }>(frame, (place) => enter(room, asked, after, place))
        n = 0
      } catch (error) {
        room.asking = false
        if (isPassing(error)) {
          room.dirty = true
          if (link.state === 'open')
            await sleep((error.retry_after ?? 0.2) * 1000 + backoff(n, mostWhenAnswered), link.ended).catch(() => {})
        } else if (error instanceof DeckError && error.code === 'conflict' && error.epoch !== undefined) {
          room.epoch = error.epoch
          for (const follower of [...room.followers.keys()]) reset(follower, error.seq ?? 0, error.epoch)
          room.dirty = true
        } else end(room, error as DeckError)
      }
    }
    room.busy = false
  }

  const enter = (
    room: Room,
    asked: (readonly [Follower, number | undefined])[],
    after: number | undefined,
    { topic, seq, epoch }: Place & { topic: string },
  ): void => {
    const again = room.name === list && room.session !== link.session
    room.asking = false
    Object.assign(room, { last: after ?? seq, head: seq, awaited: seq, epoch, session: link.session, doubt: undefined })
    lookBehind()
    if (room.topic === undefined) {
      canonical.set(room.name, topic)
      const other = byTopic.get(topic)
      if (other) return merge(room, other)
      room.topic = topic
      byTopic.set(topic, room)
    }
    room.drafts.rejoined()
    for (const [follower, last] of asked) {
      const here = room.followers.get(follower)
      if (!here) continue
      if (!here.ready && last !== undefined && last > seq) {
        reset(follower, seq, epoch)
        change(room)
        continue
      }
      follower.last ??= seq
      follower.epoch = epoch
      if (again && here.ready) follower.give({ event: 'reset', seq, epoch }, 0, true)
      here.ready = true
      follower.joined({ seq, epoch })
    }
  }

  /** The same topic under two names, a mission's number and its UUID: the server keeps one subscription for both. */
  const merge = (room: Room, other: Room): void => {
    rooms.delete(room.name)
    for (const [follower, here] of room.followers) other.followers.set(follower, here)
    room.followers.clear()
    room.session = 0
    change(other)
  }

  const end = (room: Room, error: DeckError): void => {
    forget(room)
    const followers = [...room.followers.keys()]
    room.followers.clear()
    room.dirty = false
    for (const follower of followers) follower.end(error)
  }

  const take = (room: Room, frame: Frame, size: number): void => {
    const seq = Number(frame['seq'])
    if (seq <= room.last) return
    // What came before it was never received: not to be passed over, but asked for.
    if (seq > Math.max(room.last, room.head) + 1) return heal(room)
    room.last = seq
    if (behind > 0) lookBehind()
    const { event, data } = frame as unknown as { event: string; data: { key?: string | null } }
    if (event === 'message.created') room.drafts.saved(data.key)
    for (const [follower, { ready }] of [...room.followers]) {
      if (!ready || seq <= (follower.last ?? Infinity)) continue
      follower.last = seq
      follower.give({ seq, event, data }, size, true)
    }
  }

  /** Asks again for what is missing, unless an answer that will have it is still to come. */
  const heal = (room: Room): void => {
    if (!room.asking) change(room)
  }

  const lookAtHeads = (topics: Record<string, number>): void => {
    for (const [topic, head] of Object.entries(topics)) {
      const room = byTopic.get(topic)
      if (room && head > Math.max(room.last, room.healed)) room.doubt ??= { since: Date.now(), last: room.last, head }
    }
  }

  // Rooms that stand still behind their heads; drafts of which nothing was heard any more since a reconnect.
  const look = (): void => {
    for (const room of rooms.values()) {
      room.drafts.expire(patience)
      if (room.awaited > room.last) {
        room.still = { last: room.last, looks: room.still.last === room.last ? room.still.looks + 1 : 0 }
        if (room.still.looks >= 5) room.awaited = room.last
      }
      const { doubt } = room
      if (!doubt || Date.now() - doubt.since < patience) continue
      room.doubt = undefined
      if (doubt.last !== room.last) continue
      // What is still missing then is gone for good.
      room.healed = doubt.head
      heal(room)
    }
    lookBehind()
  }

  let looking: ReturnType<typeof setInterval> | undefined
  link.onState((state) => {
    clearInterval(looking)
    lookBehind()
    if (state === 'open') looking = setInterval(look, patience / 5)
    for (const room of [...rooms.values()]) {
      if (state === 'open') change(room)
      if (state === 'closed') end(room, link.reason ?? new DeckError('closed', 'the deck was closed'))
    }
  })

  return {
    /** Tells how many events are still to come of what was missed. */
    onBehind: late.on,
    join(name: string, follower: Follower): void {
      if (link.state === 'closed') return follower.end(link.reason ?? new DeckError('closed', 'the deck was closed'))
      const room = roomOf(name)
      room.followers.set(follower, { ready: false })
      change(room)
    },
    leave(name: string, follower: Follower): void {
      const room = find(name)
      if (!room?.followers.delete(follower) || room.followers.size > 0) return
      if (link.state === 'open') change(room)
      else if (!room.busy) forget(room)
    },
    /** Takes a frame of a topic. */
    receive(frame: Frame, size: number): void {
      if (frame.type === 'heads') return lookAtHeads(frame['topics'] as Record<string, number>)
      const room = byTopic.get(frame.type === 'missions.changed' ? list : (frame.topic ?? ''))
      if (!room) return
      const { type, ...members } = frame
      delete members.topic
      if (type === 'event') take(room, frame, size)
      else if (type === 'error') end(room, fromServer(members))
      else if (type === 'delta') room.drafts.take(members)
      else if (type === 'missions.changed') {
        for (const follower of [...room.followers.keys()]) follower.give({ event: type, ...members }, size, true)
      } else tell(room, { event: type, ...members })
    },
  }
}
export type Topics = ReturnType<typeof makeTopics>
