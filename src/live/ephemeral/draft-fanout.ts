// Sends deltas and steps of drafts to a chat's followers on this instance. A slow follower has no queue of them: once its buffer drains,
// it receives one delta that covers everything it missed, and all steps. A new follower first receives the text and the steps so far.
import type { Activity } from '../../protocol/activity.ts'
import { encodeFrame } from '../../protocol/encode.ts'
import { toChunk } from '../../protocol/websocket-wire.ts'
import { topicParts } from '../../protocol/topics.ts'
import type { Hub } from '../hub/hub.ts'
import type { Receiver, Subscription } from '../hub/subscription.ts'

export type DraftName = { topic: string; key: string }

/** A text that grows, and its steps; `behind`: slow followers, and the offset from which each misses the text. */
type Growing = DraftName & {
  text: string
  activity?: readonly Activity[] | undefined
  behind: Map<Receiver, number>
}
/** Encoded frames, and their number. */
type Frames = { bytes: Buffer; count: number }

const deltaOf = ({ topic, key }: DraftName, members: { offset: number; delta: string } | { aborted: true }): string =>
  encodeFrame('delta', { topic, key, citizen: topicParts(topic).citizen ?? '', ...members })

/** The text from `offset` on, and steps. Without steps there is always a delta: an empty one at offset 0 removes the text. */
const framesOf = (draft: Growing, offset: number, steps: readonly Activity[]): Frames => {
  const { topic, key, text } = draft
  if (steps.length === 0)
    return { bytes: toChunk([deltaOf(draft, { offset, delta: text.slice(offset) })]).bytes, count: 1 }
  const texts = steps.map(({ id, line, status }) => encodeFrame('activity', { topic, key, id, line, status }))
  if (offset < text.length) texts.unshift(deltaOf(draft, { offset, delta: text.slice(offset) }))
  return { bytes: toChunk(texts).bytes, count: texts.length }
}

/** A draft that has begun, and the offset from which a new follower gets its text. */
export type Begun = { draft: Growing; offset: number }
type NewSubscription = Pick<Subscription, 'receiver' | 'topic' | 'gone'>

export const makeSlices = (hub: Pick<Hub, 'receivers'>) => {
  // New followers by topic, until they have the drafts so far.
  const unprimed = new Map<string, Set<Receiver>>()
  const primed = (topic: string): Receiver[] => {
    const waiting = unprimed.get(topic)
    const all = [...hub.receivers(topic)]
    return waiting ? all.filter((receiver) => !waiting.has(receiver)) : all
  }

  /** `frames`: for a follower that misses nothing from before `offset`. */
  const give = (draft: Growing, receiver: Receiver, offset: number, frames?: Frames): void => {
    const missed = draft.behind.get(receiver)
    const from = Math.min(missed ?? offset, offset)
    const { bytes, count } = frames && missed === undefined ? frames : framesOf(draft, from, draft.activity ?? [])
    if (receiver.fits(bytes.length)) {
      draft.behind.delete(receiver)
      receiver.send(bytes, count)
    } else draft.behind.set(receiver, from)
  }

  const begin = (subscription: NewSubscription, drafts: Begun[]): void => {
    if (!subscription.gone) for (const { draft, offset } of drafts) give(draft, subscription.receiver, offset)
  }

  return {
    /** Sends the text from `offset` on, and steps, to all followers. */
    send(draft: Growing, offset: number, steps: readonly Activity[] = []): void {
      const frames = framesOf(draft, offset, steps)
      for (const receiver of primed(draft.topic)) give(draft, receiver, offset, frames)
    },

    /** Sends the missed text to slow followers whose buffer has room by now. */
    catchUp(draft: Growing): void {
      if (draft.behind.size === 0) return
      const here = new Set(primed(draft.topic))
      for (const receiver of [...draft.behind.keys()])
        if (here.has(receiver)) give(draft, receiver, draft.text.length)
        else draft.behind.delete(receiver)
    },

    /** Reports to the followers that a draft was aborted. */
    aborted(name: DraftName): void {
      const { bytes } = toChunk([deltaOf(name, { aborted: true })])
      for (const receiver of primed(name.topic)) receiver.send(bytes, 1)
    },

    /** Sends the texts so far to a new follower. */
    begin,

    /** Sends a new follower no deltas until the stored drafts are read, then the texts so far. */
    async prime(subscription: NewSubscription, found: Promise<Begun[]>): Promise<void> {
      const { receiver, topic } = subscription
      const waiting = unprimed.get(topic) ?? new Set()
      unprimed.set(topic, waiting.add(receiver))
      const drafts = await found
      waiting.delete(receiver)
      if (waiting.size === 0) unprimed.delete(topic)
      begin(subscription, drafts)
    },

    /** Returns whether a socket of this instance follows the topic. */
    followed: (topic: string): boolean => hub.receivers(topic)[Symbol.iterator]().next().done !== true,
  }
}
export type Slices = ReturnType<typeof makeSlices>
