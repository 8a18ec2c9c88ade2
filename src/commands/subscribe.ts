// subscribe { id, topic, after?, epoch?, presence?, chats? }: a seat in a topic, from after `after` on, or live only; with `presence` it
// also receives who follows the topic; with `chats` (list of missions only) also missions' new chats.
// unsubscribe { id, topic }: gives it up; after the ok nothing of it arrives.
// Whether `after` and `epoch` still mean anything is decided from the database, never from a cached head.
import { allow, sees } from '../access/policy.ts'
import type { Drafts } from '../live/ephemeral/drafts.ts'
import { missionList, type List } from '../live/ephemeral/mission-list.ts'
import type { Hub } from '../live/hub/hub.ts'
import type { Presence } from '../live/ephemeral/presence.ts'
import type { Handlers, Session } from '../live/connections/session.ts'
import type { Place, Store } from '../database/read/topics.ts'
import { deny, type Refusal } from '../protocol/errors.ts'
import type { ClientFrame } from '../protocol/client-frames.ts'
import { formatTopic, parseTopic, type TopicRef } from '../protocol/topics.ts'

const suffix = (topic: TopicRef): string => formatTopic(topic, '').slice('missions/'.length)

/** An `after` beyond the head, or another epoch. */
export const another = (seq: number, epoch: string): Refusal =>
  deny('conflict', '`after` and `epoch` do not match this database: discard your copy and read the topic again', {
    seq,
    epoch,
  })

export const makeSubscribe = (
  store: Pick<Store, 'place' | 'epoch'>,
  hub: Hub,
  list: List,
  drafts: Pick<Drafts, 'join'>,
  presence: Pick<Presence, 'join'>,
) => {
  const look = (topic: TopicRef): Promise<Place> =>
    store.place({ mission: topic.mission, suffix: suffix(topic), run: topic.kind === 'logs' ? topic.run : null })

  /** The list of missions has no seq: only later changes are sent. */
  const subscribeToList = async (
    session: Session,
    { id, after = 0, epoch: known, chats = false }: ClientFrame<'subscribe'>,
  ) => {
    const [epoch] = await session.inTurn(Promise.all([store.epoch(), list.ready()]))
    if (after > 0 || (known !== undefined && known !== epoch)) throw another(0, epoch)
    if (session.closed) return
    session.ok(id, { topic: missionList, seq: 0, epoch })
    if (!session.closed) list.join(session, chats)
  }

  const subscribe = async (session: Session, frame: ClientFrame<'subscribe'>): Promise<void> => {
    if (frame.topic === missionList) return subscribeToList(session, frame)
    const topic = parseTopic(frame.topic)
    const { mission, exists, head, epoch, asOf } = await session.inTurn(look(topic))
    allow(session.actor, 'read', mission)
    if (!exists) throw deny('not_found', 'no such test run')
    const { after = head } = frame
    if ((frame.epoch !== undefined && frame.epoch !== epoch) || after > head) throw another(head, epoch)
    const name = formatTopic(topic, mission.id)
    session.checkRoom(name)
    if (session.closed) return
    session.leave(name)
    session.ok(frame.id, { topic: name, seq: head, epoch })
    // The answer itself may have been too much for a slow reader.
    if (session.closed) return
    const seat = hub.join(session, name, { rights: mission, asOf, head }, after)
    if (seat.gone) return
    session.seats.set(name, seat)
    if (topic.kind === 'chat') drafts.join(seat)
    if (frame.presence) presence.join(seat)
  }

  const unsubscribe: Handlers['unsubscribe'] = async (session, { id, topic: text }) => {
    if (text === missionList) {
      await session.inTurn(Promise.resolve())
      list.leave(session)
      return session.ok(id, { topic: text })
    }
    const topic = parseTopic(text)
    const { mission: ref } = topic
    // A topic named by its UUID needs no look-up.
    const place = await session.inTurn('id' in ref ? Promise.resolve(undefined) : look(topic))
    const mission =
      'id' in ref ? ref.id : place?.mission && sees(session.actor, place.mission) ? place.mission.id : null
    // The number of a mission that is gone, or seen no more, still means its seats until they are ended.
    const seated = (name: string): boolean =>
      'number' in ref && formatTopic(topic, hub.named(name, ref.number)) === name
    const name = mission === null ? ([...session.seats.keys()].find(seated) ?? text) : formatTopic(topic, mission)
    session.leave(name)
    session.ok(id, { topic: name })
  }

  return { subscribe, unsubscribe }
}
