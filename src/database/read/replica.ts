// Reading from a replica, where DATABASE_REPLICA_URL names one: pages and streams of a chat's history. A read shows what was committed when
// it was asked for, as on the primary: the primary says first where the chat stands, and who may see it (one look-up that many
// askers share), and the replica's rows count only if its snapshot has come as far, in the same epoch. If not, or if the replica
// is slow or away, the primary reads. Nothing else is read there, and nothing is decided by it.
// (Rows that SQL deletes have no seq: the replica may show them for as long as it is behind.)
import type pg from 'pg'
import type { MissionRights } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import type { Place } from './topics.ts'

/** ms for which it is left alone after it was behind, and after it failed or was slow. */
const behindFor = 100
const awayFor = 2000

export type ReadStats = { replica: number; behind: number; failed: number }
export type Snapshot = { mission: MissionRights | undefined; head: number; epoch: string }

/** `read` with a pool of the replica or of the primary; `upto`: what its head has to have reached, besides. */
export type ReadChat = <T>(
  ref: MissionRef,
  citizen: string,
  read: (pool: pg.Pool) => Promise<T>,
  snapshot: (found: T) => Snapshot,
  upto?: number,
) => Promise<{ found: T; mission: MissionRights | undefined }>

export type Reading = { readChat: ReadChat; stats: () => ReadStats }

/** `replica` is undefined without a configured replica. */
export const makeReadChat = (
  primary: pg.Pool,
  replica?: {
    pool: pg.Pool
    /** where a chat stands, of the primary */
    place: (asked: { mission: MissionRef; suffix: string; run: null }) => Promise<Place>
    onError: (error: unknown) => void
  },
): Reading => {
  const stats = { replica: 0, behind: 0, failed: 0 }
  let restUntil = 0

  const readChat: ReadChat = async (ref, citizen, read, snapshot, upto = 0) => {
    if (replica && performance.now() >= restUntil) {
      const now = await replica.place({ mission: ref, suffix: `/chat/${citizen}`, run: null })
      try {
        const found = now.mission && (await read(replica.pool))
        const { mission, head, epoch } = found ? snapshot(found) : now
        if (found && mission && epoch === now.epoch && head >= Math.max(now.head, upto)) {
          stats.replica++
          return { found, mission: now.mission }
        }
        if (found) {
          stats.behind++
          restUntil = performance.now() + behindFor
        }
      } catch (error) {
        stats.failed++
        restUntil = performance.now() + awayFor
        replica.onError(error)
      }
    }
    const found = await read(primary)
    return { found, mission: snapshot(found).mission }
  }
  return { readChat, stats: () => stats }
}
