// Missions by id or number, to check a sender's rights. Lookups by id are cached for up to a second. Lookups by number are not cached,
// because a number may be given to a different mission.
//
// Reads do not use it: their rights come with the rows. If a write is allowed by the mission's assignment, the assignment is checked again
// when the write is committed.
import type { MissionRights } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import type { Store } from './topics.ts'

export type Missions = {
  /** Returns the mission if it is cached and satisfies `fits`. */
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
      // Deleted and inserted again, so that the map is sorted by age, oldest first.
      known.delete(name)
      const state: Known = { at: now, found }
      known.set(name, state)
      if (known.size > maxSize) for (const oldest of known.keys()) if (known.delete(oldest)) break
      // A missing mission is not cached, because it may be created at any moment.
      const forget = (): void => void (known.get(name)?.found === found && known.delete(name))
      found.then((mission) => (mission ? (state.mission = mission) : forget()), forget)
      return found
    },
  }
}
