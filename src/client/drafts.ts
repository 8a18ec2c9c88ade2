// Assembles replies as they are written: each change gives a draft's whole text so far. A new or reconnected follower receives drafts in
// progress from their start. A draft ends when its message is stored; its later deltas are ignored.
/** `received`: the time of the last delta. */
type Draft = { text: string; citizen: string; received: number }

/** The number of stored replies to remember: more than are written in a chat at a time. */
const most = 200

export const makeDrafts = (notify: (signal: object) => void) => {
  const drafts = new Map<string, Draft>()
  const saved = new Set<string>()
  let joined = 0

  const abort = (key: string, citizen: string): void => {
    drafts.delete(key)
    notify({ event: 'aborted', key, citizen })
  }

  return {
    take(frame: Record<string, unknown>): void {
      const { key, citizen, offset, delta, aborted } = frame as {
        key: string
        citizen: string
        offset: number
        delta: string
        aborted?: true
      }
      if (saved.has(key)) return
      const held = drafts.get(key)
      if (aborted) return abort(key, held?.citizen ?? citizen)
      const before = held?.text ?? ''
      // Its start was missed: the next `subscribe` returns the draft from its start.
      if (offset > before.length) return
      const text = before.slice(0, offset) + delta
      drafts.set(key, { text, citizen, received: Date.now() })
      notify({ event: 'draft', key, citizen, text, offset, delta })
    },
    saved(key: string | null | undefined): void {
      if (key == null) return
      drafts.delete(key)
      saved.add(key)
      for (const oldest of saved) {
        if (saved.size <= most) break
        saved.delete(oldest)
      }
    },
    rejoined: (): void => void (joined = Date.now()),
    /** Aborts drafts without a delta within `ms` after a new subscription: they ended while the connection was lost. */
    expire(ms: number): void {
      if (joined === 0 || Date.now() - joined < ms) return
      for (const [key, { received, citizen }] of drafts) if (received < joined) abort(key, citizen)
      joined = 0
    },
  }
}
export type Drafts = ReturnType<typeof makeDrafts>
