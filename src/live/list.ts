// Who follows the list of missions, the topic `missions`: told which mission changed, came or went, if it may be seen before or
// after. No seq and no replay: what changed is read over HTTP.
import { sees } from '../access/policy.ts'
import { encodeFrame, toChunk } from '../protocol/frames.ts'
import type { Receiver } from './hub.ts'

export const missionList = 'missions'

export const makeList = () => {
  const followers = new Set<Receiver>()
  return {
    join: (receiver: Receiver): void => void followers.add(receiver),
    leave: (receiver: Receiver): void => void followers.delete(receiver),
    /** Takes a notification, "missions {id, number, assigned}" (db/functions/changes.sql): true if it was one. */
    hear(payload: string): boolean {
      if (!payload.startsWith('missions {')) return false
      if (followers.size === 0) return true
      const { id, number, assigned } = JSON.parse(payload.slice(9)) as {
        id: string
        number: number
        assigned: string[]
      }
      const { bytes } = toChunk([encodeFrame('missions.changed', { mission: id })])
      for (const receiver of followers)
        if (assigned.some((assigned_to) => sees(receiver.actor, { id, number, assigned_to }))) receiver.send(bytes, 1)
      return true
    },
  }
}
export type List = ReturnType<typeof makeList>
