// Assembles replies as they are written: each change gives a draft's whole text so far. A new or reconnected follower receives drafts in
// progress from their start. A draft ends when its message is stored; its later deltas are ignored.
type Draft = { text: string; citizen: string; heard: number }

/** Saved replies that are remembered: more than are written in a chat at once. */
const most = 200

export const makeDrafts = (tell: (signal: object) => void) => {
  const drafts = new Map<string, Draft>()
  const saved = new Set<string>()
  let joined = 0

  const abort = (key: string, citizen: string): void => {
    drafts.delete(key)
    tell({ event: 'aborted', key, citizen })
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
      // Its beginning was missed; it comes again with the next joining.
      if (offset > before.length) return
      const text = before.slice(0, offset) + delta
      drafts.set(key, { text, citizen, heard: Date.now() })
      tell({ event: 'draft', key, citizen, text, offset, delta })
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
    /** Gives up those that are not told of within so many ms after joining again: they ended while nobody was told. */
    expire(ms: number): void {
      if (joined === 0 || Date.now() - joined < ms) return
      for (const [key, { heard, citizen }] of drafts) if (heard < joined) abort(key, citizen)
      joined = 0
    },
  }
}
export type Drafts = ReturnType<typeof makeDrafts>
