// stream { id, topic, key, offset?, delta? } … { id, topic, key, done: true, message?, code_blocks? } | { …, abort: true }: a
// reply as it is being written; ok { offset } to a delta, ok { seq, message } to done. cancel { id, topic, key }: asks its
// writer to stop. What one socket streams is taken up in the order sent.
import { allow, refusal } from '../access/policy.ts'
import type { Drafts } from '../live/ephemeral/drafts.ts'
import type { Handlers, Session } from '../live/connections/session.ts'
import type { UserRate } from '../live/connections/user-rate.ts'
import type { DraftStore } from '../database/draft-store.ts'
import type { Entry } from '../database/write/pending-message.ts'
import type { Missions } from '../database/read/mission-cache.ts'
import { deny, type Refusal } from '../protocol/errors.ts'
import { encodeSaved, type ClientFrame } from '../protocol/client-frames.ts'
import { messageChars, type Message, type MissionRights } from '../protocol/rows.ts'
import { formatTopic, parseTopic } from '../protocol/topics.ts'
import { toEntry } from './send.ts'
import { allowWork, type Replies } from './work.ts'

/** UTF-16 code units that a draft may hold: a message of so many characters may take two each. */
const mostUnits = 2 * messageChars

const stale = (offset: number): Refusal => deny('conflict', 'this draft stands at another offset', { offset })

export const makeStream = (
  missions: Missions,
  store: DraftStore,
  drafts: Drafts,
  replies: Replies,
  rate: UserRate,
): Pick<Handlers, 'stream' | 'cancel'> => {
  const last = new WeakMap<Session, Promise<unknown>>()
  // The mission's id of a topic as a socket names it: a number is not looked up for each delta of a draft that is its own.
  const resolved = new WeakMap<Session, Map<string, string>>()

  const remember = (session: Session, text: string, id: string): void => {
    const names = resolved.get(session) ?? new Map<string, string>()
    // No more of them than the drafts that it may have.
    if (names.size >= session.topicLimit) names.clear()
    resolved.set(session, names.set(text, id))
  }

  const enter = async (
    session: Session,
    text: string,
    key?: string,
  ): Promise<{ mission: MissionRights; citizen: string }> => {
    const topic = parseTopic(text)
    if (topic.kind !== 'chat') throw deny('bad_request', 'replies are written in chats')
    const { citizen } = topic
    const id = resolved.get(session)?.get(text)
    const own = id && key && drafts.of(session, { topic: formatTopic(topic, id), key })
    const mission = await missions.find(
      own ? { id } : topic.mission,
      (m) => refusal(session.actor, 'chat.post', m, citizen) === null,
    )
    allow(session.actor, 'chat.post', mission, citizen)
    return { mission, citizen }
  }

  const stream = async (session: Session, frame: ClientFrame<'stream'>): Promise<void> => {
    const { id, key, delta = '', done, abort, message, task } = frame
    if (frame.delta === undefined && !done && !abort) throw deny('bad_request', 'a delta, done or abort')
    if (done && abort) throw deny('bad_request', 'done or abort')
    if (task !== undefined) {
      if (!done) throw deny('bad_request', 'a task ends with done')
      allowWork(session.actor)
    }
    const { mission, citizen } = await enter(session, frame.topic, key)
    if (done) rate.take(session.actor)
    const { sub } = session.actor
    const topic = formatTopic({ kind: 'chat', mission: { id: mission.id }, citizen }, mission.id)
    const name = { topic, key }
    const saved = (seq: number, text: string): void => {
      if (id !== undefined) session.push(encodeSaved(id, seq, text))
    }
    const already = async (there: Message): Promise<void> => {
      if (task !== undefined) {
        await session.inTurn(Promise.resolve())
        await replies.end(session, task)
      }
      // Read it may be before the standby has it; the writer answers for it.
      const { message } = there
      const written = await replies.write(
        session,
        toEntry(session.actor, mission, citizen, { message, key }),
        undefined,
      )
      saved(written.seq, written.message)
    }
    const standsAt = async (): Promise<Refusal> => {
      await drafts.settle(name)
      return stale(await store.expected(name))
    }
    /** What the frame makes of a draft that stands at `text`, or why it may not. */
    const check = (text: string): Entry | undefined => {
      const whole = text + delta
      if (whole.length > mostUnits) throw deny('bad_request', `a draft holds up to ${mostUnits} UTF-16 code units`)
      if (!done) return
      const said = message ?? whole
      if (said === '' || [...said].length > messageChars)
        throw deny('bad_request', `a message has 1 to ${messageChars} characters`)
      return toEntry(session.actor, mission, citizen, { message: said, key, code_blocks: frame.code_blocks ?? null })
    }

    let draft = drafts.of(session, name)
    const offset = frame.offset ?? (draft ? undefined : drafts.wokenAt(session, name))
    if (!draft && offset !== 0 && drafts.wasOvertaken(session, name)) {
      const there = await store.claimed(name, sub)
      if (there) return already(there)
      throw await standsAt()
    }
    if (draft && offset !== undefined && offset !== 0 && offset !== draft.text.length) throw stale(draft.text.length)
    const startsOver = draft !== undefined && offset === 0 && frame.delta !== undefined && draft.text !== ''
    const wholeGiven = done && message !== undefined
    if (startsOver || (!draft && !wholeGiven)) {
      if (!draft && frame.delta === undefined && offset === undefined) {
        const there = done ? await store.claimed(name, sub) : undefined
        if (there) return already(there)
        throw await standsAt()
      }
      if (!draft && drafts.count(session) >= session.topicLimit)
        throw deny('bad_request', `a socket writes up to ${session.topicLimit} drafts at a time`)
      // Before the claim, which takes it from its owner; how a draft goes on is known after it only.
      if (!offset) check('')
      await drafts.settle(name)
      drafts.makeRoom(session, (offset ?? 0) + delta.length)
      const claim = await store.claim(name, sub, offset ?? 0)
      if ('message' in claim) return already(claim.message)
      if ('expected' in claim) throw stale(claim.expected)
      if (session.closed) return
      draft = drafts.open(session, { ...name, ...claim })
      remember(session, frame.topic, mission.id)
    }
    const entry = check(draft?.text ?? '')
    if (draft && delta !== '') {
      // What ends it at once is not held.
      if (!done) drafts.makeRoom(session, delta.length)
      drafts.append(draft, delta)
    }
    // Who was overtaken ends nothing.
    if ((done || abort) && draft && !(await drafts.hold(draft))) throw await standsAt()
    if (entry) {
      if (task !== undefined) await session.inTurn(Promise.resolve())
      const written = await replies.write(session, entry, task)
      drafts.end(name)
      await store.drop(name, sub)
      return saved(written.seq, written.message)
    }
    if (abort && draft) {
      drafts.abort(draft)
      await store.drop(name, sub, draft.generation)
    }
    session.ok(id, { offset: draft?.text.length ?? 0 })
  }

  return {
    async stream(session, frame) {
      const mine = (last.get(session) ?? Promise.resolve()).then(() => stream(session, frame))
      last.set(
        session,
        mine.catch(() => {}),
      )
      return mine
    },
    async cancel(session, { id, topic, key }) {
      const { mission, citizen } = await enter(session, topic)
      const name = { topic: formatTopic({ kind: 'chat', mission: { id: mission.id }, citizen }, mission.id), key }
      if (!drafts.isWritten(name) && !(await store.exists(name))) throw deny('not_found', 'there is no such draft')
      drafts.cancel(name, session.actor.sub)
      session.ok(id)
    },
  }
}
