// A mission's definition of done, live. A tick is shown at once and undone if the server refuses it, as when the item's
// test has not passed.
import { computed, signal } from '@preact/signals'
import { DeckError, type Deck, type DodItem } from '../../client/index.ts'
import { makeFailure, persist } from './online.ts'

export const categories = ['functional', 'non-functional', 'tests'] as const

export const makeChecklist = (deck: Deck, mission: string) => {
  const ending = new AbortController()
  const { signal: ended } = ending
  const dod = deck.dod(mission)
  const items = signal<DodItem[] | undefined>(undefined)
  const failure = makeFailure(deck, ended)
  /** what was refused because evidence is missing: an item's id, or `all` */
  const refused = signal('')
  const removed = new Set<string>()

  /** Applies new states of items; an older state is ignored. */
  const take = (given: DodItem[]): void => {
    const held = new Map((items.peek() ?? []).map((item) => [item.id, item]))
    for (const item of given) {
      const known = held.get(item.id)
      if (!removed.has(item.id) && (!known || item.seq >= known.seq)) held.set(item.id, item)
    }
    items.value = [...held.values()]
    // The refusal ends once its items are ticked, or may be.
    const about = refused.peek() === 'all' ? items.value : items.value.filter(({ id }) => id === refused.peek())
    if (about.every(({ completed, evidence }) => completed || !evidence || evidence.status === 'passed'))
      refused.value = ''
  }

  const run = async (): Promise<void> => {
    const feed = dod.follow({ signal: ended })
    // Events report later changes; the state before the subscription is read.
    const load = async (): Promise<void> => take((await persist(deck, ended, (signal) => dod.list({ signal }))).items)
    void feed.ready.then(load).catch(failure.set)
    for await (const event of feed) {
      if (event.event === 'reset') {
        items.value = undefined
        removed.clear()
        await load()
      } else if (event.event === 'dod_item.deleted') {
        removed.add(event.data.id)
        items.value = (items.peek() ?? []).filter(({ id }) => id !== event.data.id)
      } else take([event.data])
    }
  }
  run().catch(failure.set)

  const attempt = async (what: string, work: () => Promise<DodItem[]>): Promise<void> => {
    failure.clear()
    refused.value = ''
    try {
      take(await work())
    } catch (error) {
      if (error instanceof DeckError && error.code === 'conflict') refused.value = what
      else failure.set(error)
    }
  }

  return {
    items,
    failure: failure.text,
    progress: computed(() => {
      const all = items.value ?? []
      return { completed: all.filter(({ completed }) => completed).length, total: all.length }
    }),
    refused,
    /** Sets an item. With a reason in `override`, it is ticked without evidence; this needs an admin. */
    async set(item: DodItem, completed: boolean, override?: string): Promise<void> {
      take([{ ...item, completed }])
      await attempt(item.id, async () => {
        try {
          const change = override === undefined ? { completed } : { completed, override }
          return [(await dod.set(item.id, change, { signal: ended })).item]
        } catch (error) {
          take([item])
          throw error
        }
      })
    },
    complete: (override?: string) =>
      attempt(
        'all',
        async () => (await dod.complete({ signal: ended, ...(override === undefined ? {} : { override }) })).items,
      ),
    reset: () => attempt('', async () => (await dod.reset({ signal: ended })).items),
    close: (): void => ending.abort(),
  }
}
export type Checklist = ReturnType<typeof makeChecklist>
