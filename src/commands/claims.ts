// Work under claims over HTTP. A claim names its holder (a UUID) and the attempt: it is good until another holder has the task, or the
// same holder has claimed it again. Rights are checked here.
import { createHash, randomUUID } from 'node:crypto'
import type { Actor } from '../access/actor.ts'
import type { ClaimState, ClaimStore, ListCursor } from '../database/inbox-claims.ts'
import type { DraftStore } from '../database/draft-store.ts'
import type { Tasks } from '../database/inbox.ts'
import type { Entry } from '../database/write/pending-message.ts'
import type { Writer } from '../database/write/writer.ts'
import type { Drafts } from '../live/ephemeral/drafts.ts'
import type { Claimed } from '../live/inbox-claims.ts'
import type { Inboxes } from '../live/inbox.ts'
import { seenBy } from '../live/inbox-workers.ts'
import { deny, Refusal } from '../protocol/errors.ts'
import type { TaskKind } from '../protocol/client-frames.ts'
import { detailsOf, type Step } from '../protocol/activity.ts'
import type { ClaimedTasks, NewClaim, NewReply } from '../protocol/inbox.ts'
import { messageChars, type Message } from '../protocol/rows.ts'
import { formatTopic } from '../protocol/topics.ts'
import { toEntry } from './send.ts'
import { unfinished } from './work.ts'

/** Seconds of a lease, and kinds of task, unless the claim names others. */
const usualLease = 60
const usualKinds: TaskKind[] = ['message']

/** A call for a task: the caller, the citizen, the task and the claim. */
export type Call = { actor: Actor; citizen: string; task: string; claim: string }
/** A claimed task's holder, and the draft of its reply. */
export type Work = ClaimState & { task: string; holder: string; attempt: number; name: { topic: string; key: string } }

/** Throws `forbidden` unless the actor is the citizen, or an admin. */
export const allowInbox = ({ role, sub }: Actor, citizen: string): void => {
  if (role !== 'admin' && !(role === 'citizen' && sub === citizen))
    throw deny('forbidden', 'an inbox is open to its citizen and to admins only')
}

const lost = (): Refusal => deny('conflict', 'the claim no longer holds the task: claim again')

/** Returns the holder for a key: the same on every instance. */
const holderOf = (citizen: string, sub: string, key: string): string => {
  const hash = createHash('sha256').update(`${citizen}\n${sub}\n${key}`).digest('hex')
  return [hash.slice(0, 8), hash.slice(8, 12), hash.slice(12, 16), hash.slice(16, 20), hash.slice(20, 32)].join('-')
}

export type ClaimParts = {
  tasks: Tasks
  claims: ClaimStore
  inboxes: Inboxes
  drafts: Drafts
  draftStore: DraftStore
  writer: Writer
}

/** Checks a claim and renews its lease. Throws `forbidden`, `not_found`, and `conflict` in a state that `may` does not list. */
export const makeCheck =
  ({ claims, inboxes }: Pick<ClaimParts, 'claims' | 'inboxes'>) =>
  async (
    { actor, citizen, task, claim }: Call,
    renewal: { lease?: number | undefined; within: number | null },
    may: ClaimState['state'][] = ['held'],
  ): Promise<Work> => {
    allowInbox(actor, citizen)
    const holder = claim.slice(0, 36).toLowerCase()
    const attempt = Number(claim.slice(37))
    const found = await claims.check(
      { citizen, task, seen: seenBy(actor), holder, attempt, author: actor.sub },
      renewal,
    )
    if (!found) throw deny('not_found', 'no such task')
    if (!may.includes(found.state)) throw lost()
    inboxes.used(citizen)
    const topic = formatTopic({ kind: 'chat', mission: { id: found.mission.id }, citizen }, found.mission.id)
    return { ...found, task, holder, attempt, name: { topic, key: `task:${task}` } }
  }

export const makeClaims = (parts: ClaimParts) => {
  const { tasks, claims, inboxes, drafts, draftStore, writer } = parts
  const check = makeCheck(parts)

  const toReply = (
    { actor, citizen }: Call,
    { name, mission }: Work,
    { message, code_blocks, usage }: NewReply,
    steps: Step[] = [],
  ): Entry => {
    if (!message || [...message].length > messageChars)
      throw deny(
        'bad_request',
        message
          ? `a message must have 1 to ${messageChars} characters`
          : 'message is missing, and there is no draft to reply with',
      )
    const reply = {
      message,
      code_blocks: code_blocks ?? null,
      key: name.key,
      sender: 'citizen',
      ...(usage && { usage }),
    }
    return toEntry(actor, mission, citizen, reply, steps)
  }

  /** Returns the reply that has ended the task under this claim. */
  const repeat = async (call: Call, work: Work): Promise<string> => {
    const { actor, citizen } = call
    const { name, mission, answer } = work
    const own = await draftStore.claimed(name, actor.sub)
    // A message may be readable before the standby has it. The writer answers once the standby has it.
    if (own) return (await writer.append(toReply(call, work, { claim: call.claim, message: own.message }))).message
    const other: Message | undefined = answer === null ? undefined : await claims.message(answer, mission.id, citizen)
    if (!other) throw lost()
    return JSON.stringify(other)
  }

  return {
    /** Claims tasks. `key`: the same key gets the same tasks while their leases last. */
    async claim(
      actor: Actor,
      citizen: string,
      { credit = 1, wait = 0, lease = usualLease, kinds = usualKinds }: NewClaim,
      key: string | undefined,
      signal: AbortSignal,
    ): Promise<ClaimedTasks & Pick<Claimed, 'giveBack'>> {
      allowInbox(actor, citizen)
      const holder = key === undefined ? randomUUID() : holderOf(citizen, actor.sub, key)
      const claimed = await inboxes.claim({
        citizen,
        actor,
        holder,
        keyed: key !== undefined,
        credit,
        kinds,
        lease,
        wait: wait * 1000,
        signal,
      })
      return {
        giveBack: claimed.giveBack,
        tasks: claimed.tasks.map(({ given }) => ({ ...given, claim: `${holder}.${given.attempt}` })),
      }
    },

    async renew(call: Call, lease: number | undefined) {
      const { lease_until, cancelled } = await check(call, { lease, within: 0 })
      return { lease_until: lease_until ?? '', cancelled }
    },

    /** Saves the reply and ends the task in one transaction. Without `message`, the draft so far is the reply. */
    async reply(call: Call, given: NewReply): Promise<{ message: string; seen: boolean }> {
      const since = performance.now()
      detailsOf({ usage: given.usage })
      const work = await check(call, { within: 1 }, ['held', 'ended'])
      const { task, holder, attempt, name, draft, state, answered } = work
      if (work.run) throw unfinished()
      if (state === 'ended') {
        if (!answered) throw lost()
        return { message: await repeat(call, work), seen: true }
      }
      let { message } = given
      let steps: Step[] = []
      if (draft) {
        await drafts.settle(name)
        const stored = await draftStore.read(name, draft)
        message ??= stored?.text
        steps = stored?.activity ?? steps
      }
      const entry = toReply(call, work, { ...given, ...(message === undefined ? {} : { message }) }, steps)
      const written = await writer.append({ ...entry, task: { id: task, holder } }, since).catch((error: unknown) => {
        throw error instanceof Refusal && error.code === 'conflict' ? lost() : error
      })
      // The key was used before: by this claim, or by a writer that did not hold the task.
      if (written.seen) {
        const { id } = JSON.parse(written.message) as Message
        if (!(await tasks.answer({ task, holder, attempt, reply: id }))) throw lost()
      }
      drafts.end(name)
      await draftStore.drop(name, null)
      return written
    },

    /** Ends a task without a reply, and drops its draft. */
    async done(call: Call): Promise<void> {
      const { state, draft, name, ...held } = await check(call, { within: null }, ['held', 'ended'])
      if (state === 'held' && !(await tasks.end(held))) throw held.run ? unfinished() : lost()
      if (!draft) return
      await draftStore.drop(name, null)
      drafts.drop(name)
    },

    /** Returns a task to the queue. */
    async release(call: Call, after = 0): Promise<void> {
      const { state, ...held } = await check(call, { within: null }, ['held', 'released'])
      if (state === 'held' && !(await tasks.release({ ...held, after }))) throw lost()
    },

    list(actor: Actor, citizen: string, page: { limit: number; after?: ListCursor | undefined }) {
      allowInbox(actor, citizen)
      return claims.list(citizen, seenBy(actor), page)
    },
  }
}
export type Claims = ReturnType<typeof makeClaims>
