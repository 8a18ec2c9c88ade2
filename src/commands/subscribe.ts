// subscribe { id, topic, after?, epoch?, presence?, chats?, questions? }: follows a topic, from the event after `after`, or live only.
// `presence` adds the presence of the topic; `chats` (list of missions only) adds missions with new chats; `questions` (chats only) adds the
// states of questions.
// unsubscribe { id, topic }: ends the subscription; after the ok no event of the topic arrives.
// `after` and `epoch` are checked against the database, never against a cached latest seq.
import { allow, sees } from '../access/policy.ts'
import type { Drafts } from '../live/ephemeral/drafts.ts'
import { missionList, type List } from '../live/ephemeral/mission-list.ts'
import type { Hub } from '../live/hub/hub.ts'
import type { Presence } from '../live/ephemeral/presence.ts'
import type { QuestionSignals } from '../live/questions.ts'
import type { Handlers, Session } from '../live/connections/session.ts'
import type { Subscription } from '../live/hub/subscription.ts'
import type { Place, Store } from '../database/read/topics.ts'
import { deny, type Refusal } from '../protocol/errors.ts'
import type { ClientFrame } from '../protocol/client-frames.ts'
import { formatTopic, parseTopic, type TopicRef } from '../protocol/topics.ts'

const suffix = (topic: TopicRef): string => formatTopic(topic, '').slice('missions/'.length)

/** The error for an `after` beyond the latest seq, or an epoch that differs. */
export const mismatch = (seq: number, epoch: string): Refusal =>
  deny('conflict', '`after` and `epoch` do not match this database: discard your copy and read the topic again', {
    seq,
    epoch,
  })

export const makeSubscribe = ({
  store,
  hub,
  list,
  drafts,
  presence,
  questions,
}: {
  store: Pick<Store, 'place' | 'epoch'>
  hub: Hub
  list: List
  drafts: Pick<Drafts, 'join'>
  presence: Pick<Presence, 'join'>
  questions: Pick<QuestionSignals, 'open' | 'join' | 'done'>
}) => {
  const readPlace = (topic: TopicRef): Promise<Place> =>
    store.place({ mission: topic.mission, suffix: suffix(topic), run: topic.kind === 'logs' ? topic.run : null })

  /** The list of missions has no seq: only later changes are sent. */
  const subscribeToList = async (
    session: Session,
    { id, after = 0, epoch: known, chats = false }: ClientFrame<'subscribe'>,
  ) => {
    const [epoch] = await session.inTurn(Promise.all([store.epoch(), list.ready()]))
    if (after > 0 || (known !== undefined && known !== epoch)) throw mismatch(0, epoch)
    if (session.closed) return
    session.ok(id, { topic: missionList, seq: 0, epoch })
    if (!session.closed) list.join(session, chats)
  }

  const subscribe = async (session: Session, frame: ClientFrame<'subscribe'>): Promise<void> => {
    if (frame.topic === missionList) return subscribeToList(session, frame)
    const topic = parseTopic(frame.topic)
    const { mission, exists, head, epoch, asOf } = await session.inTurn(readPlace(topic))
    allow(session.actor, 'read', mission)
    if (!exists) throw deny('not_found', 'no such test run')
    const { after = head } = frame
    if ((frame.epoch !== undefined && frame.epoch !== epoch) || after > head) throw mismatch(head, epoch)
    const name = formatTopic(topic, mission.id)
    const join = (): Subscription | undefined => {
      session.checkRoom(name)
      if (session.closed) return
      session.leave(name)
      session.ok(frame.id, { topic: name, seq: head, epoch })
      // The answer itself may have exceeded the outbox of a slow reader.
      if (session.closed) return
      const subscription = hub.join(session, name, { rights: mission, asOf, head }, after)
      if (subscription.gone) return
      session.subscriptions.set(name, subscription)
      if (topic.kind === 'chat') drafts.join(subscription)
      if (frame.presence) presence.join(subscription)
      return subscription
    }
    if (!frame.questions || topic.kind !== 'chat') return void join()
    try {
      // No change after the answer may be missed.
      await session.inTurn(questions.open(name))
      const subscription = join()
      if (subscription) questions.join(subscription)
    } finally {
      questions.done(name)
    }
  }

  const unsubscribe: Handlers['unsubscribe'] = async (session, { id, topic: text }) => {
    if (text === missionList) {
      await session.inTurn(Promise.resolve())
      list.leave(session)
      return session.ok(id, { topic: text })
    }
    const topic = parseTopic(text)
    const { mission: ref } = topic
    // If the topic has the mission's UUID, the mission is not read.
    const place = await session.inTurn('id' in ref ? Promise.resolve(undefined) : readPlace(topic))
    const mission =
      'id' in ref ? ref.id : place?.mission && sees(session.actor, place.mission) ? place.mission.id : null
    // If the mission was deleted or may not be seen any more, its number still names its subscriptions until they end.
    const isNamed = (name: string): boolean =>
      'number' in ref && formatTopic(topic, hub.named(name, ref.number)) === name
    const name =
      mission === null ? ([...session.subscriptions.keys()].find(isNamed) ?? text) : formatTopic(topic, mission)
    session.leave(name)
    session.ok(id, { topic: name })
  }

  return { subscribe, unsubscribe }
}
