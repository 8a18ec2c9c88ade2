// A seat: the place of one receiver, a socket's session or an event stream, in one topic.
import type { Actor } from '../../access/actor.ts'
import type { Refusal } from '../../protocol/errors.ts'
import type { Form } from './page.ts'

/** What the hub needs of a session, or of an event stream. */
export type Receiver = {
  readonly actor: Actor
  readonly form: Form
  /** Sends encoded frames; false if the receiver can't take them, and is being closed. */
  send(bytes: Buffer, frames: number): boolean
  /** Returns whether a frame of this size may be sent now: catching up leaves half of the outbox to live events. */
  fits(bytes: number): boolean
  drained(): Promise<void>
  /** The hub has ended a seat. */
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
