// Drafts that have not grown for a while. Followers see them as aborted, and their text leaves memory. Only the length is kept while the
// writer's socket is open, so that the writer can continue the draft.
import type { DraftName, Slices } from './draft-fanout.ts'
import type { Publisher } from './draft-publisher.ts'
import { isUnsaved, nameOf, type Draft, type DraftRegistry, type DraftWriter } from './draft-registry.ts'

/** Silent drafts whose length is kept for a socket; beyond, the oldest is forgotten. */
const mostSilent = 1000

export const makeSilentDrafts = ({
  registry,
  slices,
  signal,
  giveUp,
}: {
  registry: Pick<DraftRegistry, 'find' | 'forget'>
  slices: Pick<Slices, 'aborted'>
  signal: Publisher['signal']
  /** Marks the stored drafts that have been silent for too long as aborted, and returns them. */
  giveUp: () => Promise<(DraftName & { generation: number })[]>
}) => {
  const lengths = new WeakMap<DraftWriter, Map<string, number>>()

  /** Drops the text from memory. If the writer resumes, the text is loaded from the database. */
  const rest = (draft: Draft): void => {
    const { writer, text } = draft
    registry.forget(draft)
    if (!writer) return
    const own = lengths.get(writer) ?? new Map<string, number>()
    if (own.size >= mostSilent) for (const oldest of own.keys()) if (own.delete(oldest)) break
    lengths.set(writer, own.set(nameOf(draft), text.length))
  }

  return {
    /** Returns the length of a socket's silent draft whose text has left memory, and forgets it. */
    wokenAt(writer: DraftWriter, name: DraftName): number | undefined {
      const own = lengths.get(writer)
      const units = own?.get(nameOf(name))
      own?.delete(nameOf(name))
      return units
    },

    /** Aborts the drafts that have been silent for too long. */
    async expire(): Promise<void> {
      for (const gone of await giveUp()) {
        const draft = registry.find(gone)
        // If the writer has resumed meanwhile, followers receive the text from the start, and all steps.
        if (draft?.writer && (draft.generation !== gone.generation || isUnsaved(draft)))
          Object.assign(draft, { sent: 0, news: draft.activity })
        else if (draft) rest(draft)
        slices.aborted(gone)
        signal({ type: 'aborted', ...gone })
      }
    },
  }
}
