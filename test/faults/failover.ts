// What a failover is judged by: senders that send each message until it is acknowledged, the project's own client, which does so by
// itself, and the table of the server that survived.
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { connect } from '../../src/client/index.ts'
import { connectTo } from '../support/clusters.ts'
import { alice, type Client, type Door, type Json } from '../support/server.ts'

/** What a sender was told. */
export type Told = {
  topic: string
  /** seqs by key */
  acknowledged: Map<string, number>
  /** errors by code */
  codes: Map<string, number>
  /** codes with which its sockets were closed */
  closes: number[]
  /** the longest time between two acknowledgements, in ms */
  silence: number
}
/** `gaveBack`: it is a client that sends again by itself, whose errors are sends that it gave back. */
export type Sender = Told & { gaveBack?: true; stop(): Promise<void> }

const makeTold = (topic: string): Told => ({ topic, acknowledged: new Map(), codes: new Map(), closes: [], silence: 0 })
const count = (codes: Map<string, number>, code: string): void => void codes.set(code, (codes.get(code) ?? 0) + 1)

/** Notes acknowledgements, and how long none came. */
const makeNote = (told: Told) => {
  let last = performance.now()
  return (key: string, seq: number): void => {
    told.silence = Math.max(told.silence, performance.now() - last)
    last = performance.now()
    told.acknowledged.set(key, seq)
  }
}

/** Sends without end under keys, each message until it is acknowledged. */
export const startSender = (on: () => Door, topic: string, { name = 'key', pace = 2 } = {}): Sender => {
  const told = makeTold(topic)
  const note = makeNote(told)
  let over = false
  let client: Client | undefined
  const say = async (key: string): Promise<void> => {
    while (!over) {
      if (client?.closed) told.closes.push(client.closed.code)
      if (!client || client.closed)
        client = await on()
          .connect(alice)
          .catch(() => undefined)
      const answer: Json | undefined = await client
        ?.ask({ type: 'send', topic, message: key, key })
        .catch(() => undefined)
      if (answer?.['type'] === 'ok') return note(key, Number(answer['seq']))
      if (answer) count(told.codes, String(answer['code']))
      await delay(50)
    }
  }
  const run = async (): Promise<void> => {
    for (let n = 0; !over; n++) {
      await say(`${name} ${n}`)
      await delay(pace)
    }
    client?.close()
  }
  const running = run()
  return Object.assign(told, {
    async stop() {
      over = true
      await running
    },
  })
}

/** The same by the project's client: what it gives back is counted, and not sent again. */
export const startClient = (url: string, topic: string, { name = 'client', pace = 10 } = {}): Sender => {
  const told = makeTold(topic)
  const note = makeNote(told)
  const deck = connect({ url, token: alice })
  const [, mission = '', , citizen = ''] = topic.split('/')
  let over = false
  const run = async (): Promise<void> => {
    for (let n = 0; !over; n++) {
      const key = `${name} ${n}`
      await deck
        .chat(mission, citizen)
        .send(key, { key })
        .then(
          ({ seq }) => note(key, seq),
          (error: { code?: string }) => count(told.codes, String(error.code)),
        )
      await delay(pace)
    }
    deck.close()
  }
  const running = run()
  return Object.assign(told, {
    gaveBack: true as const,
    async stop() {
      over = true
      await running
    },
  })
}

/** Compares what was acknowledged with what the database at `url` holds. Sockets may have been closed `closes` times each. */
export const judge = async (t: Test, senders: Sender[], url: string, closes = 1): Promise<void> => {
  await Promise.all(senders.map((sender) => sender.stop()))
  const client = await connectTo(t, url)
  let lost = 0
  let doubled = 0
  const codes = new Map<string, number>()
  for (const told of senders) {
    const [, mission = '', , citizen = ''] = told.topic.split('/')
    const { rows } = await client.query<{ key: string; seq: string }>(
      `select key, seq from chat_messages where mission_id = $1 and citizen = $2 order by seq`,
      [mission, citizen],
    )
    const stored = new Map(rows.map(({ key, seq }) => [key, Number(seq)]))
    lost += [...told.acknowledged].filter(([key, seq]) => stored.get(key) !== seq).length
    doubled += rows.length - stored.size
    if (rows.some(({ seq }, i) => Number(seq) !== i + 1)) t.fail(`${told.topic}: seqs with holes`)
    for (const [code, times] of told.codes) codes.set(code, (codes.get(code) ?? 0) + times)
    if (told.closes.length > closes) t.fail(`a socket was closed ${told.closes.length} times: ${told.closes.join()}`)
  }
  t.equal(lost, 0, 'nothing that was acknowledged is lost, or has another seq')
  t.equal(doubled, 0, 'nothing is doubled')
  t.strictSame(
    [...codes.keys()].filter((code) => code !== 'unavailable'),
    [],
    'no code but unavailable',
  )
  const given = senders.flatMap((sender) => (sender.gaveBack ? [...sender.codes] : []))
  t.strictSame(given, [], 'the client gave nothing back')
  const all = senders.reduce((sum, { acknowledged }) => sum + acknowledged.size, 0)
  const told = [...codes].map(([code, times]) => `${code} ${times}`).join(', ') || 'none'
  const silence = Math.round(Math.max(...senders.map((sender) => sender.silence)))
  t.comment(
    `${all} acknowledged, ${lost} lost, ${doubled} doubled; errors: ${told}; closes a socket: ${Math.max(...senders.map((s) => s.closes.length))}; longest silence ${silence} ms`,
  )
}
