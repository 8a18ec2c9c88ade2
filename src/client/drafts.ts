// Assembles replies as they are written: each change gives a draft's whole text and its steps so far. A new or reconnected follower receives
// drafts in progress from their start. A draft ends when its message is stored; later frames of it are ignored.
import type { Activity } from '../protocol/activity.ts'

/** `received`: the time of the last frame. */
type Draft = { text: string; activity: readonly Activity[]; citizen: string; received: number }

/** The number of stored replies to remember: more than are written in a chat at a time. */
const most = 200
/** The number of steps that the server keeps of a draft. */
const mostSteps = 50

export const makeDrafts = (notify: (signal: object) => void) => {
  const drafts = new Map<string, Draft>()
  const saved = new Set<string>()
  let joined = 0

  const abort = (key: string, citizen: string): void => {
    drafts.delete(key)
    notify({ event: 'aborted', key, citizen })
  }
  const put = (key: string, draft: Omit<Draft, 'received'>, offset: number, delta: string): void => {
    drafts.set(key, { ...draft, received: Date.now() })
    const { citizen, text, activity } = draft
    notify({ event: 'draft', key, citizen, text, offset, delta, ...(activity.length > 0 ? { activity } : {}) })
  }

  return {
    /** Takes a delta. */
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
      // A text that is replaced has no former steps: the server sends those that it still has.
      const activity = offset === 0 && before !== '' ? [] : (held?.activity ?? [])
      put(key, { text, activity, citizen }, offset, delta)
    },
    /** Takes a step. */
    step(frame: Record<string, unknown>, citizen: string): void {
      const { key, id, line, status } = frame as Activity & { key: string }
      if (saved.has(key)) return
      const { text = '', activity: before = [] } = drafts.get(key) ?? {}
      const step = { id, line, status }
      const isKnown = before.some((one) => one.id === id)
      const activity = isKnown ? before.map((one) => (one.id === id ? step : one)) : [...before, step].slice(-mostSteps)
      put(key, { text, activity, citizen }, text.length, '')
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
    /** Aborts drafts without a frame within `ms` after a new subscription: they ended while the connection was lost. */
    expire(ms: number): void {
      if (joined === 0 || Date.now() - joined < ms) return
      for (const [key, { received, citizen }] of drafts) if (received < joined) abort(key, citizen)
      joined = 0
    },
  }
}
export type Drafts = ReturnType<typeof makeDrafts>
