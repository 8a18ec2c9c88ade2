// All followed topics, one subscription each. A subscription is found by the names that followers use and by the server's canonical
// name. Routes the server's frames to the subscriptions, resubscribes after a reconnect, and counts the events still missing.
import { makeBell } from './async.ts'
import { DeckError } from './errors.ts'
import type { Follower } from './follower.ts'
import type { Link } from './link.ts'
import type { Frame } from './requests.ts'
import { list, makeSubscription, type Registry, type Subscription } from './subscription.ts'

/** `patience`: ms without progress after which events or the end of a draft count as missing. */
export const makeTopics = (link: Link, patience = 5000) => {
  const byName = new Map<string, Subscription>()
  const byTopic = new Map<string, Subscription>()
  // Maps the name that a follower used to the canonical name. Entries outlive their subscription.
  const canonical = new Map<string, string>()
  const late = makeBell<[number]>()
  let behind = 0

  const find = (name: string): Subscription | undefined => byName.get(name) ?? byTopic.get(canonical.get(name) ?? '')

  const countBehind = (): void => {
    let sum = 0
    for (const subscription of byName.values()) sum += subscription.behind
    if (sum !== behind) late.ring((behind = sum))
  }

  const registry: Registry = {
    enter(subscription, topic) {
      canonical.set(subscription.name, topic)
      const other = byTopic.get(topic)
      if (!other) byTopic.set(topic, subscription)
      return other
    },
    forget(subscription) {
      const { name, topic = '' } = subscription
      if (byName.get(name) === subscription) byName.delete(name)
      if (byTopic.get(topic) === subscription) byTopic.delete(topic)
    },
    progressed: countBehind,
  }

  const closed = (): DeckError => link.reason ?? new DeckError('closed', 'the deck was closed')

  const tick = (): void => {
    for (const subscription of byName.values()) subscription.tick(patience)
    countBehind()
  }
  let ticking: ReturnType<typeof setInterval> | undefined
  link.onState((state) => {
    clearInterval(ticking)
    if (state === 'open') ticking = setInterval(tick, patience / 5)
    else for (const subscription of byName.values()) subscription.lost()
    countBehind()
    for (const subscription of [...byName.values()]) {
      if (state === 'open') subscription.update()
      if (state === 'closed') subscription.end(closed())
    }
  })

  return {
    /** Reports the number of events that were missed before joining or during a reconnect and are not received yet. */
    onBehind: late.on,
    join(name: string, follower: Follower): void {
      if (link.state === 'closed') return follower.end(closed())
      let subscription = find(name)
      if (!subscription) byName.set(name, (subscription = makeSubscription(link, name, registry)))
      subscription.join(follower)
    },
    leave: (name: string, follower: Follower): void => find(name)?.leave(follower),
    /** Takes a topic's frame, or `heads`, which lists several topics. */
    receive(frame: Frame, size: number): void {
      if (frame.type === 'heads') {
        const latest = frame['topics'] as Record<string, number>
        for (const topic of Object.keys(latest)) byTopic.get(topic)?.report(latest[topic] ?? 0)
      } else byTopic.get(frame.type === 'missions.changed' ? list : (frame.topic ?? ''))?.receive(frame, size)
    },
  }
}
export type Topics = ReturnType<typeof makeTopics>
