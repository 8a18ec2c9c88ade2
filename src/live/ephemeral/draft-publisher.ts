// Publishes the drafts that sockets of this instance write. Every 40 ms the new text is sent to the followers here and, in one
// statement for all drafts, to the other instances. Every 250 ms it is saved.
import type { Activity, Step } from '../../protocol/activity.ts'
import type { DraftName, Slices } from './draft-fanout.ts'
import { isUnsaved, type Draft, type DraftRegistry, type Stored } from './draft-registry.ts'
import { every, longest } from './instance-relay.ts'

export type Delta = DraftName & { type: 'delta'; generation: number; offset: number; upto: number; delta?: string }
/** The steps that were reported between two counts of changes, and the length of the text then. */
export type Steps = DraftName & {
  type: 'steps'
  generation: number
  upto: number
  after: number
  changes: number
  steps?: readonly Step[]
}
export type Signal =
  | Delta
  | Steps
  | (DraftName & { type: 'aborted' | 'end'; generation: number })
  | (DraftName & { type: 'cancel'; by: string })

const saveEvery = 250

export const makePublisher = ({
  dirty,
  slices,
  overtake,
  store,
  send,
  onError,
}: {
  /** drafts with text to publish or save, or with slow followers that miss text */
  dirty: Set<Draft>
  slices: Slices
  overtake: DraftRegistry['overtake']
  store: { save(drafts: readonly Stored[]): Promise<boolean[]> }
  /** Sends signals to the other instances. */
  send: (signals: readonly Signal[]) => Promise<void>
  onError: (error: unknown) => void
}) => {
  let due: Signal[] = []
  let timer: NodeJS.Timeout | undefined
  let closed = false

  const schedule = (): void => {
    if (!closed) timer ??= setTimeout(() => void flush(), every)
  }
  const changed = (draft: Draft): void => {
    dirty.add(draft)
    schedule()
  }
  const signal = (one: Signal): void => {
    due.push(one)
    schedule()
  }
  const toFollowers = (draft: Draft, offset: number, steps?: readonly Activity[]): void => {
    slices.send(draft, offset, steps)
    if (draft.behind.size > 0) changed(draft)
  }

  const save = async (drafts: Draft[]): Promise<void> => {
    if (drafts.length === 0) return
    const upto = drafts.map(({ text, changes }) => ({ units: text.length, changes }))
    // Set before the save, so that a failed save is not repeated at each flush.
    for (const draft of drafts) draft.savedAt = performance.now()
    const kept = await store.save(
      drafts.map(({ topic, key, generation, text, activity, changes, savedChanges }) => ({
        topic,
        key,
        generation,
        text,
        ...(changes > savedChanges ? { activity, changes } : {}),
      })),
    )
    for (const [i, draft] of drafts.entries()) {
      if (!kept[i]) overtake(draft)
      draft.saved = upto[i]?.units ?? 0
      draft.savedChanges = Math.max(draft.savedChanges, upto[i]?.changes ?? 0)
    }
  }

  const isLong = (part: unknown): boolean => Buffer.byteLength(JSON.stringify(part)) > longest

  /** Signals the steps that have news to the other instances. Returns true if they are too long for a notification. */
  const publishSteps = (draft: Draft): boolean => {
    const { topic, key, generation, text, activity, news, changes, sentChanges: after } = draft
    draft.news = []
    draft.sentChanges = changes
    const steps = activity.filter(({ id }) => news.some((one) => one.id === id))
    const long = isLong(steps)
    const upto = text.length
    signal({ type: 'steps', topic, key, generation, upto, after, changes, ...(long ? {} : { steps }) })
    return long
  }

  /** Publishes a draft's new text and steps. Returns true if they are too long for a notification: other instances then read the saved draft. */
  const publish = (draft: Draft): boolean => {
    const { topic, key, generation, text, sent: offset, news } = draft
    if (offset === text.length && news.length === 0) return false
    toFollowers(draft, offset, news)
    let long = false
    if (offset < text.length) {
      draft.sent = text.length
      const delta = text.slice(offset)
      long = isLong(delta)
      signal({ type: 'delta', topic, key, generation, offset, upto: text.length, ...(long ? {} : { delta }) })
    }
    return news.length > 0 ? publishSteps(draft) || long : long
  }

  const flush = async (): Promise<void> => {
    const now = performance.now()
    const toSave: Draft[] = []
    for (const draft of dirty) {
      slices.catchUp(draft)
      const long = draft.writer ? publish(draft) : false
      const unsaved = draft.writer !== undefined && isUnsaved(draft)
      if (unsaved && (long || now - draft.savedAt >= saveEvery)) toSave.push(draft)
      if (!unsaved && draft.behind.size === 0) dirty.delete(draft)
    }
    const signals = due
    due = []
    await save(toSave).catch(onError)
    await send(signals)
    timer = undefined
    if (dirty.size > 0 || due.length > 0) schedule()
  }

  return {
    /** Publishes and saves a draft at the next flush. */
    changed,
    /** Sends a signal to the other instances at the next flush. */
    signal,
    /** Sends a draft's text from an offset, and steps, to the followers here. */
    toFollowers,
    /** Sends a draft's new text and steps to the followers now, and to the other instances at the next flush. */
    publish,
    /** Saves drafts now. Drafts that another socket has claimed are marked as overtaken. */
    save,
    close(): void {
      closed = true
      clearTimeout(timer)
    },
  }
}
export type Publisher = ReturnType<typeof makePublisher>
