// The people of a topic as lists: their differences, their form in notifications and in frames.
// Presence (presence.ts) is what knows who is where.
import { encodeFrame } from '../../protocol/encode.ts'
import { toChunk } from '../../protocol/websocket-wire.ts'
import type { Role } from '../../access/actor.ts'
import type { Seat } from '../hub/seat.ts'
import { longest } from './instance-relay.ts'

/** Somebody who follows a topic, by so many sockets. */
export type Present = { sub: string; role: Role; sockets: number }
export type People = Map<string, Present>

// Up to so many people, each change sends the whole list.
const whole = 100

const nameOf = ({ sub, role }: { sub: string; role: Role }): string => `${role} ${sub}`

/** Counts the sockets of each. */
export const peopleOf = (followers: Iterable<{ actor: { sub: string; role: Role } }>): People => {
  const people: People = new Map()
  for (const { actor } of followers) {
    const { sub, role } = actor
    const name = nameOf(actor)
    people.set(name, { sub, role, sockets: (people.get(name)?.sockets ?? 0) + 1 })
  }
  return people
}

/** Returns what has changed from `before` to `now`. */
export const compare = (before: People, now: People) => {
  const joined = [...now].filter(([name]) => !before.has(name)).map(([, present]) => present)
  const left = [...before].filter(([name]) => !now.has(name)).map(([, present]) => ({ ...present, sockets: 0 }))
  const other = [...now].filter(([name, { sockets }]) => (before.get(name)?.sockets ?? sockets) !== sockets)
  return { joined, left, other: other.map(([, present]) => present) }
}

/** In parts that a notification has room for. */
export const parts = (subs: Present[]): Present[][] => {
  const made: Present[][] = [[]]
  let size = 0
  for (const present of subs) {
    const bytes = Buffer.byteLength(JSON.stringify(present)) + 1
    if (size + bytes > longest) {
      made.push([])
      size = 0
    }
    size += bytes
    made.at(-1)?.push(present)
  }
  return made
}

export const apply = (people: People, subs: readonly Present[]): void => {
  for (const present of subs)
    if (present.sockets > 0) people.set(nameOf(present), present)
    else people.delete(nameOf(present))
}

/** All of some lists: a sub's sockets are those of all. */
export const sum = (lists: Iterable<People>): People => {
  const people: People = new Map()
  for (const list of lists)
    for (const [name, present] of list)
      people.set(name, { ...present, sockets: present.sockets + (people.get(name)?.sockets ?? 0) })
  return people
}

const frame = (topic: string, members: { subs?: Present[]; joined: Present[]; left: Present[] }): Buffer =>
  toChunk([encodeFrame('presence', { topic, ...members })]).bytes

/**
 * Tells the seats that asked what has changed since `before`. Their value is whether they have had a list that is complete but for
 * that: who has no room for a change gets the whole list later.
 */
export const tell = (topic: string, asked: Map<Seat, boolean>, before: People, now: People): void => {
  const { joined, left, other } = compare(before, now)
  const subs = [...now.values()]
  const news = joined.length + left.length > 0 || (other.length > 0 && subs.length <= whole)
  const changed = news ? frame(topic, { ...(subs.length <= whole ? { subs } : {}), joined, left }) : undefined
  let list: Buffer | undefined
  for (const [seat, had] of asked) {
    const bytes = had ? changed : (list ??= frame(topic, { subs, joined: [], left: [] }))
    if (!bytes) continue
    const room = seat.receiver.fits(bytes.length)
    asked.set(seat, room)
    if (room) seat.receiver.send(bytes, 1)
  }
}
