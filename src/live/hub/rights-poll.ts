// Polls the rights on all missions with subscriptions. A subscription outlives its rights by at most one poll, even if its topic has
// no events.
import type { MissionRights } from '../../protocol/rows.ts'
import type { Hub } from './hub.ts'

/** Returns the poll; a call while a poll is running does nothing. `read` returns the missions that exist. */
export const makeRightsPoll = (
  hub: Pick<Hub, 'missions' | 'setRights'>,
  read: (missions: string[]) => Promise<{ found: MissionRights[]; asOf: number }>,
  onError: (error: unknown) => void,
): (() => Promise<void>) => {
  let polling = false
  return async () => {
    if (polling) return
    polling = true
    try {
      const asked = hub.missions()
      if (asked.length === 0) return
      const { found, asOf } = await read(asked)
      const rights = new Map(found.map((mission) => [mission.id, mission]))
      for (const mission of asked) hub.setRights(mission, rights.get(mission), asOf)
    } catch (error) {
      onError(error)
    } finally {
      polling = false
    }
  }
}
