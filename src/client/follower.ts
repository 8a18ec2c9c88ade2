// A topic's follower: its last received seq, its options, and its callbacks.
import type { DeckError } from './errors.ts'

export type Place = { seq: number; epoch: string }

export type Follower = {
  /** the last received seq; undefined until its start is known */
  last: number | undefined
  epoch: string | undefined
  /** whether it asked for earlier events: after a reset it then needs the topic from the start */
  replay: boolean
  presence: boolean
  chats?: boolean
  questions?: boolean
  /** `size` in characters; `stored`: an event, not a signal */
  give(event: object, size: number, stored: boolean): void
  /** The subscription was answered, for the first time or again. */
  joined(place: Place): void
  end(error: DeckError): void
}
/** `ready`: a `subscribe` that covers the follower was answered. */
export type Followers = Map<Follower, { ready: boolean }>
