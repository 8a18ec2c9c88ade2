// The query of a mission search, and the collection of its hits: only their places, sorted, with a maximum number.
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
  /** The newest place wanted. */
  from: Place | undefined
  byRank: boolean
  /** Runs a statement when it is this user's turn. */
  inTurn: Turn
}

/** Keeps the newest `most` hits of those that match the query's times and `fits`. */
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
    /** Whether this place and all older ones are beyond the limit. */
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
