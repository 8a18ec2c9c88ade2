// send { id, topic, message, code_blocks?, key?, task?, usage? }: writes a message. ok { seq, message } is sent once it is committed.
import type { Actor } from '../access/actor.ts'
import { allow, refusal, seesByAssignment } from '../access/policy.ts'
import type { Handlers } from '../live/connections/session.ts'
import type { UserRate } from '../live/connections/user-rate.ts'
import { newId, type Entry } from '../database/write/pending-message.ts'
import type { Missions } from '../database/read/mission-cache.ts'
import { fencedBlocks, givenBlocks } from '../protocol/blocks.ts'
import { deny } from '../protocol/errors.ts'
import { encodeSaved } from '../protocol/encode.ts'
import { detailsOf, storedSteps, type Step } from '../protocol/activity.ts'
import type { Message, MissionRights, NewMessage } from '../protocol/rows.ts'
import { storable } from '../protocol/text.ts'
import { formatTopic, parseTopic } from '../protocol/topics.ts'
import { allowWork, type Replies } from './work.ts'

const senders: readonly unknown[] = ['user', 'citizen']

/** Returns the entry for a message. Sender and author come from the token; an admin may set them. `steps`: of its draft. Throws `bad_request`. */
export const toEntry = (
  actor: Actor,
  mission: MissionRights,
  citizen: string,
  given: NewMessage,
  steps: readonly Step[] = [],
): Entry => {
  const usual = actor.role === 'citizen' ? 'citizen' : 'user'
  let sender: Message['sender'] = usual
  let author: string | null = actor.sub
  if (actor.role === 'admin') {
    if (given.sender !== undefined) {
      if (!senders.includes(given.sender)) throw deny('bad_request', 'sender must be user or citizen')
      sender = given.sender as Message['sender']
    }
    if (given.author !== undefined) {
      const { author: other } = given
      if (other !== null && (typeof other !== 'string' || other.length === 0 || other.length > 256 || !storable(other)))
        throw deny('bad_request', 'author must be a string of 1 to 256 characters, or null')
      author = other
    }
  }
  const details =
    given.usage || steps.length > 0 ? detailsOf({ activity: storedSteps(steps), usage: given.usage }) : undefined
  return {
    topic: formatTopic({ kind: 'chat', mission: { id: mission.id }, citizen }, mission.id),
    id: newId(),
    sender,
    author,
    assigned: seesByAssignment(actor, mission) ? actor.sub : null,
    message: given.message,
    code_blocks: given.code_blocks == null ? fencedBlocks(given.message) : givenBlocks(given.code_blocks),
    key: given.key ?? null,
    reply_to: given.reply_to?.toLowerCase() ?? null,
    ...(details && { details }),
    ...(author === actor.sub && sender === usual ? {} : { by: actor.sub }),
  }
}

export const makeSend =
  (missions: Missions, replies: Replies, rate: UserRate): Handlers['send'] =>
  (session, frame) => {
    const since = performance.now()
    const topic = parseTopic(frame.topic)
    if (topic.kind !== 'chat') throw deny('bad_request', '`send` needs a chat topic')
    const { citizen } = topic
    if (frame.task !== undefined) allowWork(session.actor)
    const may = (m: MissionRights | undefined): boolean => refusal(session.actor, 'chat.post', m, citizen) === null
    const post = async (mission: MissionRights | undefined): Promise<void> => {
      allow(session.actor, 'chat.post', mission, citizen)
      rate.take(session.actor)
      if (mission) replies.active(session, mission.id, citizen)
      const entry = toEntry(session.actor, mission, citizen, frame)
      const { seq, message } = await replies.write(session, entry, frame.task, since)
      if (frame.id !== undefined) session.push(encodeSaved(frame.id, seq, message))
    }
    const known = session.first ? missions.known(topic.mission, may) : undefined
    return known ? post(known) : session.inTurn(missions.find(topic.mission, may)).then(post)
  }
