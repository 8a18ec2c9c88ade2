// stream { id, topic, key, offset?, delta?, activity? } … { id, topic, key, done: true, message?, code_blocks?, usage? } | { …, abort: true }:
// a reply that is being written; ok { offset } to a delta or a step, ok { seq, message } to done. cancel { id, topic, key }: asks the
// draft's writer to stop. A socket's stream frames are handled one by one, in the order sent.
import { allow, refusal } from '../access/policy.ts'
import type { DraftName } from '../live/ephemeral/draft-fanout.ts'
import type { Draft } from '../live/ephemeral/draft-registry.ts'
import type { Drafts } from '../live/ephemeral/drafts.ts'
import type { Handlers, Session } from '../live/connections/session.ts'
import type { UserRate } from '../live/connections/user-rate.ts'
import type { DraftStore } from '../database/draft-store.ts'
import type { Entry } from '../database/write/pending-message.ts'
import type { Missions } from '../database/read/mission-cache.ts'
import { detailsOf, withReport, type Step } from '../protocol/activity.ts'
import { deny } from '../protocol/errors.ts'
import type { ClientFrame } from '../protocol/client-frames.ts'
import { encodeSaved } from '../protocol/encode.ts'
import { messageChars, type Message, type MissionRights } from '../protocol/rows.ts'
import { formatTopic, parseTopic } from '../protocol/topics.ts'
import { atOffset, kindOf, standingOf, type StreamKind } from './draft-standing.ts'
import { toEntry } from './send.ts'
import { allowWork, type Replies } from './work.ts'

/** Maximum UTF-16 code units of a draft: a character of a message may take two. */
export const mostUnits = 2 * messageChars

/** A stream frame with its resolved chat. Its sender may post there. */
type Call = {
  session: Session
  frame: ClientFrame<'stream'>
  kind: StreamKind
  name: DraftName
  mission: MissionRights
  citizen: string
}

/** Returns `text` with the frame's delta. Throws `bad_request` if it is too long. */
const extend = (text: string, { delta = '' }: ClientFrame<'stream'>): string => {
  const whole = text + delta
  if (whole.length > mostUnits) throw deny('bad_request', `a draft may have up to ${mostUnits} UTF-16 code units`)
  return whole
}

/** Returns the message that the frame makes of a draft with this text and these steps. Throws `bad_request` if its length is invalid. */
const toMessage = (
  { session, frame, mission, citizen }: Call,
  { text, activity }: { text: string; activity: readonly Step[] },
): Entry => {
  const whole = extend(text, frame)
  const { key, message = whole, code_blocks = null, reply_to = null, usage } = frame
  const steps = frame.activity ? withReport(activity, frame.activity) : activity
  if (message === '' || [...message].length > messageChars)
    throw deny('bad_request', `a message must have 1 to ${messageChars} characters`)
  return toEntry(
    session.actor,
    mission,
    citizen,
    { message, key, code_blocks, reply_to, ...(usage && { usage }) },
    steps,
  )
}

const answerSaved = ({ session, frame: { id } }: Call, { seq, message }: { seq: number; message: string }): void => {
  if (id !== undefined) session.push(encodeSaved(id, seq, message))
}

export const makeStream = (
  missions: Missions,
  store: DraftStore,
  drafts: Drafts,
  replies: Replies,
  rate: UserRate,
): Pick<Handlers, 'stream' | 'cancel'> => {
  const last = new WeakMap<Session, Promise<unknown>>()
  // Mission IDs by topic as the client wrote it, so that a mission's number is not looked up for each delta of a draft.
  const resolved = new WeakMap<Session, Map<string, string>>()

  const remember = (session: Session, text: string, id: string): void => {
    const names = resolved.get(session) ?? new Map<string, string>()
    // At most as many entries as drafts that the socket may write.
    if (names.size >= session.topicLimit) names.clear()
    resolved.set(session, names.set(text, id))
  }

  const enter = async (
    session: Session,
    text: string,
    key?: string,
  ): Promise<{ mission: MissionRights; citizen: string; topic: string }> => {
    const topic = parseTopic(text)
    if (topic.kind !== 'chat') throw deny('bad_request', '`stream` needs a chat topic')
    const { citizen } = topic
    const id = resolved.get(session)?.get(text)
    const own = id && key && drafts.of(session, { topic: formatTopic(topic, id), key })
    const mission = await missions.find(
      own ? { id } : topic.mission,
      (m) => refusal(session.actor, 'chat.post', m, citizen) === null,
    )
    allow(session.actor, 'chat.post', mission, citizen)
    replies.active(session, mission.id, citizen)
    return { mission, citizen, topic: formatTopic(topic, mission.id) }
  }

  /** The key is already a message: answers with the message, and ends the task that the frame names. */
  const repeat = async (call: Call, { id, message }: Message): Promise<void> => {
    const { session, frame, mission, citizen, name } = call
    if (frame.task !== undefined) {
      await session.inTurn(Promise.resolve())
      await replies.end(session, frame.task, id)
    }
    // A message may be readable before the standby has it. The writer answers once the standby has it.
    const entry = toEntry(session.actor, mission, citizen, { message, key: name.key })
    answerSaved(call, await replies.write(session, entry, undefined))
  }

  /** Throws `conflict` with the length of the stored draft. */
  const refuseAtStored = async (name: DraftName): Promise<never> => {
    await drafts.settle(name)
    throw atOffset(await store.expected(name))
  }

  /** Claims a draft for the socket. Returns undefined if the frame was answered, or if the socket has closed. */
  const claim = async (call: Call, offset: number): Promise<Draft | undefined> => {
    const { session, frame, kind, name, mission } = call
    if (!drafts.of(session, name) && drafts.count(session) >= session.topicLimit)
      throw deny('bad_request', `a socket may write up to ${session.topicLimit} drafts at a time`)
    // Checked before the claim takes the draft from its owner. At an offset above 0 the text is known only after the claim.
    if (offset === 0) {
      if (kind === 'finish') toMessage(call, { text: '', activity: [] })
      else extend('', frame)
    }
    await drafts.settle(name)
    drafts.makeRoom(session, offset + (frame.delta?.length ?? 0), frame.activity)
    const claimed = await store.claim(name, session.actor.sub, offset)
    if ('message' in claimed) return void (await repeat(call, claimed.message))
    if ('expected' in claimed) throw atOffset(claimed.expected)
    if (session.closed) return
    remember(session, frame.topic, mission.id)
    return drafts.open(session, { ...name, ...claimed }, Boolean(frame.delta))
  }

  /** Appends the frame's delta to the draft, and adds or updates its step. */
  const grow = ({ session, frame }: Call, draft: Draft): void => {
    const { delta = '', activity } = frame
    extend(draft.text, frame)
    if (delta === '' && !activity) return
    drafts.makeRoom(session, delta.length, activity)
    if (delta !== '') drafts.append(draft, delta)
    if (activity) drafts.report(draft, activity)
  }

  const append = (call: Call, draft: Draft): void => {
    grow(call, draft)
    call.session.ok(call.frame.id, { offset: draft.text.length })
  }

  const abort = async (call: Call, draft: Draft): Promise<void> => {
    const { session, frame, name } = call
    grow(call, draft)
    if (!(await drafts.hold(draft))) return refuseAtStored(name)
    drafts.abort(draft)
    await store.drop(name, session.actor.sub, draft.generation)
    session.ok(frame.id, { offset: draft.text.length })
  }

  /** Writes the message. Without a draft, the frame carries the whole message. */
  const finish = async (call: Call, draft?: Draft): Promise<void> => {
    const { session, frame, name } = call
    const { delta = '', activity, task } = frame
    // A message without a draft on this socket gets the steps of the stored draft that it ends.
    const stored = draft ?? (await store.read(name, { author: session.actor.sub }))
    const entry = toMessage(call, { text: draft?.text ?? '', activity: stored?.activity ?? [] })
    if (draft) {
      // `makeRoom` is not called: the draft ends at once, so an instance without room can still finish its replies.
      if (delta !== '') drafts.append(draft, delta)
      if (activity) drafts.report(draft, activity)
      // If another session has taken over the draft, this one can't finish it.
      if (!(await drafts.hold(draft))) return refuseAtStored(name)
    }
    if (task !== undefined) await session.inTurn(Promise.resolve())
    const written = await replies.write(session, entry, task)
    drafts.end(name)
    await store.drop(name, session.actor.sub)
    answerSaved(call, written)
  }

  const apply = (call: Call, draft: Draft): void | Promise<void> => {
    switch (call.kind) {
      case 'append':
        return append(call, draft)
      case 'finish':
        return finish(call, draft)
      case 'abort':
        return abort(call, draft)
    }
  }

  const stream = async (session: Session, frame: ClientFrame<'stream'>): Promise<void> => {
    const { key, task } = frame
    const kind = kindOf(frame)
    detailsOf({ usage: frame.usage })
    if (task !== undefined) allowWork(session.actor)
    const { mission, citizen, topic } = await enter(session, frame.topic, key)
    if (kind === 'finish') rate.take(session.actor)
    const name = { topic, key }
    const call: Call = { session, frame, kind, name, mission, citizen }
    const standing = standingOf(drafts, session, name, frame)
    switch (standing.is) {
      case 'held':
        return apply(call, standing.draft)
      case 'restarted':
      case 'unclaimed': {
        const draft = await claim(call, standing.offset)
        return draft && apply(call, draft)
      }
      case 'whole':
        return finish(call)
      case 'overtaken':
      case 'unknown': {
        const mayBeMessage = standing.is === 'overtaken' || kind === 'finish'
        const message = mayBeMessage ? await store.claimed(name, session.actor.sub) : undefined
        return message ? repeat(call, message) : refuseAtStored(name)
      }
    }
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
    async cancel(session, { id, topic: text, key }) {
      const { topic } = await enter(session, text)
      const name = { topic, key }
      if (!drafts.writerOf(name) && !(await store.exists(name))) throw deny('not_found', 'no such draft')
      drafts.cancel(name, session.actor.sub)
      session.ok(id)
    },
  }
}
