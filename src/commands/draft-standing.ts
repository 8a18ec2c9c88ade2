// The kind of a stream frame, and the state of its draft on this instance when the frame arrives.
import type { DraftName } from '../live/ephemeral/draft-fanout.ts'
import type { Draft, DraftWriter } from '../live/ephemeral/draft-registry.ts'
import type { Drafts } from '../live/ephemeral/drafts.ts'
import type { ClientFrame } from '../protocol/client-frames.ts'
import { deny, type Refusal } from '../protocol/errors.ts'

/** Each kind may carry a delta or a step; an append has at least one of them. */
export type StreamKind = 'append' | 'finish' | 'abort'

/** Throws `bad_request` for a frame without a kind, or with two. */
export const kindOf = ({ delta, activity, done, abort, task, reply_to, usage }: ClientFrame<'stream'>): StreamKind => {
  if (delta === undefined && activity === undefined && !done && !abort)
    throw deny('bad_request', 'the frame needs delta, activity, done or abort')
  if (done && abort) throw deny('bad_request', 'the frame has both done and abort: send one of them')
  if (task !== undefined && !done) throw deny('bad_request', 'task is allowed only with done')
  if (reply_to != null && !done) throw deny('bad_request', 'reply_to is allowed only with done')
  if (usage !== undefined && !done) throw deny('bad_request', 'usage is allowed only with done')
  return done ? 'finish' : abort ? 'abort' : 'append'
}

/**
 * | case      | this socket writes the draft | the frame                          | result                             |
 * | --------- | ---------------------------- | ---------------------------------- | ---------------------------------- |
 * | held      | yes                          | no offset, or the draft's length   | the frame applies to the draft     |
 * | restarted | yes                          | offset 0 and a delta               | claimed at 0, with an empty text   |
 * | (thrown)  | yes                          | any other offset                   | `conflict` with the draft's length |
 * | overtaken | no, another socket took over | any offset but 0                   | the key's message, or `conflict`   |
 * | whole     | no                           | done, with the message             | written without a draft            |
 * | unclaimed | no                           | a delta, an offset, or a step      | claimed at the offset, or at 0     |
 * | unknown   | no                           | done or abort, perhaps with a step | done: the key's message; otherwise |
 * |           |                              |                                    | `conflict`                         |
 *
 * The database decides a claim: the key may already be a message, or the stored draft may have a different length.
 * `conflict` carries the offset at which the writer can continue.
 */
export type Standing =
  | { is: 'held'; draft: Draft }
  | { is: 'restarted' | 'unclaimed'; offset: number }
  | { is: 'overtaken' | 'whole' | 'unknown' }

export const atOffset = (offset: number): Refusal =>
  deny('conflict', 'the draft has a different length: continue at `offset`', { offset })

/** Throws `conflict` if the socket writes the draft and the offset does not match. */
export const standingOf = (
  drafts: Pick<Drafts, 'of' | 'wokenAt' | 'wasOvertaken'>,
  writer: DraftWriter,
  name: DraftName,
  { offset: given, delta, activity, done, abort, message }: ClientFrame<'stream'>,
): Standing => {
  const draft = drafts.of(writer, name)
  if (draft) {
    const { length } = draft.text
    if (given === undefined || given === length) return { is: 'held', draft }
    if (given !== 0) throw atOffset(length)
    return delta === undefined ? { is: 'held', draft } : { is: 'restarted', offset: 0 }
  }
  const offset = given ?? drafts.wokenAt(writer, name)
  if (offset !== 0 && drafts.wasOvertaken(writer, name)) return { is: 'overtaken' }
  if (done && message !== undefined) return { is: 'whole' }
  const isAppend = delta !== undefined || (activity !== undefined && !done && !abort)
  if (!isAppend && offset === undefined) return { is: 'unknown' }
  return { is: 'unclaimed', offset: offset ?? 0 }
}
