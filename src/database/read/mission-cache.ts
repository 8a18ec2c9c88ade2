// Missions by their id or number: what a sender's rights are asked of. Those asked by id are remembered for up to a
// second; a number is looked up each time, since it may come to be another mission's.
// Readers don't use it: their rights come with the rows. A write whose right rests on the assignment is checked again
// where it is committed.
import type { MissionRights } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import type { Store } from './topics.ts'

export type Missions = {
  /** The mission, if it is remembered and satisfies `fits`. */
  known(ref: MissionRef, fits: (mission: MissionRights | undefined) => boolean): MissionRights | undefined
  /** Returns undefined if the mission does not exist. A cached mission that fails `fits` is read again: it may have changed. */
  find(ref: MissionRef, fits: (mission: MissionRights | undefined) => boolean): Promise<MissionRights | undefined>
}

type Known = { at: number; found: Promise<MissionRights | undefined>; mission?: MissionRights }

export const makeMissions = (store: Pick<Store, 'place'>, maxAge: number, maxSize: number): Missions => {
  const known = new Map<string, Known>()
  return {
    known(ref, fits) {
      const hit = 'id' in ref ? known.get(ref.id) : undefined
      return hit?.mission && performance.now() - hit.at < maxAge && fits(hit.mission) ? hit.mission : undefined
    },
    async find(ref, fits) {
      const ask = () => store.place({ mission: ref, suffix: '', run: null }).then(({ mission }) => mission)
      if ('number' in ref) return ask()
      const name = ref.id
      const now = performance.now()
      const hit = known.get(name)
      if (hit && now - hit.at < maxAge) {
        const mission = await hit.found
        if (fits(mission)) return mission
      }
      const found = ask()
      // Re-inserted, so that the oldest stand first.
      known.delete(name)
      const state: Known = { at: now, found }
      known.set(name, state)
      if (known.size > maxSize) for (const oldest of known.keys()) if (known.delete(oldest)) break
      // What is not there may come at any moment.
      const forget = (): void => void (known.get(name)?.found === found && known.delete(name))
      found.then((mission) => (mission ? (state.mission = mission) : forget()), forget)
      return found
    },
  }
}
