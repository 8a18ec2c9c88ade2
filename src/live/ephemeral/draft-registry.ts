// The drafts in an instance's memory, by chat and key, with the socket that writes each. Bounded in bytes; draft-publisher.ts publishes
// and saves them.
import { mostSteps, withReport, type Activity, type Step } from '../../protocol/activity.ts'
import type { DraftName } from './draft-fanout.ts'
import type { Receiver } from '../hub/subscription.ts'

export type DraftWriter = { push(frame: string): boolean; actor: { sub: string } }
/** `activity`: its steps. `changes`: how often a step was reported; of two copies the one with more is newer. */
export type Stored = DraftName & {
  generation: number
  text: string
  activity?: readonly Step[] | undefined
  changes?: number | undefined
}

export type Draft = Required<Stored> & {
  activity: readonly Step[]
  changes: number
  /** the socket that writes it; undefined if no socket of this instance does */
  writer: DraftWriter | undefined
  /** lengths up to which the writer's instance has published and saved it */
  sent: number
  saved: number
  /** reports of steps that are not published yet, and the `changes` that were published and saved */
  news: readonly Activity[]
  sentChanges: number
  savedChanges: number
  savedAt: number
  /** when it last grew, or a step was reported (performance.now) */
  touched: number
  behind: Map<Receiver, number>
  /** the bytes counted in the totals, and the subject whose total includes them while the draft has a writer */
  counted: { bytes: number; sub: string | undefined }
}

/** Limits in bytes of text, two for each UTF-16 code unit: all drafts of an instance, and the drafts that one subject writes. */
export type DraftBounds = { draftBytes: number; draftBytesPerSubject: number }
const bytesOf = (units: number): number => 2 * units

/** UTF-16 code units that count for a step. */
export const unitsOfStep = ({ id, line }: Activity): number => id.length + line.length
const unitsOf = ({ text, activity }: Draft): number => {
  let units = text.length
  for (const step of activity) units += unitsOfStep(step)
  return units
}

/** Whether text or steps are not saved yet. */
export const isUnsaved = ({ text, saved, changes, savedChanges }: Draft): boolean =>
  saved < text.length || savedChanges < changes

// Lost drafts that are remembered for a socket until its next frames; beyond, the oldest is forgotten.
const mostOvertaken = 1000

export const nameOf = ({ topic, key }: DraftName): string => `${topic}\n${key}`

export const makeDraft = ({ activity = [], changes = 0, ...stored }: Stored, writer?: DraftWriter): Draft => ({
  ...stored,
  activity,
  changes,
  writer,
  sent: stored.text.length,
  saved: stored.text.length,
  news: [],
  sentChanges: changes,
  savedChanges: changes,
  // 0: the first delta is saved at once. Until then other sockets can't learn the length.
  savedAt: 0,
  touched: performance.now(),
  behind: new Map(),
  counted: { bytes: 0, sub: undefined },
})

/** `onWritten` is called when a draft gets or loses its writer on this instance, `onGone` when a draft leaves memory. */
export const makeRegistry = (options: {
  onWritten: (draft: Draft, here: boolean) => void
  onGone: (draft: Draft) => void
  bounds: DraftBounds
}) => {
  const { draftBytes, draftBytesPerSubject } = options.bounds
  const chats = new Map<string, Map<string, Draft>>()
  const written = new Map<DraftWriter, Set<Draft>>()
  // Drafts that sockets lost to other writers, until the answer to the socket's next frame reports it.
  const overtaken = new WeakMap<DraftWriter, Set<string>>()
  let held = 0
  const heldOf = new Map<string, number>()

  /** Updates the totals for a draft; `units` 0: the draft is removed. */
  const count = (draft: Draft, units = unitsOf(draft)): void => {
    const { bytes: before, sub: owner } = draft.counted
    const bytes = bytesOf(units)
    const sub = draft.writer?.actor.sub
    held += bytes - before
    if (owner !== undefined) heldOf.set(owner, (heldOf.get(owner) ?? 0) - before)
    if (sub !== undefined) heldOf.set(sub, (heldOf.get(sub) ?? 0) + bytes)
    for (const one of [owner, sub]) if (one !== undefined && heldOf.get(one) === 0) heldOf.delete(one)
    draft.counted = { bytes, sub }
  }

  const find = ({ topic, key }: DraftName): Draft | undefined => chats.get(topic)?.get(key)

  /** The draft has no writer on this instance any more. */
  const lose = (draft: Draft): void => {
    const { writer } = draft
    if (!writer) return
    const own = written.get(writer)
    if (own?.delete(draft) && own.size === 0) written.delete(writer)
    draft.writer = undefined
    count(draft)
    options.onWritten(draft, false)
  }
  const forget = (draft: Draft): void => {
    lose(draft)
    count(draft, 0)
    options.onGone(draft)
    const chat = chats.get(draft.topic)
    if (chat?.get(draft.key) !== draft) return
    chat.delete(draft.key)
    if (chat.size === 0) chats.delete(draft.topic)
  }

  return {
    find,
    keep(draft: Draft): void {
      const chat = chats.get(draft.topic)
      if (chat) chat.set(draft.key, draft)
      else chats.set(draft.topic, new Map([[draft.key, draft]]))
      count(draft)
      const { writer } = draft
      if (!writer || written.get(writer)?.has(draft)) return
      overtaken.get(writer)?.delete(nameOf(draft))
      written.set(writer, (written.get(writer) ?? new Set()).add(draft))
      options.onWritten(draft, true)
    },
    /** Replaces the text. */
    write(draft: Draft, text: string): void {
      draft.text = text
      draft.touched = performance.now()
      count(draft)
    },
    /** Adds a report of a step, or updates the step. */
    report(draft: Draft, { id, line, status }: Activity): void {
      draft.activity = withReport(draft.activity, { id, line, status })
      draft.changes++
      // Followers see each status of a step, and only the latest line for it.
      const others = draft.news.filter((one) => one.id !== id || one.status !== status)
      draft.news = [...others, { id, line, status }].slice(-mostSteps)
      draft.touched = performance.now()
      count(draft)
    },
    /** Returns the limit that `units` more UTF-16 code units would exceed. With `writer`, its subject's limit is checked too. */
    full(units: number, writer?: DraftWriter): 'subject' | 'process' | undefined {
      const bytes = bytesOf(units)
      if (writer && (heldOf.get(writer.actor.sub) ?? 0) + bytes > draftBytesPerSubject) return 'subject'
      return held + bytes > draftBytes ? 'process' : undefined
    },
    lose,
    forget,
    /** Another socket has claimed the draft. */
    overtake(draft: Draft): void {
      const { writer } = draft
      forget(draft)
      if (!writer) return
      const names = overtaken.get(writer) ?? new Set()
      if (names.size >= mostOvertaken) for (const oldest of names) if (names.delete(oldest)) break
      overtaken.set(writer, names.add(nameOf(draft)))
    },
    /** Returns whether another writer took over a socket's draft; true only once. */
    wasOvertaken: (writer: DraftWriter, name: DraftName): boolean =>
      overtaken.get(writer)?.delete(nameOf(name)) === true,
    of: (topic: string): Draft[] => [...(chats.get(topic)?.values() ?? [])],
    all: (): Draft[] => [...chats.values()].flatMap((chat) => [...chat.values()]),
    by: (writer: DraftWriter): Draft[] => [...(written.get(writer) ?? [])],
    count: (writer: DraftWriter): number => written.get(writer)?.size ?? 0,
    written: (): Draft[] => [...written.values()].flatMap((own) => [...own]),
  }
}
export type DraftRegistry = ReturnType<typeof makeRegistry>
