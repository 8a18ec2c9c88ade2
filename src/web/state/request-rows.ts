// Requests by their ids, each in its newest state, whatever the order in which reads and events bring them.
import { signal } from '@preact/signals'
import type { Request } from '../../client/index.ts'
import { isBefore } from '../timestamps.ts'

/** Characters of the requests that are held. Above this, ended ones are dropped, the oldest first. */
const mostChars = 2 * 1024 * 1024

const older = (a: Request, b: Request): number =>
  isBefore(a.created_at, b.created_at) ? -1 : a.created_at === b.created_at && a.id < b.id ? -1 : 1

export const makeRequestRows = () => {
  const held = new Map<string, { row: Request; size: number }>()
  const list = signal<readonly Request[]>([])
  let size = 0
  /** the creation time up to which ended requests were dropped */
  let dropped = ''
  return {
    /** oldest first */
    list,
    get dropped(): string {
      return dropped
    },
    get: (id: string): Request | undefined => held.get(id)?.row,
    /** Returns the given requests that are new or have changed. */
    take(given: readonly Request[]): Request[] {
      const fresh = given.filter((row) => row.seq > (held.get(row.id)?.row.seq ?? -1))
      if (fresh.length === 0) return []
      for (const row of fresh) {
        const chars = JSON.stringify(row).length
        size += chars - (held.get(row.id)?.size ?? 0)
        held.set(row.id, { row, size: chars })
      }
      const sorted = [...held.values()].map(({ row }) => row).sort(older)
      for (const { id, state, created_at } of sorted) {
        if (size <= mostChars) break
        if (state === 'open') continue
        size -= held.get(id)?.size ?? 0
        held.delete(id)
        dropped = created_at
      }
      list.value = sorted.filter(({ id }) => held.has(id))
      return fresh
    },
    clear(): void {
      held.clear()
      size = 0
      dropped = ''
      list.value = []
    },
  }
}
