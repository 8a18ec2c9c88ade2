// A subscription: one receiver's cursor in one topic. A receiver is a socket's session or an event stream.
import type { Actor } from '../../access/actor.ts'
import type { Refusal } from '../../protocol/errors.ts'
import type { Form } from './page.ts'

/** The part of a session or an event stream that the hub uses. */
export type Receiver = {
  readonly actor: Actor
  readonly form: Form
  /** Sends encoded frames. Returns false if the receiver can't take them and is being closed. */
  send(bytes: Buffer, frames: number): boolean
  /** Returns whether a frame of this size may be sent now. Catching up leaves half of the outbox to live events. */
  fits(bytes: number): boolean
  drained(): Promise<void>
  /** Called after the hub has ended a subscription. */
  ended(topic: string, refusal: Refusal): void
}

export type Subscription = {
  readonly topic: string
  readonly receiver: Receiver
  cursor: number
  /** Reads that began before this time (performance.now) are not used for this subscription. */
  asOf: number
  live: boolean
  gone: boolean
}
