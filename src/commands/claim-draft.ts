// The draft of a reply under a claim over HTTP. Each call may reach another instance, so the text is saved before it is answered, and the
// stored draft decides where the next call continues.
import type { Draft, DraftWriter } from '../live/ephemeral/draft-registry.ts'
import { deny } from '../protocol/errors.ts'
import type { DraftPart } from '../protocol/inbox.ts'
import { makeCheck, type Call, type ClaimParts, type Work } from './claims.ts'
import { atOffset } from './draft-standing.ts'
import { mostUnits } from './stream.ts'
import { unfinished } from './work.ts'

/** Seconds after which a draft renews the lease again: there may be many deltas a second. */
const renewEvery = 1
/** Tries of one call, if other instances continue the draft at the same time. */
const mostTries = 5

/** The writer of a claim's draft on this instance. */
type ClaimWriter = DraftWriter & { claim: string }
const isOf = (writer: DraftWriter | undefined, claim: string): writer is ClaimWriter =>
  writer !== undefined && 'claim' in writer && writer.claim === claim

export const makeClaimDraft = (parts: ClaimParts, onError: (error: unknown) => void) => {
  const { claims, drafts, draftStore } = parts
  const check = makeCheck(parts)

  const writerFor = ({ actor, claim }: Call, { task, holder, name }: Work): ClaimWriter => {
    const writer = drafts.writerOf(name)
    if (isOf(writer, claim)) return writer
    return {
      claim,
      actor,
      // The only frame for a writer is `cancel`: the claim's next call reports it, on any instance.
      push() {
        void claims.cancel(task, holder).catch(onError)
        return true
      },
    }
  }

  /** Appends a delta to the claim's draft, where it ends or at `offset`, and adds or updates a step. */
  return async (
    call: Call,
    { delta = '', offset, activity }: DraftPart,
  ): Promise<{ offset: number; cancelled: boolean }> => {
    // The text up to this delta, if it was appended here and then another instance continued the draft.
    let appended: string | undefined
    for (let tries = 1; ; tries++) {
      const work = await check(call, { within: renewEvery })
      const { name, draft: stored, cancelled, run } = work
      if (run) throw unfinished()
      // A save of a later call, or by the timer, may have saved it before.
      if (appended !== undefined && stored && (await draftStore.read(name, stored))?.text.startsWith(appended))
        return { offset: appended.length, cancelled }
      if (tries > mostTries) throw atOffset(stored?.units ?? 0)
      const writer = writerFor(call, work)
      const own = drafts.of(writer, name)
      // If the stored draft has a later generation, another instance has continued it.
      const current = own && own.generation === stored?.generation ? own : undefined
      if (!current) await drafts.settle(name)
      const length = current ? current.text.length : (stored?.units ?? 0)
      if (offset !== undefined && offset !== length && offset !== 0) throw atOffset(length)
      if (delta === '' && !activity) return { offset: length, cancelled }
      const from = offset ?? length
      if (from + delta.length > mostUnits)
        throw deny('bad_request', `a draft may have up to ${mostUnits} UTF-16 code units`)
      drafts.makeRoom(writer, current && from === length ? delta.length : from + delta.length, activity)
      let draft: Draft | undefined = from === length ? current : undefined
      if (!draft) {
        const claimed = await draftStore.claim(name, call.actor.sub, from, true)
        if ('message' in claimed)
          throw deny('conflict', 'this reply is stored already: end the task by `reply` or `done`')
        if ('generation' in claimed) draft = drafts.open(writer, { ...name, ...claimed }, delta !== '')
      }
      if (draft) {
        if (delta !== '') drafts.append(draft, delta)
        if (activity) drafts.report(draft, activity)
        if (delta !== '') appended = draft.text
        if (await drafts.hold(draft)) return { offset: draft.text.length, cancelled }
      }
      // Another instance continued the draft meanwhile.
    }
  }
}
export type ClaimDraft = ReturnType<typeof makeClaimDraft>
