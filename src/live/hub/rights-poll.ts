// Looks up the rights on all missions that are followed: no subscription outlives its rights by more than this look, whatever
// else happens on the topic.
import type { MissionRights } from '../../protocol/rows.ts'
import type { Hub } from './hub.ts'

/** Returns a poll; a call during a running poll does nothing. `look` returns the missions that exist. */
export const makeRightsLook = (
  hub: Pick<Hub, 'missions' | 'setRights'>,
  look: (missions: string[]) => Promise<{ found: MissionRights[]; asOf: number }>,
  onError: (error: unknown) => void,
): (() => Promise<void>) => {
  let looking = false
  return async () => {
    if (looking) return
    looking = true
    try {
      const asked = hub.missions()
      if (asked.length === 0) return
      const { found, asOf } = await look(asked)
      const rights = new Map(found.map((mission) => [mission.id, mission]))
      for (const mission of asked) hub.setRights(mission, rights.get(mission), asOf)
    } catch (error) {
      onError(error)
    } finally {
      looking = false
    }
  }
}
