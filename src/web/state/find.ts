// Searches a mission: its chats, code, test runs and checklist, page by page. A new search replaces the one before.
import { batch, signal } from '@preact/signals'
import type { Deck, Hit, SearchOptions } from '../../client/index.ts'
import { persist, wordsOf } from './online.ts'

const perPage = 40
export type Filters = Pick<SearchOptions, 'kind' | 'order' | 'since' | 'until'>

export const makeFind = (deck: Deck, mission: string) => {
  const hits = signal<Hit[] | undefined>(undefined)
  const busy = signal(false)
  const failure = signal('')
  const more = signal(false)
  let next: string | null = null
  let asked = new AbortController()

  const search = async (words: string, filters: Filters, cursor?: string): Promise<void> => {
    asked.abort()
    const { signal } = (asked = new AbortController())
    if (words.trim() === '') {
      return batch(() => {
        hits.value = undefined
        more.value = busy.value = false
        failure.value = ''
      })
    }
    busy.value = true
    try {
      const where = cursor === undefined ? {} : { cursor }
      const page = await persist(deck, signal, (signal) =>
        deck.mission(mission).search(words, { limit: perPage, ...filters, ...where, signal }),
      )
      batch(() => {
        hits.value = cursor === undefined ? page.hits : [...(hits.peek() ?? []), ...page.hits]
        next = page.next
        more.value = next !== null
        failure.value = ''
        busy.value = false
      })
    } catch (error) {
      if (signal.aborted) return
      batch(() => {
        failure.value = wordsOf(error)
        busy.value = false
      })
    }
  }
  return {
    hits,
    busy,
    failure,
    more,
    search,
    loadMore: (words: string, filters: Filters): void => void (next !== null && search(words, filters, next)),
    close: (): void => asked.abort(),
  }
}
export type Find = ReturnType<typeof makeFind>
