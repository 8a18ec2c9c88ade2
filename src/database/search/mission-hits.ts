// What a search of a mission looks for, and the hits that it collects: places only, in one order, bounded in number.
import { compare, type Kind, type Place } from '../../protocol/search-hits.ts'
import type { Turn } from '../postgres/mutex.ts'
import type { MissionRead } from '../read/read-mission.ts'
import type { Words } from './tsquery.ts'

export type Rights = Pick<MissionRead<unknown>, 'mission' | 'epoch'>
export type Found = Place & { id: string; rank: number; block?: number; result?: number | null }
export type Query = {
  words: Words
  wanted: Record<Kind, boolean>
  since: string | null
  until: string | null
  /** The newest place that is asked for. */
  from: Place | undefined
  byRank: boolean
  /** Runs a statement when it is this subject's turn. */
  inTurn: Turn
}

/** Keeps the newest `most` of what is added and fits. */
export const makeCollect = (most: number, { since, until }: Query, fits: (place: Place) => boolean) => {
  const items: Found[] = []
  const slot = (place: Place): number => {
    let [low, high] = [0, items.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (compare(items[middle] as Found, place) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
  return {
    items,
    get worst(): Found | undefined {
      return items[most - 1]
    },
    /** Whether this, and all that is older, is of no more use. */
    isLate: (place: Place): boolean => slot(place) >= most,
    add(found: Found): void {
      if ((since !== null && found.at < since) || (until !== null && found.at >= until) || !fits(found)) return
      const at = slot(found)
      const there = items[at]
      if (at >= most || (there && compare(there, found) === 0)) return
      items.splice(at, 0, found)
      if (items.length > most) items.pop()
    },
  }
}
export type Collect = ReturnType<typeof makeCollect>
