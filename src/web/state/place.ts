// The open parts of the page for a signed-in user: the missions, the last few chats, checklists, runs and requests.
// A part is made when it is first shown; only the most recent ones stay open.
import { signal } from '@preact/signals'
import type { Deck } from '../../client/index.ts'
import { makeChecklist, type Checklist } from './checklist.ts'
import { makeCitizens } from './citizens.ts'
import { makeChatState, type ChatState } from './chat.ts'
import { makeMissions } from './missions.ts'
import { makeRequests, type Requests } from './requests.ts'
import { makeRuns, type Runs } from './runs.ts'
import type { Who } from './session.ts'

/** Keeps the `most` last used parts of a kind, and closes older ones. */
const makeShelf = <T extends { close(): void }>(most: number) => {
  const shelf = new Map<string, T>()
  return (name: string, make: () => T): T => {
    const found = shelf.get(name) ?? make()
    shelf.delete(name)
    shelf.set(name, found)
    for (const [oldest, part] of shelf) {
      if (shelf.size <= most) break
      part.close()
      shelf.delete(oldest)
    }
    return found
  }
}

export type Target = { mission: string; citizen: string; seq: number }

export const makePlace = (deck: Deck, who: Who) => {
  const ending = new AbortController()
  void deck.closed.then(() => ending.abort())
  const citizens = makeCitizens(deck, ending.signal)
  const answers = who.role !== 'citizen'
  const missions = makeMissions(deck, { sub: who.sub, answers }, citizens)
  const chats = makeShelf<ChatState>(4)
  const checklists = makeShelf<Checklist>(2)
  const runs = makeShelf<Runs>(2)
  const requests = makeShelf<Requests>(4)
  return {
    deck,
    who,
    /** whether the user may answer requests */
    answers,
    citizens,
    missions,
    chat: (mission: string, citizen: string): ChatState =>
      chats(`${mission}/${citizen}`, () =>
        makeChatState(deck, {
          sub: who.sub,
          mission,
          citizen,
          missions,
          citizens,
        }),
      ),
    checklist: (mission: string) => checklists(mission, () => makeChecklist(deck, mission)),
    runs: (mission: string) => runs(mission, () => makeRuns(deck, mission)),
    requests: (mission: string) => requests(mission, () => makeRequests(deck, { sub: who.sub, mission, missions })),
    /** the request whose card gets the focus, once its chat is shown */
    card: signal<{ mission: string; citizen: string; id: string } | undefined>(undefined),
    /** a message to scroll to, once its chat is shown */
    target: signal<Target | undefined>(undefined),
    /** the checklist's item to show */
    item: signal(''),
    /** the words of the mission's search */
    words: signal(''),
  }
}
export type Place = ReturnType<typeof makePlace>
