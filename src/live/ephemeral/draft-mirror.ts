// Copies of drafts that are written on other instances, for the followers here. If a delta does not continue the copy, or has no text,
// the copy is repaired from the saved draft.
import type { Slices } from './draft-fanout.ts'
import type { Delta, Publisher } from './draft-publisher.ts'
import { makeDraft, nameOf, type DraftRegistry, type Stored } from './draft-registry.ts'

/** ms after its last delta after which a copy is dropped. */
const copyLife = 90_000
/** At most this many reads of a draft for its latest delta. */
const repairTries = 40

export const makeMirror = ({
  registry,
  slices,
  toFollowers,
  load,
  onError,
  repairEvery = 100,
}: {
  registry: DraftRegistry
  slices: Pick<Slices, 'followed'>
  toFollowers: Publisher['toFollowers']
  load: (topic: string) => Promise<Stored[]>
  onError: (error: unknown) => void
  /** ms between two reads of a draft whose text is not saved yet */
  repairEvery?: number
}) => {
  let closed = false

  /** Replaces the copy by the saved draft, if that is newer or longer. */
  const merge = (stored: Stored): void => {
    const known = registry.find(stored)
    if (known && (known.writer !== undefined || known.generation > stored.generation)) return
    if (known && known.generation === stored.generation && known.text.length >= stored.text.length) return
    const held = known?.text ?? ''
    // If the instance has no room for the draft, followers see it once it is a message.
    if (registry.full(stored.text.length - held.length)) return
    const draft = known ?? makeDraft(stored)
    draft.generation = stored.generation
    registry.keep(draft)
    registry.write(draft, stored.text)
    toFollowers(draft, stored.text.startsWith(held) ? held.length : 0)
  }

  // The latest delta of each draft that is being repaired.
  const repairs = new Map<string, Delta>()
  const repair = async (delta: Delta): Promise<void> => {
    const name = nameOf(delta)
    const underWay = repairs.has(name)
    repairs.set(name, delta)
    if (underWay) return
    let wanted: Delta | undefined
    for (let tries = 0; !closed; tries++) {
      const latest = repairs.get(name) ?? delta
      if (latest !== wanted) tries = 0
      if (tries === repairTries) break
      wanted = latest
      for (const stored of await load(delta.topic).catch((error: unknown) => (onError(error), []))) merge(stored)
      // A later delta may have arrived meanwhile: the repair ends with the latest delta.
      const { generation, upto } = repairs.get(name) ?? wanted
      const draft = registry.find(delta)
      if (draft && (draft.generation > generation || draft.text.length >= upto)) break
      await new Promise((resolve) => setTimeout(resolve, repairEvery))
    }
    repairs.delete(name)
  }

  return {
    merge,

    /** Applies a delta from another instance. */
    take(given: Delta): void {
      const { topic, key, generation, offset, upto, delta } = given
      if (!slices.followed(topic)) return
      if (registry.full(upto - offset)) return
      const known = registry.find(given)
      const held = known?.text ?? ''
      if (delta === undefined || offset > held.length || repairs.has(nameOf(given))) return void repair(given)
      const text = held.slice(0, offset) + delta
      const draft = known ?? makeDraft({ topic, key, generation, text })
      draft.generation = generation
      registry.keep(draft)
      registry.write(draft, text)
      toFollowers(draft, offset)
    },

    /** Drops copies that have not grown for a while: their instance may have stopped. */
    expire(): void {
      const old = performance.now() - copyLife
      for (const draft of registry.all()) if (!draft.writer && draft.touched < old) registry.forget(draft)
    },

    close(): void {
      closed = true
    },
  }
}
export type Mirror = ReturnType<typeof makeMirror>
