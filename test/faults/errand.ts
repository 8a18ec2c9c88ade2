// Three senders and three followers use only the client, in any runtime. Each sender sends its share, up to 20 at a time.
// Each follower reads until it holds every message. Returns errors and figures.
// This file imports nothing at run time, so that a page or a different Node can load it after its types are removed.
import type { connect as Connect, Deck } from '../../src/client/index.ts'

export type Errand = { url: string; token: string; mission: string; count: number }
export type Outcome = { wrong: string[]; held: number[]; ms: number; connects: number; runtime: string }

const senders = 3
const followers = 3

export const errand = async (connect: typeof Connect, { url, token, mission, count }: Errand): Promise<Outcome> => {
  const wrong: string[] = []
  const held: number[] = []
  const decks: Deck[] = []
  let connects = 0
  const since = performance.now()
  const open = (): Deck => {
    const deck = connect({ url, token: () => Promise.resolve(token) })
    deck.on('state', (state, error) => {
      if (state === 'open') connects++
      if (state === 'closed' && error) wrong.push(`closed: ${error.code}`)
    })
    deck.on('error', (error) => wrong.push(String(error)))
    decks.push(deck)
    return deck
  }
  const note = (what: string): void => void (wrong.length < 20 && wrong.push(what))

  const follow = async (f: number): Promise<void> => {
    const next = Array.from({ length: senders }, () => 0)
    let last = 0
    // The smaller a follower's buffer, the more often the client unsubscribes and subscribes again.
    const feed = open()
      .chat(mission, 'rafael')
      .follow({ after: 0, buffer: [1000, 50, 5][f] })
    for await (const event of feed) {
      if (event.event !== 'message.created') return note(`follower ${f}: ${event.event}`)
      const { seq, data } = event
      if (seq !== ++last) note(`follower ${f}: ${seq} is not ${last}`)
      const [s = 0, n] = data.message.split(' ').map(Number)
      if (n !== next[s]) note(`follower ${f}: ${data.message} of sender ${s} is not ${next[s]}`)
      next[s] = (n ?? 0) + 1
      if (seq >= count) break
    }
    held[f] = last
  }

  const send = async (s: number): Promise<void> => {
    const chat = open().chat(mission, 'rafael')
    const share = Math.floor(count / senders) + (s < count % senders ? 1 : 0)
    const waiting = new Set<Promise<unknown>>()
    for (let n = 0; n < share; n++) {
      const sent = chat.send(`${s} ${n}`).then(
        ({ message }) => message === `${s} ${n}` || note(`${s} ${n} was answered with ${message}`),
        (error: unknown) => note(`${s} ${n}: ${String(error)}`),
      )
      waiting.add(sent)
      void sent.then(() => waiting.delete(sent))
      if (waiting.size >= 20) await Promise.race(waiting)
    }
    await Promise.all(waiting)
  }

  await Promise.all([
    ...Array.from({ length: followers }, (_, f) => follow(f)),
    ...Array.from({ length: senders }, (_, s) => send(s)),
  ])
  for (const deck of decks) deck.close()
  const { process, navigator } = globalThis as { process?: { version: string }; navigator?: { userAgent: string } }
  const runtime = process ? `Node ${process.version}` : (navigator?.userAgent ?? '')
  return { wrong, held, ms: Math.round(performance.now() - since), connects, runtime }
}
