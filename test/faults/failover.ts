// Senders and checks for failover tests. One sender sends each message until it is acknowledged; one is the project's client, which
// retries by itself. `judge` compares acknowledged messages with the table of the surviving server.
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { connect } from '../../src/client/index.ts'
import { connectTo } from '../support/clusters.ts'
import { alice, type Client, type Door, type Json } from '../support/server.ts'

/** The answers that a sender received. */
export type Outcome = {
  topic: string
  /** The seqs of acknowledged messages, by key. */
  acknowledged: Map<string, number>
  /** The number of errors, by code. */
  codes: Map<string, number>
  /** The codes with which its sockets were closed. */
  closes: number[]
  /** The longest time between two acknowledgements, in ms. */
  silence: number
}
/** `retries`: the sender is a client that retries by itself; its errors are sends that it rejected. */
export type Sender = Outcome & { retries?: true; stop(): Promise<void> }

const makeOutcome = (topic: string): Outcome => ({
  topic,
  acknowledged: new Map(),
  codes: new Map(),
  closes: [],
  silence: 0,
})
const count = (codes: Map<string, number>, code: string): void => void codes.set(code, (codes.get(code) ?? 0) + 1)

/** Records acknowledgements, and the longest time between two of them. */
const makeNote = (outcome: Outcome) => {
  let last = performance.now()
  return (key: string, seq: number): void => {
    outcome.silence = Math.max(outcome.silence, performance.now() - last)
    last = performance.now()
    outcome.acknowledged.set(key, seq)
  }
}

/** Sends messages under keys until it is stopped, each message until it is acknowledged. */
export const startSender = (on: () => Door, topic: string, { name = 'key', pace = 2 } = {}): Sender => {
  const outcome = makeOutcome(topic)
  const note = makeNote(outcome)
  let over = false
  let client: Client | undefined
  const sendOne = async (key: string): Promise<void> => {
    while (!over) {
      if (client?.closed) outcome.closes.push(client.closed.code)
      if (!client || client.closed)
        client = await on()
          .connect(alice)
          .catch(() => undefined)
      const answer: Json | undefined = await client
        ?.ask({ type: 'send', topic, message: key, key })
        .catch(() => undefined)
      if (answer?.['type'] === 'ok') return note(key, Number(answer['seq']))
      if (answer) count(outcome.codes, String(answer['code']))
      await delay(50)
    }
  }
  const run = async (): Promise<void> => {
    for (let n = 0; !over; n++) {
      await sendOne(`${name} ${n}`)
      await delay(pace)
    }
    client?.close()
  }
  const running = run()
  return Object.assign(outcome, {
    async stop() {
      over = true
      await running
    },
  })
}

/** Sends with the project's client. Sends that the client rejects are counted and not sent again. */
export const startClient = (url: string, topic: string, { name = 'client', pace = 10 } = {}): Sender => {
  const outcome = makeOutcome(topic)
  const note = makeNote(outcome)
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
          (error: { code?: string }) => count(outcome.codes, String(error.code)),
        )
      await delay(pace)
    }
    deck.close()
  }
  const running = run()
  return Object.assign(outcome, {
    retries: true as const,
    async stop() {
      over = true
      await running
    },
  })
}

/** Compares the acknowledged messages with the database at `url`. Each sender's sockets may have been closed `closes` times. */
export const judge = async (t: Test, senders: Sender[], url: string, closes = 1): Promise<void> => {
  await Promise.all(senders.map((sender) => sender.stop()))
  const client = await connectTo(t, url)
  let lost = 0
  let duplicates = 0
  const codes = new Map<string, number>()
  for (const outcome of senders) {
    const [, mission = '', , citizen = ''] = outcome.topic.split('/')
    const { rows } = await client.query<{ key: string; seq: string }>(
      `select key, seq from chat_messages where mission_id = $1 and citizen = $2 order by seq`,
      [mission, citizen],
    )
    const stored = new Map(rows.map(({ key, seq }) => [key, Number(seq)]))
    lost += [...outcome.acknowledged].filter(([key, seq]) => stored.get(key) !== seq).length
    duplicates += rows.length - stored.size
    if (rows.some(({ seq }, i) => Number(seq) !== i + 1)) t.fail(`${outcome.topic}: seqs with gaps`)
    for (const [code, times] of outcome.codes) codes.set(code, (codes.get(code) ?? 0) + times)
    if (outcome.closes.length > closes)
      t.fail(`a socket was closed ${outcome.closes.length} times: ${outcome.closes.join()}`)
  }
  t.equal(lost, 0, 'every acknowledged message is stored with its seq')
  t.equal(duplicates, 0, 'nothing is stored twice')
  t.strictSame(
    [...codes.keys()].filter((code) => code !== 'unavailable'),
    [],
    'no error but unavailable',
  )
  const rejected = senders.flatMap((sender) => (sender.retries ? [...sender.codes] : []))
  t.strictSame(rejected, [], 'the client rejected no send')
  const all = senders.reduce((sum, { acknowledged }) => sum + acknowledged.size, 0)
  const errors = [...codes].map(([code, times]) => `${code} ${times}`).join(', ') || 'none'
  const silence = Math.round(Math.max(...senders.map((sender) => sender.silence)))
  t.comment(
    `${all} acknowledged, ${lost} lost, ${duplicates} duplicates; errors: ${errors}; closes a socket: ${Math.max(...senders.map((s) => s.closes.length))}; longest silence ${silence} ms`,
  )
}
