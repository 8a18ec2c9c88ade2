// Copies of drafts that are written on other instances, for the followers here. If a delta or steps do not continue the copy, or are left
// out, the copy is repaired from the saved draft.
import { mostSteps } from '../../protocol/activity.ts'
import type { Slices } from './draft-fanout.ts'
import { sendChanges } from './draft-changes.ts'
import type { Delta, Publisher, Steps } from './draft-publisher.ts'
import { makeDraft, nameOf, unitsOfStep, type DraftRegistry, type Stored } from './draft-registry.ts'

/** ms after its last delta or step after which a copy is dropped. */
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

  /** Replaces the copy by the saved draft, if that is newer, is longer, or has newer steps. */
  const merge = (stored: Stored): void => {
    const known = registry.find(stored)
    if (known && (known.writer !== undefined || known.generation > stored.generation)) return
    const same = known?.generation === stored.generation ? known : undefined
    const { changes = 0, activity = [] } = stored
    const text = same && same.text.length >= stored.text.length ? same.text : stored.text
    const newer = !same || same.changes < changes
    if (same && text === same.text && !newer) return
    const held = known && { text: known.text, activity: known.activity }
    // If the instance has no room for the draft, followers see it once it is a message.
    if (registry.full(text.length - (held?.text.length ?? 0))) return
    const draft = known ?? makeDraft(stored)
    draft.generation = stored.generation
    if (newer) Object.assign(draft, { activity, changes })
    registry.keep(draft)
    registry.write(draft, text)
    sendChanges(toFollowers, draft, held)
  }

  // What the copy of each draft that is being repaired must reach: generation, length, and number of changes.
  type Wanted = { generation: number; upto: number; changes: number }
  const repairs = new Map<string, Wanted>()
  const repair = async (given: Delta | Steps): Promise<void> => {
    const name = nameOf(given)
    const before = repairs.get(name)
    const { generation, upto } = given
    const changes = Math.max(
      'changes' in given ? given.changes : 0,
      before?.generation === generation ? before.changes : 0,
    )
    const first = { generation, upto, changes }
    repairs.set(name, first)
    if (before) return
    let wanted: Wanted | undefined
    for (let tries = 0; !closed; tries++) {
      const latest = repairs.get(name) ?? first
      if (latest !== wanted) tries = 0
      if (tries === repairTries) break
      wanted = latest
      for (const stored of await load(given.topic).catch((error: unknown) => (onError(error), []))) merge(stored)
      // A later delta may have arrived meanwhile: the repair ends with the latest delta.
      const { generation, upto, changes } = repairs.get(name) ?? wanted
      const draft = registry.find(given)
      if (draft && draft.generation > generation) break
      if (draft && draft.text.length >= upto && draft.changes >= changes) break
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
      // The draft was started over: its former steps are gone.
      if (offset === 0 && held !== '' && generation > draft.generation)
        Object.assign(draft, { activity: [], changes: 0 })
      draft.generation = generation
      registry.keep(draft)
      registry.write(draft, text)
      toFollowers(draft, offset)
    },

    /** Applies steps from another instance. */
    takeSteps(given: Steps): void {
      const { topic, key, generation, upto, after, changes, steps } = given
      if (!slices.followed(topic)) return
      const known = registry.find(given)
      const isNext = (known?.changes ?? 0) === after && (known?.text.length ?? 0) === upto
      const continues = isNext || (known?.generation === generation && known.changes === after)
      if (known?.generation === generation && known.changes >= changes) return
      if (!steps || !continues || repairs.has(nameOf(given))) return void repair(given)
      if (registry.full(steps.reduce((units, step) => units + unitsOfStep(step), 0))) return
      const draft = known ?? makeDraft({ topic, key, generation, text: '' })
      draft.generation = generation
      const updated = draft.activity.map((one) => steps.find(({ id }) => id === one.id) ?? one)
      const added = steps.filter(({ id }) => !draft.activity.some((one) => one.id === id))
      Object.assign(draft, { activity: [...updated, ...added].slice(-mostSteps), changes })
      registry.keep(draft)
      registry.write(draft, draft.text)
      toFollowers(draft, draft.text.length, steps)
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
