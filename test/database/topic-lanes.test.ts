// The writer's lanes for messages of locked topics, without a database: messages of a topic never overtake each other.
import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import { makeTopicLanes, type LaneEntry } from '../../src/database/write/topic-lanes.ts'

type Message = LaneEntry & { n: number }
const limits = { batch: 5, batchBytes: 1000 }
const topicOf = (i: number): string => `missions/${i % 3}/chat/${i}`
const message = (topic: string, n: number, bytes = 100): Message => ({ entry: { topic }, n, bytes, settled: false })

/** Numbers in [0, below), the same for each seed. */
const makeRandom = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

void t.test('topic lanes: messages of one topic never overtake each other, whatever is held and released', (t) => {
  for (let seed = 1; seed <= 300; seed++) {
    const random = makeRandom(seed)
    const wrong = new Set<string>()
    const check = (holds: boolean, what: string): void => void (holds || wrong.add(what))
    let clock = 0
    const lanes = makeTopicLanes<Message>(limits, () => clock)
    const written = new Map<string, number[]>()
    const open = new Map<string, Message[]>()
    let pushed = 0
    const push = (): void => {
      const topic = topicOf(random(6))
      const one = message(topic, pushed++, 1 + random(400))
      open.set(topic, [...(open.get(topic) ?? []), one])
      lanes.push(one)
    }
    const giveUp = (): void => {
      const all = [...open.values()].flat()
      const one = all[random(all.length)]
      if (one && !one.settled) Object.assign(one, { settled: true, n: -1 })
    }
    /** Like a call of the writer: it writes each topic's messages in order, up to one that is busy. */
    const advance = (topics: string[], most: number): number => {
      const batch = lanes.fronts(topics)
      check(batch.length <= limits.batch, 'a batch of too many messages')
      const bytes = batch.reduce((sum, { bytes }) => sum + bytes, 0)
      check(batch.length < 2 || bytes <= limits.batchBytes, 'a batch of too many bytes')
      check(
        batch.every(({ entry }) => topics.includes(entry.topic)),
        'a message of a different topic',
      )
      // While the call runs, messages arrive and some are cancelled.
      for (let i = random(3); i > 0; i--) push()
      if (random(4) === 0) giveUp()
      const busy: Message[] = []
      for (const one of batch) {
        if (one.settled) continue
        if (busy.some(({ entry }) => entry.topic === one.entry.topic) || random(10) >= most) busy.push(one)
        else {
          one.settled = true
          written.set(one.entry.topic, [...(written.get(one.entry.topic) ?? []), one.n])
        }
      }
      return lanes.release(topics, batch, busy)
    }
    for (let round = 0; round < 60; round++) {
      clock += random(400)
      for (let i = random(4); i > 0; i--) push()
      if (random(4) === 0) giveUp()
      advance(lanes.topics(), random(10))
      const { topics } = lanes.turn(1 + random(6))
      const held = topics.filter(lanes.isHeld)
      check(held.length === 0 || topics.length === 1, 'a held topic shares its call')
      if (advance(topics, random(10)) === 0) lanes.hold(topics)
    }
    // Without locks, all waiting messages are written, also those of held topics.
    for (let rounds = 0; lanes.size > 0 && rounds < 10_000; rounds++) {
      clock += 1000
      const { topics } = lanes.turn(Infinity)
      const batch = lanes.fronts(topics)
      for (const one of batch) {
        one.settled = true
        written.set(one.entry.topic, [...(written.get(one.entry.topic) ?? []), one.n])
      }
      lanes.release(topics, batch, [])
    }
    check(lanes.size === 0, 'a lane is left behind')
    for (const [topic, messages] of open) {
      const sent = messages.map(({ n }) => n).filter((n) => n >= 0)
      check(isDeepStrictEqual(written.get(topic) ?? [], sent), `${topic} is not written in order, each message once`)
    }
    t.strictSame([...wrong], [], `seed ${seed}`)
  }
  t.end()
})

void t.test('topic lanes: a held topic waits briefly and alone, every 500 ms, until its lock comes', (t) => {
  let clock = 0
  const lanes = makeTopicLanes<Message>(limits, () => clock)
  const [slow, quick] = [topicOf(1), topicOf(2)]
  const [first, second] = [message(slow, 1), message(quick, 2)]
  lanes.push(first)
  lanes.push(second)
  t.strictSame(lanes.turn(Infinity), { topics: [slow, quick], wait: 50 }, 'no topic is known to be held')
  t.strictSame(lanes.turn(1).topics, [slow])
  lanes.hold([slow])
  t.ok(lanes.isHeld(slow))
  t.equal(lanes.heldLanes(), 1)
  t.strictSame(lanes.turn(Infinity), { topics: [quick], wait: 50 })
  second.settled = true
  t.equal(lanes.release([quick], [second], []), 1)
  t.strictSame(lanes.topics(), [slow])
  t.strictSame(lanes.turn(Infinity).topics, [], 'the held topic has had its turn')
  clock = 501
  t.strictSame(lanes.turn(Infinity), { topics: [slow], wait: 3 })
  t.equal(lanes.release([slow], [first], [first]), 0, 'busy again')
  t.ok(lanes.isHeld(slow))
  first.settled = true
  t.equal(lanes.release([slow], [first], []), 1)
  t.notOk(lanes.isHeld(slow))
  t.equal(lanes.size, 0)
  t.end()
})

void t.test('topic lanes: a topic stays held for 30 s after its last message was cancelled', (t) => {
  let clock = 0
  const lanes = makeTopicLanes<Message>(limits, () => clock)
  const topic = topicOf(1)
  const given = message(topic, 1)
  lanes.push(given)
  lanes.hold([topic])
  given.settled = true
  lanes.release([topic], [], [])
  t.equal(lanes.size, 0)
  t.equal(lanes.heldLanes(), 0)
  clock = 30_000
  lanes.turn(Infinity)
  t.ok(lanes.isHeld(topic))
  clock = 30_501
  lanes.turn(Infinity)
  t.notOk(lanes.isHeld(topic))
  t.end()
})
