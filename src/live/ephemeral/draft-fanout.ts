// Sends deltas of drafts to a chat's followers on this instance. A slow follower has no queue of deltas: once its buffer drains, it
// receives one delta that covers everything it missed. A new follower first receives the text so far.
import { encodeFrame } from '../../protocol/encode.ts'
import { toChunk } from '../../protocol/websocket-wire.ts'
import { topicParts } from '../../protocol/topics.ts'
import type { Hub } from '../hub/hub.ts'
import type { Receiver, Subscription } from '../hub/subscription.ts'

export type DraftName = { topic: string; key: string }

/** A text that grows; `behind`: slow followers, and the offset from which each misses the text. */
type Growing = DraftName & { text: string; behind: Map<Receiver, number> }

const frameOf = ({ topic, key }: DraftName, members: { offset: number; delta: string } | { aborted: true }): Buffer =>
  toChunk([encodeFrame('delta', { topic, key, citizen: topicParts(topic).citizen ?? '', ...members })]).bytes

type NewSubscription = Pick<Subscription, 'receiver' | 'topic' | 'gone'>

export const makeSlices = (hub: Pick<Hub, 'receivers'>) => {
  // New followers by topic, until they have the drafts so far.
  const unprimed = new Map<string, Set<Receiver>>()
  const primed = (topic: string): Receiver[] => {
    const waiting = unprimed.get(topic)
    const all = [...hub.receivers(topic)]
    return waiting ? all.filter((receiver) => !waiting.has(receiver)) : all
  }

  /** `bytes`: the encoded frame of the text from `offset` on, if there is one already. */
  const give = (draft: Growing, receiver: Receiver, offset: number, bytes?: Buffer): void => {
    const from = Math.min(draft.behind.get(receiver) ?? offset, offset)
    const frame = bytes && from === offset ? bytes : frameOf(draft, { offset: from, delta: draft.text.slice(from) })
    if (receiver.fits(frame.length)) {
      draft.behind.delete(receiver)
      receiver.send(frame, 1)
    } else draft.behind.set(receiver, from)
  }

  const begin = (subscription: NewSubscription, drafts: Growing[]): void => {
    if (!subscription.gone) for (const draft of drafts) give(draft, subscription.receiver, 0)
  }

  return {
    /** Sends the text from `offset` on to all followers. */
    send(draft: Growing, offset: number): void {
      const bytes = frameOf(draft, { offset, delta: draft.text.slice(offset) })
      for (const receiver of primed(draft.topic)) give(draft, receiver, offset, bytes)
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
      const bytes = frameOf(name, { aborted: true })
      for (const receiver of primed(name.topic)) receiver.send(bytes, 1)
    },

    /** Sends the texts so far to a new follower. */
    begin,

    /** Sends a new follower no deltas until the stored drafts are read, then the texts so far. */
    async prime(subscription: NewSubscription, found: Promise<Growing[]>): Promise<void> {
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
