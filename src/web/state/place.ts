// What is open for one who is signed in: the missions, the chat on show and those left last, the mission's checklist and runs. Parts
// are made when they are looked at and closed when they are left for long.
import { signal } from '@preact/signals'
import type { Deck } from '../../client/index.ts'
import { makeChecklist, type Checklist } from './checklist.ts'
import { makeChatState, type ChatState } from './chat.ts'
import { makeMissions } from './missions.ts'
import { makeRuns, type Runs } from './runs.ts'
import type { Who } from './session.ts'

/** The last few of a kind, the newest last. */
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
  const missions = makeMissions(deck, who.sub)
  const chats = makeShelf<ChatState>(4)
  const checklists = makeShelf<Checklist>(2)
  const runs = makeShelf<Runs>(2)
  return {
    deck,
    who,
    missions,
    chat: (mission: string, citizen: string): ChatState =>
      chats(`${mission}/${citizen}`, () =>
        makeChatState(deck, {
          sub: who.sub,
          mission,
          citizen,
          missions,
        }),
      ),
    checklist: (mission: string) => checklists(mission, () => makeChecklist(deck, mission)),
    runs: (mission: string) => runs(mission, () => makeRuns(deck, mission)),
    /** a message to go to, once its chat is shown */
    target: signal<Target | undefined>(undefined),
    /** the checklist's item to show */
    item: signal(''),
    /** what is looked for in the whole mission */
    words: signal(''),
  }
}
export type Place = ReturnType<typeof makePlace>
