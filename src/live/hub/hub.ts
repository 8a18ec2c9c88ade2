// The hub: hands the tail's pages to the seats of their topic, each event encoded once. A seat is either catching up (catch-up.ts)
// or *live*. The rights that came with a page are applied before the page is sent.
import { sees } from '../../access/policy.ts'
import { noMission } from '../../protocol/errors.ts'
import type { MissionRights, Page } from '../../protocol/rows.ts'
import { topicParts } from '../../protocol/topics.ts'
import { makeCatchUp } from './catch-up.ts'
import { makeReads, type ReadPage, type Reads } from './catch-up-reads.ts'
import { encode, rightsOf, type Encoded } from './page.ts'
import type { Receiver, Seat } from './seat.ts'

/** `sockets`: the number of seats of sessions. */
type Room = { topic: string; seats: Set<Seat>; sockets: number; reads: Reads }
type MissionState = { rights: MissionRights | undefined; asOf: number; rooms: Map<string, Room>; goneChecks: number }

export type Hub = {
  /** Takes a seat after `after`. `head` is the topic's latest seq when `place` was read. */
  join(
    receiver: Receiver,
    topic: string,
    place: { rights: MissionRights; asOf: number; head: number },
    after: number,
  ): Seat
  leave(seat: Seat): void
  /** A page that the tail read. */
  deliver(topic: string, from: number, page: Page): void
  /** Returns the sockets that follow a topic; event streams take only events. */
  receivers(topic: string): Iterable<Receiver>
  /** Ends the seats whose receiver may no longer read the topic, after a fresh token. */
  recheck(seats: Iterable<Seat>): void
  /** Returns the ID of the topic's mission if the mission has this number; otherwise ''. */
  named(topic: string, number: number): string
  /** Returns the missions with seats, whose rights are polled. */
  missions(): string[]
  /** Applies rights as read at `asOf`; undefined: the mission was deleted. */
  setRights(mission: string, rights: MissionRights | undefined, asOf: number): void
  seats(): number
  /** Returns the number of seats that catch up. */
  catching(): number
}

export const makeHub = (options: {
  /** bytes up to which a page of the tail is sent at once; seats catch up with a larger one, frame by frame */
  liveBytes: number
  /** bytes that a page read to catch up may hold */
  pageBytes: number
  follow: (topic: string, head: number) => void
  unfollow: (topic: string) => void
  /** A socket's seat was taken or left; the topic has `seats` of them now. */
  onSeats: (topic: string, seats: number, taken: boolean) => void
  cursor: (topic: string) => number | undefined
  page: ReadPage
  onError: (error: unknown) => void
}): Hub => {
  const missions = new Map<string, MissionState>()
  let seatCount = 0

  const leave = (seat: Seat): void => {
    if (seat.gone) return
    seat.gone = true
    seatCount--
    const { mission } = topicParts(seat.topic)
    const state = missions.get(mission)
    const room = state?.rooms.get(seat.topic)
    if (!state || !room) return
    room.seats.delete(seat)
    if (room.seats.size === 0) {
      state.rooms.delete(seat.topic)
      options.unfollow(seat.topic)
      if (state.rooms.size === 0) missions.delete(mission)
    }
    if (seat.receiver.form === 'frames') options.onSeats(seat.topic, --room.sockets, false)
  }

  const end = (seat: Seat): void => {
    leave(seat)
    seat.receiver.ended(seat.topic, noMission())
  }

  const setRights = (mission: string, rights: MissionRights | undefined, asOf: number): void => {
    const state = missions.get(mission)
    // Reads may finish out of order; an older one is ignored.
    if (!state || asOf < state.asOf) return
    state.asOf = asOf
    if (rights === undefined) {
      // Followers get mission.deleted first, whose page ends their seats. If it does not come, the next poll ends them.
      const own = state.rooms.get(`missions/${mission}`)
      if (own && state.goneChecks++ === 0) return
    } else if (rights.assigned_to === state.rights?.assigned_to && rights.number === state.rights.number) {
      return
    }
    state.rights = rights
    for (const room of [...state.rooms.values()])
      for (const seat of [...room.seats]) if (!rights || !sees(seat.receiver.actor, rights)) end(seat)
  }

  const { catchUp, catching } = makeCatchUp({ cursor: options.cursor, setRights, leave, end, onError: options.onError })

  const give = (seat: Seat, { page, as }: Encoded): boolean => {
    const { bytes, ends } = as(seat.receiver.form)
    // Most seats are at the page's begin: `first` is 0.
    const first = page.events.findIndex(({ seq }) => seq > seat.cursor)
    seat.cursor = Math.max(seat.cursor, page.covered)
    if (first === -1) return true
    return seat.receiver.send(first === 0 ? bytes : bytes.subarray(ends[first - 1]), ends.length - first)
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
      for (const seat of room.seats) {
        if (!seat.live) continue
        // Refused by the page's rights (newer ones may be known), or too large to send at once: the seat reads its own pages.
        const apart =
          !sees(seat.receiver.actor, rights) || encoded.as(seat.receiver.form).bytes.length > options.liveBytes
        if (seat.cursor < from || (apart && page.mission)) void catchUp(room.reads, seat)
        else if (!apart && seat.cursor < page.covered && !give(seat, encoded)) leave(seat)
      }
    }
    if (mine && rights && !page.mission) {
      state.goneChecks = 1
      setRights(mission, undefined, page.asOf)
    }
  }

  const receivers = function* (topic: string): Generator<Receiver> {
    for (const { receiver } of missions.get(topicParts(topic).mission)?.rooms.get(topic)?.seats ?? [])
      if (receiver.form === 'frames') yield receiver
  }

  return {
    join(receiver, topic, { rights, asOf, head }, after) {
      const { mission } = topicParts(topic)
      let state = missions.get(mission)
      if (!state) missions.set(mission, (state = { rights, asOf, rooms: new Map(), goneChecks: 0 }))
      let room = state.rooms.get(topic)
      if (!room) {
        room = { topic, seats: new Set(), sockets: 0, reads: makeReads(topic, options.page, options.pageBytes) }
        state.rooms.set(topic, room)
      }
      const seat: Seat = { topic, receiver, cursor: after, asOf, live: false, gone: false }
      room.seats.add(seat)
      seatCount++
      options.follow(topic, head)
      if (receiver.form === 'frames') options.onSeats(topic, ++room.sockets, true)
      setRights(mission, rights, asOf)
      // Newer rights than `rights` may be known, and are not checked again.
      const known = missions.get(mission)?.rights
      if (!seat.gone && !(known && sees(receiver.actor, known))) end(seat)
      if (!seat.gone) void catchUp(room.reads, seat)
      return seat
    },
    receivers,
    leave,
    deliver,
    recheck(seats) {
      for (const seat of [...seats]) {
        const rights = missions.get(topicParts(seat.topic).mission)?.rights
        if (!seat.gone && (!rights || !sees(seat.receiver.actor, rights))) end(seat)
      }
    },
    named(topic, number) {
      const { mission } = topicParts(topic)
      return missions.get(mission)?.rights?.number === number ? mission : ''
    },
    missions: () => [...missions.keys()],
    setRights,
    seats: () => seatCount,
    catching,
  }
}
