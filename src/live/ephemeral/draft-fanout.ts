// Sends deltas of drafts to a chat's followers on this instance. A slow follower gets no queue of deltas: once its buffer drains, it gets
// one delta that covers everything it missed. A new follower gets the text so far first.
import { encodeFrame } from '../../protocol/encode.ts'
import { toChunk } from '../../protocol/websocket-wire.ts'
import { topicParts } from '../../protocol/topics.ts'
import type { Hub } from '../hub/hub.ts'
import type { Receiver, Seat } from '../hub/seat.ts'

export type DraftName = { topic: string; key: string }

/** A text that grows; `behind`: slow followers, and from where they lack it. */
type Growing = DraftName & { text: string; behind: Map<Receiver, number> }

const frameOf = ({ topic, key }: DraftName, told: { offset: number; delta: string } | { aborted: true }): Buffer =>
  toChunk([encodeFrame('delta', { topic, key, citizen: topicParts(topic).citizen ?? '', ...told })]).bytes

type NewSeat = Pick<Seat, 'receiver' | 'topic' | 'gone'>

export const makeSlices = (hub: Pick<Hub, 'receivers'>) => {
  const unprimed = new Map<string, Set<Receiver>>()
  const primed = (topic: string): Receiver[] => {
    const waiting = unprimed.get(topic)
    const all = [...hub.receivers(topic)]
    return waiting ? all.filter((receiver) => !waiting.has(receiver)) : all
  }

  /** `bytes`: the text from `offset` on, if it is encoded already. */
  const give = (draft: Growing, receiver: Receiver, offset: number, bytes?: Buffer): void => {
    const from = Math.min(draft.behind.get(receiver) ?? offset, offset)
    const frame = bytes && from === offset ? bytes : frameOf(draft, { offset: from, delta: draft.text.slice(from) })
    if (receiver.fits(frame.length)) {
      draft.behind.delete(receiver)
      receiver.send(frame, 1)
    } else draft.behind.set(receiver, from)
  }

  const begin = (seat: NewSeat, drafts: Growing[]): void => {
    if (!seat.gone) for (const draft of drafts) give(draft, seat.receiver, 0)
  }

  return {
    /** The text from `offset` on, to all. */
    tell(draft: Growing, offset: number): void {
      const bytes = frameOf(draft, { offset, delta: draft.text.slice(offset) })
      for (const receiver of primed(draft.topic)) give(draft, receiver, offset, bytes)
    },

    /** What they lack, to those who are behind, where there is room by now. */
    catchUp(draft: Growing): void {
      if (draft.behind.size === 0) return
      const here = new Set(primed(draft.topic))
      for (const receiver of [...draft.behind.keys()])
        if (here.has(receiver)) give(draft, receiver, draft.text.length)
        else draft.behind.delete(receiver)
    },

    /** That it was given up. */
    aborted(name: DraftName): void {
      const bytes = frameOf(name, { aborted: true })
      for (const receiver of primed(name.topic)) receiver.send(bytes, 1)
    },

    /** The texts so far, to a new follower. */
    begin,

    /** Gives a new follower no slices until it is known which drafts there are. */
    async prime(seat: NewSeat, found: Promise<Growing[]>): Promise<void> {
      const { receiver, topic } = seat
      const waiting = unprimed.get(topic) ?? new Set()
      unprimed.set(topic, waiting.add(receiver))
      const drafts = await found
      waiting.delete(receiver)
      if (waiting.size === 0) unprimed.delete(topic)
      begin(seat, drafts)
    },

    /** Whether anybody here follows the topic. */
    followed: (topic: string): boolean => hub.receivers(topic)[Symbol.iterator]().next().done !== true,
  }
}
export type Slices = ReturnType<typeof makeSlices>
