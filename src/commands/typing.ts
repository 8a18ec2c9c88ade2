// typing { id, topic, on }: reports to a chat's followers that a user started or stopped typing. If the socket closes, the user has
// stopped. Typing is not stored.
import { allow, refusal } from '../access/policy.ts'
import type { Handlers, Session } from '../live/connections/session.ts'
import type { Inboxes } from '../live/inbox.ts'
import type { Signals } from '../live/ephemeral/signals.ts'
import type { Missions } from '../database/read/mission-cache.ts'
import { deny } from '../protocol/errors.ts'
import { formatTopic, parseTopic } from '../protocol/topics.ts'

// The chats in which a socket is typing.
const typing = new WeakMap<Session, Set<string>>()

/** Reports that a closed socket stopped typing. */
export const stopTyping = (signals: Signals, session: Session): void => {
  const { sub, role } = session.actor
  for (const topic of typing.get(session) ?? []) signals.send({ type: 'typing', topic, sub, role, on: false }, session)
  typing.delete(session)
}

export const makeTyping =
  (missions: Missions, signals: Signals, { active }: Pick<Inboxes, 'active'>): Handlers['typing'] =>
  async (session, { id, topic: text, on }) => {
    const topic = parseTopic(text)
    if (topic.kind !== 'chat') throw deny('bad_request', '`typing` needs a chat topic')
    const { citizen } = topic
    const { actor } = session
    const mission = await session.inTurn(
      missions.find(topic.mission, (m) => refusal(actor, 'chat.post', m, citizen) === null),
    )
    allow(actor, 'chat.post', mission, citizen)
    if (session.closed) return
    active(session, mission.id, citizen)
    const name = formatTopic(topic, mission.id)
    if (on) {
      // The same limit as for followed topics.
      const chats = typing.get(session) ?? new Set()
      if (!chats.has(name) && chats.size >= session.topicLimit)
        throw deny('bad_request', `a socket may type in up to ${session.topicLimit} chats at a time`)
      typing.set(session, chats.add(name))
    } else typing.get(session)?.delete(name)
    signals.send({ type: 'typing', topic: name, sub: actor.sub, role: actor.role, on }, session)
    session.ok(id)
  }
