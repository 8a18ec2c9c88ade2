// The hub: hands the tail's pages to the seats of their topic, each event encoded once. A seat is the place of a session, or of
// an event stream, in a topic: *catching* (it reads pages of its own until it stands where the tail stands) or *live*. Joining, resuming and
// healing a gap are the same function. Before anything is handed out, the rights that came with it are applied.
import { sees } from '../../access/policy.ts'
import type { Actor } from '../../access/actor.ts'
import { noMission, type Refusal } from '../../protocol/errors.ts'
import type { MissionRights, Page } from '../../protocol/rows.ts'
import { topicParts } from '../../protocol/topics.ts'
import { encode, makeReads, type Encoded, type Form, type ReadPage, type Reads } from './catch-up-reads.ts'

/** What the hub needs of a session, or of an event stream. */
export type Receiver = {
  readonly actor: Actor
  readonly form: Form
  /** Sends so many frames that are encoded; false if the receiver can't take them (it is being closed then). */
  send(bytes: Buffer, frames: number): boolean
  /** Whether a frame of this size may go now; who only catches up leaves half of the outbox to what is live. */
  fits(bytes: number): boolean
  drained(): Promise<void>
  /** A seat ended by the hub. */
  ended(topic: string, refusal: Refusal): void
}

export type Seat = {
  readonly topic: string
  readonly receiver: Receiver
  cursor: number
  /** reads that began before (performance.now) are not for this seat */
  asOf: number
  live: boolean
  gone: boolean
}

/** `sockets`: of the seats, those of sessions. */
type Room = { topic: string; seats: Set<Seat>; sockets: number; reads: Reads }
type MissionState = { rights: MissionRights | undefined; asOf: number; rooms: Map<string, Room>; goneChecks: number }

export type Hub = {
  /** Takes a seat after `after`; the topic stood at `head` when the place was read. */
  join(
    receiver: Receiver,
    topic: string,
    place: { rights: MissionRights; asOf: number; head: number },
    after: number,
  ): Seat
  leave(seat: Seat): void
  /** A page that the tail read. */
  deliver(topic: string, from: number, page: Page): void
  /** Those who follow a topic by a socket: event streams take nothing but events. */
  receivers(topic: string): Iterable<Receiver>
  /** Ends the seats that their receiver's actor may no longer have (after a fresh token). */
  recheck(seats: Iterable<Seat>): void
  /** The id of the mission that a seat's topic is of, if this is its number as far as is known; otherwise ''. */
  named(topic: string, number: number): string
  /** Missions with seats, for the look at their rights once a second. */
  missions(): string[]
  /** Rights as read at `asOf`; undefined for a mission that is gone. */
  setRights(mission: string, rights: MissionRights | undefined, asOf: number): void
  seats(): number
  /** Of them, those that catch up. */
  catching(): number
}

export const makeHub = (options: {
  /** bytes that a page of the tail may hold to be handed out as it came; a larger one is caught up with, frame by frame */
  liveBytes: number
  /** bytes that a page may hold which is read to catch up */
  pageBytes: number
  follow: (topic: string, head: number) => void
  unfollow: (topic: string) => void
  /** A socket's seat was taken or left: of a topic that has so many now. */
  onSeats: (topic: string, seats: number, taken: boolean) => void
  cursor: (topic: string) => number | undefined
  page: ReadPage
  onError: (error: unknown) => void
}): Hub => {
  const missions = new Map<string, MissionState>()
  let seatCount = 0
  let catchingCount = 0

  /** The rights that a page came with; with a mission's last event, those that its last row speaks of. */
  const rightsOf = ({ mission, events }: Page): MissionRights | undefined => {
    const last = events.at(-1)
    if (mission || last?.event !== 'mission.deleted') return mission
    const { id, number, assigned_to } = JSON.parse(last.data) as MissionRights
    return { id, number, assigned_to }
  }

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
    // Reads overtake one another; an older one says nothing about now.
    if (!state || asOf < state.asOf) return
    state.asOf = asOf
    if (rights === undefined) {
      // Followers hear mission.deleted first: its page ends them all. Should it not come, the next look does.
      const own = state.rooms.get(`missions/${mission}`)
      if (own && state.goneChecks++ === 0) return
    } else if (rights.assigned_to === state.rights?.assigned_to && rights.number === state.rights.number) {
      return
    }
    state.rights = rights
    for (const room of [...state.rooms.values()])
      for (const seat of [...room.seats]) if (!rights || !sees(seat.receiver.actor, rights)) end(seat)
  }

  const give = (seat: Seat, { page, as }: Encoded): boolean => {
    const { bytes, ends } = as(seat.receiver.form)
    // Most seats stand where the page begins.
    const first = page.events.findIndex(({ seq }) => seq > seat.cursor)
    seat.cursor = Math.max(seat.cursor, page.covered)
    if (first === -1) return true
    return seat.receiver.send(first === 0 ? bytes : bytes.subarray(ends[first - 1]), ends.length - first)
  }

  /** As much of it as the receiver has room for; false if the seat is gone. */
  const giveSlowly = (seat: Seat, { page, as }: Encoded): boolean => {
    const { bytes, ends } = as(seat.receiver.form)
    for (const [i, end] of ends.entries()) {
      const { seq } = page.events[i] as { seq: number }
      if (seq <= seat.cursor) continue
      const frame = bytes.subarray(ends[i - 1] ?? 0, end)
      if (!seat.receiver.fits(frame.length)) return true
      if (!seat.receiver.send(frame, 1)) {
        leave(seat)
        return false
      }
      seat.cursor = seq
    }
    seat.cursor = Math.max(seat.cursor, page.covered)
    return true
  }

  /**
   * Gives a seat its next page; true if the receiver has no room for the rest, which is to be read again: while a seat waits it
   * holds nothing. (A function of its own, since an async function keeps alive what it held before it waits.)
   */
  const step = async (room: Room, seat: Seat, target: number): Promise<boolean> => {
    const { from, encoded: reading } = room.reads(seat.cursor, seat.asOf)
    const encoded = await reading
    const { mission, asOf, covered } = encoded.page
    setRights(topicParts(seat.topic).mission, mission, asOf)
    if (seat.gone) return false
    const rights = rightsOf(encoded.page)
    // Rights of the same snapshot as the rows; where newer ones are known already, another read tells.
    if (!rights || !sees(seat.receiver.actor, rights)) {
      if (!rights || !mission) end(seat)
      seat.asOf = performance.now()
      return false
    }
    if (covered <= seat.cursor) {
      // Read for another seat, and not as far as this one stands; or the topic was set back (a restore), and there is
      // nothing more to catch up with.
      if (from === seat.cursor) seat.cursor = target
      return false
    }
    if (!giveSlowly(seat, encoded)) return false
    if (seat.cursor < covered) return true
    if (!mission) end(seat)
    return false
  }

  const catchUp = async (room: Room, seat: Seat): Promise<void> => {
    seat.live = false
    catchingCount++
    await untilLive(room, seat)
    catchingCount--
  }

  const untilLive = async (room: Room, seat: Seat): Promise<void> => {
    while (!seat.gone) {
      const target = options.cursor(seat.topic)
      if (target === undefined || seat.cursor >= target) {
        seat.live = true
        return
      }
      try {
        if (await step(room, seat, target)) await seat.receiver.drained()
      } catch (error) {
        options.onError(error)
        await new Promise((resolve) => setTimeout(resolve, 200))
      }
    }
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
      // (A Set may lose members while it is walked.)
      for (const seat of room.seats) {
        if (!seat.live) continue
        // Not by the rights that came with the rows (newer ones may be known), or too much at once: it reads for itself.
        const apart =
          !sees(seat.receiver.actor, rights) || encoded.as(seat.receiver.form).bytes.length > options.liveBytes
        if (seat.cursor < from || (apart && page.mission)) void catchUp(room, seat)
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
      // Newer rights than those it was let in by may be known, and would not be looked at again.
      const known = missions.get(mission)?.rights
      if (!seat.gone && !(known && sees(receiver.actor, known))) end(seat)
      if (!seat.gone) void catchUp(room, seat)
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
    catching: () => catchingCount,
  }
}
