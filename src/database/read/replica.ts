// Reads pages and streams of a chat's history from a replica, if DATABASE_REPLICA_URL is set. A read returns all rows that were committed
// when it was requested, as on the primary. For this the primary first returns the chat's latest seq and the mission's rights, in a lookup
// that concurrent reads share. The replica's rows are used only if its snapshot has reached this seq, in the same epoch. Otherwise, or if
// the replica is slow or unreachable, the primary is read.
//
// (A deletion by SQL has no seq: the replica may still return the deleted rows while it is behind.)
import type pg from 'pg'
import type { MissionRights } from '../../protocol/rows.ts'
import type { MissionRef } from '../../protocol/topics.ts'
import type { Place } from './topics.ts'

/** ms for which the replica is not used after it was behind, and after it failed or was slow. */
const behindFor = 100
const awayFor = 2000

export type ReadStats = { replica: number; behind: number; failed: number }
export type Snapshot = { mission: MissionRights | undefined; head: number; epoch: string }

/** Calls `read` with the replica's or the primary's pool. `upto`: a seq that the replica must have reached as well. */
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
    /** reads a chat's latest seq and rights from the primary */
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
