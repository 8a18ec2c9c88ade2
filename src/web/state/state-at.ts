// Reads a mission's state at a time from the server, and the time that its timeline spans.
import { DeckError, type Deck } from '../../client/index.ts'
import type { MissionAt } from '../mission-at.ts'
import { toMs } from '../timestamps.ts'
import { persist } from './online.ts'

const undefinedIfMissing = (error: unknown): undefined => {
  if (!(error instanceof DeckError) || error.code !== 'not_found') throw error
}

type Options = { mission: string; citizen: string; at: string; limit: number }

/** Returns the mission at a time, with the newest messages that its chat with the citizen had. */
export const readStateAt = (
  deck: Deck,
  { mission, citizen, at, limit }: Options,
  signal: AbortSignal,
): Promise<MissionAt> =>
  persist(deck, signal, async (signal) => {
    const options = { at, signal }
    const [found, { items }, run, { requests }, { messages, has_more }] = await Promise.all([
      deck.mission(mission).get(options),
      deck.dod(mission).list(options),
      deck.tests(mission).latest(options).catch(undefinedIfMissing),
      deck.requests(mission).list({ ...options, limit: 100 }),
      deck.chat(mission, citizen).history({ ...options, limit }),
    ])
    return { mission: found, items, run, requests: requests.reverse(), citizen, messages, older: has_more }
  })

/** Returns the time from a little before the mission's first event up to now, in ms; undefined if its timeline is empty. */
export const readSpan = (
  deck: Deck,
  mission: string,
  signal: AbortSignal,
): Promise<{ from: number; to: number } | undefined> =>
  persist(deck, signal, async (signal) => {
    const [{ created_at }, { value: first }] = await Promise.all([
      deck.mission(mission).get({ signal }),
      deck.timeline(mission, { limit: 1, signal }).next(),
    ])
    if (!first) return undefined
    const created = toMs(created_at)
    const to = toMs(first.horizon)
    const begin = first.events[0] ? toMs(first.events[0].at) : created
    // An imported mission is older than its first event here.
    return { from: Math.max(created, begin - Math.max(1000, (to - begin) / 50)), to }
  })
