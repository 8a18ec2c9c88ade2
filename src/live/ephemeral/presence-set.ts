// Lists of the subjects that are present in a topic: differences, sums, and their encoding in notifications and frames. presence.ts
// holds the state.
import { encodeFrame } from '../../protocol/encode.ts'
import { toChunk } from '../../protocol/websocket-wire.ts'
import type { Role } from '../../access/actor.ts'
import type { Subscription } from '../hub/subscription.ts'
import { longest } from './instance-relay.ts'

/** A subject that follows a topic, with the number of its sockets. */
export type Present = { sub: string; role: Role; sockets: number }
export type People = Map<string, Present>

// Up to this many people, each change sends the whole list.
const whole = 100

const nameOf = ({ sub, role }: { sub: string; role: Role }): string => `${role} ${sub}`

/** Returns the subjects of the followers, with their numbers of sockets. */
export const peopleOf = (followers: Iterable<{ actor: { sub: string; role: Role } }>): People => {
  const people: People = new Map()
  for (const { actor } of followers) {
    const { sub, role } = actor
    const name = nameOf(actor)
    people.set(name, { sub, role, sockets: (people.get(name)?.sockets ?? 0) + 1 })
  }
  return people
}

/** Returns the changes from `before` to `now`; `other`: subjects whose number of sockets changed. */
export const compare = (before: People, now: People) => {
  const joined = [...now].filter(([name]) => !before.has(name)).map(([, present]) => present)
  const left = [...before].filter(([name]) => !now.has(name)).map(([, present]) => ({ ...present, sockets: 0 }))
  const other = [...now].filter(([name, { sockets }]) => (before.get(name)?.sockets ?? sockets) !== sockets)
  return { joined, left, other: other.map(([, present]) => present) }
}

/** Splits a list into parts that fit into a notification. */
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

/** Returns the sum of lists: a subject's sockets are counted over all lists. */
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
 * Sends the changes since `before` to the subscriptions that asked for presence. Their value in `asked` is whether they have the complete
 * list of `before`. A subscription without room for a change gets the whole list later.
 */
export const sendChanges = (topic: string, asked: Map<Subscription, boolean>, before: People, now: People): void => {
  const { joined, left, other } = compare(before, now)
  const subs = [...now.values()]
  const isChanged = joined.length + left.length > 0 || (other.length > 0 && subs.length <= whole)
  const changed = isChanged ? frame(topic, { ...(subs.length <= whole ? { subs } : {}), joined, left }) : undefined
  let list: Buffer | undefined
  for (const [subscription, had] of asked) {
    const bytes = had ? changed : (list ??= frame(topic, { subs, joined: [], left: [] }))
    if (!bytes) continue
    const room = subscription.receiver.fits(bytes.length)
    asked.set(subscription, room)
    if (room) subscription.receiver.send(bytes, 1)
  }
}
