// A follower of a topic: what it has received, and how it takes events.
import type { DeckError } from './errors.ts'

export type Place = { seq: number; epoch: string }

export type Follower = {
  /** the last seq that it received; undefined until its start is known */
  last: number | undefined
  epoch: string | undefined
  /** whether it asked for earlier events, and so, after a reset, needs the topic from its start */
  replay: boolean
  presence: boolean
  chats?: boolean
  /** `stored`: an event of the topic, and no signal */
  give(event: object, size: number, stored: boolean): void
  /** The subscription was answered, for the first time or again. */
  joined(place: Place): void
  end(error: DeckError): void
}
/** `ready`: it was joined. */
export type Followers = Map<Follower, { ready: boolean }>
