// A page of a topic's events, encoded once in each form, and the rights that were read with it.
import { encodeEvent } from '../../protocol/encode.ts'
import { toChunk, type Chunk } from '../../protocol/websocket-wire.ts'
import { toEvents } from '../../protocol/event-stream.ts'
import type { MissionRights, Page } from '../../protocol/rows.ts'

/** The encoding that a receiver takes: frames of a socket, or the text of an event stream. */
export type Form = 'frames' | 'events'

/** A page, and its encoded events. */
export type Encoded = { page: Page; as(form: Form): Chunk }

/** Each form is encoded at its first use. */
export const encode = (topic: string, page: Page): Encoded => {
  let frames: Chunk | undefined
  let events: Chunk | undefined
  const toFrames = (): Chunk => toChunk(page.events.map(({ seq, event, data }) => encodeEvent(topic, seq, event, data)))
  return {
    page,
    as: (form) => (form === 'frames' ? (frames ??= toFrames()) : (events ??= toEvents(page.events))),
  }
}

/** Returns whether the same actors have rights. (The database gives members in one order.) */
export const sameRights = (one: MissionRights, other: MissionRights): boolean =>
  one.number === other.number &&
  one.assigned_to === other.assigned_to &&
  (one.members === other.members || String(one.members) === String(other.members))

/** Returns the rights that were read with a page; on a deleted mission's last page, the rights in the deleted row. */
export const rightsOf = ({ mission, events }: Page): MissionRights | undefined => {
  const last = events.at(-1)
  if (mission || last?.event !== 'mission.deleted') return mission
  const { id, number, assigned_to } = JSON.parse(last.data) as MissionRights
  return { id, number, assigned_to }
}
