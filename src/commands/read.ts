// read { id, topic, seq }: sets how far this sub has read a chat; a lower seq changes nothing. ok { topic, seq }: the position now. The
// sub's other sockets that follow the chat get read { topic, seq }.
import { allow, refusal } from '../access/policy.ts'
import type { Handlers } from '../live/connections/session.ts'
import type { Signals } from '../live/ephemeral/signals.ts'
import type { Marks } from '../database/read/read-markers.ts'
import type { Missions } from '../database/read/mission-cache.ts'
import { deny, noMission } from '../protocol/errors.ts'
import { formatTopic, parseTopic } from '../protocol/topics.ts'

export const makeRead =
  (missions: Missions, marks: Marks, signals: Signals): Handlers['read'] =>
  async (session, { id, topic: text, seq: given }) => {
    const topic = parseTopic(text)
    if (topic.kind !== 'chat') throw deny('bad_request', '`read` needs a chat topic')
    const { actor } = session
    const mission = await session.inTurn(missions.find(topic.mission, (m) => refusal(actor, 'read', m) === null))
    allow(actor, 'read', mission)
    const { sub } = actor
    const marked = await marks.mark({ mission: mission.id, citizen: topic.citizen, sub, seq: given })
    if (!marked) throw noMission()
    const { seq, news } = marked
    const name = formatTopic(topic, mission.id)
    if (news) signals.send({ type: 'read', topic: name, sub, seq }, session)
    session.ok(id, { topic: name, seq })
  }
